//! The plan of a run: what is measured against what.
//!
//! Servers stay up for the whole run; cells are measured one at a time, in interleaved rounds, and each figure is the median of its
//! rounds. CPU is that of the server process alone, as the kernel accounts it, divided by the operations answered meanwhile.

use std::path::{Path, PathBuf};

use crate::{
    Failure,
    medians::{Medians, Run, median},
    process::Process,
    report::Report,
    server::{KEY, Server},
    token::Token,
};

#[derive(clap::Args)]
pub struct Options {
    /// The `keyreeve` binary under test.
    #[arg(long)]
    keyreeve: PathBuf,
    #[arg(long, default_value = "target/bench/service.json")]
    output: PathBuf,
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Length of one measurement.
    #[arg(long, default_value_t = 1000)]
    milliseconds: u64,
    /// Keys of the large store; 0 leaves that part out.
    #[arg(long, default_value_t = 100_000)]
    large: u64,
}

/// Session threads of the service by default, and of the raw loop.
const THREADS: usize = 4;
const MANY: &str = "envs/dev/teams/shop/keys/many-{}";

pub fn run(options: &Options) -> Result<(), Failure> {
    let work = tempfile::tempdir()?;
    let mut report = Report::default();
    let written = Server::start(
        &options.keyreeve,
        &work.path().join("written"),
        &["--durability", "written"],
        &[],
    )?;
    let synced = Server::start(
        &options.keyreeve,
        &work.path().join("fsync"),
        &["--durability", "fsync"],
        &[],
    )?;
    let echo = Server::echo(&written)?;
    for service in [&written, &synced] {
        service.make_keys(KEY, 1)?;
    }
    let mut raw = Raw::start(&work.path().join("raw"), options.milliseconds / 2)?;

    let mut medians = Medians::default();
    for _ in 0..options.rounds {
        for concurrency in [1, 16, 64] {
            for payload in [64, 4096] {
                for (server, name) in [(&echo, "echo"), (&written, "written"), (&synced, "fsync")] {
                    let cell = format!("encrypt_{payload}b_c{concurrency}_{name}");
                    medians.add(
                        &cell,
                        server.measure(options.milliseconds, "encrypt", payload, concurrency, KEY, 1)?,
                    );
                }
            }
        }
        for operation in ["decrypt", "data-key"] {
            for (server, name) in [(&echo, "echo"), (&written, "written")] {
                let cell = format!("{operation}_64b_c64_{name}");
                medians.add(&cell, server.measure(options.milliseconds, operation, 64, 64, KEY, 1)?);
            }
        }
        medians.add("batch", written.measure(options.milliseconds, "batch", 64, 4, KEY, 1)?);
        medians.add(
            "stream",
            written.measure(options.milliseconds, "stream", 64, 64, KEY, 1)?,
        );
        medians.add("raw", raw.measure()?);
    }
    compare(&medians, &mut report);
    medians.add(
        "handshake",
        written.measure(options.milliseconds, "handshake", 64, 4, KEY, 1)?,
    );
    report.add("handshakes_per_second", medians.rate("handshake"), "1/s");
    report.add("handshake_cpu", medians.cpu("handshake"), "us");
    report.add("rss_one_key", written.rss()? as f64 / 1e6, "MB");
    drop((synced, echo));

    if options.large > 0 {
        many_keys(options, work.path(), &written, &mut report)?;
    }
    drop(written);
    slow_token(options, work.path(), &mut report)?;
    report.print();
    report.write(&options.output)?;
    println!("written to {}", options.output.display());
    Ok(())
}

fn compare(medians: &Medians, report: &mut Report) {
    let raw = medians.cpu("raw");
    report.add("raw_hmac_cpu", raw, "us");
    for (name, operation) in [
        ("encrypt", "encrypt"),
        ("decrypt", "decrypt"),
        ("generate_data_key", "data-key"),
    ] {
        // A data key takes two tags of the token: one to seal it, one to open it again before it is released.
        let ceiling = medians.cpu(&format!("{operation}_64b_c64_echo")) + raw;
        let served = medians.cpu(&format!("{operation}_64b_c64_written"));
        report.add(format!("{name}_unary_over_ceiling"), served / ceiling, "ratio");
    }
    report.add("batch_cpu_per_item_over_raw", medians.cpu("batch") / raw, "ratio");
    report.add("stream_cpu_over_raw", medians.cpu("stream") / raw, "ratio");
    for (cell, runs) in &medians.0 {
        if cell == "raw" {
            continue;
        }
        report.add(format!("{cell}_cpu"), medians.cpu(cell), "us");
        report.add(format!("{cell}_rate"), medians.rate(cell), "1/s");
        report.add(format!("{cell}_p50"), median(runs.iter().map(|run| run.p50_us)), "us");
        report.add(format!("{cell}_p99"), median(runs.iter().map(|run| run.p99_us)), "us");
        let errors: f64 = runs.iter().map(|run| run.errors).sum();
        if errors > 0.0 {
            report.add(format!("{cell}_errors"), errors, "calls");
        }
    }
}

/// Cost of a call as the number of keys grows, and memory of a stored key.
fn many_keys(options: &Options, work: &Path, small: &Server, report: &mut Report) -> Result<(), Failure> {
    let large = Server::start(
        &options.keyreeve,
        &work.join("large"),
        &["--durability", "written"],
        &[],
    )?;
    let before = large.rss()?;
    let made = large.make_keys(MANY, options.large)?;
    report.add("create_key_rate", made.operations as f64 / made.seconds, "1/s");
    report.add(
        "memory_per_stored_key",
        (large.rss()? - before) as f64 / options.large as f64,
        "B",
    );
    small.make_keys(MANY, 1000)?;
    let mut medians = Medians::default();
    for _ in 0..options.rounds {
        medians.add(
            "small",
            small.measure(options.milliseconds, "encrypt", 64, 64, MANY, 1000)?,
        );
        medians.add(
            "large",
            large.measure(options.milliseconds, "encrypt", 64, 64, MANY, 1000)?,
        );
        medians.add(
            "uniform",
            large.measure(options.milliseconds, "encrypt", 64, 64, MANY, options.large)?,
        );
    }
    report.add(
        "keys_100k_over_1k",
        medians.cpu("large") / medians.cpu("small"),
        "ratio",
    );
    report.add("keys_100k_uniform_cpu", medians.cpu("uniform"), "us");
    report.add(
        "keys_100k_uniform_over_1k",
        medians.cpu("uniform") / medians.cpu("small"),
        "ratio",
    );
    report.add("rss_100k_keys", large.rss()? as f64 / 1e6, "MB");
    Ok(())
}

/// With 1 ms added to each token call: how much of what the threads could do at most is done.
fn slow_token(options: &Options, work: &Path, report: &mut Report) -> Result<(), Failure> {
    let threads = 16;
    let environment = [
        ("KEYREEVE_TOKEN__SESSION_THREADS", threads.to_string()),
        ("KEYREEVE_TOKEN__INSECURE_TEST_CALL_DELAY_US", "1000".to_owned()),
    ];
    let slow = Server::start(
        &options.keyreeve,
        &work.join("slow"),
        &["--durability", "written"],
        &environment,
    )?;
    slow.make_keys(KEY, 1)?;
    let mut medians = Medians::default();
    for _ in 0..options.rounds {
        medians.add("slow", slow.measure(options.milliseconds, "encrypt", 64, 64, KEY, 1)?);
    }
    report.add(
        "slow_token_saturation",
        medians.rate("slow") / (threads as f64 * 1000.0),
        "ratio",
    );
    Ok(())
}

/// The raw loop on a token of its own.
pub struct Raw(Process, f64);

impl Raw {
    pub fn start(folder: &Path, milliseconds: u64) -> Result<Self, Failure> {
        let mut command = Token::make(folder)?.command("raw")?;
        command.args(["--threads", &THREADS.to_string()]);
        command.args(["--milliseconds", &milliseconds.to_string()]);
        let mut process = Process::start(&mut command)?;
        process.line_after("ready")?;
        Ok(Self(process, milliseconds as f64 / 1000.0))
    }

    pub fn measure(&mut self) -> Result<Run, Failure> {
        let before = self.0.cpu()?;
        self.0.say("go")?;
        let calls: f64 = self.0.line()?.parse()?;
        let cpu = self.0.cpu()? - before;
        Ok(Run {
            cpu_us: cpu.as_secs_f64() * 1e6 / calls,
            rate: calls / self.1,
            p50_us: 0.0,
            p99_us: 0.0,
            errors: 0.0,
        })
    }
}

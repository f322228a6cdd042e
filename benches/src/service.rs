//! The plan of a run: what is measured against what.
//!
//! Servers stay up for the whole run; cells are measured one at a time, in interleaved rounds, and each figure is the median of its
//! rounds. CPU is that of the server process alone, as the kernel accounts it, divided by the operations answered meanwhile.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use crate::{Failure, load::Measured, process::Process, report::Report};

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
const KEY: &str = "envs/dev/teams/shop/keys/bench";
const MANY: &str = "envs/dev/teams/shop/keys/many-{}";

pub fn run(options: &Options) -> Result<(), Failure> {
    let work = tempfile::tempdir()?;
    let mut report = Report::default();
    let written = Service::start(options, &work.path().join("written"), &["--durability", "written"], &[])?;
    let synced = Service::start(options, &work.path().join("fsync"), &["--durability", "fsync"], &[])?;
    let echo = Service::echo(&written)?;
    for service in [&written, &synced] {
        service.make_keys(KEY, 1)?;
    }
    let mut raw = raw(work.path(), options)?;

    let mut medians = Medians::default();
    for _ in 0..options.rounds {
        for concurrency in [1, 16, 64] {
            for payload in [64, 4096] {
                for (server, name) in [(&echo, "echo"), (&written, "written"), (&synced, "fsync")] {
                    let cell = format!("encrypt_{payload}b_c{concurrency}_{name}");
                    medians.add(&cell, server.measure(options, "encrypt", payload, concurrency, KEY, 1)?);
                }
            }
        }
        for operation in ["decrypt", "data-key"] {
            for (server, name) in [(&echo, "echo"), (&written, "written")] {
                let cell = format!("{operation}_64b_c64_{name}");
                medians.add(&cell, server.measure(options, operation, 64, 64, KEY, 1)?);
            }
        }
        medians.add("batch", written.measure(options, "batch", 64, 4, KEY, 1)?);
        medians.add("stream", written.measure(options, "stream", 64, 64, KEY, 1)?);
        medians.add("raw", raw.measure()?);
    }
    compare(&medians, &mut report);
    medians.add("handshake", written.measure(options, "handshake", 64, 4, KEY, 1)?);
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
fn many_keys(options: &Options, work: &Path, small: &Service, report: &mut Report) -> Result<(), Failure> {
    let large = Service::start(options, &work.join("large"), &["--durability", "written"], &[])?;
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
        medians.add("small", small.measure(options, "encrypt", 64, 64, MANY, 1000)?);
        medians.add("large", large.measure(options, "encrypt", 64, 64, MANY, 1000)?);
        medians.add(
            "uniform",
            large.measure(options, "encrypt", 64, 64, MANY, options.large)?,
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
    let slow = Service::start(options, &work.join("slow"), &["--durability", "written"], &environment)?;
    slow.make_keys(KEY, 1)?;
    let mut medians = Medians::default();
    for _ in 0..options.rounds {
        medians.add("slow", slow.measure(options, "encrypt", 64, 64, KEY, 1)?);
    }
    report.add(
        "slow_token_saturation",
        medians.rate("slow") / (threads as f64 * 1000.0),
        "ratio",
    );
    Ok(())
}

/// One measurement of one server.
struct Run {
    cpu_us: f64,
    rate: f64,
    p50_us: f64,
    p99_us: f64,
    errors: f64,
}

#[derive(Default)]
struct Medians(BTreeMap<String, Vec<Run>>);

impl Medians {
    fn add(&mut self, cell: &str, run: Run) {
        eprintln!("{cell:<32} {:>8.2} us/op {:>9.0} op/s", run.cpu_us, run.rate);
        self.0.entry(cell.to_owned()).or_default().push(run);
    }

    fn cpu(&self, cell: &str) -> f64 {
        median(self.0.get(cell).into_iter().flatten().map(|run| run.cpu_us))
    }

    fn rate(&self, cell: &str) -> f64 {
        median(self.0.get(cell).into_iter().flatten().map(|run| run.rate))
    }
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// A server under load, and how clients reach it.
struct Service {
    process: std::cell::RefCell<Process>,
    address: String,
    ca: String,
    certificate: String,
    key: String,
}

impl Service {
    fn start(
        options: &Options,
        directory: &Path,
        arguments: &[&str],
        environment: &[(&str, String)],
    ) -> Result<Self, Failure> {
        let mut command = Command::new(&options.keyreeve);
        command.arg("dev").arg("--dir").arg(directory);
        command
            .args(["--listen", "127.0.0.1:0", "--local", "127.0.0.1:0"])
            .args(arguments);
        command.envs(environment.iter().map(|(name, value)| (name, value)));
        let process = Process::start(command.stderr(Stdio::null()))?;
        let told = exports(&directory.join("env"))?;
        let value = |name: &str| {
            told.get(name)
                .cloned()
                .ok_or_else(|| format!("the server told no {name}"))
        };
        Ok(Self {
            process: process.into(),
            address: value("KEYREEVE_ADDR")?,
            ca: value("KEYREEVE_CA")?,
            certificate: value("KEYREEVE_CERT")?,
            key: value("KEYREEVE_KEY")?,
        })
    }

    /// The echo, with the certificate of the client as its own: both sides trust the same CA.
    fn echo(like: &Service) -> Result<Self, Failure> {
        let folder = Path::new(&like.ca).parent().ok_or("the CA file has a folder")?;
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("echo").arg("--client-ca").arg(&like.ca);
        command
            .arg("--certificate")
            .arg(folder.join("server.pem"))
            .arg("--key")
            .arg(folder.join("server.key"));
        let mut process = Process::start(&mut command)?;
        let address = process.line_after("listening ")?;
        let (ca, certificate, key) = (like.ca.clone(), like.certificate.clone(), like.key.clone());
        Ok(Self {
            process: process.into(),
            address,
            ca,
            certificate,
            key,
        })
    }

    fn load(&self, operation: &str, name: &str, keys: u64) -> Result<Command, Failure> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args([
            "load",
            "--operation",
            operation,
            "--name",
            name,
            "--keys",
            &keys.to_string(),
        ]);
        command.args([
            "--address",
            &self.address,
            "--ca",
            &self.ca,
            "--certificate",
            &self.certificate,
            "--key",
            &self.key,
        ]);
        Ok(command)
    }

    fn make_keys(&self, name: &str, keys: u64) -> Result<Measured, Failure> {
        let mut load = Process::start(self.load("create-keys", name, keys)?.args(["--concurrency", "128"]))?;
        load.line_after("ready")?;
        load.say("go")?;
        let made: Measured = serde_json::from_str(&load.line()?)?;
        if made.errors > 0 {
            return Err(format!("{} of {keys} keys could not be made", made.errors).into());
        }
        Ok(made)
    }

    fn measure(
        &self,
        options: &Options,
        operation: &str,
        payload: usize,
        concurrency: usize,
        name: &str,
        keys: u64,
    ) -> Result<Run, Failure> {
        let mut command = self.load(operation, name, keys)?;
        command.args([
            "--payload",
            &payload.to_string(),
            "--concurrency",
            &concurrency.to_string(),
        ]);
        command.args(["--milliseconds", &options.milliseconds.to_string()]);
        let mut load = Process::start(&mut command)?;
        load.line_after("ready")?;
        let before = self.process.borrow().cpu()?;
        load.say("go")?;
        let measured: Measured = serde_json::from_str(&load.line()?)?;
        let cpu = self.process.borrow().cpu()? - before;
        Ok(Run {
            cpu_us: cpu.as_secs_f64() * 1e6 / measured.operations as f64,
            rate: measured.operations as f64 / measured.seconds,
            p50_us: measured.p50_us as f64,
            p99_us: measured.p99_us as f64,
            errors: measured.errors as f64,
        })
    }

    fn rss(&self) -> Result<u64, Failure> {
        self.process.borrow().rss()
    }
}

/// The variables of a file that a shell would source, once it is there: the server writes it when it takes calls.
fn exports(file: &Path) -> Result<BTreeMap<String, String>, Failure> {
    for _ in 0..600 {
        if let Ok(text) = fs::read_to_string(file) {
            return Ok(text
                .lines()
                .filter_map(|line| line.strip_prefix("export ")?.split_once('='))
                .map(|(name, value)| (name.to_owned(), value.trim_matches(['\'', '"']).to_owned()))
                .collect());
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    Err("the server did not start within a minute: try `keyreeve dev`".into())
}

/// The raw loop on a token of its own.
struct Raw(Process, f64);

fn raw(work: &Path, options: &Options) -> Result<Raw, Failure> {
    let module = [
        "/usr/lib/softhsm/libsofthsm2.so",
        "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so",
    ]
    .into_iter()
    .find(|path| Path::new(path).exists())
    .ok_or("SoftHSM is not installed: run `make install`")?;
    let folder = work.join("raw");
    fs::create_dir_all(folder.join("tokens"))?;
    let (settings, pin) = (folder.join("softhsm2.conf"), folder.join("pin"));
    fs::write(
        &settings,
        format!(
            "directories.tokendir = {}\nobjectstore.backend = file\n",
            folder.join("tokens").display()
        ),
    )?;
    fs::write(&pin, "1234\n")?;
    let made = Command::new("softhsm2-util")
        .env("SOFTHSM2_CONF", &settings)
        .args([
            "--init-token",
            "--free",
            "--label",
            "bench",
            "--so-pin",
            "12345678",
            "--pin",
            "1234",
        ])
        .output()?;
    if !made.status.success() {
        return Err(format!("softhsm2-util: {}", String::from_utf8_lossy(&made.stderr)).into());
    }
    let mut command = Command::new(std::env::current_exe()?);
    command
        .env("SOFTHSM2_CONF", &settings)
        .args(["raw", "--module", module, "--label", "bench", "--pin-file"])
        .arg(&pin);
    command.args([
        "--threads",
        &THREADS.to_string(),
        "--milliseconds",
        &(options.milliseconds / 2).to_string(),
    ]);
    let mut process = Process::start(&mut command)?;
    process.line_after("ready")?;
    Ok(Raw(process, options.milliseconds as f64 / 2000.0))
}

impl Raw {
    fn measure(&mut self) -> Result<Run, Failure> {
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

//! The plan of a run of `resilience`: what a worker process costs beside threads, what failures cost callers, what a flood does.
//!
//! | part | what |
//! |---|---|
//! | isolation | the same load on two servers, in interleaved rounds; then without gRPC (`hop`) |
//! | recovery | the worker at work is killed under load; a call hangs |
//! | overload | a token of 4 ms a call and one thread, so that the token is the bottleneck: ten times its load; a flood beside a victim |
//! | tokens | a group of two slow tokens beside a group of one; one of two goes away under load |
//! | large | many keys, few handles, Zipf access (`--large`) |

mod tokens;

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use crate::{
    Failure,
    hop::Hops,
    load::Measured,
    medians::{Medians, Run, median},
    process::Process,
    report::Report,
    server::{As, KEY, Server, go},
    token::Token,
};

#[derive(clap::Args)]
pub struct Options {
    /// The `keyreeve` binary under test.
    #[arg(long)]
    keyreeve: PathBuf,
    #[arg(long, default_value = "target/bench/resilience.json")]
    output: PathBuf,
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Length of one measurement.
    #[arg(long, default_value_t = 1000)]
    milliseconds: u64,
    /// isolation, recovery, overload or tokens; without it, all four.
    #[arg(long)]
    only: Option<String>,
    /// Keys of the large store, e.g. 200000; 0 leaves that part out, which takes minutes.
    #[arg(long, default_value_t = 0)]
    large: u64,
}

const MANY: &str = "envs/dev/teams/shop/keys/many-{}";
/// Both forms, as the configuration calls them.
const FORMS: [&str; 2] = ["thread", "process"];
const CONCURRENCIES: [usize; 3] = [1, 16, 64];
/// Of calls to the overloaded token: about three times the p99 of the saturated one.
const DEADLINE_MS: &str = "200";

pub fn run(options: &Options) -> Result<(), Failure> {
    let work = tempfile::tempdir()?;
    let mut report = Report::default();
    let wants = |part| options.only.as_deref().is_none_or(|only| only == part);
    if wants("isolation") {
        isolation(options, work.path(), &mut report)?;
        hops(options, work.path(), &mut report)?;
    }
    if wants("recovery") {
        killed(options, work.path(), &mut report)?;
        hung(options, work.path(), &mut report)?;
    }
    if wants("overload") {
        for form in FORMS {
            overload(options, work.path(), form, &mut report)?;
        }
    }
    if wants("tokens") {
        tokens::run(options, work.path(), &mut report)?;
    }
    if options.large > 0 {
        large(options, work.path(), &mut report)?;
    }
    report.print();
    report.write(&options.output)?;
    println!("written to {}", options.output.display());
    Ok(())
}

fn server(options: &Options, folder: &Path, form: &str, token: &[(&str, &str)]) -> Result<Server, Failure> {
    let mut environment = vec![("KEYREEVE_TOKEN__ISOLATION", form.to_owned())];
    environment.extend(token.iter().map(|(name, value)| (*name, (*value).to_owned())));
    let server = Server::start(&options.keyreeve, folder, &["--durability", "written"], &environment)?;
    server.make_keys(KEY, 1)?;
    Ok(server)
}

/// Encrypt through gRPC in both forms, beside the ceilings of `service`.
fn isolation(options: &Options, work: &Path, report: &mut Report) -> Result<(), Failure> {
    let thread = server(options, &work.join("thread"), "thread", &[])?;
    let process = server(options, &work.join("process"), "process", &[])?;
    let echo = Server::echo(&thread)?;
    let mut raw = crate::service::Raw::start(&work.join("raw"), options.milliseconds / 2)?;
    let mut medians = Medians::default();
    for _ in 0..options.rounds {
        for concurrency in CONCURRENCIES {
            for (server, name) in [(&thread, "thread"), (&process, "process")] {
                let run = server.measure(options.milliseconds, "encrypt", 64, concurrency, KEY, 1)?;
                medians.add(&format!("encrypt_c{concurrency}_{name}"), run);
            }
        }
        medians.add("echo", echo.measure(options.milliseconds, "encrypt", 64, 64, KEY, 1)?);
        medians.add("raw", raw.measure()?);
    }
    for concurrency in CONCURRENCIES {
        let cpu = |form: &str| medians.cpu(&format!("encrypt_c{concurrency}_{form}"));
        report.add(
            format!("isolation_cpu_c{concurrency}"),
            cpu("process") / cpu("thread"),
            "ratio",
        );
    }
    let ceiling = medians.cpu("echo") + medians.cpu("raw");
    for form in FORMS {
        let over = medians.cpu(&format!("encrypt_c64_{form}")) / ceiling;
        report.add(format!("encrypt_unary_over_ceiling_{form}"), over, "ratio");
        for concurrency in CONCURRENCIES {
            let cell = format!("encrypt_c{concurrency}_{form}");
            report.add(format!("{cell}_cpu"), medians.cpu(&cell), "us");
            let runs = &medians.0[&cell];
            report.add(format!("{cell}_p50"), median(runs.iter().map(|run| run.p50_us)), "us");
            report.add(format!("{cell}_p99"), median(runs.iter().map(|run| run.p99_us)), "us");
        }
    }
    Ok(())
}

/// The same without gRPC: queue, host, token.
fn hops(options: &Options, work: &Path, report: &mut Report) -> Result<(), Failure> {
    let mut hosts = Vec::new();
    for form in FORMS {
        let worker = (form == "process").then_some(options.keyreeve.as_path());
        let mut host = hop(options, &work.join(format!("hop-{form}")), worker, &[])?;
        host.line_after("ready")?;
        hosts.push((form, host));
    }
    let mut medians = Medians::default();
    for _ in 0..options.rounds {
        for concurrency in CONCURRENCIES {
            for (form, host) in &mut hosts {
                let before = host.cpu()?;
                host.say(&concurrency.to_string())?;
                let hops: Hops = serde_json::from_str(&host.line()?)?;
                let run = Run {
                    cpu_us: (host.cpu()? - before).as_secs_f64() * 1e6 / hops.calls as f64,
                    rate: hops.calls as f64 * 1e3 / options.milliseconds as f64,
                    p50_us: hops.p50_us as f64,
                    p99_us: hops.p99_us as f64,
                    errors: 0.0,
                };
                medians.add(&format!("hop_c{concurrency}_{form}"), run);
            }
        }
    }
    for concurrency in CONCURRENCIES {
        let cpu = |form: &str| medians.cpu(&format!("hop_c{concurrency}_{form}"));
        for form in FORMS {
            report.add(format!("hop_c{concurrency}_{form}_cpu"), cpu(form), "us");
        }
        report.add(
            format!("hop_cpu_c{concurrency}"),
            cpu("process") / cpu("thread"),
            "ratio",
        );
    }
    Ok(())
}

/// The worker at work is killed while 16 calls are in flight, once the one in waiting is ready.
fn killed(options: &Options, work: &Path, report: &mut Report) -> Result<(), Failure> {
    let server = server(options, &work.join("killed"), "process", &[])?;
    let mut load = server.load(
        As::Admin,
        "encrypt",
        KEY,
        1,
        &["--concurrency", "16", "--milliseconds", "2000"],
    )?;
    load.say("go")?;
    std::thread::sleep(Duration::from_millis(700));
    let workers = server.workers()?;
    let [busy, _ready] = workers[..] else {
        return Err(format!("{} workers, not two", workers.len()).into());
    };
    Command::new("kill").args(["-KILL", &busy.to_string()]).status()?;
    let measured: Measured = serde_json::from_str(&load.line()?)?;
    report.add(
        "kill_client_errors",
        (measured.errors + measured.refused) as f64,
        "calls",
    );
    report.add("kill_worst_latency", measured.worst_us as f64 / 1e3, "ms");
    report.add("kill_p99", measured.p99_us as f64 / 1e3, "ms");
    Ok(())
}

fn hung(options: &Options, work: &Path, report: &mut Report) -> Result<(), Failure> {
    let mut worst: f64 = 0.0;
    for round in 0..options.rounds {
        let mut host = hop(
            options,
            &work.join(format!("hung-{round}")),
            Some(&options.keyreeve),
            &["--hang"],
        )?;
        worst = worst.max(host.line()?.parse()?);
    }
    report.add("hung_call_beyond_deadline", worst, "ms");
    Ok(())
}

fn hop(options: &Options, folder: &Path, worker: Option<&Path>, arguments: &[&str]) -> Result<Process, Failure> {
    let mut command = Token::make(folder)?.command("hop")?;
    command.arg("--directory").arg(folder.join("data"));
    command
        .args(["--milliseconds", &options.milliseconds.to_string()])
        .args(arguments);
    if let Some(worker) = worker {
        command.arg("--worker").arg(worker);
    }
    Process::start(&mut command)
}

fn overload(options: &Options, work: &Path, form: &str, report: &mut Report) -> Result<(), Failure> {
    let slow = [
        ("KEYREEVE_TOKEN__SESSION_THREADS", "1"),
        ("KEYREEVE_TOKEN__INSECURE_TEST_CALL_DELAY_US", "4000"),
    ];
    let server = server(options, &work.join(format!("slow-{form}")), form, &slow)?;
    let milliseconds = (2 * options.milliseconds).to_string();
    let run = |caller, arguments: &[&str]| {
        let arguments = [arguments, &["--milliseconds", &milliseconds]].concat();
        server.load(caller, "encrypt", KEY, 1, &arguments)
    };
    let (mut goodputs, mut p99s, mut shares) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..options.rounds.min(3) {
        let peak = go(&mut run(As::Admin, &["--concurrency", "16"])?)?;
        let rate = (10.0 * peak.operations as f64 / peak.seconds) as u64;
        let flooded = go(&mut run(
            As::Admin,
            &["--rate", &rate.to_string(), "--deadline-ms", DEADLINE_MS],
        )?)?;
        let goodput = |run: &Measured| run.operations as f64 / run.seconds;
        eprintln!(
            "overload {form}: {:.0} 1/s at 1x, p99 {} us; at 10x {:.0} 1/s, p99 {} us, {} refused, {} failed",
            goodput(&peak),
            peak.p99_us,
            goodput(&flooded),
            flooded.p99_us,
            flooded.refused,
            flooded.errors
        );
        goodputs.push(goodput(&flooded) / goodput(&peak));
        p99s.push(flooded.p99_us as f64 / peak.p99_us as f64);

        let (mut flood, mut victim) = (
            run(As::Admin, &["--concurrency", "128"])?,
            run(As::App, &["--concurrency", "8"])?,
        );
        flood.say("go")?;
        let of_victim = go(&mut victim)?;
        flood.line()?;
        // Of the rate that the token has: the flood goes on for a while when the victim has ended.
        shares.push(goodput(&of_victim) / (goodput(&peak) / 2.0));
    }
    let suffix = if form == "process" { "" } else { "_thread" };
    report.add(
        format!("overload_goodput_over_peak{suffix}"),
        median(goodputs.into_iter()),
        "ratio",
    );
    report.add(
        format!("overload_p99_over_p99_at_1x{suffix}"),
        median(p99s.into_iter()),
        "ratio",
    );
    report.add(
        format!("victim_share_of_fair{suffix}"),
        median(shares.into_iter()),
        "ratio",
    );
    Ok(())
}

/// Many keys, few handles, few of the keys used often.
fn large(options: &Options, work: &Path, report: &mut Report) -> Result<(), Failure> {
    const HITS: &str = "keyreeve_token_handle_cache_hits_total";
    const MISSES: &str = "keyreeve_token_handle_cache_misses_total";
    let server = server(options, &work.join("large"), "process", &[])?;
    server.make_keys(MANY, options.large)?;
    let arguments = ["--zipf", "1.0", "--concurrency", "64", "--milliseconds", "10000"];
    let mut load = server.load(As::Admin, "encrypt", MANY, options.large, &arguments)?;
    go(&mut load)?;
    std::thread::sleep(Duration::from_millis(500));
    let before = (server.metric(HITS)?, server.metric(MISSES)?);
    let measured = go(&mut load)?;
    std::thread::sleep(Duration::from_millis(500));
    let (hits, misses) = (server.metric(HITS)? - before.0, server.metric(MISSES)? - before.1);
    report.add("large_hit_rate", hits / (hits + misses), "ratio");
    report.add("large_unwraps", misses / measured.seconds, "1/s");
    report.add("large_rate", measured.operations as f64 / measured.seconds, "1/s");
    report.add("large_p99", measured.p99_us as f64, "us");
    if measured.errors + measured.refused > 0 {
        report.add("large_errors", (measured.errors + measured.refused) as f64, "calls");
    }
    Ok(())
}

//! The part `tokens`: what a second token of a group adds, and what it costs callers when one of two goes away.
//!
//! Each call takes 1 ms longer in the token, so that tokens are the bottleneck, and not the cores that all processes share here.

use std::{
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use super::Options;
use crate::{
    Failure,
    load::{Measured, SLICE},
    medians::{Medians, median},
    process::Process,
    report::Report,
    server::{As, KEY, Server, wait_for},
    token_group::TokenGroup,
};

/// Of each token.
const SLOW: &str = "insecure_test_call_delay_us = 1000\nsession_threads = 1\n";
/// Calls in flight for each token: more than its one thread and what waits before it take.
const IN_FLIGHT: usize = 16;
/// When the token goes away, and when the load ends.
const LOST_AFTER: Duration = Duration::from_millis(1_500);
const UNTIL: Duration = Duration::from_millis(5_000);
/// A rate is that of so many slices: 100 ms.
const SMOOTHED: usize = 10;

pub fn run(options: &Options, work: &Path, report: &mut Report) -> Result<(), Failure> {
    let one = TokenGroup::make(&options.keyreeve, &work.join("one-token"), 1, SLOW)?;
    let two = TokenGroup::make(&options.keyreeve, &work.join("two-tokens"), 2, SLOW)?;
    compare(options, &one, &two, report)?;
    failover(options, &two, report)
}

fn compare(options: &Options, one: &TokenGroup, two: &TokenGroup, report: &mut Report) -> Result<(), Failure> {
    let servers = [(one.serve(1)?, 1, "one_token"), (two.serve(2)?, 2, "two_tokens")];
    for (server, ..) in &servers {
        server.make_keys(KEY, 1)?;
    }
    let mut medians = Medians::default();
    for _ in 0..options.rounds {
        for (server, tokens, cell) in &servers {
            let run = server.measure(options.milliseconds, "encrypt", 64, tokens * IN_FLIGHT, KEY, 1)?;
            medians.add(cell, run);
        }
    }
    report.add(
        "two_tokens_over_one",
        medians.rate("two_tokens") / medians.rate("one_token"),
        "ratio",
    );
    for (cell, runs) in &medians.0 {
        report.add(format!("{cell}_rate"), medians.rate(cell), "1/s");
        report.add(format!("{cell}_p99"), median(runs.iter().map(|run| run.p99_us)), "us");
        report.add(format!("{cell}_cpu"), medians.cpu(cell), "us");
        report.add(
            format!("{cell}_errors"),
            runs.iter().map(|run| run.errors).sum(),
            "calls",
        );
    }
    Ok(())
}

/// One token goes away for good under Encrypts and Decrypts: its workers are killed, and the next ones do not find it.
fn failover(options: &Options, group: &TokenGroup, report: &mut Report) -> Result<(), Failure> {
    const LOST: usize = 1;
    // Which workers are whose: those of the other token are there first.
    group.take_away(LOST)?;
    let server = group.serve(1)?;
    let others = workers_beside(&server, &[])?;
    group.bring_back(LOST)?;
    let (mut failed, mut worst, mut settled) = (0, 0, Vec::new());
    for _ in 0..options.rounds.min(3) {
        server.wait_for_tokens(2)?;
        let workers = workers_beside(&server, &others)?;
        let mut loads = vec![load(&server, "encrypt")?, load(&server, "decrypt")?];
        let begun = Instant::now();
        for load in &mut loads {
            load.say("go")?;
        }
        std::thread::sleep(LOST_AFTER);
        group.take_away(LOST)?;
        let lost = begun.elapsed();
        Command::new("kill")
            .arg("-KILL")
            .args(workers.map(|pid| pid.to_string()))
            .status()?;
        let mut served = vec![0; slices(UNTIL)];
        for load in &mut loads {
            let measured: Measured = serde_json::from_str(&load.line()?)?;
            failed += measured.errors + measured.refused;
            worst = worst.max(measured.worst_us);
            served
                .iter_mut()
                .zip(measured.slices)
                .for_each(|(all, own)| *all += own);
        }
        server.wait_for_tokens(1)?; // it was missed
        group.bring_back(LOST)?;
        // None on a machine that is too busy to keep any rate for a second.
        let steady = steady_after(&served, lost);
        eprintln!("failover: {steady:?} to a steady rate; in all rounds {failed} failed, worst call {worst} us");
        settled.extend(steady.map(|steady| steady.as_secs_f64() * 1e3));
    }
    report.add("failover_failed_calls", failed as f64, "calls");
    report.add("failover_worst_latency", worst as f64 / 1e3, "ms");
    report.add("failover_to_steady", median(settled.into_iter()), "ms");
    Ok(())
}

/// The two workers of a token, once they are there, of a server whose other workers are known.
fn workers_beside(server: &Server, others: &[u32]) -> Result<[u32; 2], Failure> {
    let own = || -> Result<Vec<u32>, Failure> {
        let all = server.workers()?.into_iter();
        Ok(all.filter(|pid| !others.contains(pid)).collect())
    };
    wait_for("two workers of a token", || Ok(own()?.len() == 2))?;
    own()?.try_into().map_err(|_| "a worker came or went".into())
}

/// From the loss to the moment from which on no 100 ms of a second fall below nine tenths of the rate at the end.
fn steady_after(served: &[u64], lost: Duration) -> Option<Duration> {
    let rates: Vec<u64> = served.windows(SMOOTHED).map(|window| window.iter().sum()).collect();
    let end = median(
        rates
            .iter()
            .rev()
            .take(slices(Duration::from_secs(1)))
            .map(|rate| *rate as f64),
    );
    let lost = slices(lost);
    let after = rates.get(lost..)?.windows(slices(Duration::from_secs(1)));
    let is_steady = |rates: &[u64]| rates.iter().all(|rate| *rate as f64 >= 0.9 * end);
    let settled = after.into_iter().position(is_steady)?;
    Some(SLICE * u32::try_from(settled).ok()?)
}

fn slices(time: Duration) -> usize {
    (time.as_millis() / SLICE.as_millis()) as usize
}

fn load(server: &Server, operation: &str) -> Result<Process, Failure> {
    let (in_flight, milliseconds) = (IN_FLIGHT.to_string(), UNTIL.as_millis().to_string());
    let arguments = ["--concurrency", &in_flight, "--milliseconds", &milliseconds];
    server.load(As::Admin, operation, KEY, 1, &arguments)
}

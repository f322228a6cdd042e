//! Faults that need a process of their own: the test starts itself again as a child and lets it die, or takes its disk away.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    DiskGuard, Durability, Health, Log, Options, WriterHandle, epoch_directory,
    sample::{draft, redact},
    start, tail, verify,
};
use crate::{
    Error,
    clock::SystemClock,
    store::{
        self, Change,
        testing::{environment, row_key},
    },
};

/// Names the directory that a child works in; its presence makes a test act as the child.
const CHILD: &str = "KEYREEVE_TEST_AUDIT_CHILD";

fn child_directory() -> Option<PathBuf> {
    std::env::var_os(CHILD).map(PathBuf::from)
}

/// This test program again, running only `test`, through a shell that first runs `prepare`.
fn child(test: &str, directory: &Path, prepare: &str) -> Child {
    Command::new("sh")
        .args(["-c", &format!("{prepare} exec \"$0\" \"$@\"")])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(CHILD, directory)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

async fn open(root: &Path, durability: Durability) -> (Log, WriterHandle) {
    let _ = std::fs::create_dir(root.join("data"));
    let options = store::Options {
        directory: root.join("data"),
        tombstone_file: root.join("tombstones"),
        row_key: row_key(),
        clock: Arc::new(SystemClock),
        cached_keys: 10,
    };
    let (_, committer) = store::open(options).await.unwrap();
    let options = Options {
        directory: root.join("audit"),
        cluster: "test".into(),
        node: "node-1".into(),
        epoch: 1,
        opening: None,
        meanwhile: vec![],
        durability,
        segment_bytes: 0,
        queue: 64,
        disk: DiskGuard {
            probe: Arc::new(|_| Ok(10)),
            ..DiskGuard::default()
        },
    };
    start(options, committer, redact(), Arc::new(SystemClock))
        .await
        .unwrap()
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(20)
}

/// Says on standard output that a call was answered, as a caller would know it.
fn acknowledge(number: u64) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "\nanswered request-{number};").unwrap();
    out.flush().unwrap();
}

fn acknowledged(line: &str) -> Option<String> {
    // Without the semicolon the line was cut short.
    let request = line.strip_prefix("answered ")?.strip_suffix(';')?;
    Some(request.to_owned())
}

/// Every request that is in the log, after a start and a stop that repair it.
async fn recovered(root: &Path) -> Vec<String> {
    let (_, handle) = open(root, Durability::Fsync).await;
    handle.stop().await.unwrap();
    let log = epoch_directory(&root.join("audit"), 1);
    let report = verify(&log).unwrap();
    assert!(report.finding.is_none(), "{}", report.finding.unwrap());
    let records = tail(&log, usize::MAX).unwrap().0;
    records
        .iter()
        .map(|stored| stored.record().unwrap().req.into_owned())
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_was_answered_before_a_kill_is_in_the_log() {
    const TEST: &str = "audit::fault_tests::whatever_was_answered_before_a_kill_is_in_the_log";
    if let Some(root) = child_directory() {
        return write_until_killed(&root).await;
    }
    let root = tempfile::tempdir().unwrap();
    let mut answered = Vec::new();
    for round in 1..=3 {
        let mut child = child(TEST, root.path(), "");
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        // Killed in full flight, at another point each time.
        let mut seen = 0;
        while seen < 100 * round + 17 {
            let line = lines.next().expect("the child writes until it is killed").unwrap();
            if let Some(request) = acknowledged(&line) {
                answered.push(request);
                seen += 1;
            }
        }
        child.kill().unwrap();
        child.wait().unwrap();
        answered.extend(lines.map_while(Result::ok).filter_map(|line| acknowledged(&line)));
        let logged: std::collections::HashSet<_> = recovered(root.path()).await.into_iter().collect();
        for request in &answered {
            assert!(logged.contains(request), "{request} was answered and is not in the log");
        }
    }
}

async fn write_until_killed(root: &Path) {
    let (log, _handle) = open(root, Durability::Written).await;
    // Numbers differ from run to run, so that every environment is new.
    let base = u64::from(std::process::id()) * 1_000_000;
    let mut callers = tokio::task::JoinSet::new();
    for caller in 0..8 {
        let log = log.clone();
        callers.spawn(async move {
            for call in 0..100_000 {
                let number = base + caller * 100_000 + call;
                let change = (call % 7 == 0).then(|| Change::new().insert(&*environment(&format!("e-{number}"))));
                let slot = log.reserve(soon()).await.unwrap();
                slot.commit(vec![draft(number)], change).await.unwrap();
                acknowledge(number);
            }
        });
    }
    callers.join_all().await;
}

#[tokio::test]
async fn a_disk_that_takes_no_more_shuts_the_log_and_the_next_start_goes_on() {
    const TEST: &str = "audit::fault_tests::a_disk_that_takes_no_more_shuts_the_log_and_the_next_start_goes_on";
    if let Some(root) = child_directory() {
        return write_until_the_disk_refuses(&root).await;
    }
    let root = tempfile::tempdir().unwrap();
    // Without the signal, a file that may not grow fails to be written, as on a full disk.
    let child = child(TEST, root.path(), "trap '' XFSZ;");
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    let answered: Vec<_> = String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(acknowledged)
        .collect();
    assert!(answered.len() > 20, "{answered:?}");
    let mut logged = recovered(root.path()).await;
    logged.retain(|request| !request.is_empty());
    assert_eq!(logged[..answered.len()], answered);
}

async fn write_until_the_disk_refuses(root: &Path) {
    let (log, handle) = open(root, Durability::Fsync).await;
    let limit = rustix::process::Rlimit {
        current: Some(40_000), // bytes of one file: a third of a segment
        maximum: Some(40_000),
    };
    rustix::process::setrlimit(rustix::process::Resource::Fsize, limit).unwrap();
    let mut number = 0;
    let error = loop {
        let slot = log.reserve(soon()).await.unwrap();
        match slot.commit(vec![draft(number)], None).await {
            Ok(()) => acknowledge(number),
            Err(error) => break error,
        }
        number += 1;
    };
    assert!(matches!(error, super::CommitError::Unwritable), "{error}");
    handle
        .watch()
        .wait_for(|health| *health == Health::Unwritable)
        .await
        .unwrap();
    assert!(matches!(log.reserve(soon()).await, Err(Error::LogUnavailable)));
}

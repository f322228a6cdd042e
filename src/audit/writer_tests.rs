//! The writer on a real store and real segment files: order, refusals, faults, restarts.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    time::{Duration, Instant},
};

use super::{
    AuditError, CUT, CommitError, DiskGuard, Durability, EPOCH, Health, Log, Opening, Options, REFUSE, Record, START,
    STOP, Stored, WriterHandle, epoch_directory,
    sample::{draft, edit, frames, redact},
    start, tail, verify,
};
use crate::{
    Error,
    clock::SystemClock,
    store::{
        Change,
        testing::{Place, environment, team},
    },
};

/// A node's store and log, which can be started again and again.
struct Node {
    place: Place,
    disk: Arc<AtomicU8>,
    durability: Durability,
}

impl Node {
    fn new() -> Self {
        Self {
            place: Place::new(),
            disk: Arc::new(AtomicU8::new(10)),
            durability: Durability::Fsync,
        }
    }

    fn base(&self) -> PathBuf {
        self.place.root.path().join("audit")
    }

    fn log(&self) -> PathBuf {
        epoch_directory(&self.base(), 1)
    }

    fn options(&self) -> Options {
        let disk = self.disk.clone();
        Options {
            directory: self.base(),
            cluster: "test".into(),
            node: "node-1".into(),
            epoch: 1,
            opening: None,
            meanwhile: vec![],
            durability: self.durability,
            segment_bytes: 0,
            queue: 64,
            disk: DiskGuard {
                probe: Arc::new(move |_| Ok(disk.load(Ordering::Relaxed))),
                ..DiskGuard::default()
            },
        }
    }

    async fn start(&self) -> Result<(Log, WriterHandle), AuditError> {
        self.start_as(self.options()).await
    }

    async fn start_as(&self, options: Options) -> Result<(Log, WriterHandle), AuditError> {
        let (_, committer) = self.place.open().await.unwrap();
        start(options, committer, redact(), Arc::new(SystemClock)).await
    }

    fn records(&self) -> Vec<Stored> {
        records(&self.log())
    }
}

fn records(directory: &Path) -> Vec<Stored> {
    let report = verify(directory).unwrap();
    assert!(report.finding.is_none(), "{}", report.finding.unwrap());
    tail(directory, usize::MAX).unwrap().0
}

fn operations(records: &[Stored]) -> Vec<String> {
    records
        .iter()
        .map(|stored| stored.record().unwrap().op.into_owned())
        .collect()
}

async fn commit(log: &Log, number: u64, change: Option<Change>) -> super::Commit {
    let slot = log.reserve(soon()).await.unwrap();
    slot.commit(vec![draft(number)], change).await
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(20)
}

/// Environment and team in one change.
fn change(id: &str) -> Change {
    let environment = environment(id);
    Change::new().insert(&*environment).insert(&*team(&environment, id))
}

#[tokio::test]
async fn a_log_starts_records_and_stops_and_all_of_it_verifies() {
    let node = Node::new();
    let (log, handle) = node.start().await.unwrap();
    assert_eq!(handle.health(), Health::Writable);
    for number in 0..5 {
        commit(&log, number, None).await.unwrap();
    }
    // Two records of one entry stand together.
    let slot = log.reserve(soon()).await.unwrap();
    slot.commit(vec![draft(7), draft(8)], None).await.unwrap();
    log.reserve(soon()).await.unwrap().abort(vec![draft(9)]);
    handle.stop().await.unwrap();

    let records = node.records();
    let texts = operations(&records);
    assert_eq!(
        (texts[0].as_str(), texts.last().unwrap().as_str(), texts.len()),
        (START, STOP, 10)
    );
    let first = records[0].record().unwrap();
    assert_eq!(first.log, "test/audit/node-1/1");
    assert!(first.object.contains("durability=fsync epoch=1"), "{}", first.object);
    assert_eq!(first.change().unwrap().seq, 0);
    assert_eq!(records[6].record().unwrap().req, "request-7");
    assert_eq!(records[7].record().unwrap().req, "request-8");
    assert_eq!(records[8].record().unwrap().result, "aborted");
    assert!(matches!(log.reserve(soon()).await, Err(Error::LogUnavailable)));
}

#[tokio::test]
async fn a_change_is_in_the_store_and_its_record_names_its_place_in_the_chain() {
    let node = Node::new();
    let (log, handle) = node.start().await.unwrap();
    commit(&log, 0, Some(change("dev"))).await.unwrap();
    handle.stop().await.unwrap();

    let (directory, mut committer) = node.place.open().await.unwrap();
    assert_eq!(directory.counts().await.unwrap().0, 1);
    assert!(committer.outbox_rows(None).await.unwrap().is_empty());
    let records = node.records();
    assert_eq!(records[1].record().unwrap().change(), Some(committer.head()));
    drop((directory, committer));
    let (_, handle) = node.start().await.unwrap();
    handle.stop().await.unwrap();
}

#[tokio::test]
async fn a_change_that_lost_becomes_a_recorded_refusal() {
    let node = Node::new();
    let (log, handle) = node.start().await.unwrap();
    commit(&log, 0, Some(change("dev"))).await.unwrap();
    let refused = commit(&log, 1, Some(change("dev"))).await.unwrap_err();
    assert!(matches!(refused, CommitError::Refused(_)), "{refused}");
    commit(&log, 2, Some(change("prod"))).await.unwrap();
    handle.stop().await.unwrap();

    let records = node.records();
    let record = records[2].record().unwrap();
    assert_eq!(
        (&*record.result, record.reason(), &record.chg),
        ("refused", "ALREADY_EXISTS", &None)
    );
    assert_eq!(records[3].record().unwrap().result, "success");
}

#[tokio::test]
async fn many_callers_at_once_are_each_recorded_once_over_many_segments() {
    let node = Node::new();
    let (log, handle) = node.start().await.unwrap();
    let mut callers = tokio::task::JoinSet::new();
    for caller in 0..32_u64 {
        let log = log.clone();
        callers.spawn(async move {
            for call in 0..50 {
                let number = caller * 50 + call;
                let change = (call == 25).then(|| change(&format!("env-{caller}")));
                commit(&log, number, change).await.unwrap();
            }
        });
    }
    callers.join_all().await;
    handle.stop().await.unwrap();

    let mut requests: Vec<_> = node
        .records()
        .iter()
        .map(|stored| stored.record().unwrap().req.into_owned())
        .filter(|request| !request.is_empty())
        .collect();
    requests.sort_unstable();
    let mut expected: Vec<_> = (0..1_600).map(|number| format!("request-{number}")).collect();
    expected.sort_unstable();
    assert_eq!(requests, expected);
    assert!(super::segment::list(&node.log()).unwrap().len() > 5);
}

#[tokio::test]
async fn what_a_crash_left_in_the_outbox_is_appended_by_the_next_start() {
    let node = Node::new();
    let (log, handle) = node.start().await.unwrap();
    commit(&log, 0, None).await.unwrap();
    commit(&log, 1, Some(change("dev"))).await.unwrap();
    commit(&log, 2, Some(change("prod"))).await.unwrap();
    // A power cut before the outbox was cleared: the log lost what it had not synced, the store nothing.
    handle.stop().await.unwrap();
    let rows = node.records()[2..4].to_vec();
    let all = frames(&node.log());
    let (path, start, _) = all[2].clone();
    edit(&path, |bytes| bytes[start..].fill(0));
    restore_outbox(&node, &rows).await;

    let (log, handle) = node.start().await.unwrap();
    commit(&log, 3, None).await.unwrap();
    handle.stop().await.unwrap();
    let requests: Vec<_> = node
        .records()
        .iter()
        .map(|stored| stored.record().unwrap().req.into_owned())
        .collect();
    assert_eq!(
        requests,
        ["", "request-0", "request-1", "request-2", "", "request-3", ""]
    );
}

async fn restore_outbox(node: &Node, rows: &[Stored]) {
    let mut intruder = node.place.intruder().await;
    for row in rows {
        sqlx::query("INSERT INTO outbox (seq, record) VALUES (?, ?)")
            .bind(i64::try_from(row.seq).unwrap())
            .bind(&row.bytes)
            .execute(&mut intruder)
            .await
            .unwrap();
    }
    sqlx::Connection::close(intruder).await.unwrap();
}

#[tokio::test]
async fn a_torn_end_is_cut_and_the_cut_is_recorded() {
    let node = Node::new();
    let (log, handle) = node.start().await.unwrap();
    commit(&log, 0, None).await.unwrap();
    handle.stop().await.unwrap();
    let (path, start, length) = frames(&node.log()).pop().unwrap();
    edit(&path, |bytes| bytes[start + 100..start + length].fill(0));

    let (_, handle) = node.start().await.unwrap();
    handle.stop().await.unwrap();
    let records = node.records();
    assert_eq!(operations(&records), [START, "Encrypt", CUT, START, STOP]);
    let object = records[2].record().unwrap().object.into_owned();
    assert!(object.starts_with("bytes=100 kept=cut-"), "{object}");
}

#[tokio::test]
async fn an_edited_log_does_not_start() {
    let node = Node::new();
    let (log, handle) = node.start().await.unwrap();
    commit(&log, 0, None).await.unwrap();
    handle.stop().await.unwrap();
    let (path, start, _) = frames(&node.log())[1].clone();
    edit(&path, |bytes| bytes[start + 300] ^= 1);
    assert!(matches!(node.start().await, Err(AuditError::Damaged(_))));
}

#[tokio::test]
async fn a_log_or_a_store_that_is_behind_starts_only_as_a_new_epoch() {
    let node = Node::new();
    let (log, handle) = node.start().await.unwrap();
    commit(&log, 0, Some(change("dev"))).await.unwrap();
    let store = std::fs::read_dir(node.place.directory()).unwrap().count();
    assert!(store > 0);
    handle.stop().await.unwrap();
    let backup = node.place.root.path().join("backup");
    copy(&node.place.directory(), &backup);

    let (log, handle) = node.start().await.unwrap();
    commit(&log, 1, Some(change("prod"))).await.unwrap();
    handle.stop().await.unwrap();

    // The log without its newest records.
    let (path, start, _) = frames(&node.log())[4].clone();
    let whole = std::fs::read(&path).unwrap();
    edit(&path, |bytes| bytes[start..].fill(0));
    let behind = node.start().await;
    assert!(
        matches!(behind, Err(AuditError::LogBehind { log: 2, store: 4 })),
        "{:?}",
        behind.err()
    );
    std::fs::write(&path, whole).unwrap();

    // The store of a backup.
    std::fs::remove_dir_all(node.place.directory()).unwrap();
    copy(&backup, &node.place.directory());
    assert!(matches!(node.start().await, Err(AuditError::Store(_))));

    let opening = || {
        Some(Opening {
            reason: "restored the backup of Monday".into(),
        })
    };
    let same = node
        .start_as(Options {
            opening: opening(),
            ..node.options()
        })
        .await;
    assert!(matches!(same, Err(AuditError::EpochExists(1))));
    let second = || Options {
        epoch: 2,
        ..node.options()
    };
    let (_, handle) = node
        .start_as(Options {
            opening: opening(),
            ..second()
        })
        .await
        .unwrap();
    handle.stop().await.unwrap();

    let records = records(&epoch_directory(&node.base(), 2));
    assert_eq!(operations(&records), [EPOCH, START, STOP]);
    let first: Record<'_> = records[0].record().unwrap();
    assert!(
        first.object.starts_with("epoch=2 previous=1 records=6 root="),
        "{}",
        first.object
    );
    assert!(first.object.ends_with("reason=restored the backup of Monday"));
    assert_eq!(first.change().unwrap().seq, 3);

    let (_, handle) = node.start_as(second()).await.unwrap();
    handle.stop().await.unwrap();
    assert!(matches!(
        node.start().await,
        Err(AuditError::NewerEpoch { epoch: 1, newest: 2 })
    ));
}

/// Copies a directory. A file may vanish meanwhile, as SQLite's does when its last connection closes: then all is copied again, since
/// what stood in it stands in another file now.
fn copy(from: &Path, to: &Path) {
    for _ in 0..100 {
        match try_copy(from, to) {
            Ok(()) => return,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => std::fs::remove_dir_all(to).unwrap(),
            Err(error) => panic!("{error}"),
        }
    }
    panic!("{} does not come to rest", from.display());
}

fn try_copy(from: &Path, to: &Path) -> std::io::Result<()> {
    std::fs::create_dir(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        // The segment in preparation is no part of the log, and may vanish at any moment.
        if entry.file_name() != "next.tmp" {
            std::fs::copy(entry.path(), to.join(entry.file_name()))?;
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_full_disk_refuses_new_work_records_that_it_did_and_recovers() {
    let node = Node::new();
    let (log, handle) = node.start().await.unwrap();
    let mut health = handle.watch();
    let reserved = log.reserve(soon()).await.unwrap();
    node.disk.store(90, Ordering::Relaxed);
    health.wait_for(|health| *health == Health::DiskLow).await.unwrap();
    commit(&log, 0, None).await.unwrap();
    node.disk.store(96, Ordering::Relaxed);
    health.wait_for(|health| *health == Health::DiskFull).await.unwrap();
    for _ in 0..3 {
        assert!(matches!(log.reserve(soon()).await, Err(Error::LogUnavailable)));
    }
    // What was promised before is still recorded.
    reserved.commit(vec![draft(1)], None).await.unwrap();
    node.disk.store(10, Ordering::Relaxed);
    health.wait_for(|health| *health == Health::Writable).await.unwrap();
    commit(&log, 2, None).await.unwrap();
    handle.stop().await.unwrap();

    let records = node.records();
    let refusals: Vec<_> = records
        .iter()
        .filter_map(|stored| stored.record().ok())
        .filter(|record| record.op == REFUSE)
        .map(|record| record.object.into_owned())
        .collect();
    assert_eq!(refusals, ["reason=disk-full refused=3"]);
}

#[tokio::test]
async fn a_store_that_fails_shuts_the_log_and_nobody_is_told_done() {
    let node = Node::new();
    let (log, handle) = node.start().await.unwrap();
    node.place.tamper("DROP TABLE outbox").await;
    let failed = commit(&log, 0, Some(change("dev"))).await.unwrap_err();
    assert!(matches!(failed, CommitError::Unwritable), "{failed}");
    handle
        .watch()
        .wait_for(|health| *health == Health::Unwritable)
        .await
        .unwrap();
    assert!(matches!(log.reserve(soon()).await, Err(Error::LogUnavailable)));
    assert!(handle.stop().await.is_err());
}

#[tokio::test]
async fn a_second_writer_of_the_same_log_is_refused() {
    let node = Node::new();
    let (_log, handle) = node.start().await.unwrap();
    let other = Node::new();
    let (_, committer) = other.place.open().await.unwrap();
    let second = start(node.options(), committer, redact(), Arc::new(SystemClock)).await;
    assert!(matches!(second, Err(AuditError::InUse(_))));
    handle.stop().await.unwrap();
}

#[tokio::test]
async fn a_directory_that_cannot_be_written_is_named_in_the_error() {
    let node = Node::new();
    // Nobody may make directories there, root included.
    let options = Options {
        directory: "/proc/self/audit".into(),
        ..node.options()
    };
    let error = node.start_as(options).await.err().unwrap();
    assert!(matches!(&error, AuditError::Directory { .. }), "{error}");
    assert!(error.to_string().contains("/proc/self/audit"), "{error}");
}

#[tokio::test]
async fn a_stopping_writer_waits_for_calls_under_way() {
    let node = Node::new();
    let (log, handle) = node.start().await.unwrap();
    let reserved = log.reserve(soon()).await.unwrap();
    let stopping = tokio::spawn(handle.stop());
    while log.reserve(soon()).await.is_ok() {
        tokio::task::yield_now().await;
    }
    reserved.commit(vec![draft(0)], None).await.unwrap();
    stopping.await.unwrap().unwrap();
    assert_eq!(operations(&node.records()), [START, "Encrypt", STOP]);
}

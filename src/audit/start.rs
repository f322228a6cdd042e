//! Starting and stopping the log of a node.

use std::{
    fs::{DirBuilder, File, OpenOptions, TryLockError},
    io,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::Arc,
    thread::JoinHandle,
};

use serde::Deserialize;
use tokio::sync::{Notify, mpsc, oneshot, watch};

use super::{
    Actor, AuditError, Entry, Health, Log, Record, RedactKey, Verdict,
    disk::DiskGuard,
    epoch_directory, epochs,
    health::Guard,
    metrics::Figures,
    record::Formatter,
    recover::{Cut, Found, recover},
    tail::Tail,
    verify::{Report, verify},
    writer::{CUT, START, WriteError, Writer},
};
use crate::{
    clock::{Clock, Timestamp},
    store::{Applied, Committer, LogEpoch, OutboxRow},
};

/// When a record without a change counts as written. Changes are always synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Durability {
    /// On the disk: survives a power cut.
    Fsync,
    /// With the operating system: survives a killed process, not a power cut.
    Written,
}

impl Durability {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Fsync => "fsync",
            Self::Written => "written",
        }
    }
}

/// Which log, where, and how.
pub struct Options {
    /// Holds one directory per epoch.
    pub directory: PathBuf,
    pub cluster: String,
    pub node: String,
    /// From 1. The newest that `audit::epochs` finds, or one more to open a new one.
    pub epoch: u64,
    /// Opens `epoch` as a new log behind a store that does not fit the old one (a restored backup).
    pub opening: Option<Opening>,
    /// What happened on this node while the log was closed: operation and object of a record each, after that of the start.
    pub meanwhile: Vec<(&'static str, String)>,
    pub durability: Durability,
    /// Size of a segment file.
    pub segment_bytes: u64,
    /// Places in the queue: calls that may be under way at once. At least 2.
    pub queue: usize,
    pub disk: DiskGuard,
}

/// Why a new epoch is opened; recorded.
#[derive(Debug, Clone)]
pub struct Opening {
    pub reason: String,
}

/// Name of a log: `<cluster>/audit/<node>/<epoch>`. Context of the `redact.v1` subkey.
pub fn origin(cluster: &str, node: &str, epoch: u64) -> String {
    format!("{cluster}/audit/{node}/{epoch}")
}

/// Keeps the writer's thread. Dropped, it tells the writer to stop and does not wait.
pub struct WriterHandle {
    guard: Guard,
    stop: Arc<Notify>,
    thread: Option<JoinHandle<Result<(), WriteError>>>,
}

impl WriterHandle {
    pub fn health(&self) -> Health {
        self.guard.health()
    }

    /// Follows the health, for readiness.
    pub fn watch(&self) -> watch::Receiver<Health> {
        self.guard.watch()
    }

    /// Reads the number of committed records, for the status.
    pub fn records(&self) -> impl Fn() -> u64 + Send + Sync + use<> {
        let guard = self.guard.clone();
        move || guard.records()
    }

    /// Takes no new work, waits up to 5 s for calls under way, records the stop, syncs, ends the thread.
    pub async fn stop(mut self) -> Result<(), AuditError> {
        self.stop.notify_one();
        let Some(thread) = self.thread.take() else {
            return Ok(());
        };
        match tokio::task::spawn_blocking(move || thread.join()).await {
            Ok(Ok(Ok(()))) => Ok(()),
            _ => Err(AuditError::Failed),
        }
    }
}

impl Drop for WriterHandle {
    fn drop(&mut self) {
        self.stop.notify_one();
    }
}

/// Brings log and store in line, records the start, and begins to write.
///
/// A torn last write is cut off and kept; records of the outbox that the log lacks are appended. Errors: whatever makes log or store
/// unfit to go on; then nothing was written but these repairs.
pub async fn start(
    options: Options,
    committer: Committer,
    redact: RedactKey,
    clock: Arc<dyn Clock>,
) -> Result<(Log, WriterHandle), AuditError> {
    let (sender, queue) = mpsc::channel(options.queue.max(2));
    let guard = Guard::default();
    let stop = Arc::new(Notify::new());
    let (ready, started) = oneshot::channel();
    let thread = {
        let (guard, stop) = (guard.clone(), stop.clone());
        std::thread::Builder::new()
            .name("audit-writer".into())
            .spawn(move || thread(options, committer, redact, clock, guard, queue, &stop, ready))
            .map_err(|source| AuditError::Directory {
                path: PathBuf::new(),
                source,
            })?
    };
    started.await.map_err(|_| AuditError::Failed)??;
    let log = Log::guarded(sender, guard.clone());
    let handle = WriterHandle {
        guard,
        stop,
        thread: Some(thread),
    };
    Ok((log, handle))
}

/// Whatever ends the thread, a panic included, shuts the log.
struct Shut(Guard);

impl Drop for Shut {
    fn drop(&mut self) {
        self.0.set(Health::Unwritable);
    }
}

#[allow(clippy::too_many_arguments)] // everything that moves into the thread
fn thread(
    options: Options,
    committer: Committer,
    redact: RedactKey,
    clock: Arc<dyn Clock>,
    guard: Guard,
    queue: mpsc::Receiver<Entry>,
    stop: &Notify,
    ready: oneshot::Sender<Result<(), AuditError>>,
) -> Result<(), WriteError> {
    let _shut = Shut(guard.clone());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    runtime.block_on(async {
        match open(options, committer, redact, clock, guard).await {
            Ok((writer, _lock)) => {
                let _ = ready.send(Ok(()));
                writer.run(queue, stop).await
            }
            Err(error) => {
                let _ = ready.send(Err(error));
                Ok(())
            }
        }
    })
}

async fn open(
    options: Options,
    mut committer: Committer,
    redact: RedactKey,
    clock: Arc<dyn Clock>,
    guard: Guard,
) -> Result<(Writer, File), AuditError> {
    let directory = epoch_directory(&options.directory, options.epoch);
    let previous = check_epochs(&options)?;
    let failed = |source| AuditError::Directory {
        path: directory.clone(),
        source,
    };
    make(&options.directory, &directory).map_err(failed)?;
    let lock = lock(&directory)?;

    let log = origin(&options.cluster, &options.node, options.epoch);
    let found = recover(&directory, &log)?;
    let outbox = outbox(&mut committer, &log, options.opening.is_some()).await?;
    let missing = missing(&outbox, &found)?;
    if options.opening.is_none() {
        // A refused change leaves a record without one.
        let last = missing.iter().rev().find_map(|row| change_of(row));
        check_head(&mut committer, last.or(found.change)).await?;
    }
    let formatter = Formatter::new(&log, &options.node, redact);
    let syncs = options.durability == Durability::Fsync;
    let mut tail = Tail::open(&directory, options.segment_bytes, &found, formatter, syncs).map_err(failed)?;
    for row in missing {
        tail.adopt(row.seq, &row.record).map_err(failed)?;
    }
    tail.flush().map_err(failed)?;
    let mut writer = Writer {
        tail,
        committer,
        durability: options.durability,
        clock,
        actor: Arc::new(Actor {
            id: "audit-writer".into(),
            method: "job",
            certificate_sha256: String::new(),
        }),
        directory: directory.clone(),
        disk: options.disk.clone(),
        guard,
        figures: Figures::new(),
        outbox: outbox.last().map(|row| row.seq),
    };
    if let Some(opening) = &options.opening {
        let (row, object) = new_epoch(&options, opening, previous.as_ref(), writer.clock.now());
        writer.open_epoch(&row, object).await?;
    }
    for (operation, object) in first_records(&options, found.cut.as_ref()) {
        writer.record(operation, object, Verdict::Success).map_err(failed)?;
    }
    writer.tail.sync().map_err(failed)?;
    writer.guard.set_records(writer.tail.seq());
    writer.look_at_disk();
    Ok((writer, lock))
}

/// The log before a new epoch: its number, and what is intact of it.
struct Previous {
    epoch: u64,
    report: Report,
}

/// Only the newest epoch is written, and a new one is new.
fn check_epochs(options: &Options) -> Result<Option<Previous>, AuditError> {
    if !options.directory.exists() {
        return Ok(None);
    }
    let epochs = epochs(&options.directory)?;
    if let Some(newest) = epochs.last().copied().filter(|newest| *newest > options.epoch) {
        return Err(AuditError::NewerEpoch {
            epoch: options.epoch,
            newest,
        });
    }
    if options.opening.is_none() {
        return Ok(None);
    }
    if epochs.contains(&options.epoch) {
        return Err(AuditError::EpochExists(options.epoch));
    }
    let Some(epoch) = epochs.last().copied() else {
        return Ok(None);
    };
    let before = epoch_directory(&options.directory, epoch);
    let report = verify(&before).map_err(|source| AuditError::Directory { path: before, source })?;
    Ok(Some(Previous { epoch, report }))
}

fn make(base: &Path, directory: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    // The names of new directories must survive a power cut, too.
    File::open(base)?.sync_all()?;
    match base.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        Some(parent) => File::open(parent)?.sync_all(),
        None => Ok(()),
    }
}

fn lock(directory: &Path) -> Result<File, AuditError> {
    let failed = |source| AuditError::Directory {
        path: directory.to_owned(),
        source,
    };
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(directory.join("lock"))
        .map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(AuditError::InUse(directory.to_owned())),
        Err(TryLockError::Error(source)) => Err(failed(source)),
    }
}

/// Rows of the outbox that are this log's. A restored store may keep some of an older epoch's; a new epoch starts without them.
async fn outbox(committer: &mut Committer, log: &str, opening: bool) -> Result<Vec<OutboxRow>, AuditError> {
    let rows = committer.outbox_rows(None).await?;
    if opening {
        if let Some(last) = rows.last() {
            tracing::warn!(
                log,
                count = rows.len(),
                "records of an older epoch in the store's outbox are not part of the new log"
            );
            committer.clear_outbox(last.seq).await?;
        }
        return Ok(Vec::new());
    }
    Ok(rows)
}

/// Rows that the log lacks: what a crash left between the store's commit and the log. They must follow the log's end without a gap.
fn missing<'a>(rows: &'a [OutboxRow], found: &Found) -> Result<Vec<&'a OutboxRow>, AuditError> {
    let (mut seq, mut prev) = (found.seq, found.prev);
    let mut missing = Vec::new();
    for row in rows.iter().filter(|row| row.seq >= found.seq) {
        let fits = Record::parse(&row.record)
            .is_ok_and(|record| record.seq == seq && record.prev == data_encoding::HEXLOWER.encode(&prev));
        if row.seq != seq || !fits {
            return Err(AuditError::Gap {
                next: seq,
                outbox: row.seq,
            });
        }
        (seq, prev) = (seq + 1, super::leaf(&row.record));
        missing.push(row);
    }
    Ok(missing)
}

fn change_of(row: &OutboxRow) -> Option<Applied> {
    Record::parse(&row.record).ok()?.change()
}

/// Store and log must end at the same change: one node writes both.
async fn check_head(committer: &mut Committer, known: Option<Applied>) -> Result<(), AuditError> {
    let known = known.unwrap_or(Applied { seq: 0, link: [0; 32] });
    committer.check_head(known).await?;
    let store = committer.head().seq;
    if store > known.seq {
        return Err(AuditError::LogBehind { log: known.seq, store });
    }
    Ok(())
}

/// The row and the first record of a new epoch: what is known of the one before, and why.
fn new_epoch(options: &Options, opening: &Opening, previous: Option<&Previous>, now: Timestamp) -> (LogEpoch, String) {
    let before = match previous {
        Some(Previous { epoch, report }) => {
            let state = if report.finding.is_some() { "damaged" } else { "intact" };
            let root = data_encoding::HEXLOWER.encode(&report.root);
            format!("previous={epoch} records={} root={root} state={state}", report.records)
        }
        None => "previous=unknown".to_owned(),
    };
    let row = LogEpoch {
        node: options.node.clone(),
        epoch: options.epoch,
        reason: opening.reason.clone(),
        opened: now,
        last: previous.map(|previous| (previous.report.records, previous.report.root)),
        row_version: 0,
    };
    let object = format!("epoch={} {before} reason={}", options.epoch, opening.reason);
    (row, object)
}

fn first_records(options: &Options, cut: Option<&Cut>) -> Vec<(&'static str, String)> {
    let mut records = Vec::new();
    if let Some(cut) = cut {
        tracing::warn!(
            bytes = cut.bytes,
            "the end of the audit log was torn; it was cut off, kept and recorded"
        );
        records.push((CUT, format!("bytes={} kept={}", cut.bytes, cut.files.join(","))));
    }
    records.push((
        START,
        format!(
            "node={} version={} durability={} epoch={}",
            options.node,
            env!("CARGO_PKG_VERSION"),
            options.durability.as_str(),
            options.epoch
        ),
    ));
    records.extend(options.meanwhile.iter().cloned());
    records
}

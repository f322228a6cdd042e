//! The one writer of a node: the only code that appends to the log or changes the store.
//!
//! It works on a thread of its own, a batch at a time: what waits in the queue, at most 512 entries and without lingering.
//!
//! ```text
//! plain records ─► segment (synced, if every batch is, or if changes follow) ─► answered
//! changes       ─► one transaction: apply, record into the outbox ─► commit, synced ─► segment ─► answered; outbox row deleted later
//! ```
//!
//! In this order a crash leaves no gap: whatever the outbox holds stands behind records that are synced, and the next start appends it.
//! When a write or a commit fails, nobody is told "done", the queue closes, and the log stays shut until a restart.

use std::{
    error::Error as _,
    time::{Duration, Instant},
};

use tokio::{
    sync::{Notify, mpsc},
    time::MissedTickBehavior,
};

use super::{
    Actor, AuditError, Commit, CommitError, Draft, Durability, Entry, Health, Verdict, disk::DiskGuard, health::Guard,
    metrics::Figures, tail::Tail,
};
use crate::{
    clock::Clock,
    store::{Change, ChangeError, Committer, LogEpoch, StoreError},
};

/// Operations of the records that the writer makes itself. What they tell is in `object`, as `name=value` pairs.
pub const START: &str = "StartLog";
pub const STOP: &str = "StopLog";
pub const CUT: &str = "CutLog";
pub const EPOCH: &str = "OpenLogEpoch";
pub const REFUSE: &str = "RefuseWork";

/// Entries of one batch.
const BATCH: usize = 512;
/// How often disk, refusals and outbox are looked after.
const TICK: Duration = Duration::from_secs(1);
/// How long a stopping writer waits for permits that are still out.
const DRAIN: Duration = Duration::from_secs(5);

pub(super) struct Writer {
    pub tail: Tail,
    pub committer: Committer,
    pub durability: Durability,
    pub clock: std::sync::Arc<dyn Clock>,
    pub actor: std::sync::Arc<Actor>,
    pub directory: std::path::PathBuf,
    pub disk: DiskGuard,
    pub guard: Guard,
    pub figures: Figures,
    /// Last record whose outbox row is still to be deleted.
    pub outbox: Option<u64>,
}

/// Why the writer had to give up.
#[derive(Debug, thiserror::Error)]
pub(super) enum WriteError {
    #[error("the log cannot be written")]
    Log(#[from] std::io::Error),
    #[error("the store cannot be written")]
    Store(#[from] StoreError),
    #[error("the store cannot be written")]
    Change(#[source] ChangeError),
}

impl Writer {
    /// Works until told to stop, or until a write fails. Dropping the queue answers `Unwritable` to everyone in it.
    pub async fn run(mut self, mut queue: mpsc::Receiver<Entry>, stop: &Notify) -> Result<(), WriteError> {
        let worked = self.work(&mut queue, stop).await;
        self.guard.set(Health::Unwritable);
        if let Err(error) = &worked {
            let detail = error.source().map(ToString::to_string).unwrap_or_default();
            tracing::error!(
                error = %error,
                detail,
                sequence = self.tail.seq(),
                path = %self.directory.display(),
                "the audit log stopped: no operation is accepted until the cause is removed and the service restarted"
            );
        }
        worked
    }

    async fn work(&mut self, queue: &mut mpsc::Receiver<Entry>, stop: &Notify) -> Result<(), WriteError> {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut batch = Vec::with_capacity(BATCH);
        loop {
            tokio::select! {
                received = queue.recv_many(&mut batch, BATCH) => {
                    if received == 0 {
                        break;
                    }
                    self.figures.queue(queue.len());
                    self.commit(&mut batch).await?;
                }
                _ = tick.tick() => self.look_after().await?,
                () = stop.notified() => {
                    self.drain(queue, &mut batch).await?;
                    break;
                }
            }
        }
        self.record(STOP, format!("records={}", self.tail.seq() + 1), Verdict::Success)?;
        self.tail.sync()?;
        self.clear_outbox().await
    }

    /// Takes no more, but finishes what was reserved before.
    async fn drain(&mut self, queue: &mut mpsc::Receiver<Entry>, batch: &mut Vec<Entry>) -> Result<(), WriteError> {
        queue.close();
        let end = tokio::time::Instant::now() + DRAIN;
        while let Ok(received) = tokio::time::timeout_at(end, queue.recv_many(batch, BATCH)).await {
            if received == 0 {
                return Ok(());
            }
            self.commit(batch).await?;
        }
        tracing::warn!("the audit log stopped before all calls under way had ended; they will fail");
        Ok(())
    }

    async fn commit(&mut self, batch: &mut Vec<Entry>) -> Result<(), WriteError> {
        let (started, first) = (Instant::now(), self.tail.seq());
        let now = self.clock.now();
        let mut changes = Vec::new();
        for entry in batch.iter_mut() {
            match entry.change.take() {
                Some(change) => changes.push((std::mem::take(&mut entry.drafts), change, entry.done.take())),
                None => {
                    for draft in &entry.drafts {
                        self.tail.push(draft, now)?;
                    }
                }
            }
        }
        self.tail.flush()?;
        if self.durability == Durability::Fsync || !changes.is_empty() {
            self.tail.sync()?;
        }
        for done in batch.drain(..).filter_map(|entry| entry.done) {
            answer(done, Ok(()));
        }
        if !changes.is_empty() {
            self.change(changes, now).await?;
        }
        self.guard.set_records(self.tail.seq());
        self.figures.committed(self.tail.seq() - first, started.elapsed());
        Ok(())
    }

    async fn change(&mut self, changes: Vec<Changing>, now: crate::clock::Timestamp) -> Result<(), WriteError> {
        let mut transaction = self.committer.begin().await?;
        let mut records: Vec<(u64, Vec<u8>)> = Vec::with_capacity(changes.len());
        let mut answers = Vec::with_capacity(changes.len());
        for (mut drafts, change, done) in changes {
            let (chg, commit) = match transaction.apply(&change).await {
                Ok(applied) => (Some(applied), Ok(())),
                Err(error @ ChangeError::Store(_)) => return Err(WriteError::Change(error)),
                Err(refused) => {
                    for draft in &mut drafts {
                        draft.verdict = Verdict::Refused;
                        draft.code = reason(&refused);
                    }
                    (None, Err(CommitError::Refused(refused)))
                }
            };
            for draft in &drafts {
                let (seq, record) = self.tail.place(draft, chg, now);
                transaction.outbox(seq, record).await?;
                records.push((seq, record.to_vec()));
            }
            answers.push((done, commit));
        }
        transaction.commit().await?;
        for (seq, record) in &records {
            self.tail.append(*seq, record)?;
            self.outbox = Some(*seq);
        }
        // Not synced: the outbox, which is, keeps the records until a later sync covers them.
        self.tail.flush()?;
        for (done, commit) in answers {
            if let Some(done) = done {
                answer(done, commit);
            }
        }
        Ok(())
    }

    /// What needs no haste: the fill level of the disk, the number of refusals, outbox rows that the log has.
    async fn look_after(&mut self) -> Result<(), WriteError> {
        self.look_at_disk();
        let refused = self.guard.take_refused();
        if refused > 0 {
            self.record(REFUSE, format!("reason=disk-full refused={refused}"), Verdict::Refused)?;
            self.figures.refused(refused);
        }
        if self.outbox.is_some() {
            self.tail.sync()?;
            self.clear_outbox().await?;
        }
        Ok(())
    }

    pub(super) fn look_at_disk(&mut self) {
        let before = self.guard.health();
        let (health, used) = match self.disk.look(&self.directory) {
            Ok(seen) => seen,
            Err(error) => {
                tracing::warn!(error = %error, path = %self.directory.display(), "cannot tell how full the disk of the audit log is");
                return;
            }
        };
        self.figures.disk(used);
        if health == before {
            return;
        }
        self.guard.set(health);
        let path = self.directory.display();
        match health {
            Health::DiskFull => {
                tracing::error!(%path, count = used, "the disk of the audit log is full (percent): new work is refused until there is room")
            }
            Health::DiskLow => {
                tracing::warn!(%path, count = used, "the disk of the audit log fills up (percent): make room before work is refused")
            }
            Health::Writable | Health::Unwritable => {
                tracing::info!(%path, count = used, "the disk of the audit log has room (percent)")
            }
        }
    }

    async fn clear_outbox(&mut self) -> Result<(), WriteError> {
        if let Some(through) = self.outbox {
            self.committer.clear_outbox(through).await?;
            self.outbox = None;
        }
        Ok(())
    }

    /// Records that this log begins behind another, and keeps it in the store: one change, one record.
    pub(super) async fn open_epoch(&mut self, row: &LogEpoch, object: String) -> Result<(), AuditError> {
        let draft = self.own(EPOCH, object, Verdict::Success);
        let (done, committed) = tokio::sync::oneshot::channel();
        let change = Change::new().insert(row);
        let now = self.clock.now();
        let changed = self.change(vec![(vec![draft], change, Some(done))], now).await;
        match (changed, committed.await) {
            (Ok(()), Ok(Ok(()))) => Ok(()),
            (Ok(()), _) => Err(AuditError::EpochExists(row.epoch)),
            (Err(WriteError::Store(error)), _) => Err(error.into()),
            (Err(error), _) => {
                tracing::error!(error = %error, epoch = row.epoch, "the new epoch of the audit log cannot be recorded");
                Err(AuditError::Failed)
            }
        }
    }

    fn own(&self, operation: &'static str, object: String, verdict: Verdict) -> Draft {
        Draft {
            actor: self.actor.clone(),
            operation,
            object: object.into(),
            verdict,
            code: if verdict == Verdict::Refused {
                "LOG_UNAVAILABLE"
            } else {
                ""
            },
            ..Draft::default()
        }
    }

    /// Records something about the log itself; written and, where batches are, synced.
    pub(super) fn record(
        &mut self,
        operation: &'static str,
        object: String,
        verdict: Verdict,
    ) -> Result<(), std::io::Error> {
        let draft = self.own(operation, object, verdict);
        let head = self.committer.head();
        let (seq, record) = self.tail.place(&draft, Some(head), self.clock.now());
        let record = record.to_vec();
        self.tail.append(seq, &record)?;
        self.tail.flush()?;
        match self.durability {
            Durability::Fsync => self.tail.sync(),
            Durability::Written => Ok(()),
        }
    }
}

type Changing = (Vec<Draft>, Change, Option<tokio::sync::oneshot::Sender<Commit>>);

fn answer(done: tokio::sync::oneshot::Sender<Commit>, commit: Commit) {
    // Nobody waits when the call was cancelled meanwhile; its record stands.
    let _ = done.send(commit);
}

/// As the caller will read it (`policy::permit`).
const fn reason(refused: &ChangeError) -> &'static str {
    match refused {
        ChangeError::Exists(_) => "ALREADY_EXISTS",
        ChangeError::Stale(_) | ChangeError::RequestIdInUse => "CONFLICT",
        ChangeError::Store(_) => "INTERNAL",
    }
}

//! A reserved place in the writer's queue: what makes "no room in the log, no operation" true.

use std::{sync::Arc, time::Instant};

use tokio::sync::{Mutex, mpsc, oneshot};

use super::{Draft, Health, Verdict, health::Guard};
use crate::{Error, Result, store::Change, store::ChangeError};

/// What travels to the writer: drafts that get consecutive records in one commit, with at most one change.
pub struct Entry {
    pub drafts: Vec<Draft>,
    pub change: Option<Change>,
    /// Told once the records (and the change) are committed; absent for entries nobody waits for.
    pub done: Option<oneshot::Sender<Commit>>,
}

/// What became of an entry. `Refused`: the change lost its compare-and-set; the record says so, and is committed.
pub type Commit = std::result::Result<(), CommitError>;

#[derive(Debug, Clone, thiserror::Error)]
pub enum CommitError {
    #[error("the change was refused")]
    Refused(#[source] ChangeError),
    #[error("the log or the store cannot be written")]
    Unwritable,
}

/// The way into the log. Cheap to clone.
#[derive(Clone)]
pub struct Log {
    queue: mpsc::Sender<Entry>,
    /// Held by whoever waits for a second place while holding a first, so that two such callers never wait for each other.
    pairs: Arc<Mutex<()>>,
    guard: Guard,
}

impl Log {
    /// The log in front of a writer that receives from the other end of `queue`.
    pub fn new(queue: mpsc::Sender<Entry>) -> Self {
        Self::guarded(queue, Guard::default())
    }

    /// The same, with a guard that refuses while the log takes no new work.
    pub(super) fn guarded(queue: mpsc::Sender<Entry>, guard: Guard) -> Self {
        Self {
            queue,
            pairs: Arc::default(),
            guard,
        }
    }

    /// Whether the log takes work, for readiness.
    pub fn health(&self) -> Health {
        self.guard.health()
    }

    /// Reserves two places together. Errors: as [`Log::reserve`]; then no place is kept. The queue has room for two at least.
    pub async fn reserve_pair(&self, deadline: Instant) -> Result<(Slot, Slot)> {
        let turn = tokio::time::timeout_at(deadline.into(), self.pairs.lock()).await;
        let Ok(_turn) = turn else {
            return Err(Self::no_room());
        };
        let first = self.reserve(deadline).await?;
        let second = self.reserve(deadline).await?;
        Ok((first, second))
    }

    /// Reserves a place. Errors: `LogUnavailable` if the writer has stopped or the disk is full; `Overloaded` if there is no room before `deadline`.
    pub async fn reserve(&self, deadline: Instant) -> Result<Slot> {
        if !self.guard.accepts() {
            return Err(Error::LogUnavailable);
        }
        let reserved = match self.queue.clone().try_reserve_owned() {
            Ok(permit) => return Ok(Slot { permit }),
            Err(mpsc::error::TrySendError::Closed(_)) => return Err(Error::LogUnavailable),
            Err(mpsc::error::TrySendError::Full(queue)) => {
                tokio::time::timeout_at(deadline.into(), queue.reserve_owned()).await
            }
        };
        match reserved {
            Ok(Ok(permit)) => Ok(Slot { permit }),
            Ok(Err(_)) => Err(Error::LogUnavailable),
            Err(_) => Err(Self::no_room()),
        }
    }

    fn no_room() -> Error {
        Error::Overloaded {
            retry_after: std::time::Duration::from_millis(100),
        }
    }
}

/// One reserved place. Sending through it never blocks and is never full.
pub struct Slot {
    permit: mpsc::OwnedPermit<Entry>,
}

impl Slot {
    /// Hands the records over and waits until they are committed.
    pub(crate) async fn commit(self, drafts: Vec<Draft>, change: Option<Change>) -> Commit {
        let (done, committed) = oneshot::channel();
        self.permit.send(Entry {
            drafts,
            change,
            done: Some(done),
        });
        committed.await.unwrap_or(Err(CommitError::Unwritable))
    }

    /// Hands over the records of a permit that was dropped midway. Synchronous: it is called from `Drop`.
    pub(crate) fn abort(self, mut drafts: Vec<Draft>) {
        for draft in &mut drafts {
            draft.verdict = Verdict::Aborted;
        }
        self.permit.send(Entry {
            drafts,
            change: None,
            done: None,
        });
    }
}

//! Why a log does not start or stops: for the operator, with the next step.

use std::{io, path::PathBuf};

use super::{Finding, ReadError};
use crate::store::StoreError;

#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    #[error(
        "cannot use the log directory `{path}`: check that the service's user may write there and that the disk has room"
    )]
    Directory {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("another process writes the log in `{0}`: stop it first; two servers need two directories")]
    InUse(PathBuf),
    #[error(
        "the audit log is damaged at {0}; keep a copy, run `keyreeve audit verify`, then open a new epoch with `keyreeve restore`"
    )]
    Damaged(Box<Finding>),
    #[error(
        "the audit log ends at change {log}, the store at change {store}: records are missing; put the log's newest segments back, or open a new epoch with `keyreeve restore`"
    )]
    LogBehind { log: u64, store: u64 },
    #[error(
        "the store keeps record {outbox}, which belongs behind record {next} of the log: records between them are missing; put the log's newest segments back, or open a new epoch with `keyreeve restore`"
    )]
    Gap { next: u64, outbox: u64 },
    #[error(
        "epoch {newest} of the log exists, epoch {epoch} was to be written: the configuration or the store is older than the log; see `keyreeve restore`"
    )]
    NewerEpoch { epoch: u64, newest: u64 },
    #[error("epoch {0} of the log exists: a new epoch needs a number of its own")]
    EpochExists(u64),
    #[error("the store refuses to go on")]
    Store(#[from] StoreError),
    #[error("the log cannot be read")]
    Read(#[from] ReadError),
    #[error("the audit writer failed; the log above says why")]
    Failed,
}

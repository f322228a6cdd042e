//! Why the store cannot be opened, read or written: for the operator, with the next step.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

/// A fault of the store itself. A row that fails its check is `Tampered`.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("cannot use `{path}`: check that the directory exists and belongs to the service's user")]
    Unusable {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("another process uses the data directory `{path}`: stop it first; two servers need two directories")]
    InUse { path: PathBuf },
    #[error("the store is on a read-only file system: remount it, then start again")]
    ReadOnly(#[source] sqlx::Error),
    #[error("the disk of the store is full: free some space, then start again")]
    Full(#[source] sqlx::Error),
    #[error("the store has schema {found}, this program knows {known}: use the newer program")]
    Newer { found: u32, known: u32 },
    #[error("`{object}` of the store failed its integrity check: {problem}; run `keyreeve audit verify`")]
    Tampered { object: String, problem: &'static str },
    /// The log knows a change that the store does not have (security design, section 6a).
    #[error(
        "the store ends at change {found}, the audit log knows change {known}: the store was rolled back; restore the newest backup with `keyreeve restore`"
    )]
    RolledBack { found: u64, known: u64 },
    #[error("the backup cannot be used: {problem}")]
    Backup { problem: String },
    #[error("`{path}` is not empty: a backup is made and restored into an empty place only")]
    NotEmpty { path: PathBuf },
    #[error("the database gave up the transaction after an earlier fault: nothing of it was written")]
    GaveUp,
    #[error("the store failed")]
    Database(#[source] sqlx::Error),
    #[error("`{path}` failed")]
    File {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

impl StoreError {
    pub(super) fn file(path: &Path) -> impl FnOnce(io::Error) -> Self + use<> {
        let path = path.to_owned();
        |source| Self::File { path, source }
    }

    pub(super) fn tampered(object: impl Into<String>, problem: &'static str) -> Self {
        Self::Tampered {
            object: object.into(),
            problem,
        }
    }
}

/// Gives each fault of the database the sentence an operator needs. Codes: sqlite.org/rescode.html.
impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        const READONLY: u32 = 8;
        const FULL: u32 = 13;
        let code = error
            .as_database_error()
            .and_then(|error| error.code())
            .and_then(|code| code.parse::<u32>().ok())
            .map(|extended| extended & 0xff);
        match code {
            Some(READONLY) => Self::ReadOnly(error),
            Some(FULL) => Self::Full(error),
            _ => Self::Database(error),
        }
    }
}

/// What a caller is told: the object of a failed check, and nothing else.
impl From<StoreError> for crate::Error {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Tampered { object, problem } => {
                tracing::error!(object, problem, "a row failed its integrity check");
                Self::Tampered { object }
            }
            other => Self::Internal(Arc::new(other)),
        }
    }
}

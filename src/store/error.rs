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
    /// The log knows a change that the store does not have (`docs/formats.md`, section 9).
    #[error(
        "the store ends at change {found}, the audit log knows change {known}: the store was rolled back; restore the newest backup with `keyreeve restore`"
    )]
    RolledBack { found: u64, known: u64 },
    #[error("the database file is damaged: restore the newest backup with `keyreeve restore`")]
    Damaged(#[source] sqlx::Error),
    #[error("another program holds the database locked: close it (a `sqlite3` shell?)")]
    Locked(#[source] sqlx::Error),
    #[error("the backup cannot be used: {problem}")]
    Backup { problem: String },
    #[error("`{path}` is not empty: a backup is made and restored into an empty place only")]
    NotEmpty { path: PathBuf },
    #[error(
        "the restore into `{path}` did not complete, and what lies there is not served: empty it and the log's directory, then run `keyreeve restore` again"
    )]
    HalfRestored { path: PathBuf },
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
        const BUSY: u32 = 5;
        const READONLY: u32 = 8;
        const CORRUPT: u32 = 11;
        const FULL: u32 = 13;
        const NOT_A_DATABASE: u32 = 26;
        let code = error
            .as_database_error()
            .and_then(|error| error.code())
            .and_then(|code| code.parse::<u32>().ok())
            .map(|extended| extended & 0xff);
        match code {
            Some(READONLY) => Self::ReadOnly(error),
            Some(FULL) => Self::Full(error),
            Some(BUSY) => Self::Locked(error),
            Some(CORRUPT | NOT_A_DATABASE) => Self::Damaged(error),
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

#[cfg(test)]
mod tests {
    use sqlx::{Connection as _, SqliteConnection};

    use super::*;

    #[tokio::test]
    async fn what_sqlite_says_of_its_disk_becomes_a_sentence() {
        let mut database = SqliteConnection::connect("sqlite::memory:").await.unwrap();
        let mut run = async |sql: &'static str| sqlx::raw_sql(sql).execute(&mut database).await;
        run("CREATE TABLE t (x); PRAGMA query_only = ON").await.unwrap();
        let error = StoreError::from(run("INSERT INTO t VALUES (1)").await.unwrap_err());
        assert!(matches!(error, StoreError::ReadOnly(_)), "{error}");
        run("PRAGMA query_only = OFF; PRAGMA max_page_count = 2").await.unwrap();
        let error = StoreError::from(run("INSERT INTO t VALUES (zeroblob(100000))").await.unwrap_err());
        assert!(matches!(error, StoreError::Full(_)), "{error}");
        let error = StoreError::from(run("nonsense").await.unwrap_err());
        assert!(matches!(error, StoreError::Database(_)), "{error}");
    }

    #[tokio::test]
    async fn a_file_that_is_no_database_is_named_damaged() {
        let place = crate::store::testing::Place::new();
        std::fs::write(place.directory().join("store.db"), vec![b'x'; 4096]).unwrap();
        let error = place.open().await.err().unwrap();
        assert!(matches!(error, StoreError::Damaged(_)), "{error}");
    }
}

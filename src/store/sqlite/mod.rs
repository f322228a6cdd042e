//! SQLite: the default database. One connection writes, a few read; WAL, synchronous FULL.

mod migrate;
mod reader;
mod row;
mod statements;
mod writer;

use std::{path::Path, time::Duration};

use sqlx::{
    ConnectOptions as _, Connection as _,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous},
};

use super::{StoreError, files};
pub use reader::SqliteReader;
pub use writer::SqliteWriter;

/// Name of the database in its directory.
pub const FILE: &str = "store.db";

const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Opens for writing, and makes the schema what this program knows. The caller holds the lock of the directory.
pub async fn open(database: &Path) -> Result<SqliteWriter, StoreError> {
    // SQLite gives its other files the mode of this one.
    files::private(database)?;
    let options = base(database)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        // A deleted blob is overwritten, not only unlinked.
        .pragma("secure_delete", "ON")
        // After a bulk load the WAL is cut back to this many bytes.
        .pragma("journal_size_limit", "67108864");
    SqliteWriter::open(options).await
}

/// Copies the database at one moment into the new file `into`, while others use it, and lets SQLite check the copy.
/// Returns the place in the log of the newest record in its outbox.
pub async fn copy(database: &Path, into: &Path) -> Result<Option<u64>, StoreError> {
    let Some(path) = into.to_str() else {
        let problem = format!("`{}` is not UTF-8", into.display());
        return Err(StoreError::Backup { problem });
    };
    files::private(into)?;
    let mut source = base(database).connect().await?;
    sqlx::query("VACUUM INTO ?1").bind(path).execute(&mut source).await?;
    source.close().await?;

    let mut copy = base(into).connect().await?;
    let checked: String = sqlx::query_scalar("PRAGMA integrity_check")
        .fetch_one(&mut copy)
        .await?;
    let newest: Option<i64> = sqlx::query_scalar("SELECT max(seq) FROM outbox")
        .fetch_one(&mut copy)
        .await?;
    copy.close().await?;
    if checked == "ok" {
        Ok(newest.map(i64::cast_unsigned))
    } else {
        Err(StoreError::Backup { problem: checked })
    }
}

fn base(database: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(database)
        .foreign_keys(true)
        .busy_timeout(BUSY_TIMEOUT)
}

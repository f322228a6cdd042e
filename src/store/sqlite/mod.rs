//! SQLite: the default database. One connection writes, a few read; WAL, synchronous FULL.

mod migrate;
mod reader;
mod row;
mod statements;
mod writer;

use std::{path::Path, time::Duration};

use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};

use super::StoreError;
pub use reader::SqliteReader;
pub use writer::SqliteWriter;

/// Name of the database in its directory.
pub const FILE: &str = "store.db";

const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Opens for writing, and makes the schema what this program knows. The caller holds the lock of the directory.
pub async fn open(database: &Path) -> Result<SqliteWriter, StoreError> {
    let options = base(database)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        // A deleted blob is overwritten, not only unlinked.
        .pragma("secure_delete", "ON");
    SqliteWriter::open(options).await
}

fn base(database: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(database)
        .foreign_keys(true)
        .busy_timeout(BUSY_TIMEOUT)
}

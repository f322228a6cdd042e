//! The one way to change the store. Named by `audit::writer` alone (`tests/layout.rs`).
//!
//! ```text
//! begin ─► (apply(change) ─► outbox(record that carries its `chg`))* ─► commit
//! ```

use super::{Applied, Change, ChangeError, Directory, StoreError};

/// Changes the store, one transaction at a time.
pub struct Committer {}

/// Changes and their records, committed together or not at all. Dropped, it leaves nothing behind.
pub struct Transaction<'a> {
    _committer: &'a mut Committer,
}

/// A record that was committed with its change, and may not yet be in the log's segments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutboxRow {
    /// The record's place in the log.
    pub seq: u64,
    /// Its exact bytes.
    pub record: Vec<u8>,
}

impl Committer {
    /// Starts a transaction. One that was dropped before is rolled back first.
    pub async fn begin(&mut self) -> Result<Transaction<'_>, StoreError> {
        todo!()
    }

    /// Where the chain of changes ends: (0, zeros) in an empty store.
    pub fn head(&self) -> Applied {
        todo!()
    }

    /// Records after `after` (all, if `None`), in ascending order.
    pub async fn outbox_rows(&mut self, _after: Option<u64>) -> Result<Vec<OutboxRow>, StoreError> {
        todo!()
    }

    /// Forgets records up to and with `through`: the log's segments hold them, synced.
    pub async fn clear_outbox(&mut self, _through: u64) -> Result<(), StoreError> {
        todo!()
    }

    /// Compares with the highest `chg` that the log or the checkpoint file knows. Errors: `RolledBack`, or `Tampered` if the chain forked.
    pub async fn check_head(&mut self, _known: Applied) -> Result<(), StoreError> {
        todo!()
    }
}

impl Transaction<'_> {
    /// Writes one change, whole or not at all; a refusal leaves the transaction usable for others. The answer is the record's `chg`.
    pub async fn apply(&mut self, _change: &Change) -> Result<Applied, ChangeError> {
        todo!()
    }

    /// Keeps a record until the log has it.
    pub async fn outbox(&mut self, _seq: u64, _record: &[u8]) -> Result<(), StoreError> {
        todo!()
    }

    /// Commits, fully synced. When it returns, every reader sees the changes, and the ids of destroyed versions are in the tombstone file.
    pub async fn commit(self) -> Result<Applied, StoreError> {
        todo!()
    }
}

/// Where the store is, and how it is used.
pub struct Options {
    /// Directory of the database and its lock file; made by `init`, not here.
    pub directory: std::path::PathBuf,
    /// Ids of destroyed versions, beside the checkpoint file: it must outlive a restored store.
    pub tombstone_file: std::path::PathBuf,
    pub row_key: super::RowKey,
    pub clock: std::sync::Arc<dyn crate::clock::Clock>,
    /// Keys kept in memory; others are loaded when asked for.
    pub cached_keys: u64,
}

/// Opens the store, making or migrating its schema, and walks its whole chain of changes.
pub async fn open(_options: Options) -> Result<(Directory, Committer), StoreError> {
    todo!()
}

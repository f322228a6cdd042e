//! What a database must do for the store. SQLite does it today; PostgreSQL will.
//!
//! A backend moves rows and entries and knows no key: MACs, links, caches and the rules of use are above it.

use futures_util::future::BoxFuture;

use super::{Expected, OutboxRow, Remembered, StoreError, Table, row::Column};

pub type Answer<'a, T> = BoxFuture<'a, Result<T, StoreError>>;

/// A row as the database gives it: not yet verified.
#[derive(Debug, Clone)]
pub struct StoredRow {
    pub table: Table,
    pub primary_key: Vec<u8>,
    pub columns: Vec<Column>,
    pub row_version: u64,
    pub change_seq: u64,
    pub row_mac: Vec<u8>,
}

/// One entry of the chain, as the database gives it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChainEntry {
    pub seq: u64,
    pub table: String,
    pub primary_key: Vec<u8>,
    pub row_version: u64,
    pub row_mac: Vec<u8>,
    pub link: Vec<u8>,
}

/// A row and the last entry of the chain that speaks of it.
pub struct Found {
    pub row: StoredRow,
    pub last: Option<ChainEntry>,
}

/// A key, its versions, and the last entry of every version the chain knows, those without a row included.
pub struct FoundKey {
    pub key: Found,
    pub versions: Vec<StoredRow>,
    pub last: Vec<ChainEntry>,
}

/// Entries of the chain that speak of keys and their versions, in order, and two links of the chain. All of one moment, not verified.
pub struct ChangedKeys {
    /// At the place that was asked from; `None` if there is no such entry.
    pub from: Option<Vec<u8>>,
    /// Number, link, name of the key.
    pub entries: Vec<(u64, Vec<u8>, String)>,
    /// The last entry of all: number and link.
    pub head: Option<(u64, Vec<u8>)>,
}

/// Which list of names.
#[derive(Debug, Clone, Copy)]
pub enum Names<'a> {
    Environments,
    TeamsOf(&'a [u8; 16]),
    KeysOf(&'a [u8; 16]),
}

/// Sees the whole store: first the chain in order, then every row.
pub trait Visitor: Send {
    fn entry(&mut self, entry: ChainEntry);
    fn row(&mut self, row: StoredRow);
}

/// Reads, by many at once. What one call returns is of one moment.
pub trait Reader: Send + Sync {
    /// A row of `Environments` or `Teams`.
    fn named<'a>(&'a self, table: Table, name: &'a str) -> Answer<'a, Option<Found>>;
    fn key<'a>(&'a self, name: &'a str) -> Answer<'a, Option<FoundKey>>;
    /// Names after `after`, in order, at most `limit`.
    fn names<'a>(&'a self, of: Names<'a>, after: &'a str, limit: u32) -> Answer<'a, Vec<String>>;
    /// Changes of keys and their versions after number `after`, at most `limit`.
    fn keys_changed(&self, after: u64, limit: u32) -> Answer<'_, ChangedKeys>;
    fn due_for_destruction(&self, now_ms: i64, limit: u32) -> Answer<'_, Vec<String>>;
    fn remembered<'a>(
        &'a self,
        caller: &'a str,
        method: &'static str,
        request_id: &'a str,
        now_ms: i64,
    ) -> Answer<'a, Option<Remembered>>;
    /// Numbers of environments and keys.
    fn counts(&self) -> Answer<'_, (u64, u64)>;
    fn use_counter(&self, key: [u8; 16], number: u32) -> Answer<'_, Option<Found>>;
    /// Number of Active versions with more than `reserved` uses, or with a counter of another epoch of the log.
    fn due_for_rotation(&self, reserved: u64, log_epoch: u64) -> Answer<'_, u64>;
    fn log_epochs<'a>(&'a self, node: &'a str) -> Answer<'a, Vec<Found>>;
    /// The chain, then all rows of `tables`, of one moment.
    fn walk<'a>(&'a self, tables: &'a [Table], visitor: &'a mut dyn Visitor) -> Answer<'a, ()>;
}

/// One write of a row, with all that is stored beside its columns.
pub struct RowWrite<'a> {
    pub table: Table,
    pub primary_key: &'a [u8],
    pub expected: Expected,
    /// `None` deletes.
    pub columns: Option<&'a [Column]>,
    pub row_version: u64,
    pub change_seq: u64,
    pub row_mac: &'a [u8; 32],
    pub link: &'a [u8; 32],
}

/// What became of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Written {
    Done,
    /// The row, its name, or a deleted row of the same key exists.
    Exists,
    Stale,
}

/// Writes, by one.
pub trait Writer: Send {
    fn begin(&mut self) -> Answer<'_, ()>;
    fn commit(&mut self) -> Answer<'_, ()>;
    /// Ends the transaction, if there is one.
    fn rollback(&mut self) -> Answer<'_, ()>;
    /// Starts what `keep` or `undo` ends, within a transaction.
    fn attempt(&mut self) -> Answer<'_, ()>;
    fn keep(&mut self) -> Answer<'_, ()>;
    fn undo(&mut self) -> Answer<'_, ()>;
    /// Writes the row and its entry in the chain.
    fn write<'a>(&'a mut self, write: RowWrite<'a>) -> Answer<'a, Written>;
    /// False if the id is in use and has not expired.
    fn remember<'a>(&'a mut self, remembered: &'a Remembered, now_ms: i64) -> Answer<'a, bool>;
    fn forget_expired(&mut self, now_ms: i64) -> Answer<'_, ()>;
    fn key_name<'a>(&'a mut self, id: &'a [u8]) -> Answer<'a, Option<String>>;
    fn link_at(&mut self, seq: u64) -> Answer<'_, Option<Vec<u8>>>;
    fn put_outbox<'a>(&'a mut self, seq: u64, record: &'a [u8]) -> Answer<'a, ()>;
    fn outbox_after(&mut self, after: Option<u64>) -> Answer<'_, Vec<OutboxRow>>;
    fn clear_outbox(&mut self, through: u64) -> Answer<'_, ()>;
    /// Whether anyone but this writer has written since the last time this was asked.
    fn written_by_others(&mut self) -> Answer<'_, bool>;
    /// Makes the database full, or gives it room again.
    #[cfg(test)]
    fn limit_pages(&mut self, full: bool) -> BoxFuture<'_, ()>;
}

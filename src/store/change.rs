//! What a permit's completion may change: rows, each with the version it expects to find.

use super::{Row, Table, row::Column};

/// Writes that happen together or not at all, in one transaction with the record of the call.
#[derive(Debug, Default, Clone)]
pub struct Change {
    writes: Vec<Write>,
    /// The answer to keep under the caller's `request_id` for 24 h; never one that holds plaintext.
    remembered: Option<Remembered>,
}

/// One row written, or deleted (`columns` empty: it stays as a tombstone of its own).
#[derive(Debug, Clone)]
pub struct Write {
    pub table: Table,
    pub primary_key: Vec<u8>,
    pub expected: Expected,
    pub columns: Option<Vec<Column>>,
}

/// What must be true of the row before the write; otherwise the whole change is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    Absent,
    Version(u64),
}

/// An answer kept for a repeated `request_id`.
#[derive(Debug, Clone)]
pub struct Remembered {
    pub caller: String,
    pub method: &'static str,
    pub request_id: String,
    /// SHA-256 of the request as received.
    pub request: [u8; 32],
    /// Name of the resource that the answer shows; the answer is built again from it.
    pub object: String,
    pub expires_ms: i64,
}

/// Where a change came to stand in the chain: the record's `chg`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Applied {
    pub seq: u64,
    pub link: [u8; 32],
}

impl Applied {
    /// Before the first change: number 0 and 32 zero bytes.
    pub const NONE: Self = Self { seq: 0, link: [0; 32] };
}

/// Why a change was refused; nothing of it was written.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ChangeError {
    #[error("a row of {0:?} exists already")]
    Exists(Table),
    #[error("a row of {0:?} was changed meanwhile")]
    Stale(Table),
    #[error("this request id is in use")]
    RequestIdInUse,
    #[error("the store failed")]
    Store(#[source] std::sync::Arc<dyn std::error::Error + Send + Sync>),
}

impl Change {
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a row that must not exist yet.
    #[must_use]
    pub fn insert<R: Row>(self, row: &R) -> Self {
        self.write(row, Expected::Absent, Some(row.columns()))
    }

    /// Replaces the row that `row` was read from; refused if it was changed since.
    #[must_use]
    pub fn update<R: Row>(self, row: &R) -> Self {
        self.write(row, Expected::Version(row.row_version()), Some(row.columns()))
    }

    /// Deletes the row that `row` was read from.
    #[must_use]
    pub fn delete<R: Row>(self, row: &R) -> Self {
        self.write(row, Expected::Version(row.row_version()), None)
    }

    /// Keeps the answer under the caller's request id.
    #[must_use]
    pub fn remember(mut self, remembered: Option<Remembered>) -> Self {
        self.remembered = remembered;
        self
    }

    pub fn writes(&self) -> &[Write] {
        &self.writes
    }

    pub fn remembered(&self) -> Option<&Remembered> {
        self.remembered.as_ref()
    }

    fn write<R: Row>(mut self, row: &R, expected: Expected, columns: Option<Vec<Column>>) -> Self {
        self.writes.push(Write {
            table: R::TABLE,
            primary_key: row.primary_key(),
            expected,
            columns,
        });
        self
    }
}

//! The store: rows that carry authority, each MACed and tied into one chain of changes; read by everyone, changed by the audit writer alone.
//!
//! `open` gives two handles. [`Directory`] reads: the hot rows from memory, verified when they are loaded. [`Committer`] changes, and
//! only `audit::writer` may name it (`tests/layout.rs`): there is no public mutating method. Formats: `docs/formats.md`, "Rows that carry authority".

mod backend;
pub mod backup;
#[cfg(test)]
mod backup_tests;
mod change;
mod committer;
mod directory;
mod error;
mod files;
mod hot;
mod lock;
mod mac;
mod open;
pub mod restore;
mod row;
mod rows;
mod sqlite;
#[cfg(test)]
mod store_tests;
#[cfg(test)]
mod tamper_tests;
#[cfg(test)]
pub(crate) mod testing;
mod tombstones;
mod verify;

pub use change::{Applied, Change, ChangeError, Expected, Remembered, Write};
pub use committer::{Committer, OutboxRow, Transaction};
pub use directory::{ChangedSince, Directory, Page};
pub use error::StoreError;
pub use mac::RowKey;
pub use open::{Options, open};
pub use row::{Column, Kind, Row, Table, Value};
pub use rows::LogEpoch;
/// Name of the database in the data directory.
pub use sqlite::FILE;
pub use tombstones::listed as listed_tombstones;
pub use verify::{Finding, Report, verify};

//! What is kept as rows: the columns of each table, and how a verified row becomes a value again. Table of ids: `docs/rows.md`.

mod environment;
mod epoch;
mod key;
mod tombstone;
mod use_counter;

use keyreeve_envelope::{KeyId, KeyVersion};

use super::{Column, Kind, StoreError, Table, Value, backend::StoredRow};
use crate::clock::Timestamp;

pub(super) use environment::{environment, team};
pub use epoch::LogEpoch;
pub(super) use epoch::log_epoch;
pub(super) use key::{BLOB_COLUMN, NAME_COLUMN, STATE_COLUMN, key, version};
pub(super) use tombstone::Tombstone;
pub(super) use use_counter::use_counter;

/// A column of a table: stable id, name in the database, type.
pub type ColumnShape = (u16, &'static str, Kind);

/// The columns of a table, in schema order.
pub const fn shape(table: Table) -> &'static [ColumnShape] {
    match table {
        Table::Environments => environment::ENVIRONMENTS,
        Table::Teams => environment::TEAMS,
        Table::Keys => key::KEYS,
        Table::KeyVersions => key::KEY_VERSIONS,
        Table::LogEpochs => epoch::LOG_EPOCHS,
        Table::Tombstones => tombstone::TOMBSTONES,
        Table::UseCounters => use_counter::USE_COUNTERS,
    }
}

/// The primary key that a row's own columns give.
pub fn primary_key(table: Table, columns: &[Column]) -> Vec<u8> {
    let parts = match table {
        Table::Environments | Table::Teams | Table::Keys => 1,
        Table::KeyVersions | Table::LogEpochs | Table::Tombstones | Table::UseCounters => 2,
    };
    let mut key = Vec::with_capacity(20);
    for column in &columns[..parts] {
        match &column.value {
            Value::Bytes(bytes) => key.extend_from_slice(bytes),
            Value::Text(text) => key.extend_from_slice(text.as_bytes()),
            // A version's number is a u32 in the key (docs/rows.md), an epoch a u64.
            Value::Integer(number) if table == Table::LogEpochs => key.extend_from_slice(&number.to_be_bytes()),
            Value::Integer(number) => key.extend_from_slice(&(*number as u32).to_be_bytes()),
            Value::Null(_) => {}
        }
    }
    key
}

/// The primary key of a row about one version of a key.
fn of_version(key: KeyId, number: KeyVersion) -> Vec<u8> {
    [&key.as_bytes()[..], &number.number().to_be_bytes()].concat()
}

/// Puts the values of a row into its columns.
fn columns<const N: usize>(shape: &'static [ColumnShape], values: [Value; N]) -> Vec<Column> {
    debug_assert_eq!(shape.len(), N);
    let named = shape.iter().zip(values);
    named
        .map(|(&(id, name, _), value)| Column { id, name, value })
        .collect()
}

fn time(at: Timestamp) -> Value {
    Value::Integer(at.unix_ms().cast_unsigned())
}

fn text(text: impl Into<String>) -> Value {
    Value::Text(text.into())
}

fn or_null(value: Option<Value>, kind: Kind) -> Value {
    value.unwrap_or(Value::Null(kind))
}

/// Takes the values of a verified row in schema order. What this program cannot read was written by none that it knows.
struct Values<'a> {
    row: &'a StoredRow,
    at: usize,
}

impl<'a> Values<'a> {
    fn of(row: &'a StoredRow) -> Self {
        Self { row, at: 0 }
    }

    fn next(&mut self) -> Result<&'a Value, StoreError> {
        let value = self.row.columns.get(self.at).map(|column| &column.value);
        self.at += 1;
        value.ok_or_else(|| self.unreadable())
    }

    fn bytes(&mut self) -> Result<Option<&'a [u8]>, StoreError> {
        match self.next()? {
            Value::Bytes(bytes) => Ok(Some(bytes)),
            Value::Null(Kind::Bytes) => Ok(None),
            _ => Err(self.unreadable()),
        }
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], StoreError> {
        let bytes = self.bytes()?.and_then(|bytes| bytes.try_into().ok());
        bytes.ok_or_else(|| self.unreadable())
    }

    fn integer_or_null(&mut self) -> Result<Option<u64>, StoreError> {
        match self.next()? {
            Value::Integer(number) => Ok(Some(*number)),
            Value::Null(Kind::Integer) => Ok(None),
            _ => Err(self.unreadable()),
        }
    }

    fn integer(&mut self) -> Result<u64, StoreError> {
        self.integer_or_null()?.ok_or_else(|| self.unreadable())
    }

    fn time(&mut self) -> Result<Timestamp, StoreError> {
        Ok(Timestamp::from_unix_ms(self.integer()?.cast_signed()))
    }

    fn text_or_null(&mut self) -> Result<Option<&'a str>, StoreError> {
        match self.next()? {
            Value::Text(text) => Ok(Some(text)),
            Value::Null(Kind::Text) => Ok(None),
            _ => Err(self.unreadable()),
        }
    }

    fn text(&mut self) -> Result<&'a str, StoreError> {
        self.text_or_null()?.ok_or_else(|| self.unreadable())
    }

    /// A text that must parse.
    fn parsed<T>(&mut self, parse: impl FnOnce(&str) -> Option<T>) -> Result<T, StoreError> {
        parse(self.text()?).ok_or_else(|| self.unreadable())
    }

    fn unreadable(&self) -> StoreError {
        StoreError::tampered(self.row.table.name(), "a column holds what this program cannot read")
    }
}

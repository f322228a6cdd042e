//! Rows of tombstones: versions whose blob was deleted, for ever.

use super::{ColumnShape, columns, of_version, time};
use crate::{
    clock::Timestamp,
    model::{KeyId, KeyVersion},
    store::{Column, Kind, Row, Table, Value},
};

pub const TOMBSTONES: &[ColumnShape] = &[
    (1, "key_id", Kind::Bytes),
    (2, "number", Kind::Integer),
    (3, "destroyed", Kind::Integer),
];

/// Written by the committer itself with every version that is destroyed, so that none can be forgotten.
pub struct Tombstone {
    pub key: KeyId,
    pub number: KeyVersion,
    pub destroyed: Timestamp,
}

impl Row for Tombstone {
    const TABLE: Table = Table::Tombstones;

    fn primary_key(&self) -> Vec<u8> {
        of_version(self.key, self.number)
    }

    fn columns(&self) -> Vec<Column> {
        let values = [
            Value::Bytes(self.key.as_bytes().to_vec()),
            Value::Integer(self.number.number().into()),
            time(self.destroyed),
        ];
        columns(TOMBSTONES, values)
    }

    fn row_version(&self) -> u64 {
        0
    }
}

//! Rows of use counters: how many uses of a version of suite 0001 are reserved.

use super::{ColumnShape, Values, columns, key::number, of_version};
use crate::{
    model::{KeyId, UseCounter},
    store::{Column, Kind, Row, StoreError, Table, Value, backend::StoredRow},
};

pub const USE_COUNTERS: &[ColumnShape] = &[
    (1, "key_id", Kind::Bytes),
    (2, "number", Kind::Integer),
    (3, "reserved", Kind::Integer),
    (4, "log_epoch", Kind::Integer),
];

impl Row for UseCounter {
    const TABLE: Table = Table::UseCounters;

    fn primary_key(&self) -> Vec<u8> {
        of_version(self.key, self.number)
    }

    fn columns(&self) -> Vec<Column> {
        let values = [
            Value::Bytes(self.key.as_bytes().to_vec()),
            Value::Integer(self.number.number().into()),
            Value::Integer(self.reserved),
            Value::Integer(self.log_epoch),
        ];
        columns(USE_COUNTERS, values)
    }

    fn row_version(&self) -> u64 {
        self.row_version
    }
}

pub fn use_counter(row: &StoredRow) -> Result<UseCounter, StoreError> {
    let mut values = Values::of(row);
    Ok(UseCounter {
        key: KeyId::from_bytes(values.array()?),
        number: number(values.integer()?)?,
        reserved: values.integer()?,
        log_epoch: values.integer()?,
        row_version: row.row_version,
    })
}

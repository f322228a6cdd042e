//! Rows of log epochs: which log of a node is the one in use, and what was last known of the one before.

use super::{ColumnShape, Values, columns, or_null, text, time};
use crate::{
    clock::Timestamp,
    store::{Column, Kind, Row, StoreError, Table, Value, backend::StoredRow},
};

pub const LOG_EPOCHS: &[ColumnShape] = &[
    (1, "node", Kind::Text),
    (2, "epoch", Kind::Integer),
    (3, "reason", Kind::Text),
    (4, "opened", Kind::Integer),
    (5, "last_size", Kind::Integer),
    (6, "last_root", Kind::Bytes),
];

/// One epoch of a node's audit log; `<cluster>/audit/<node>/<epoch>` is its origin (`docs/formats.md`, section 8).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogEpoch {
    pub node: String,
    /// From 1.
    pub epoch: u64,
    /// Why it was opened, in the operator's words.
    pub reason: String,
    pub opened: Timestamp,
    /// Size and root of the last checkpoint known of the epoch before; `None` in the first.
    pub last: Option<(u64, [u8; 32])>,
    pub row_version: u64,
}

impl Row for LogEpoch {
    const TABLE: Table = Table::LogEpochs;

    fn primary_key(&self) -> Vec<u8> {
        [self.node.as_bytes(), &self.epoch.to_be_bytes()].concat()
    }

    fn columns(&self) -> Vec<Column> {
        let values = [
            text(self.node.as_str()),
            Value::Integer(self.epoch),
            text(self.reason.as_str()),
            time(self.opened),
            or_null(self.last.map(|(size, _)| Value::Integer(size)), Kind::Integer),
            or_null(self.last.map(|(_, root)| Value::Bytes(root.to_vec())), Kind::Bytes),
        ];
        columns(LOG_EPOCHS, values)
    }

    fn row_version(&self) -> u64 {
        self.row_version
    }
}

pub fn log_epoch(row: &StoredRow) -> Result<LogEpoch, StoreError> {
    let mut values = Values::of(row);
    Ok(LogEpoch {
        node: values.text()?.to_owned(),
        epoch: values.integer()?,
        reason: values.text()?.to_owned(),
        opened: values.time()?,
        last: match values.integer_or_null()? {
            Some(size) => Some((size, values.array()?)),
            None => None,
        },
        row_version: row.row_version,
    })
}

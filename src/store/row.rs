//! The canonical bytes of a row, over which its MAC goes (`docs/formats.md`, section 9).

/// Tables whose rows carry authority. The name is part of the MAC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Table {
    Environments,
    Teams,
    Keys,
    KeyVersions,
    LogEpochs,
    Tombstones,
    UseCounters,
}

impl Table {
    pub const ALL: [Self; 7] = [
        Self::Environments,
        Self::Teams,
        Self::Keys,
        Self::KeyVersions,
        Self::LogEpochs,
        Self::Tombstones,
        Self::UseCounters,
    ];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Environments => "environments",
            Self::Teams => "teams",
            Self::Keys => "keys",
            Self::KeyVersions => "key_versions",
            Self::LogEpochs => "log_epochs",
            Self::Tombstones => "tombstones",
            Self::UseCounters => "use_counters",
        }
    }
}

/// One value of a column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    Bytes(Vec<u8>),
    Integer(u64),
    Text(String),
    Null(Kind),
}

/// The type of a column that is null.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Bytes,
    Integer,
    Text,
}

/// One column of a row, in schema order. `id` is part of the MAC and is never reused within its table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    pub id: u16,
    pub name: &'static str,
    pub value: Value,
}

/// A type that is kept as one row.
pub trait Row: Sized {
    const TABLE: Table;

    /// The primary key in bytes: ids in order, integers big-endian.
    fn primary_key(&self) -> Vec<u8>;

    /// All columns but `row_version`, `change_seq` and `row_mac`.
    fn columns(&self) -> Vec<Column>;

    /// The version of the row that this value was read from; 0 for one that was never stored.
    fn row_version(&self) -> u64;
}

/// `u16 column id || u8 type || u32 length || bytes` per column; null has length FFFFFFFF and no bytes.
pub fn canonical(columns: &[Column]) -> Vec<u8> {
    let mut out = Vec::with_capacity(columns.len() * 24);
    for column in columns {
        out.extend_from_slice(&column.id.to_be_bytes());
        let (kind, bytes): (u8, Option<&[u8]>) = match &column.value {
            Value::Bytes(bytes) => (1, Some(bytes)),
            Value::Integer(_) => (2, None),
            Value::Text(text) => (3, Some(text.as_bytes())),
            Value::Null(Kind::Bytes) => (1, None),
            Value::Null(Kind::Integer) => (2, None),
            Value::Null(Kind::Text) => (3, None),
        };
        out.push(kind);
        match (&column.value, bytes) {
            (Value::Integer(number), _) => {
                out.extend_from_slice(&8u32.to_be_bytes());
                out.extend_from_slice(&number.to_be_bytes());
            }
            (_, Some(bytes)) => {
                out.extend_from_slice(
                    &u32::try_from(bytes.len())
                        .expect("a column is far below 4 GiB")
                        .to_be_bytes(),
                );
                out.extend_from_slice(bytes);
            }
            (_, None) => out.extend_from_slice(&u32::MAX.to_be_bytes()),
        }
    }
    out
}

//! Rows of keys and their versions.

use std::{collections::BTreeMap, sync::Arc};

use super::{ColumnShape, Values, columns, of_version, or_null, text, time};
use crate::{
    clock::Timestamp,
    model::{
        Blob, IvSource, Key, KeyId, KeyState, KeyVersion, Purpose, Residency, Suite, Team, TeamId, TokenAttributes,
        TokenObject, Version,
    },
    store::{Column, Kind, Row, StoreError, Table, Value, backend::StoredRow},
};

pub const KEYS: &[ColumnShape] = &[
    (1, "id", Kind::Bytes),
    (2, "name", Kind::Text),
    (3, "team", Kind::Bytes),
    (4, "purpose", Kind::Text),
    (5, "residency", Kind::Text),
    (6, "owner", Kind::Text),
    (7, "labels", Kind::Text),
    (8, "primary_version", Kind::Integer),
    (9, "created", Kind::Integer),
];

pub const KEY_VERSIONS: &[ColumnShape] = &[
    (1, "key_id", Kind::Bytes),
    (2, "number", Kind::Integer),
    (3, "state", Kind::Text),
    (4, "state_before", Kind::Text),
    (5, "state_changed", Kind::Integer),
    (6, "state_reason", Kind::Text),
    (7, "destroy_at", Kind::Integer),
    (8, "blob", Kind::Bytes),
    (9, "at_birth", Kind::Integer),
    (10, "at_birth_observed", Kind::Integer),
    (11, "created", Kind::Integer),
    (12, "suite", Kind::Integer),
    (13, "iv_source", Kind::Text),
    (14, "cka_id", Kind::Bytes),
    (15, "kcv", Kind::Bytes),
];

/// Place in `KEYS` that the committer looks at.
pub const NAME_COLUMN: usize = 1;
/// Places in `KEY_VERSIONS` that the committer looks at.
pub const STATE_COLUMN: usize = 2;
pub const BLOB_COLUMN: usize = 7;

const ENCRYPT_DECRYPT: &str = "ENCRYPT_DECRYPT";
const WRAPPED: &str = "WRAPPED";
const TOKEN_RESIDENT: &str = "TOKEN_RESIDENT";

impl Row for Key {
    const TABLE: Table = Table::Keys;

    fn primary_key(&self) -> Vec<u8> {
        self.id.as_bytes().to_vec()
    }

    fn columns(&self) -> Vec<Column> {
        let purpose = match self.purpose {
            Purpose::EncryptDecrypt => ENCRYPT_DECRYPT,
        };
        let residency = match self.residency {
            Residency::Wrapped => WRAPPED,
            Residency::TokenResident => TOKEN_RESIDENT,
        };
        let labels = serde_json::to_string(&self.labels).expect("a map of text is JSON");
        let values = [
            Value::Bytes(self.id.as_bytes().to_vec()),
            text(self.name.as_str()),
            Value::Bytes(self.team.id.as_bytes().to_vec()),
            text(purpose),
            text(residency),
            text(self.owner.as_str()),
            text(labels),
            Value::Integer(self.primary.number().into()),
            time(self.created),
        ];
        columns(KEYS, values)
    }

    fn row_version(&self) -> u64 {
        self.row_version
    }
}

impl Row for Version {
    const TABLE: Table = Table::KeyVersions;

    fn primary_key(&self) -> Vec<u8> {
        of_version(self.key, self.number)
    }

    fn columns(&self) -> Vec<Column> {
        let object = self.blob.as_ref().and_then(|blob| blob.token_object());
        let wrapped = self.blob.as_ref().filter(|_| object.is_none());
        let values = [
            Value::Bytes(self.key.as_bytes().to_vec()),
            Value::Integer(self.number.number().into()),
            text(self.state.as_str()),
            or_null(self.state_before.map(|state| text(state.as_str())), Kind::Text),
            time(self.state_changed),
            text(self.state_reason.as_str()),
            or_null(self.destroy_at.map(time), Kind::Integer),
            or_null(wrapped.map(|blob| Value::Bytes(blob.bytes().to_vec())), Kind::Bytes),
            Value::Integer(attribute_bits(&self.at_birth)),
            time(Timestamp::from_unix_ms(self.at_birth.observed)),
            time(self.created),
            Value::Integer(self.suite.number().into()),
            or_null(self.iv_source.map(|source| text(source.as_str())), Kind::Text),
            or_null(object.map(|object| Value::Bytes(object.cka_id().to_vec())), Kind::Bytes),
            or_null(object.map(|object| Value::Bytes(object.kcv.to_vec())), Kind::Bytes),
        ];
        columns(KEY_VERSIONS, values)
    }

    fn row_version(&self) -> u64 {
        self.row_version
    }
}

/// `team`: the one that the key's name says. `versions`: verified, in ascending order.
pub fn key(row: &StoredRow, team: &Arc<Team>, versions: Vec<Arc<Version>>) -> Result<Key, StoreError> {
    let mut values = Values::of(row);
    let id = KeyId::from_bytes(values.array()?);
    let name = values.parsed(|name| name.parse().ok())?;
    if TeamId::from_bytes(values.array()?) != team.id {
        return Err(StoreError::tampered("keys", "a key names another team than its row"));
    }
    let purpose = values.parsed(|purpose| (purpose == ENCRYPT_DECRYPT).then_some(Purpose::EncryptDecrypt))?;
    let residency = values.parsed(|residency| match residency {
        WRAPPED => Some(Residency::Wrapped),
        TOKEN_RESIDENT => Some(Residency::TokenResident),
        _ => None,
    })?;
    let owner = values.text()?.to_owned();
    let labels: BTreeMap<String, String> = values.parsed(|labels| serde_json::from_str(labels).ok())?;
    let primary = number(values.integer()?)?;
    if !versions.iter().any(|version| version.number == primary) {
        return Err(StoreError::tampered("keys", "the primary version has no row"));
    }
    Ok(Key {
        id,
        name,
        team: team.clone(),
        purpose,
        residency,
        owner,
        labels,
        primary,
        versions,
        created: values.time()?,
        row_version: row.row_version,
    })
}

pub fn version(row: &StoredRow) -> Result<Version, StoreError> {
    let mut values = Values::of(row);
    let mut version = Version {
        key: KeyId::from_bytes(values.array()?),
        number: number(values.integer()?)?,
        state: values.parsed(KeyState::parse)?,
        state_before: match values.text_or_null()? {
            Some(state) => Some(KeyState::parse(state).ok_or_else(|| values.unreadable())?),
            None => None,
        },
        state_changed: values.time()?,
        state_reason: values.text()?.to_owned(),
        destroy_at: values
            .integer_or_null()?
            .map(|ms| Timestamp::from_unix_ms(ms.cast_signed())),
        blob: values.bytes()?.map(|blob| Arc::new(Blob::new(blob.to_vec()))),
        at_birth: {
            let bits = values.integer()?;
            attributes(bits, values.time()?.unix_ms())
        },
        created: values.time()?,
        suite: {
            let number = u16::try_from(values.integer()?).ok();
            number.and_then(Suite::from_number).ok_or_else(|| values.unreadable())?
        },
        iv_source: match values.text_or_null()? {
            Some(source) => Some(IvSource::parse(source).ok_or_else(|| values.unreadable())?),
            None => None,
        },
        row_version: row.row_version,
    };
    if let Some(cka_id) = values.bytes()? {
        let object = TokenObject {
            key: version.key,
            number: version.number,
            suite: version.suite,
            kcv: values.array()?,
        };
        if version.blob.is_some() || cka_id != object.cka_id() {
            return Err(values.unreadable());
        }
        version.blob = Some(Arc::new(object.to_blob()));
    }
    Ok(version)
}

pub(super) fn number(number: u64) -> Result<KeyVersion, StoreError> {
    let version = u32::try_from(number).ok().and_then(KeyVersion::new);
    version.ok_or_else(|| StoreError::tampered("key_versions", "a version has a number out of range"))
}

/// Bit 0 local, 1 always sensitive, 2 never extractable, 3 sensitive, 4 extractable, 5 modifiable, 6 copyable.
fn attribute_bits(of: &TokenAttributes) -> u64 {
    let bits = [
        of.local,
        of.always_sensitive,
        of.never_extractable,
        of.sensitive,
        of.extractable,
        of.modifiable,
        of.copyable,
    ];
    bits.iter().rev().fold(0, |all, bit| all << 1 | u64::from(*bit))
}

fn attributes(bits: u64, observed: i64) -> TokenAttributes {
    let bit = |at: u32| bits >> at & 1 == 1;
    TokenAttributes {
        local: bit(0),
        always_sensitive: bit(1),
        never_extractable: bit(2),
        sensitive: bit(3),
        extractable: bit(4),
        modifiable: bit(5),
        copyable: bit(6),
        observed,
    }
}

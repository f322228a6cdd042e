//! The MAC of a row and the link of a change (`docs/formats.md`, section 9).

use aws_lc_rs::{constant_time, digest, hmac};
use keyreeve_envelope::subkey::SubkeyBytes;

use super::Table;

/// The `row.v1` subkey. Wiped on drop; no `Debug`, no `Clone`.
pub struct RowKey(SubkeyBytes);

static_assertions::assert_not_impl_any!(RowKey: std::fmt::Debug, Clone, PartialEq);

/// What a row's MAC covers beside its columns.
#[derive(Clone, Copy)]
pub struct Place<'a> {
    pub table: Table,
    pub primary_key: &'a [u8],
    pub row_version: u64,
    pub change_seq: u64,
}

impl RowKey {
    pub fn new(subkey: SubkeyBytes) -> Self {
        Self(subkey)
    }

    /// `row`: the canonical bytes of the columns; `None` for a deleted row.
    pub fn row_mac(&self, place: Place<'_>, row: Option<&[u8]>) -> [u8; 32] {
        let key = hmac::Key::new(hmac::HMAC_SHA256, self.0.as_bytes());
        let mac = hmac::sign(&key, &mac_input(place, row));
        mac.as_ref().try_into().expect("HMAC-SHA-256 gives 32 bytes")
    }

    pub fn verifies(&self, place: Place<'_>, row: Option<&[u8]>, mac: &[u8]) -> bool {
        constant_time::verify_slices_are_equal(&self.row_mac(place, row), mac).is_ok()
    }
}

/// `link_n = SHA-256("chg.v1" || 00 || link_(n-1) || u64 n || row_mac)`; `link_0` is 32 zero bytes.
pub fn link(before: &[u8; 32], seq: u64, row_mac: &[u8; 32]) -> [u8; 32] {
    let mut input = [0; 7 + 32 + 8 + 32];
    input[..7].copy_from_slice(b"chg.v1\0");
    input[7..39].copy_from_slice(before);
    input[39..47].copy_from_slice(&seq.to_be_bytes());
    input[47..].copy_from_slice(row_mac);
    sha256(&input)
}

/// `"row.v1" || 00 || lv(table) || lv(primary key) || u64 row_version || u64 change_seq || u8 deleted || SHA-256(row)`
fn mac_input(place: Place<'_>, row: Option<&[u8]>) -> Vec<u8> {
    let mut input = Vec::with_capacity(128);
    input.extend_from_slice(b"row.v1\0");
    push_lv(&mut input, place.table.name().as_bytes());
    push_lv(&mut input, place.primary_key);
    input.extend_from_slice(&place.row_version.to_be_bytes());
    input.extend_from_slice(&place.change_seq.to_be_bytes());
    input.push(u8::from(row.is_none()));
    input.extend_from_slice(&sha256(row.unwrap_or_default()));
    input
}

fn push_lv(out: &mut Vec<u8>, bytes: &[u8]) {
    let length = u16::try_from(bytes.len()).expect("table names and primary keys are far below 64 KiB");
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(bytes);
}

pub(super) fn sha256(bytes: &[u8]) -> [u8; 32] {
    digest::digest(&digest::SHA256, bytes)
        .as_ref()
        .try_into()
        .expect("SHA-256 gives 32 bytes")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Column, Kind, Value, row::canonical};

    fn vectors() -> serde_json::Value {
        serde_json::from_str(include_str!("../../tests/vectors/formats-v1.json")).unwrap()
    }

    fn bytes(hex: &serde_json::Value) -> Vec<u8> {
        data_encoding::HEXLOWER
            .decode(hex.as_str().unwrap().as_bytes())
            .unwrap()
    }

    fn key(vectors: &serde_json::Value) -> RowKey {
        let mut output = [0; 64];
        output[..32].copy_from_slice(&bytes(&vectors["service_subkeys"]["row.v1"]));
        RowKey::new(SubkeyBytes::from_hmac_output(&output))
    }

    fn columns(vector: &serde_json::Value) -> Vec<Column> {
        let columns = vector["columns"].as_array().unwrap();
        columns
            .iter()
            .map(|column| {
                let value = match (column["type"].as_u64().unwrap(), &column["bytes"]) {
                    (1, serde_json::Value::Null) => Value::Null(Kind::Bytes),
                    (2, serde_json::Value::Null) => Value::Null(Kind::Integer),
                    (3, serde_json::Value::Null) => Value::Null(Kind::Text),
                    (1, hex) => Value::Bytes(bytes(hex)),
                    (2, hex) => Value::Integer(u64::from_be_bytes(bytes(hex).try_into().unwrap())),
                    (3, hex) => Value::Text(String::from_utf8(bytes(hex)).unwrap()),
                    (other, _) => panic!("type {other}"),
                };
                Column {
                    id: column["id"].as_u64().unwrap().try_into().unwrap(),
                    name: "",
                    value,
                }
            })
            .collect()
    }

    #[test]
    fn the_published_row_mac_and_link_come_out_byte_for_byte() {
        let vectors = vectors();
        let vector = &vectors["row"];
        let row = canonical(&columns(vector));
        assert_eq!(row, bytes(&vector["row"]));
        let primary_key = bytes(&vector["primary_key"]);
        let place = Place {
            table: Table::KeyVersions,
            primary_key: &primary_key,
            row_version: 1,
            change_seq: 1,
        };
        assert_eq!(mac_input(place, Some(&row)), bytes(&vector["mac_input"]));
        let mac = key(&vectors).row_mac(place, Some(&row));
        assert_eq!(mac.to_vec(), bytes(&vector["row_mac"]));
        let first = link(&[0; 32], 1, &mac);
        assert_eq!(first.to_vec(), bytes(&vector["link"]));

        let tombstone = &vector["tombstone"];
        let place = Place {
            row_version: 2,
            change_seq: 2,
            ..place
        };
        assert_eq!(mac_input(place, None), bytes(&tombstone["mac_input"]));
        let mac = key(&vectors).row_mac(place, None);
        assert_eq!(mac.to_vec(), bytes(&tombstone["row_mac"]));
        assert_eq!(link(&first, 2, &mac).to_vec(), bytes(&tombstone["link"]));
    }

    #[test]
    fn a_row_does_not_verify_in_another_place() {
        let key = key(&vectors());
        let place = Place {
            table: Table::Keys,
            primary_key: &[1; 16],
            row_version: 3,
            change_seq: 9,
        };
        let mac = key.row_mac(place, Some(b"row"));
        assert!(key.verifies(place, Some(b"row"), &mac));
        let elsewhere = [
            Place {
                table: Table::Teams,
                ..place
            },
            Place {
                primary_key: &[2; 16],
                ..place
            },
            Place {
                row_version: 2,
                ..place
            },
            Place { change_seq: 8, ..place },
        ];
        for other in elsewhere {
            assert!(!key.verifies(other, Some(b"row"), &mac));
        }
        assert!(!key.verifies(place, Some(b"roW"), &mac));
        assert!(!key.verifies(place, None, &mac));
        assert!(!key.verifies(place, Some(b"row"), &mac[..31]));
    }
}

//! The bytes of one record: one JSON object with fields in one order, stored and hashed as exactly these bytes.
//!
//! Written by hand, since every call of the service passes here; read back with serde. Format: `docs/formats.md`, "Audit record".
//! Every part has a limit in bytes, so no record exceeds [`MAX_BYTES`]; what is over its limit is cut and marked with `…` (`json`).

mod read;
#[cfg(test)]
mod tests;
mod write;

use aws_lc_rs::{digest, hmac};
use keyreeve_envelope::subkey::SubkeyBytes;
use static_assertions::assert_not_impl_any;

pub use read::{Record, RecordActor, RecordChange, RecordDecision, RecordError, RecordKey, RecordToken};
pub(super) use write::{Formatter, Place};

/// Longest record: its length is a `u16` in the segment.
pub const MAX_BYTES: usize = 65_535;

/// `prev` of the first record of a log.
pub const NO_PREV: [u8; 32] = [0; 32];

/// `redact.v1`: turns an encryption context into `ec_mac`, so that equal contexts are seen and values are not.
pub struct RedactKey(hmac::Key);

assert_not_impl_any!(RedactKey: std::fmt::Debug, std::fmt::Display, Clone, PartialEq);

impl RedactKey {
    pub fn new(subkey: &SubkeyBytes) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, subkey.as_bytes()))
    }

    /// HMAC-SHA-256 of canonical encryption context.
    pub fn mac(&self, canonical: &[u8]) -> [u8; 32] {
        let tag = hmac::sign(&self.0, canonical);
        tag.as_ref().try_into().expect("HMAC-SHA-256 is 32 bytes")
    }
}

/// `SHA-256(00 || record)`: the record's leaf in the tree, and `prev` of the next.
pub fn leaf(record: &[u8]) -> [u8; 32] {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(&[0]);
    context.update(record);
    context.finish().as_ref().try_into().expect("SHA-256 is 32 bytes")
}

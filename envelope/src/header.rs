//! The 32-byte header of every envelope.
//!
//! | offset | bytes | field |
//! |---|---|---|
//! | 0 | 4 | magic `E5 45 4E 56` |
//! | 4 | 1 | version `01` |
//! | 5 | 1 | flags: bit 0 = the body is a data key |
//! | 6 | 2 | suite |
//! | 8 | 16 | key id |
//! | 24 | 4 | key version, from 1 |
//! | 28 | 4 | length of the body: exactly the bytes that follow |
//!
//! Every suite binds the whole header. Source: `docs/formats.md`, envelope.

use crate::DecryptFailed;
use crate::ids::{KeyId, KeyVersion};
use crate::limits::{
    HEADER_LEN, MAX_PLAINTEXT_LEN, MAX_TOKEN_GCM_PLAINTEXT_LEN, PRF_COMMIT_BODY_OVERHEAD, TOKEN_GCM_BODY_OVERHEAD,
};

/// First bytes of every envelope.
pub const MAGIC: [u8; 4] = [0xe5, 0x45, 0x4e, 0x56];

const VERSION: u8 = 1;
const FLAG_DATA_KEY: u8 = 1;

/// How the body is made. A property of the key version; reserved numbers (0003, 0004) are refused like unknown ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u16)]
pub enum Suite {
    /// AES-256-GCM in the token; nothing derived from the key leaves it. Not committing.
    TokenGcm = 0x0001,
    /// Message key and commitment from one HMAC in the token, AES-256-GCM in the service. The default.
    PrfCommit = 0x0002,
}

impl Suite {
    /// The suite of a number; `None` if unknown or reserved.
    pub const fn from_number(number: u16) -> Option<Self> {
        match number {
            0x0001 => Some(Self::TokenGcm),
            0x0002 => Some(Self::PrfCommit),
            _ => None,
        }
    }

    /// The number in the header.
    pub const fn number(self) -> u16 {
        self as u16
    }

    /// Largest plaintext in bytes.
    pub const fn max_plaintext_len(self) -> usize {
        match self {
            Self::TokenGcm => MAX_TOKEN_GCM_PLAINTEXT_LEN,
            Self::PrfCommit => MAX_PLAINTEXT_LEN,
        }
    }

    /// Bytes that the body is longer than the plaintext.
    pub const fn body_overhead(self) -> usize {
        match self {
            Self::TokenGcm => TOKEN_GCM_BODY_OVERHEAD,
            Self::PrfCommit => PRF_COMMIT_BODY_OVERHEAD,
        }
    }
}

/// The plaintext is longer than its suite allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("plaintext has {length} bytes: at most {limit} are allowed, seal larger data with a data key")]
pub struct PlaintextTooLong {
    /// Bytes given.
    pub length: usize,
    /// Bytes allowed.
    pub limit: usize,
}

/// A valid header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    data_key: bool,
    suite: Suite,
    key_id: KeyId,
    key_version: KeyVersion,
    body_len: u32,
}

impl Header {
    /// The header of a plaintext of `plaintext_len` bytes. `data_key`: the plaintext is a data key.
    pub const fn new(
        suite: Suite,
        key_id: KeyId,
        key_version: KeyVersion,
        data_key: bool,
        plaintext_len: usize,
    ) -> Result<Self, PlaintextTooLong> {
        let limit = suite.max_plaintext_len();
        if plaintext_len > limit {
            return Err(PlaintextTooLong {
                length: plaintext_len,
                limit,
            });
        }
        let body_len = (suite.body_overhead() + plaintext_len) as u32;
        Ok(Self {
            data_key,
            suite,
            key_id,
            key_version,
            body_len,
        })
    }

    /// The header of `envelope`, which must be the whole envelope and nothing more. What follows it is not looked at.
    pub fn parse(envelope: &[u8]) -> Result<Self, DecryptFailed> {
        let (header, body) = envelope.split_first_chunk::<HEADER_LEN>().ok_or(DecryptFailed)?;
        let [m0, m1, m2, m3, version, flags, s0, s1, rest @ ..] = *header;
        let suite = Suite::from_number(u16::from_be_bytes([s0, s1])).ok_or(DecryptFailed)?;
        if [m0, m1, m2, m3] != MAGIC || version != VERSION || flags & !FLAG_DATA_KEY != 0 {
            return Err(DecryptFailed);
        }
        let (key_id, rest) = rest.split_first_chunk().ok_or(DecryptFailed)?;
        let (key_version, body_len) = rest.split_first_chunk().ok_or(DecryptFailed)?;
        let body_len = u32::from_be_bytes(body_len.try_into().map_err(|_| DecryptFailed)?);
        let plaintext_len = body.len().checked_sub(suite.body_overhead()).ok_or(DecryptFailed)?;
        if body_len as usize != body.len() || plaintext_len > suite.max_plaintext_len() {
            return Err(DecryptFailed);
        }
        Ok(Self {
            data_key: flags & FLAG_DATA_KEY != 0,
            suite,
            key_id: KeyId::from_bytes(*key_id),
            key_version: KeyVersion::new(u32::from_be_bytes(*key_version)).ok_or(DecryptFailed)?,
            body_len,
        })
    }

    /// The 32 bytes at the start of the envelope.
    pub fn encode(&self) -> [u8; HEADER_LEN] {
        let mut bytes = [0; HEADER_LEN];
        bytes[..4].copy_from_slice(&MAGIC);
        bytes[4] = VERSION;
        bytes[5] = if self.data_key { FLAG_DATA_KEY } else { 0 };
        bytes[6..8].copy_from_slice(&self.suite.number().to_be_bytes());
        bytes[8..24].copy_from_slice(self.key_id.as_bytes());
        bytes[24..28].copy_from_slice(&self.key_version.number().to_be_bytes());
        bytes[28..].copy_from_slice(&self.body_len.to_be_bytes());
        bytes
    }

    /// True if the body is a data key: opened by UnwrapDataKey only, never by Decrypt.
    pub const fn is_data_key(&self) -> bool {
        self.data_key
    }

    /// The suite, which must be that of the key version.
    pub const fn suite(&self) -> Suite {
        self.suite
    }

    /// The key that the envelope claims to be sealed under.
    pub const fn key_id(&self) -> KeyId {
        self.key_id
    }

    /// The version of that key.
    pub const fn key_version(&self) -> KeyVersion {
        self.key_version
    }

    /// Bytes after the header.
    pub const fn body_len(&self) -> usize {
        self.body_len as usize
    }

    /// Bytes of the plaintext.
    pub const fn plaintext_len(&self) -> usize {
        self.body_len() - self.suite.body_overhead()
    }

    /// Bytes of the whole envelope.
    pub const fn envelope_len(&self) -> usize {
        HEADER_LEN + self.body_len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vectors::{bytes, section};
    use proptest::prelude::*;

    fn vector() -> (Header, Vec<u8>) {
        let vector = section("envelope_prf_commit");
        let envelope = bytes(&vector["envelope"]);
        (Header::parse(&envelope).unwrap(), envelope)
    }

    #[test]
    fn the_published_header_parses_and_encodes_back() {
        let (header, envelope) = vector();
        assert_eq!(header.encode(), envelope[..32]);
        assert_eq!(header.suite(), Suite::PrfCommit);
        assert_eq!(header.key_id().to_string(), "00112233-4455-6677-8899-aabbccddeeff");
        assert_eq!(header.key_version().number(), 7);
        assert_eq!(
            (header.body_len(), header.plaintext_len(), header.envelope_len()),
            (106, 14, 138)
        );
        assert!(!header.is_data_key());
        let made = Header::new(Suite::PrfCommit, header.key_id(), header.key_version(), false, 14).unwrap();
        assert_eq!(made, header);
    }

    #[test]
    fn unknown_magic_version_flag_and_suite_are_refused() {
        let (_, envelope) = vector();
        for (offset, values) in [
            (0, &[0x00, 0xe4][..]),
            (3, &[0x57]),
            (4, &[0, 2]),
            (5, &[2, 3, 0x80]),
            (6, &[1]),
            (7, &[0, 3, 4, 5]),
        ] {
            for value in values {
                let mut changed = envelope.clone();
                changed[offset] = *value;
                assert_eq!(Header::parse(&changed), Err(DecryptFailed), "byte {offset} = {value}");
            }
        }
    }

    #[test]
    fn version_zero_and_any_other_length_are_refused() {
        let (_, envelope) = vector();
        let mut zero = envelope.clone();
        zero[24..28].fill(0);
        assert_eq!(Header::parse(&zero), Err(DecryptFailed));
        for length in 0..envelope.len() {
            assert_eq!(Header::parse(&envelope[..length]), Err(DecryptFailed), "{length} bytes");
        }
        let mut longer = envelope.clone();
        longer.push(0);
        assert_eq!(Header::parse(&longer), Err(DecryptFailed));
    }

    #[test]
    fn a_plaintext_beyond_the_limit_of_its_suite_is_refused() {
        let (header, _) = vector();
        for suite in [Suite::PrfCommit, Suite::TokenGcm] {
            let limit = suite.max_plaintext_len();
            let make = |length| Header::new(suite, header.key_id(), header.key_version(), false, length);
            let largest = make(limit).unwrap();
            assert_eq!(
                make(limit + 1),
                Err(PlaintextTooLong {
                    length: limit + 1,
                    limit
                })
            );
            // The same limit holds for what is parsed, with a length field that fits.
            let mut envelope = largest.encode().to_vec();
            envelope.resize(largest.envelope_len(), 0);
            assert_eq!(Header::parse(&envelope), Ok(largest));
            envelope.push(0);
            envelope[28..32].copy_from_slice(&(largest.body_len + 1).to_be_bytes());
            assert_eq!(Header::parse(&envelope), Err(DecryptFailed));
        }
    }

    proptest! {
        #[test]
        fn headers_survive_their_bytes(gcm: bool, id: [u8; 16], version in 1u32.., data_key: bool, length in 0usize..300) {
            let suite = if gcm { Suite::TokenGcm } else { Suite::PrfCommit };
            let version = KeyVersion::new(version).unwrap();
            let header = Header::new(suite, KeyId::from_bytes(id), version, data_key, length).unwrap();
            let mut envelope = header.encode().to_vec();
            envelope.resize(header.envelope_len(), 0);
            prop_assert_eq!(Header::parse(&envelope), Ok(header));
        }

        #[test]
        fn what_parses_encodes_to_the_same_bytes(mut bytes in proptest::collection::vec(any::<u8>(), 0..200), fix: bool) {
            if fix && bytes.len() >= 32 {
                bytes[..8].copy_from_slice(&[0xe5, 0x45, 0x4e, 0x56, 1, 0, 0, 2]);
                let body = (bytes.len() - 32) as u32;
                bytes[28..32].copy_from_slice(&body.to_be_bytes());
            }
            if let Ok(header) = Header::parse(&bytes) {
                prop_assert_eq!(&header.encode()[..], &bytes[..32]);
            }
        }
    }
}

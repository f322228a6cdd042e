//! The wrapped key blob: a version key under a KEK, with everything that says what it is, tagged by the token.
//!
//! | offset | bytes | field |
//! |---|---|---|
//! | 0 | 4, 1, 1, 2 | magic `E5 4B 45 59`, version `01`, flags (bit 0 = imported), wrap suite |
//! | 8 | 16, 16, 4 | environment id, key id, key version |
//! | 44 | 2, 2 | type, usage |
//! | 48 | 16, 4 | KEK id, KEK epoch |
//! | 68 | 8 | created, Unix milliseconds |
//! | 76 | 16 | KCV |
//! | 92 | 2 + w | `u16 length || wrapped bytes` |
//! | 94 + w | 32 | tag = HMAC-SHA-256(BIND of the epoch, [`WrappedKey::tag_input`]) |
//!
//! 166 bytes for a 32-byte secret, 198 for one of 64. Key wrap binds nothing but the key: the tag is what stops a writer
//! of the store from moving a key to another environment, type, version or epoch.
//! So parsing gives an [`UnverifiedKey`], and only its tag turns that into a [`WrappedKey`].
//! Source: RFC 3394, RFC 5649; `docs/formats.md`, wrapped key blob.

use crate::ids::{EnvironmentId, KekId, KeyId, KeyVersion};
use crate::limits::BLOB_OVERHEAD;
use crate::sha256;
use subtle::ConstantTimeEq;

/// First bytes of every blob.
pub const MAGIC: [u8; 4] = [0xe5, 0x4b, 0x45, 0x59];

const VERSION: u8 = 1;
const FLAG_IMPORTED: u8 = 1;
const TAG_LABEL: &[u8] = b"wrapkey.v1\x00";
const TAG_LEN: usize = 32;
/// Bytes before the length of the wrapped bytes.
const FIELDS_LEN: usize = 92;

/// What is wrong with a blob. The store's fault, never a caller's: refuse the version and page.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BlobError {
    /// Too short, or not exactly as long as its length field says.
    #[error("wrapped key blob has the wrong length")]
    Length,
    /// Magic or version.
    #[error("not a wrapped key blob of version 1")]
    Version,
    /// A flag bit that has no meaning.
    #[error("wrapped key blob has an unknown flag")]
    Flags,
    /// Unknown or reserved wrap suite.
    #[error("wrapped key blob has an unknown wrap suite")]
    Suite,
    /// Unknown type.
    #[error("wrapped key blob has an unknown key type")]
    Type,
    /// Not exactly one usage bit, or one that does not fit the type.
    #[error("wrapped key blob has a usage that does not fit its key type")]
    Usage,
    /// Version 0.
    #[error("wrapped key blob has key version 0")]
    KeyVersion,
    /// Wrapped bytes of a length that no key of this type has.
    #[error("wrapped key blob has wrapped bytes of a length that does not fit its key type")]
    WrappedLength,
    /// The tag is not the one computed.
    #[error("wrapped key blob fails its tag")]
    Tag,
}

/// How the key was wrapped. 3 (PKCS#11 3.2 authenticated wrap) is reserved and refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u16)]
pub enum WrapSuite {
    /// AES key wrap, RFC 3394 (CKM_AES_KEY_WRAP, 0x2109): secrets of a multiple of 8 bytes.
    Kw = 1,
    /// AES key wrap with padding, RFC 5649 (CKM_AES_KEY_WRAP_KWP, 0x210B).
    Kwp = 2,
}

/// What kind of key is wrapped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u16)]
pub enum KeyType {
    /// Secret of 64 bytes for suite 0002.
    EnvelopePrf = 1,
    /// AES-256 for suite 0001.
    Aes256 = 2,
    /// Private key, PKCS#8.
    EcP256 = 3,
    /// Private key, PKCS#8.
    Ed25519 = 4,
    /// Private key, PKCS#8.
    Rsa = 5,
    /// Private key, PKCS#8.
    MlKem768 = 6,
    /// Private key, PKCS#8.
    MlDsa65 = 7,
    /// Secret of 32 to 64 bytes.
    Mac = 8,
    /// Private key, PKCS#8.
    EcP384 = 9,
}

/// The one thing that a key may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u16)]
pub enum KeyUsage {
    /// Ciphertext envelopes.
    Envelope = 0x0001,
    /// Message authentication codes.
    Mac = 0x0002,
    /// Signatures.
    Sign = 0x0004,
    /// Asymmetric decryption.
    AsymmetricDecrypt = 0x0008,
    /// Key decapsulation.
    Decapsulate = 0x0010,
}

impl WrapSuite {
    const fn from_number(number: u16) -> Option<Self> {
        match number {
            1 => Some(Self::Kw),
            2 => Some(Self::Kwp),
            _ => None,
        }
    }
}

impl KeyType {
    /// The type of a number; `None` if unknown.
    pub const fn from_number(number: u16) -> Option<Self> {
        Some(match number {
            1 => Self::EnvelopePrf,
            2 => Self::Aes256,
            3 => Self::EcP256,
            4 => Self::Ed25519,
            5 => Self::Rsa,
            6 => Self::MlKem768,
            7 => Self::MlDsa65,
            8 => Self::Mac,
            9 => Self::EcP384,
            _ => return None,
        })
    }

    /// The number in blob and KCV.
    pub const fn number(self) -> u16 {
        self as u16
    }

    /// True if a key of this type may have this usage. Only RSA has a choice.
    pub const fn allows(self, usage: KeyUsage) -> bool {
        match self {
            Self::EnvelopePrf | Self::Aes256 => matches!(usage, KeyUsage::Envelope),
            Self::Mac => matches!(usage, KeyUsage::Mac),
            Self::EcP256 | Self::Ed25519 | Self::MlDsa65 | Self::EcP384 => {
                matches!(usage, KeyUsage::Sign)
            }
            Self::Rsa => matches!(usage, KeyUsage::Sign | KeyUsage::AsymmetricDecrypt),
            Self::MlKem768 => matches!(usage, KeyUsage::Decapsulate),
        }
    }

    /// True if wrapping a key of this type can give `length` bytes. Both suites add 8 bytes to a multiple of 8.
    const fn wraps_to(self, length: usize) -> bool {
        if !length.is_multiple_of(8) {
            return false;
        }
        match self {
            Self::EnvelopePrf => length == 72,
            Self::Aes256 => length == 40,
            Self::Mac => 40 <= length && length <= 72,
            // PKCS#8 has no fixed length; what is shorter than three blocks is not a wrapped key.
            _ => length >= 24,
        }
    }
}

impl KeyUsage {
    /// The usage of a bit; `None` unless it is exactly one that is known.
    pub const fn from_bits(bits: u16) -> Option<Self> {
        Some(match bits {
            0x0001 => Self::Envelope,
            0x0002 => Self::Mac,
            0x0004 => Self::Sign,
            0x0008 => Self::AsymmetricDecrypt,
            0x0010 => Self::Decapsulate,
            _ => return None,
        })
    }
}

/// What a blob says, either to be encoded or after its tag was verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WrappedKey<'a> {
    /// Brought in from outside; its durability is the importer's.
    pub imported: bool,
    /// How `wrapped` was made.
    pub suite: WrapSuite,
    /// The environment that the key belongs to.
    pub environment: EnvironmentId,
    /// The key.
    pub key_id: KeyId,
    /// Its version.
    pub key_version: KeyVersion,
    /// What kind of key it is.
    pub key_type: KeyType,
    /// What it may do.
    pub usage: KeyUsage,
    /// The KEK that wraps it.
    pub kek_id: KekId,
    /// The epoch of that KEK, and of the BIND key that tags the blob.
    pub kek_epoch: u32,
    /// Unix time in milliseconds.
    pub created_ms: u64,
    /// Key check value, over [`kcv_input`].
    pub kcv: [u8; 16],
    /// The wrapped bytes. Not secret: they open under the KEK only.
    pub wrapped: &'a [u8],
}

impl<'a> WrappedKey<'a> {
    /// Reads a blob. Errors: see [`BlobError`]; all rules of the format hold for what is returned, but not yet its tag.
    pub fn parse(blob: &'a [u8]) -> Result<UnverifiedKey<'a>, BlobError> {
        let (body, tag) = blob.split_last_chunk::<TAG_LEN>().ok_or(BlobError::Length)?;
        let mut fields = Fields(body);
        if fields.take()? != MAGIC || fields.take()? != [VERSION] {
            return Err(BlobError::Version);
        }
        let [flags] = fields.take()?;
        if flags & !FLAG_IMPORTED != 0 {
            return Err(BlobError::Flags);
        }
        let key = WrappedKey {
            imported: flags & FLAG_IMPORTED != 0,
            suite: WrapSuite::from_number(u16::from_be_bytes(fields.take()?)).ok_or(BlobError::Suite)?,
            environment: EnvironmentId::from_bytes(fields.take()?),
            key_id: KeyId::from_bytes(fields.take()?),
            key_version: KeyVersion::new(u32::from_be_bytes(fields.take()?)).ok_or(BlobError::KeyVersion)?,
            key_type: KeyType::from_number(u16::from_be_bytes(fields.take()?)).ok_or(BlobError::Type)?,
            usage: KeyUsage::from_bits(u16::from_be_bytes(fields.take()?)).ok_or(BlobError::Usage)?,
            kek_id: KekId::from_bytes(fields.take()?),
            kek_epoch: u32::from_be_bytes(fields.take()?),
            created_ms: u64::from_be_bytes(fields.take()?),
            kcv: fields.take()?,
            wrapped: fields.take_wrapped()?,
        };
        key.check()?;
        Ok(UnverifiedKey { key, blob, tag })
    }

    /// What the token tags: `"wrapkey.v1" || 00 ||` the blob before its tag.
    /// Errors: `Usage` or `WrappedLength` if the fields break a rule of the format.
    pub fn tag_input(&self) -> Result<Vec<u8>, BlobError> {
        self.check()?;
        let mut input = Vec::with_capacity(TAG_LABEL.len() + BLOB_OVERHEAD + self.wrapped.len());
        input.extend_from_slice(TAG_LABEL);
        self.append_to(&mut input);
        Ok(input)
    }

    /// The whole blob. `tag`: HMAC-SHA-256 of [`Self::tag_input`]. Errors: as there.
    pub fn encode(&self, tag: &[u8; 32]) -> Result<Vec<u8>, BlobError> {
        self.check()?;
        let mut blob = Vec::with_capacity(BLOB_OVERHEAD + self.wrapped.len());
        self.append_to(&mut blob);
        blob.extend_from_slice(tag);
        Ok(blob)
    }

    /// True if the KCV is `computed`; compared in constant time.
    pub fn kcv_is(&self, computed: &[u8; 16]) -> bool {
        self.kcv.ct_eq(computed).into()
    }

    /// The rules between fields.
    fn check(&self) -> Result<(), BlobError> {
        if !self.key_type.allows(self.usage) {
            return Err(BlobError::Usage);
        }
        if !self.key_type.wraps_to(self.wrapped.len()) || self.wrapped.len() > usize::from(u16::MAX) {
            return Err(BlobError::WrappedLength);
        }
        Ok(())
    }

    fn append_to(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&[VERSION, if self.imported { FLAG_IMPORTED } else { 0 }]);
        out.extend_from_slice(&(self.suite as u16).to_be_bytes());
        out.extend_from_slice(self.environment.as_bytes());
        out.extend_from_slice(self.key_id.as_bytes());
        out.extend_from_slice(&self.key_version.number().to_be_bytes());
        out.extend_from_slice(&self.key_type.number().to_be_bytes());
        out.extend_from_slice(&(self.usage as u16).to_be_bytes());
        out.extend_from_slice(self.kek_id.as_bytes());
        out.extend_from_slice(&self.kek_epoch.to_be_bytes());
        out.extend_from_slice(&self.created_ms.to_be_bytes());
        out.extend_from_slice(&self.kcv);
        out.extend_from_slice(&(self.wrapped.len() as u16).to_be_bytes());
        out.extend_from_slice(self.wrapped);
    }
}

/// A blob whose tag is still to be verified. Shows only what finding the right BIND key takes.
#[derive(Clone, Copy)]
pub struct UnverifiedKey<'a> {
    key: WrappedKey<'a>,
    blob: &'a [u8],
    tag: &'a [u8; 32],
}

impl<'a> UnverifiedKey<'a> {
    /// The KEK that the blob names.
    pub fn kek_id(&self) -> KekId {
        self.key.kek_id
    }

    /// The epoch whose BIND key must tag the blob.
    pub fn kek_epoch(&self) -> u32 {
        self.key.kek_epoch
    }

    /// The key check value that the blob states, to be shown once the token has verified the blob.
    pub fn kcv(&self) -> [u8; 16] {
        self.key.kcv
    }

    /// What the token tags.
    pub fn tag_input(&self) -> Vec<u8> {
        let body = &self.blob[..self.blob.len() - TAG_LEN];
        [TAG_LABEL, body].concat()
    }

    /// The key, if its tag is `computed`; compared in constant time. Errors: [`BlobError::Tag`].
    pub fn verify(self, computed: &[u8; 32]) -> Result<WrappedKey<'a>, BlobError> {
        if bool::from(self.tag.ct_eq(computed)) {
            Ok(self.key)
        } else {
            Err(BlobError::Tag)
        }
    }

    /// SHA-256 of the whole blob.
    pub fn sha256(&self) -> [u8; 32] {
        blob_sha256(self.blob)
    }
}

/// SHA-256 of a whole blob: its name in caches.
pub fn blob_sha256(blob: &[u8]) -> [u8; 32] {
    sha256(blob)
}

/// What a key check value is computed over: `"kcv.v1" || 00 || key id || u32 version || u16 type`.
///
/// Types 1 and 8: first 16 bytes of HMAC-SHA-512 under the key; type 2: AES-CMAC; private keys: first 16 bytes of
/// SHA-256 of this input and the public key (SPKI, DER). Id and version keep equal keys from showing as equal.
pub fn kcv_input(key_id: KeyId, key_version: KeyVersion, key_type: KeyType) -> [u8; 29] {
    let mut input = [0; 29];
    input[..7].copy_from_slice(b"kcv.v1\x00");
    input[7..23].copy_from_slice(key_id.as_bytes());
    input[23..27].copy_from_slice(&key_version.number().to_be_bytes());
    input[27..].copy_from_slice(&key_type.number().to_be_bytes());
    input
}

/// Takes fields off the front of a blob.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], BlobError> {
        let (field, rest) = self.0.split_first_chunk().ok_or(BlobError::Length)?;
        self.0 = rest;
        Ok(*field)
    }

    /// `u16 length || bytes`, which must be all that is left.
    fn take_wrapped(&mut self) -> Result<&'a [u8], BlobError> {
        let length = usize::from(u16::from_be_bytes(self.take()?));
        if length == self.0.len() {
            Ok(self.0)
        } else {
            Err(BlobError::Length)
        }
    }
}

const _: () = assert!(BLOB_OVERHEAD == FIELDS_LEN + 2 + TAG_LEN);

#[cfg(test)]
#[path = "blob_tests.rs"]
mod tests;

//! From a data key to the keys of one message.
//!
//! `key[32] || base[12] || commitment[32] = HKDF-Expand-SHA-512(data key, label || 00 || salt || ctx, 76)`, with
//! `ctx = "seal.v1" || 00 || header[0..24] || u16 length || context`; the context always, stored or not.
//! The commitment stands in the message: two data keys, two contexts or two message ids never open the same bytes.
//! Source: RFC 5869 (expand only: the data key is uniform), C2SP chunked-encryption; `docs/formats.md`.

use super::{BOUND_LEN, COMMITMENT_LEN, CipherFailed, Header, PAYLOAD_PREFIX_LEN, SALT_LEN, SealError, WrappedKey};
use crate::secret::SecretBytes;
use crate::{DecryptFailed, EncryptionContext, MessageId};
use aws_lc_rs::aead::{AES_256_GCM, LessSafeKey, UnboundKey};
use aws_lc_rs::{hkdf, rand};
use static_assertions::assert_not_impl_any;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// Name of the construction and of its cipher.
const LABEL: &[u8] = b"c2sp.org/chunked-encryption@v1+AEAD_AES_256_GCM\0";

/// Start of what is bound beside the salt.
const CONTEXT_LABEL: &[u8] = b"seal.v1\0";

/// Key 32, nonce base 12, commitment 32.
const DERIVED_LEN: usize = 76;

/// 32 bytes that the service made. Wiped on drop; no `Debug`, `Display`, `Clone`, `PartialEq`.
pub struct DataKey(SecretBytes<32>);

assert_not_impl_any!(DataKey: std::fmt::Debug, std::fmt::Display, Clone, PartialEq);

impl DataKey {
    /// Copies 32 bytes; the caller wipes his own. `None` for any other number.
    pub fn copied(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(|bytes| Self(SecretBytes::copied(bytes)))
    }

    /// A second one of the same bytes, for a cache that hands keys out. Said by name, since secrets are not cloned in passing.
    pub fn duplicate(&self) -> Self {
        Self(SecretBytes::copied(self.0.as_bytes()))
    }

    /// In clear, for another service that is to wrap it, too.
    pub fn as_bytes(&self) -> &[u8; 32] {
        self.0.as_bytes()
    }

    /// Whether both are the same key, in constant time.
    pub fn is_same_as(&self, other: &Self) -> bool {
        self.0.as_bytes().ct_eq(other.0.as_bytes()).into()
    }
}

/// What a message commits to. Public; it stands in the message.
pub type Commitment = [u8; COMMITMENT_LEN];

/// Which message this is. A hash of the file would change with its wrapped keys; this does not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Identity {
    /// Random, in the header.
    pub message_id: MessageId,
    /// Depends on data key, message id, salt and context.
    pub commitment: Commitment,
}

/// The keys of one message, to seal or open its chunks in any order and on any thread.
/// Wiped on drop (the cipher by AWS-LC); no `Debug`, `Display`, `Clone`, `PartialEq`.
pub struct PayloadKey {
    pub(super) cipher: LessSafeKey,
    pub(super) base: Zeroizing<[u8; 12]>,
    identity: Identity,
}

assert_not_impl_any!(PayloadKey: std::fmt::Debug, std::fmt::Display, Clone, PartialEq);

impl PayloadKey {
    /// The keys of the message whose header is `header` and whose payload starts with `payload_prefix`.
    ///
    /// The commitment is compared, in constant time, before a chunk can be opened. Errors: the one error, for another data
    /// key, another context, another message.
    pub fn unlock(
        data_key: &DataKey,
        header: &Header,
        payload_prefix: &[u8; PAYLOAD_PREFIX_LEN],
        context: &EncryptionContext,
    ) -> Result<Self, DecryptFailed> {
        let (salt, commitment) = payload_prefix.split_first_chunk().ok_or(DecryptFailed)?;
        let key = Self::derive(data_key, header, salt, context).map_err(|_| DecryptFailed)?;
        key.checked(commitment)
    }

    /// Message id and commitment.
    pub const fn identity(&self) -> Identity {
        self.identity
    }

    fn derive(
        data_key: &DataKey,
        header: &Header,
        salt: &[u8; SALT_LEN],
        context: &EncryptionContext,
    ) -> Result<Self, CipherFailed> {
        let bound: [u8; BOUND_LEN] = header.bound();
        let canonical = context.canonical();
        let length = (canonical.len() as u16).to_be_bytes();
        let info = [LABEL, salt, CONTEXT_LABEL, &bound, &length, canonical];
        Self::expand(data_key.0.as_bytes(), &info, header.message_id())
    }

    fn expand(data_key: &[u8; 32], info: &[&[u8]], message_id: MessageId) -> Result<Self, CipherFailed> {
        let mut derived = Zeroizing::new([0; DERIVED_LEN]);
        hkdf::Prk::new_less_safe(hkdf::HKDF_SHA512, data_key)
            .expand(info, DerivedLen)
            .and_then(|output| output.fill(&mut *derived))
            .map_err(|_| CipherFailed)?;
        let (key, rest) = derived.split_first_chunk::<32>().ok_or(CipherFailed)?;
        let (base, commitment) = rest.split_first_chunk().ok_or(CipherFailed)?;
        let cipher = UnboundKey::new(&AES_256_GCM, key).map_err(|_| CipherFailed)?;
        let commitment = commitment.try_into().map_err(|_| CipherFailed)?;
        Ok(Self {
            cipher: LessSafeKey::new(cipher),
            base: Zeroizing::new(*base),
            identity: Identity { message_id, commitment },
        })
    }

    /// The construction alone, in a context that is not ours: what other implementations publish vectors for.
    #[cfg(test)]
    pub(super) fn unlock_in(
        data_key: &[u8; 32],
        payload_prefix: &[u8; 56],
        context: &[u8],
    ) -> Result<Self, DecryptFailed> {
        let (salt, commitment) = payload_prefix.split_first_chunk::<SALT_LEN>().ok_or(DecryptFailed)?;
        let info = [LABEL, salt, context];
        let key = Self::expand(data_key, &info, MessageId::from_bytes([0; 16])).map_err(|_| DecryptFailed)?;
        key.checked(commitment)
    }

    fn checked(self, commitment: &[u8]) -> Result<Self, DecryptFailed> {
        match bool::from(self.identity.commitment.ct_eq(commitment)) {
            true => Ok(self),
            false => Err(DecryptFailed),
        }
    }
}

/// Tells aws-lc-rs how much to expand to.
struct DerivedLen;

impl hkdf::KeyType for DerivedLen {
    fn len(&self) -> usize {
        DERIVED_LEN
    }
}

/// A message that begins: header, salt and keys of its own. Its chunks are sealed by [`Self::key`].
pub struct Sealing {
    header: Header,
    salt: [u8; SALT_LEN],
    key: PayloadKey,
}

impl Sealing {
    /// Begins a message under `data_key`, with a fresh message id and a fresh salt.
    ///
    /// `context`: bound to the message; stored in it, in clear, if `store_context`. `wrapped_keys`: 1 to 16, each opening to
    /// `data_key`, which cannot be checked here. Errors: their limits; a failing generator.
    pub fn begin(
        data_key: &DataKey,
        context: &EncryptionContext,
        store_context: bool,
        wrapped_keys: Vec<WrappedKey>,
    ) -> Result<Self, SealError> {
        let (mut message_id, mut salt) = ([0; 16], [0; SALT_LEN]);
        rand::fill(&mut message_id).map_err(|_| CipherFailed)?;
        rand::fill(&mut salt).map_err(|_| CipherFailed)?;
        Self::with(data_key, context, store_context, wrapped_keys, message_id, salt)
    }

    /// The published vectors fix message id and salt. For tests only: a repeated pair repeats nonces.
    #[cfg(test)]
    pub(super) fn begin_with_fixed(
        data_key: &DataKey,
        context: &EncryptionContext,
        store_context: bool,
        wrapped_keys: Vec<WrappedKey>,
        message_id: [u8; 16],
        salt: [u8; SALT_LEN],
    ) -> Result<Self, SealError> {
        Self::with(data_key, context, store_context, wrapped_keys, message_id, salt)
    }

    fn with(
        data_key: &DataKey,
        context: &EncryptionContext,
        store_context: bool,
        wrapped_keys: Vec<WrappedKey>,
        message_id: [u8; 16],
        salt: [u8; SALT_LEN],
    ) -> Result<Self, SealError> {
        let stored = store_context.then(|| context.clone());
        let header = Header::new(MessageId::from_bytes(message_id), stored, wrapped_keys)?;
        let key = PayloadKey::derive(data_key, &header, &salt, context)?;
        Ok(Self { header, salt, key })
    }

    /// Everything before the first chunk: header, salt, commitment.
    pub fn front(&self) -> Vec<u8> {
        let mut bytes = self.header.encode();
        bytes.extend_from_slice(&self.salt);
        bytes.extend_from_slice(&self.key.identity.commitment);
        bytes
    }

    /// The header.
    pub const fn header(&self) -> &Header {
        &self.header
    }

    /// Seals the chunks.
    pub const fn key(&self) -> &PayloadKey {
        &self.key
    }

    /// The keys alone, when the front is written.
    pub fn into_key(self) -> PayloadKey {
        self.key
    }
}

#[cfg(test)]
#[path = "payload_tests.rs"]
mod tests;

//! The header of a sealed message.
//!
//! | offset | bytes | field |
//! |---|---|---|
//! | 0 | 4 | magic `E5 53 45 41` |
//! | 4 | 1 | version `01` |
//! | 5 | 1 | flags: bit 0 = the context is stored here |
//! | 6 | 2 | suite `0101` |
//! | 8 | 16 | message id |
//! | 24 | 4 | header length: offset of the payload |
//! | 28 | 2 | length of the context here; 0 if it is not stored |
//! | 30 | 2 | number of wrapped keys, 1 to 16 |
//! | 32 | … | context; then per wrapped key `u8 kind`, one zero byte, `u16 length || bytes` |
//!
//! Only the first 24 bytes and the context are bound by the payload: anyone may change the wrapped keys, and whoever can
//! do so through the service may wrap the data key anew, without touching the payload.

use super::{BOUND_LEN, MAGIC, MAX_HEADER_LEN, MAX_WRAPPED_KEYS, PREFIX_LEN, SealError};
use crate::ids::MessageId;
use crate::limits::MAX_CONTEXT_LEN;
use crate::{DecryptFailed, EncryptionContext};

const VERSION: u8 = 1;
const FLAG_CONTEXT_STORED: u8 = 1;
const SUITE: u16 = 0x0101;

/// Kind of a wrapped key that is an envelope of suite 0001 or 0002.
const KIND_ENVELOPE: u8 = 1;

/// A wrapped key without its bytes: kind, zero byte, length.
const WRAPPED_KEY_OVERHEAD: usize = 4;

/// The fixed part of a header, checked: what a reader needs to know before he reads the rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Prefix {
    context_stored: bool,
    message_id: MessageId,
    header_len: usize,
    context_len: usize,
    wrapped_keys: usize,
}

impl Prefix {
    /// The first 32 bytes of a message. Refuses what no header can be, so that a hostile length allocates nothing.
    pub fn parse(bytes: &[u8; PREFIX_LEN]) -> Result<Self, DecryptFailed> {
        let [m0, m1, m2, m3, version, flags, s0, s1, rest @ ..] = *bytes;
        if [m0, m1, m2, m3] != MAGIC || version != VERSION || u16::from_be_bytes([s0, s1]) != SUITE {
            return Err(DecryptFailed);
        }
        let [message_id @ .., h0, h1, h2, h3, c0, c1, w0, w1] = rest;
        let prefix = Self {
            context_stored: flags == FLAG_CONTEXT_STORED,
            message_id: MessageId::from_bytes(message_id),
            header_len: u32::from_be_bytes([h0, h1, h2, h3]) as usize,
            context_len: usize::from(u16::from_be_bytes([c0, c1])),
            wrapped_keys: usize::from(u16::from_be_bytes([w0, w1])),
        };
        let flags_known = flags & !FLAG_CONTEXT_STORED == 0;
        let fits = prefix.context_len <= MAX_CONTEXT_LEN
            && (1..=MAX_WRAPPED_KEYS).contains(&prefix.wrapped_keys)
            && (prefix.shortest_header()..=MAX_HEADER_LEN).contains(&prefix.header_len);
        if flags_known && fits && prefix.context_stored == (prefix.context_len > 0) {
            Ok(prefix)
        } else {
            Err(DecryptFailed)
        }
    }

    /// Bytes of the whole header, these 32 included: 36 to 65,536.
    pub const fn header_len(&self) -> usize {
        self.header_len
    }

    const fn shortest_header(&self) -> usize {
        PREFIX_LEN + self.context_len + self.wrapped_keys * WRAPPED_KEY_OVERHEAD
    }
}

/// A data key under another key. Of the kinds only 1, an envelope, is known; others are kept and passed over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WrappedKey {
    kind: u8,
    bytes: Vec<u8>,
}

impl WrappedKey {
    /// From a data-key envelope as the service returns it. Errors: it is none, or holds no key of 32 bytes.
    pub fn from_envelope(envelope: Vec<u8>) -> Result<Self, DecryptFailed> {
        let wrapped = Self {
            kind: KIND_ENVELOPE,
            bytes: envelope,
        };
        wrapped.envelope_header().map(|_| wrapped).ok_or(DecryptFailed)
    }

    /// The kind: 1 is an envelope.
    pub const fn kind(&self) -> u8 {
        self.kind
    }

    /// The wrapped bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Header of the envelope, which names the key. `None` for what no service may be asked to open: another kind, no
    /// envelope, not flagged as a data key, not one of 32 bytes.
    pub fn envelope_header(&self) -> Option<crate::Header> {
        let header = crate::Header::parse(&self.bytes).ok()?;
        (self.kind == KIND_ENVELOPE && header.is_data_key() && header.plaintext_len() == 32).then_some(header)
    }
}

/// A valid header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    message_id: MessageId,
    stored_context: Option<EncryptionContext>,
    wrapped_keys: Vec<WrappedKey>,
}

impl Header {
    /// `stored_context`: stored in the message, in clear. Errors: the limits on wrapped keys and length.
    pub(super) fn new(
        message_id: MessageId,
        stored_context: Option<EncryptionContext>,
        wrapped_keys: Vec<WrappedKey>,
    ) -> Result<Self, SealError> {
        match wrapped_keys.len() {
            0 => return Err(SealError::NoWrappedKey),
            1..=MAX_WRAPPED_KEYS => {}
            _ => return Err(SealError::TooManyWrappedKeys),
        }
        if let Some(long) = wrapped_keys.iter().find(|key| key.bytes.len() > usize::from(u16::MAX)) {
            let length = long.bytes.len();
            return Err(SealError::WrappedKeyTooLong { length });
        }
        let header = Self {
            message_id,
            stored_context,
            wrapped_keys,
        };
        match header.encoded_len() {
            length if length > MAX_HEADER_LEN => Err(SealError::HeaderTooLong { length }),
            _ => Ok(header),
        }
    }

    /// `bytes` are one header and nothing more: as many as its [`Prefix`] says.
    pub fn parse(bytes: &[u8]) -> Result<Self, DecryptFailed> {
        let (prefix, rest) = bytes.split_first_chunk().ok_or(DecryptFailed)?;
        let prefix = Prefix::parse(prefix)?;
        if prefix.header_len != bytes.len() {
            return Err(DecryptFailed);
        }
        let (context, mut rest) = rest.split_at_checked(prefix.context_len).ok_or(DecryptFailed)?;
        let stored_context = match prefix.context_stored {
            true => Some(EncryptionContext::from_canonical(context).map_err(|_| DecryptFailed)?),
            false => None,
        };
        let mut wrapped_keys = Vec::with_capacity(prefix.wrapped_keys);
        for _ in 0..prefix.wrapped_keys {
            let (&[kind, zero, l0, l1], after) = rest.split_first_chunk().ok_or(DecryptFailed)?;
            let length = usize::from(u16::from_be_bytes([l0, l1]));
            let (bytes, after) = after.split_at_checked(length).ok_or(DecryptFailed)?;
            if zero != 0 {
                return Err(DecryptFailed);
            }
            let bytes = bytes.to_vec();
            wrapped_keys.push(WrappedKey { kind, bytes });
            rest = after;
        }
        if !rest.is_empty() {
            return Err(DecryptFailed);
        }
        Ok(Self {
            message_id: prefix.message_id,
            stored_context,
            wrapped_keys,
        })
    }

    /// Takes the header off the front of a whole message; the rest is the payload.
    pub fn split(message: &[u8]) -> Result<(Self, &[u8]), DecryptFailed> {
        let prefix = Prefix::parse(message.first_chunk().ok_or(DecryptFailed)?)?;
        let (header, payload) = message.split_at_checked(prefix.header_len).ok_or(DecryptFailed)?;
        Ok((Self::parse(header)?, payload))
    }

    /// The bytes before the payload.
    pub fn encode(&self) -> Vec<u8> {
        let length = self.encoded_len();
        let context = self
            .stored_context
            .as_ref()
            .map_or(&[][..], |context| context.canonical());
        let mut bytes = Vec::with_capacity(length);
        bytes.extend_from_slice(&self.bound());
        bytes.extend_from_slice(&(length as u32).to_be_bytes());
        bytes.extend_from_slice(&(context.len() as u16).to_be_bytes());
        bytes.extend_from_slice(&(self.wrapped_keys.len() as u16).to_be_bytes());
        bytes.extend_from_slice(context);
        for key in &self.wrapped_keys {
            bytes.extend_from_slice(&[key.kind, 0]);
            bytes.extend_from_slice(&(key.bytes.len() as u16).to_be_bytes());
            bytes.extend_from_slice(&key.bytes);
        }
        bytes
    }

    /// The same message with other wrapped keys. Errors: their limits.
    pub fn with_wrapped_keys(&self, wrapped_keys: Vec<WrappedKey>) -> Result<Self, SealError> {
        Self::new(self.message_id, self.stored_context.clone(), wrapped_keys)
    }

    /// Names the message, together with its commitment.
    pub const fn message_id(&self) -> MessageId {
        self.message_id
    }

    /// The context, if the message stores it. Whoever could replace the message chose it: a claim until a caller confirms it.
    pub fn stored_context(&self) -> Option<&EncryptionContext> {
        self.stored_context.as_ref()
    }

    /// The wrapped data keys in the order of the message; anyone may have added or removed some.
    pub fn wrapped_keys(&self) -> &[WrappedKey] {
        &self.wrapped_keys
    }

    /// Bytes of [`Self::encode`]: the offset of the payload.
    pub fn encoded_len(&self) -> usize {
        let context = self
            .stored_context
            .as_ref()
            .map_or(0, |context| context.canonical().len());
        let keys = self.wrapped_keys.iter();
        PREFIX_LEN + context + keys.map(|key| WRAPPED_KEY_OVERHEAD + key.bytes.len()).sum::<usize>()
    }

    /// What the payload is bound to, beside the context.
    pub(super) fn bound(&self) -> [u8; BOUND_LEN] {
        let mut bytes = [0; BOUND_LEN];
        bytes[..4].copy_from_slice(&MAGIC);
        bytes[4] = VERSION;
        bytes[5] = if self.stored_context.is_some() {
            FLAG_CONTEXT_STORED
        } else {
            0
        };
        bytes[6..8].copy_from_slice(&SUITE.to_be_bytes());
        bytes[8..].copy_from_slice(self.message_id.as_bytes());
        bytes
    }
}

#[cfg(test)]
#[path = "header_tests.rs"]
mod tests;

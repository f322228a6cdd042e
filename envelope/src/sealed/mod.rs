//! Suite 0101, the sealed message: data of any size, sealed by a client under a data key.
//!
//! `header || salt[24] || commitment[32] || chunks`. The header names the wrapped data keys and, if its maker chose so, the
//! encryption context. The payload is C2SP chunked-encryption v1 with AES-256-GCM and SHA-512: chunks of 16,384 bytes, each
//! under a nonce of its own, the last one always shorter. Salt and message id are drawn here, so that none is used twice.
//!
//! | module | what |
//! |---|---|
//! | [`header`] | the bytes before the payload, parsed strictly; wrapped keys |
//! | [`payload`] | from a data key to the keys of one message; the commitment |
//! | [`chunk`] | one chunk sealed or opened, by its index |
//! | [`extent`] | lengths: how many chunks, which is the last |
//!
//! Not here: reading and writing streams, and who unwraps a data key (`clients/rust`).
//! Source: `docs/formats.md`, sealed message; C2SP chunked-encryption at commit 5ba5ee8.

pub mod chunk;
pub mod extent;
pub mod header;
pub mod payload;

pub use extent::Extent;
pub use header::{Header, Prefix, WrappedKey};
pub use payload::{Commitment, DataKey, Identity, PayloadKey, Sealing};

/// First bytes of every sealed message.
pub const MAGIC: [u8; 4] = [0xe5, 0x53, 0x45, 0x41];

/// The fixed part of the header.
pub const PREFIX_LEN: usize = 32;

/// The whole header: fixed part, context, wrapped keys.
pub const MAX_HEADER_LEN: usize = 65_536;

/// Wrapped data keys of one message; at least 1.
pub const MAX_WRAPPED_KEYS: usize = 16;

/// What of the header the payload is bound to: magic, version, flags, suite, message id.
pub const BOUND_LEN: usize = 24;

/// Salt at the start of the payload.
pub const SALT_LEN: usize = 24;

/// Commitment after the salt.
pub const COMMITMENT_LEN: usize = 32;

/// What precedes the first chunk: salt and commitment.
pub const PAYLOAD_PREFIX_LEN: usize = SALT_LEN + COMMITMENT_LEN;

/// Plaintext of every chunk but the last, whose is shorter.
pub const CHUNK_LEN: usize = 16_384;

/// Tag of a chunk.
pub const TAG_LEN: usize = 16;

/// A chunk as it stands in the message.
pub const SEALED_CHUNK_LEN: usize = CHUNK_LEN + TAG_LEN;

/// Chunks of one message.
pub const MAX_CHUNKS: u64 = 1 << 32;

/// AES-256-GCM, HKDF or the generator of random bytes failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a cryptographic primitive failed: treat this host as faulty")]
pub struct CipherFailed;

/// Nothing was sealed. Lengths are in bytes.
#[allow(missing_docs)] // of the fields: each is in the text of its variant
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// No wrapped data key: nobody could open the message.
    #[error("a message needs a wrapped data key: name a key to seal to")]
    NoWrappedKey,
    /// The 17th.
    #[error("more than 16 wrapped data keys: seal to fewer keys")]
    TooManyWrappedKeys,
    /// Wrapped bytes that their length field cannot count.
    #[error("a wrapped data key has {length} bytes: at most 65535 are allowed")]
    WrappedKeyTooLong { length: usize },
    /// Context and wrapped keys together.
    #[error("header has {length} bytes: at most 65536 are allowed, use fewer wrapped keys")]
    HeaderTooLong { length: usize },
    /// The chunk after the last possible one, or a chunk longer than 16,384 bytes.
    #[error("message is longer than 2^32 chunks of 16384 bytes: split it")]
    TooLong,
    /// See [`CipherFailed`].
    #[error(transparent)]
    Cipher(#[from] CipherFailed),
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod wycheproof_tests;

//! What callers hand in, checked once: plaintext, envelopes, encryption contexts, checksums.

use bytes::Bytes;
use keyreeve_envelope::{
    ContextError, EncryptionContext,
    limits::{MAX_ENVELOPE_LEN, MAX_PLAINTEXT_LEN},
};
use static_assertions::assert_not_impl_any;

use crate::{Error, Result};

/// An encryption context and its SHA-256, which is what envelopes bind.
pub struct BoundContext {
    context: EncryptionContext,
    hash: [u8; 32],
}

/// Plaintext to be sealed, with what it is bound to. The buffer is the wire's; the allocator wipes it when it is freed.
pub struct Message {
    plaintext: Bytes,
    context: BoundContext,
}

assert_not_impl_any!(Message: std::fmt::Debug, std::fmt::Display, Clone, PartialEq);

/// An envelope to be opened, with what it must be bound to. Not parsed yet: that comes after the permit.
pub struct Opening {
    ciphertext: Bytes,
    context: BoundContext,
}

impl BoundContext {
    /// `aad`: raw associated data, empty for none. Errors: `InvalidArgument` for every rule of the context.
    pub fn new<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>, aad: &[u8]) -> Result<Self> {
        let context = EncryptionContext::from_pairs_and_aad(pairs, aad).map_err(invalid)?;
        let hash = context.sha256();
        Ok(Self { context, hash })
    }

    pub fn context(&self) -> &EncryptionContext {
        &self.context
    }

    pub(super) fn hash(&self) -> &[u8; 32] {
        &self.hash
    }
}

impl Message {
    /// `plaintext`: at most 65,536 B. Errors: `InvalidArgument`, `ChecksumMismatch`.
    pub fn new(plaintext: Bytes, context: BoundContext, crc32c: Option<u32>) -> Result<Self> {
        check("plaintext", &plaintext, MAX_PLAINTEXT_LEN, crc32c)?;
        Ok(Self { plaintext, context })
    }

    pub fn context(&self) -> &EncryptionContext {
        self.context.context()
    }

    pub(super) fn plaintext(&self) -> &[u8] {
        &self.plaintext
    }

    pub(super) fn ec_hash(&self) -> &[u8; 32] {
        self.context.hash()
    }
}

impl Opening {
    /// `ciphertext`: at most 65,660 B. Errors: `InvalidArgument`, `ChecksumMismatch`; whether it is an envelope is not looked at.
    pub fn new(ciphertext: Bytes, context: BoundContext, crc32c: Option<u32>) -> Result<Self> {
        check("ciphertext", &ciphertext, MAX_ENVELOPE_LEN, crc32c)?;
        Ok(Self { ciphertext, context })
    }

    pub fn context(&self) -> &EncryptionContext {
        self.context.context()
    }

    pub(super) fn ciphertext(&self) -> &[u8] {
        &self.ciphertext
    }

    pub(super) fn ec_hash(&self) -> &[u8; 32] {
        self.context.hash()
    }
}

fn check(field: &'static str, bytes: &[u8], limit: usize, crc32c: Option<u32>) -> Result<()> {
    if bytes.len() > limit {
        return Err(Error::invalid(
            field,
            format_args!(
                "it has {} bytes, at most {limit} are allowed: seal larger data with a data key",
                bytes.len()
            ),
        ));
    }
    // A checksum finds faults of the way here; it authenticates nothing.
    match crc32c {
        Some(expected) if crc32c::crc32c(bytes) != expected => Err(Error::ChecksumMismatch { field }),
        _ => Ok(()),
    }
}

fn invalid(error: ContextError) -> Error {
    let field = match error {
        ContextError::AadTooLong { .. } | ContextError::AadTwice => "aad",
        _ => "encryption_context",
    };
    Error::invalid(field, error)
}

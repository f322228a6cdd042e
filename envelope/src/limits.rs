//! Sizes of the formats, in bytes unless the name says otherwise. Source: `docs/formats.md`.

/// Envelope header, the same for every suite.
pub const HEADER_LEN: usize = 32;

/// Largest plaintext of suite 0002 (PRF-COMMIT).
pub const MAX_PLAINTEXT_LEN: usize = 65_536;

/// Suite 0002: salt 32, commitment 32, iv 12 and tag 16 around the ciphertext.
pub const PRF_COMMIT_BODY_OVERHEAD: usize = 92;

/// Suite 0002: what a whole envelope is longer than its plaintext.
pub const PRF_COMMIT_OVERHEAD: usize = HEADER_LEN + PRF_COMMIT_BODY_OVERHEAD;

/// Largest plaintext of suite 0001 (TOKEN-GCM); some tokens stop at 16 KB a call.
pub const MAX_TOKEN_GCM_PLAINTEXT_LEN: usize = 8_192;

/// Suite 0001: iv 12 and tag 16 around the ciphertext.
pub const TOKEN_GCM_BODY_OVERHEAD: usize = 28;

/// Suite 0001: what a whole envelope is longer than its plaintext.
pub const TOKEN_GCM_OVERHEAD: usize = HEADER_LEN + TOKEN_GCM_BODY_OVERHEAD;

/// Longest envelope of any suite.
pub const MAX_ENVELOPE_LEN: usize = MAX_PLAINTEXT_LEN + PRF_COMMIT_OVERHEAD;

/// Canonical bytes of an encryption context, count and length fields included.
pub const MAX_CONTEXT_LEN: usize = 8_192;

/// Pairs in an encryption context.
pub const MAX_CONTEXT_PAIRS: usize = 32;

/// Key of a pair, in bytes of UTF-8; at least 1.
pub const MAX_CONTEXT_KEY_LEN: usize = 128;

/// Value of a pair, in bytes of UTF-8; may be empty.
pub const MAX_CONTEXT_VALUE_LEN: usize = 1_024;

/// Raw associated data, which enters the context as its digest.
pub const MAX_AAD_LEN: usize = 65_536;

/// Wrapped key blob: what surrounds the wrapped bytes (fields 92, length 2, tag 32).
pub const BLOB_OVERHEAD: usize = 126;

//! The encryption context: pairs that a caller binds to a ciphertext and supplies again to open it.
//!
//! Canonical bytes: `u16 count`, then per pair, in ascending order of the raw key bytes, `u16 length || key ||
//! u16 length || value`. UTF-8 without normalisation. Not secret, and never stored in an envelope.
//! Keys under `kms:` are reserved; the only one accepted is `kms:aad`, the digest of raw associated data.
//! Source: `docs/formats.md`, encryption context.

use crate::limits::{MAX_AAD_LEN, MAX_CONTEXT_KEY_LEN, MAX_CONTEXT_LEN, MAX_CONTEXT_PAIRS, MAX_CONTEXT_VALUE_LEN};
use crate::sha256;
use std::fmt;

/// Prefix of the keys that callers may not choose.
pub const RESERVED_PREFIX: &str = "kms:";

/// Key of the pair that stands for raw associated data; its value is SHA-256 in 64 lower-case hexadecimal digits.
pub const AAD_KEY: &str = "kms:aad";

/// Canonical bytes of the empty context.
const EMPTY: &[u8] = &[0, 0];

/// SHA-256 of [`EMPTY`], the most frequent context.
const EMPTY_SHA256: [u8; 32] = [
    0x96, 0xa2, 0x96, 0xd2, 0x24, 0xf2, 0x85, 0xc6, 0x7b, 0xee, 0x93, 0xc3, 0x0f, 0x8a, 0x30, 0x91, 0x57, 0xf0, 0xda,
    0xa3, 0x5d, 0xc5, 0xb8, 0x7e, 0x41, 0x0b, 0x78, 0x63, 0x0a, 0x09, 0xcf, 0xc7,
];

/// A valid encryption context. At most 32 pairs and 8,192 bytes of canonical form.
///
/// `Debug` shows keys only: values may be personal data, and records hold them only as a MAC.
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub struct EncryptionContext {
    /// Canonical bytes; no bytes at all for the empty context, which so costs no allocation.
    canonical: Vec<u8>,
}

/// Why pairs, or canonical bytes, are not an encryption context. `index` counts the caller's pairs from 0; lengths are in bytes.
#[allow(missing_docs)] // of the fields: each is in the text of its variant
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ContextError {
    /// The 33rd pair.
    #[error("more than 32 pairs: use fewer")]
    TooManyPairs,
    /// A key of no bytes.
    #[error("key of pair {index} is empty: name it, or leave the pair out")]
    EmptyKey { index: usize },
    /// A key longer than 128 bytes.
    #[error("key of pair {index} has {length} bytes: at most 128 are allowed")]
    KeyTooLong { index: usize, length: usize },
    /// A value longer than 1,024 bytes.
    #[error("value of pair {index} (`{key}`) has {length} bytes: at most 1024 are allowed")]
    ValueTooLong { index: usize, key: String, length: usize },
    /// The same key twice, whatever the values.
    #[error("key `{key}` of pair {index} occurs twice: give each key once")]
    DuplicateKey { index: usize, key: String },
    /// A key under `kms:` other than `kms:aad`.
    #[error("key `{key}` of pair {index} is reserved: choose one that does not start with `kms:`")]
    ReservedKey { index: usize, key: String },
    /// A `kms:aad` pair that is not a digest.
    #[error("value of pair {index} (`kms:aad`) must be a SHA-256 digest in 64 lower-case hexadecimal digits")]
    AadNotDigest { index: usize },
    /// Raw associated data longer than 64 KiB.
    #[error("associated data has {length} bytes: at most 65536 are allowed")]
    AadTooLong { length: usize },
    /// Raw associated data, and a `kms:aad` pair beside it.
    #[error("associated data is given twice: leave out the pair `kms:aad`")]
    AadTwice,
    /// Canonical form longer than 8,192 bytes.
    #[error("encryption context has {length} bytes: at most 8192 are allowed, lengths included")]
    TooLong { length: usize },
    /// Canonical bytes only: the end came early.
    #[error("canonical encryption context is cut off in pair {index}")]
    Truncated { index: usize },
    /// Canonical bytes only: something follows the last pair.
    #[error("canonical encryption context has {length} bytes too many")]
    TrailingBytes { length: usize },
    /// Canonical bytes only: a pair that belongs before its predecessor.
    #[error("canonical encryption context is not sorted at pair {index}")]
    NotAscending { index: usize },
    /// Canonical bytes only: key or value is not UTF-8.
    #[error("canonical encryption context is not UTF-8 in pair {index}")]
    NotUtf8 { index: usize },
}

impl ContextError {
    /// The field at fault, as a path in the caller's request: `encryption_context[3].value`, `encryption_context`, `aad`.
    pub fn field(&self) -> String {
        match self {
            Self::EmptyKey { index }
            | Self::KeyTooLong { index, .. }
            | Self::DuplicateKey { index, .. }
            | Self::ReservedKey { index, .. } => format!("encryption_context[{index}].key"),
            Self::ValueTooLong { index, .. } | Self::AadNotDigest { index } => {
                format!("encryption_context[{index}].value")
            }
            Self::Truncated { index } | Self::NotAscending { index } | Self::NotUtf8 { index } => {
                format!("encryption_context[{index}]")
            }
            Self::AadTooLong { .. } | Self::AadTwice => "aad".to_owned(),
            Self::TooManyPairs | Self::TooLong { .. } | Self::TrailingBytes { .. } => "encryption_context".to_owned(),
        }
    }
}

impl EncryptionContext {
    /// The context without pairs.
    pub const fn empty() -> Self {
        Self { canonical: Vec::new() }
    }

    /// From pairs in any order. Errors: every limit and rule of the module, with the index of the pair at fault.
    ///
    /// Allocates once; not at all without pairs.
    pub fn from_pairs<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<Self, ContextError> {
        Self::from_pairs_and_aad(pairs, b"")
    }

    /// As [`Self::from_pairs`], with raw associated data of at most 65,536 bytes (empty: adds nothing).
    /// Errors: also [`ContextError::AadTooLong`], and [`ContextError::AadTwice`] beside a `kms:aad` pair.
    pub fn from_pairs_and_aad<'a>(
        pairs: impl IntoIterator<Item = (&'a str, &'a str)>,
        aad: &[u8],
    ) -> Result<Self, ContextError> {
        let mut sorted = SortedPairs::new();
        for (index, (key, value)) in pairs.into_iter().enumerate() {
            check_pair(index, key, value)?;
            sorted.insert(index, key, value)?;
        }
        if aad.is_empty() {
            return sorted.encode();
        }
        if aad.len() > MAX_AAD_LEN {
            return Err(ContextError::AadTooLong { length: aad.len() });
        }
        let digest = lower_hex(&sha256(aad));
        let digest = std::str::from_utf8(&digest).expect("hex digits are ASCII");
        match sorted.insert(sorted.len, AAD_KEY, digest) {
            Err(ContextError::DuplicateKey { .. }) => Err(ContextError::AadTwice),
            Err(error) => Err(error),
            Ok(()) => sorted.encode(),
        }
    }

    /// This context with raw associated data added as the pair `kms:aad`; empty data adds nothing.
    /// Errors: as [`Self::from_pairs_and_aad`].
    pub fn with_aad(self, aad: &[u8]) -> Result<Self, ContextError> {
        if aad.is_empty() {
            return Ok(self);
        }
        Self::from_pairs_and_aad(self.pairs(), aad)
    }

    /// From canonical bytes that were stored or received; accepted only if re-encoding gives the same bytes.
    pub fn from_canonical(bytes: &[u8]) -> Result<Self, ContextError> {
        if bytes.len() > MAX_CONTEXT_LEN {
            return Err(ContextError::TooLong { length: bytes.len() });
        }
        let (count, mut rest) = bytes
            .split_first_chunk::<2>()
            .ok_or(ContextError::Truncated { index: 0 })?;
        let count = usize::from(u16::from_be_bytes(*count));
        if count > MAX_CONTEXT_PAIRS {
            return Err(ContextError::TooManyPairs);
        }
        let mut previous: &[u8] = b"";
        for index in 0..count {
            let key = take_field(&mut rest).ok_or(ContextError::Truncated { index })?;
            let value = take_field(&mut rest).ok_or(ContextError::Truncated { index })?;
            let text = |bytes| std::str::from_utf8(bytes).map_err(|_| ContextError::NotUtf8 { index });
            check_pair(index, text(key)?, text(value)?)?;
            if index > 0 && key == previous {
                return Err(ContextError::DuplicateKey {
                    index,
                    key: text(key)?.to_owned(),
                });
            }
            if key < previous {
                return Err(ContextError::NotAscending { index });
            }
            previous = key;
        }
        if !rest.is_empty() {
            return Err(ContextError::TrailingBytes { length: rest.len() });
        }
        Ok(if count == 0 {
            Self::empty()
        } else {
            Self {
                canonical: bytes.to_vec(),
            }
        })
    }

    /// Canonical bytes: 2 for the empty context, at most 8,192.
    pub fn canonical(&self) -> &[u8] {
        if self.canonical.is_empty() {
            EMPTY
        } else {
            &self.canonical
        }
    }

    /// SHA-256 of the canonical bytes: what every suite binds. Computed anew at each call.
    pub fn sha256(&self) -> [u8; 32] {
        if self.canonical.is_empty() {
            EMPTY_SHA256
        } else {
            sha256(&self.canonical)
        }
    }

    /// True without pairs.
    pub fn is_empty(&self) -> bool {
        self.canonical.is_empty()
    }

    /// Number of pairs, `kms:aad` included.
    pub fn len(&self) -> usize {
        let [high, low] = [self.canonical()[0], self.canonical()[1]];
        usize::from(u16::from_be_bytes([high, low]))
    }

    /// Pairs in ascending order of the key bytes.
    pub fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        let mut rest = &self.canonical()[2..];
        std::iter::from_fn(move || {
            let key = take_field(&mut rest)?;
            let value = take_field(&mut rest)?;
            let text = |bytes| std::str::from_utf8(bytes).expect("checked when the context was built");
            Some((text(key), text(value)))
        })
    }

    /// Keys in ascending order of their bytes: what a record shows of a context.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.pairs().map(|(key, _)| key)
    }
}

impl fmt::Debug for EncryptionContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EncryptionContext ")?;
        f.debug_set().entries(self.keys()).finish()
    }
}

/// Pairs sorted while they arrive, on the stack: at most 32, so insertion is cheap and finds duplicates at once.
struct SortedPairs<'a> {
    pairs: [(&'a str, &'a str); MAX_CONTEXT_PAIRS],
    len: usize,
}

impl<'a> SortedPairs<'a> {
    fn new() -> Self {
        Self {
            pairs: [("", ""); MAX_CONTEXT_PAIRS],
            len: 0,
        }
    }

    fn insert(&mut self, index: usize, key: &'a str, value: &'a str) -> Result<(), ContextError> {
        // `str` orders by its bytes, which is the order of the canonical form.
        let Err(at) = self.pairs[..self.len].binary_search_by(|(other, _)| (*other).cmp(key)) else {
            return Err(ContextError::DuplicateKey {
                index,
                key: key.to_owned(),
            });
        };
        if self.len == MAX_CONTEXT_PAIRS {
            return Err(ContextError::TooManyPairs);
        }
        self.pairs.copy_within(at..self.len, at + 1);
        self.pairs[at] = (key, value);
        self.len += 1;
        Ok(())
    }

    fn encode(&self) -> Result<EncryptionContext, ContextError> {
        let pairs = &self.pairs[..self.len];
        if pairs.is_empty() {
            return Ok(EncryptionContext::empty());
        }
        let length = 2 + pairs
            .iter()
            .map(|(key, value)| 4 + key.len() + value.len())
            .sum::<usize>();
        if length > MAX_CONTEXT_LEN {
            return Err(ContextError::TooLong { length });
        }
        let mut canonical = Vec::with_capacity(length);
        canonical.extend_from_slice(&(self.len as u16).to_be_bytes());
        for field in pairs.iter().flat_map(|(key, value)| [key, value]) {
            canonical.extend_from_slice(&(field.len() as u16).to_be_bytes());
            canonical.extend_from_slice(field.as_bytes());
        }
        Ok(EncryptionContext { canonical })
    }
}

/// The rules that concern one pair alone.
fn check_pair(index: usize, key: &str, value: &str) -> Result<(), ContextError> {
    if key.is_empty() {
        return Err(ContextError::EmptyKey { index });
    }
    if key.len() > MAX_CONTEXT_KEY_LEN {
        return Err(ContextError::KeyTooLong {
            index,
            length: key.len(),
        });
    }
    if key.starts_with(RESERVED_PREFIX) && key != AAD_KEY {
        return Err(ContextError::ReservedKey {
            index,
            key: key.to_owned(),
        });
    }
    if key == AAD_KEY && !is_digest(value) {
        return Err(ContextError::AadNotDigest { index });
    }
    if value.len() > MAX_CONTEXT_VALUE_LEN {
        return Err(ContextError::ValueTooLong {
            index,
            key: key.to_owned(),
            length: value.len(),
        });
    }
    Ok(())
}

fn is_digest(value: &str) -> bool {
    value.len() == 64 && value.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// Takes `u16 length || bytes` off the front; `None` if there is less.
fn take_field<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (length, after) = rest.split_first_chunk::<2>()?;
    let (field, after) = after.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
    *rest = after;
    Some(field)
}

fn lower_hex(digest: &[u8; 32]) -> [u8; 64] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = [0; 64];
    for (pair, byte) in text.as_chunks_mut::<2>().0.iter_mut().zip(digest) {
        *pair = [DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]];
    }
    text
}

#[cfg(test)]
#[path = "context_tests.rs"]
mod tests;

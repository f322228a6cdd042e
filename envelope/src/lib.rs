//! The byte formats of Keyreeve as pure functions, used by the service and its clients.
//!
//! In scope: ids, encryption context, ciphertext envelope, sealed message, wrapped key blob, inputs of the service subkeys.
//! Not in scope: randomness (salt, iv and ids come from the caller; a sealed message alone draws its own), calls into a token,
//! stores, the wire.
//!
//! Every format is specified in `docs/formats.md` and fixed by `tests/vectors/formats-v1.json`.
//! Integers are big-endian. Parsers are strict: unknown versions, suites, flag bits and trailing bytes are refused.
//!
//! | module | format |
//! |---|---|
//! | [`ids`] | environment, team and key ids, key versions |
//! | [`context`] | canonical bytes of an encryption context |
//! | [`header`] | the 32-byte header of every envelope |
//! | [`prf_commit`] | suite 0002: sealing, opening, hedged salt |
//! | [`token_gcm`] | suite 0001: layout |
//! | [`sealed`] | suite 0101, the sealed message: header, payload key, chunks |
//! | [`blob`] | a version key wrapped under a KEK |
//! | [`subkey`] | service subkeys |
//! | [`limits`] | sizes in bytes |

#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod blob;
pub mod context;
pub mod header;
pub mod ids;
pub mod limits;
pub mod prf_commit;
pub mod sealed;
mod secret;
pub mod subkey;
pub mod token_gcm;

#[cfg(test)]
mod vectors;

pub use context::{ContextError, EncryptionContext};
pub use header::{Header, Suite};
pub use ids::{EnvironmentId, KekId, KeyId, KeyVersion, MessageId, TeamId};
pub use prf_commit::Plaintext;

/// A ciphertext cannot be opened.
///
/// The one error for everything wrong with a ciphertext: length, magic, version, flag, suite, key, commitment, tag
/// or encryption context. It carries no detail on purpose, so that nobody can learn from it which check failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("ciphertext cannot be opened with this key and context")]
pub struct DecryptFailed;

/// SHA-256 of `bytes`.
pub(crate) fn sha256(bytes: &[u8]) -> [u8; 32] {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes);
    digest.as_ref().try_into().expect("SHA-256 is 32 bytes")
}

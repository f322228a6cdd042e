//! A statement of a token, signed by its AUDIT key. Two lines of text, so that people can read what they carry:
//! the statement as compact JSON, and `label signature`, the signature in hex over `label || \0 || SHA-256(first line)`.

use std::{io, marker::PhantomData, path::Path};

use data_encoding::HEXLOWER;
use keyreeve_pkcs11::Session;
use serde::{Serialize, de::DeserializeOwned};

use crate::token::{
    audit_key::AuditKey,
    files,
    manifest::sha256_hex,
    public_key::{PublicKey, statement},
    root_keys::RootKeyError,
};

/// Largest file: an enrolment request with a vendor's attestation.
const MAX_BYTES: u64 = 256 * 1024;

/// What can be signed.
pub trait Statement: Serialize + DeserializeOwned {
    /// `enrol.v1`, `transfer.v1`, `receipt.v1`.
    const LABEL: &'static str;

    /// What the types cannot say. The error says what is wrong.
    fn check(&self) -> Result<(), String>;
}

/// A statement, its exact bytes and its signature, which nobody has verified yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signed<S> {
    pub said: S,
    bytes: Vec<u8>,
    signature: Vec<u8>,
    _statement: PhantomData<S>,
}

#[derive(Debug, thiserror::Error)]
pub enum SignedError {
    #[error("cannot read `{path}`: {error}")]
    Unreadable { path: String, error: io::Error },
    #[error("`{path}` is no {label} file: {problem}")]
    Malformed {
        path: String,
        label: &'static str,
        problem: String,
    },
}

impl<S: Statement> Signed<S> {
    pub(super) fn new(session: &Session, key: &AuditKey, said: S) -> Result<Self, RootKeyError> {
        let bytes = serde_json::to_vec(&said).expect("strings and numbers always serialise");
        let signature = key.sign(session, S::LABEL, &bytes)?;
        Ok(Self {
            said,
            bytes,
            signature,
            _statement: PhantomData,
        })
    }

    /// Reads the two lines. The error says what is wrong with them.
    pub fn parse(text: &[u8]) -> Result<Self, String> {
        let mut lines = text.split(|byte| *byte == b'\n');
        let (Some(bytes), Some(signature), Some(b""), None) = (lines.next(), lines.next(), lines.next(), lines.next())
        else {
            return Err("it has not exactly two lines".into());
        };
        let said: S = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        said.check()?;
        let signature = signature
            .strip_prefix(S::LABEL.as_bytes())
            .and_then(|rest| rest.strip_prefix(b" "))
            .and_then(|hex| HEXLOWER.decode(hex).ok())
            .ok_or_else(|| format!("its second line is not `{}` and a signature in hex", S::LABEL))?;
        Ok(Self {
            said,
            bytes: bytes.to_vec(),
            signature,
            _statement: PhantomData,
        })
    }

    pub fn read(path: &Path) -> Result<Self, SignedError> {
        let name = || path.display().to_string();
        let text = files::read(path, MAX_BYTES).map_err(|error| SignedError::Unreadable { path: name(), error })?;
        Self::parse(&text).map_err(|problem| SignedError::Malformed {
            path: name(),
            label: S::LABEL,
            problem,
        })
    }

    /// Never over another file; for this user alone.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        files::create(path, &self.text())
    }

    pub fn text(&self) -> Vec<u8> {
        let end = format!("\n{} {}\n", S::LABEL, HEXLOWER.encode(&self.signature));
        [&self.bytes, end.as_bytes()].concat()
    }

    /// SHA-256 of the statement's bytes, hex: what people compare.
    pub fn sha256(&self) -> String {
        sha256_hex(&self.bytes)
    }

    pub fn is_by(&self, key: &PublicKey) -> bool {
        key.verifies(&statement(S::LABEL, &self.bytes), &self.signature)
    }
}

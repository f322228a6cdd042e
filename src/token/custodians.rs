//! The custodians of a group, and their signatures of its manifest.
//!
//! Signatures lie beside the manifest in a file of their own, so that collecting them changes no byte that is signed.
//! Source: docs/formats.md, section 7.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
};

use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};

use super::{
    files,
    public_key::{PublicKey, statement},
};

/// Label of what custodians sign.
pub const MANIFEST_LABEL: &str = "manifest.v1";
/// Largest sidecar: some hundred signatures.
const MAX_BYTES: u64 = 64 * 1024;
/// With fewer, one who is lost or bribed decides.
const MIN_CUSTODIANS: usize = 3;
const MIN_QUORUM: usize = 2;

/// Who may say which tokens are a group, and how many of them must.
#[derive(Debug, Clone)]
pub struct Custodians {
    keys: Vec<PublicKey>,
    quorum: usize,
}

impl Custodians {
    /// From PEM blocks `PUBLIC KEY`, Ed25519 or P-256. The error says what is wrong.
    pub fn new(pem: &[String], quorum: usize) -> Result<Self, String> {
        let mut keys: Vec<PublicKey> = Vec::with_capacity(pem.len());
        for (index, text) in pem.iter().enumerate() {
            let key = PublicKey::from_pem(text).ok_or_else(|| {
                format!(
                    "custodian {} is no Ed25519 or P-256 public key in PEM (`BEGIN PUBLIC KEY`)",
                    index + 1
                )
            })?;
            if keys.contains(&key) {
                return Err(format!("custodian {} is listed twice", index + 1));
            }
            keys.push(key);
        }
        if keys.len() < MIN_CUSTODIANS {
            return Err(format!("a group needs at least {MIN_CUSTODIANS} custodians"));
        }
        if quorum < MIN_QUORUM || quorum > keys.len() {
            return Err(format!(
                "`quorum` is at least {MIN_QUORUM}, and at most the number of custodians"
            ));
        }
        Ok(Self { keys, quorum })
    }

    pub fn quorum(&self) -> usize {
        self.quorum
    }

    /// How many different custodians signed these bytes of a manifest. What does not verify, or names no custodian, does not count.
    pub fn signers(&self, manifest: &[u8], signatures: &Signatures) -> usize {
        self.keys.iter().filter(|key| signatures.are_by(key, manifest)).count()
    }
}

/// The sidecar: fingerprint of the custodian's key, to signature, both hex.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Signatures {
    pub v: u32,
    pub signatures: BTreeMap<String, String>,
}

impl Signatures {
    /// Where the signatures of `manifest` are.
    pub fn beside(manifest: &Path) -> PathBuf {
        let mut name = manifest.as_os_str().to_owned();
        name.push(".signatures");
        name.into()
    }

    /// No file: no signatures.
    pub fn read(path: &Path) -> io::Result<Self> {
        let bytes = match files::read(path, MAX_BYTES) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::none()),
            bytes => bytes?,
        };
        Self::parse(&bytes).map_err(io::Error::other)
    }

    /// The error says what is wrong.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        let signatures: Self = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        if signatures.v != 1 {
            return Err(format!("version {} is not known", signatures.v));
        }
        Ok(signatures)
    }

    /// In the place of the file that is there.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        files::replace(path, &serde_json::to_vec_pretty(self)?)
    }

    pub fn none() -> Self {
        Self {
            v: 1,
            signatures: BTreeMap::new(),
        }
    }

    /// Whether one of them is this key's, over these bytes of a manifest.
    pub fn are_by(&self, key: &PublicKey, manifest: &[u8]) -> bool {
        self.signatures
            .get(&key.fingerprint())
            .and_then(|hex| HEXLOWER.decode(hex.as_bytes()).ok())
            .is_some_and(|signature| key.verifies(&statement(MANIFEST_LABEL, manifest), &signature))
    }

    pub fn add(&mut self, key: &PublicKey, signature: &[u8]) {
        self.signatures.insert(key.fingerprint(), HEXLOWER.encode(signature));
    }
}

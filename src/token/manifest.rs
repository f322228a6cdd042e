//! The manifest of a token group, single-token form: which token it is, and what its root keys answer.
//!
//! Stored and hashed as exact bytes; the configuration file pins the SHA-256. No custodians in this form, so no signatures.
//! Source: docs/formats.md, manifest.

use std::{io::Write, path::Path};

use aws_lc_rs::digest::{SHA256, digest};
use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    pub v: u32,
    /// 16 bytes, hex.
    pub group: String,
    pub seq: u64,
    /// SHA-256 of the manifest before, hex; zeros for the first.
    pub prev: String,
    pub members: Vec<Member>,
    /// Recovery tokens: none in the single-token form.
    pub recovery: Vec<Member>,
    pub epochs: Vec<Epoch>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    pub serial: String,
    pub model: String,
    #[serde(default)]
    pub firmware: String,
    /// SubjectPublicKeyInfo of AUDIT, DER in hex.
    #[serde(default)]
    pub audit_spki: String,
    /// CANARY's answer, hex.
    pub canary: String,
    /// What the probes found when the token was made: name to outcome.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub probes: Vec<(String, String)>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Epoch {
    /// 16 bytes, hex.
    pub kek_id: String,
    pub epoch: u32,
    pub check: Checks,
}

/// First 16 bytes of what each root key makes of a fixed input, hex.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checks {
    pub kek: String,
    pub bind: String,
    pub svc: String,
}

#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    #[error("cannot read the manifest `{path}`: {error}; `keyreeve init` makes it, a backup brings it back")]
    Unreadable { path: String, error: std::io::Error },
    #[error("the manifest `{path}` has SHA-256 {found}, the configuration pins {pinned}: one of them was changed")]
    NotPinned {
        path: String,
        found: String,
        pinned: String,
    },
    #[error("the manifest `{path}` is not of the single-token form: {problem}")]
    Malformed { path: String, problem: String },
}

impl Manifest {
    /// The bytes that are stored and hashed.
    pub fn bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("a manifest is strings and numbers, which always serialise")
    }

    /// Reads the manifest and holds it against `pinned`, the SHA-256 of the configuration file.
    pub fn load(path: &Path, pinned: &str) -> Result<Manifest, ManifestError> {
        let name = || path.display().to_string();
        let bytes = std::fs::read(path).map_err(|error| ManifestError::Unreadable { path: name(), error })?;
        let found = sha256_hex(&bytes);
        if found != pinned.trim().to_ascii_lowercase() {
            return Err(ManifestError::NotPinned {
                path: name(),
                found,
                pinned: pinned.to_owned(),
            });
        }
        let malformed = |problem: String| ManifestError::Malformed { path: name(), problem };
        let manifest: Manifest = serde_json::from_slice(&bytes).map_err(|error| malformed(error.to_string()))?;
        if manifest.v != 1 {
            return Err(malformed(format!("version {} is not known", manifest.v)));
        }
        if manifest.members.len() != 1 || manifest.epochs.len() != 1 || !manifest.recovery.is_empty() {
            return Err(malformed(
                "one member, one epoch and no recovery token are expected".into(),
            ));
        }
        if manifest.group_id().is_none() || manifest.kek_id().is_none() {
            return Err(malformed("`group` and `kek_id` are 16 bytes in hex".into()));
        }
        Ok(manifest)
    }

    /// Writes the manifest, synced, never over another one. Returns its SHA-256 in hex, to be pinned.
    pub fn store(&self, path: &Path) -> std::io::Result<String> {
        let bytes = self.bytes();
        let mut file = std::fs::File::create_new(path)?;
        file.write_all(&bytes)?;
        file.sync_all()?;
        if let Some(directory) = path.parent().filter(|directory| !directory.as_os_str().is_empty()) {
            std::fs::File::open(directory)?.sync_all()?;
        }
        Ok(sha256_hex(&bytes))
    }

    /// Group id, if well formed.
    pub fn group_id(&self) -> Option<[u8; 16]> {
        sixteen(&self.group)
    }

    /// Id of the newest KEK, if well formed.
    pub fn kek_id(&self) -> Option<[u8; 16]> {
        self.epochs.last().and_then(|epoch| sixteen(&epoch.kek_id))
    }
}

fn sixteen(hex: &str) -> Option<[u8; 16]> {
    HEXLOWER.decode(hex.as_bytes()).ok()?.try_into().ok()
}

fn sha256_hex(bytes: &[u8]) -> String {
    HEXLOWER.encode(digest(&SHA256, bytes).as_ref())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vectors() -> serde_json::Value {
        let text = include_str!("../../tests/vectors/formats-v1.json");
        serde_json::from_str::<serde_json::Value>(text).unwrap()["manifest"].take()
    }

    #[test]
    fn the_published_manifest_is_read_and_pinned_by_its_hash() {
        let vector = vectors();
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("manifest.json");
        std::fs::write(&path, vector["bytes_text"].as_str().unwrap()).unwrap();
        let manifest = Manifest::load(&path, vector["sha256"].as_str().unwrap()).unwrap();
        assert_eq!(manifest.epochs[0].epoch, 3);
        assert_eq!(manifest.kek_id(), Some([0xbb; 16]));
    }

    #[test]
    fn a_changed_byte_is_refused_by_the_pin() {
        let vector = vectors();
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("manifest.json");
        let text = vector["bytes_text"].as_str().unwrap().replace("0001", "0002");
        std::fs::write(&path, text).unwrap();
        let error = Manifest::load(&path, vector["sha256"].as_str().unwrap()).unwrap_err();
        assert!(matches!(error, ManifestError::NotPinned { .. }), "{error}");
    }

    #[test]
    fn a_manifest_never_overwrites_another() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("manifest.json");
        let manifest: Manifest = serde_json::from_str(vectors()["bytes_text"].as_str().unwrap()).unwrap();
        let pinned = manifest.store(&path).unwrap();
        assert!(manifest.store(&path).is_err());
        assert_eq!(Manifest::load(&path, &pinned).unwrap(), manifest);
    }
}

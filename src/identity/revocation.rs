//! Certificates and workloads that are refused although their certificates are still valid.
//!
//! One entry a line, `#` begins a comment: a SPIFFE ID, or the SHA-256 fingerprint of a certificate (DER) in 64 hexadecimal digits,
//! with or without colons. Looked at for every request, so that an entry ends live connections' work at once after [`Revocations::reload`].

use std::{collections::HashSet, path::PathBuf, sync::Arc};

use arc_swap::ArcSwap;
use data_encoding::HEXLOWER_PERMISSIVE;

use super::{Peer, SpiffeId};

/// The revocation set of the node.
pub struct Revocations {
    file: Option<PathBuf>,
    set: ArcSwap<Set>,
}

#[derive(Default)]
struct Set {
    certificates: HashSet<[u8; 32]>,
    workloads: HashSet<Box<str>>,
}

/// Why a revocation file was not taken; the set before it stays in force.
#[derive(Debug, thiserror::Error)]
pub enum RevocationError {
    #[error("revocation file `{0}` cannot be read: create it (it may be empty), or take it out of the configuration")]
    Unreadable(PathBuf, #[source] std::io::Error),
    #[error(
        "{file}:{line}: neither a SPIFFE ID nor a SHA-256 fingerprint of 64 hexadecimal digits: correct or remove it"
    )]
    Line { file: PathBuf, line: usize },
}

impl Revocations {
    /// Nothing is revoked, and there is no file.
    pub fn none() -> Arc<Self> {
        Arc::new(Self {
            file: None,
            set: ArcSwap::default(),
        })
    }

    pub fn load(file: PathBuf) -> Result<Arc<Self>, RevocationError> {
        let revocations = Self {
            file: Some(file),
            set: ArcSwap::default(),
        };
        revocations.reload()?;
        Ok(Arc::new(revocations))
    }

    /// Reads the file again. After an error the set before it stays in force.
    pub fn reload(&self) -> Result<(), RevocationError> {
        let Some(file) = &self.file else { return Ok(()) };
        let text = std::fs::read_to_string(file).map_err(|error| RevocationError::Unreadable(file.clone(), error))?;
        let set = Set::parse(&text).map_err(|line| RevocationError::Line {
            file: file.clone(),
            line,
        })?;
        self.set.store(Arc::new(set));
        Ok(())
    }

    /// Entries in force.
    pub fn len(&self) -> usize {
        let set = self.set.load();
        set.certificates.len() + set.workloads.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn covers(&self, peer: &Peer) -> bool {
        let set = self.set.load();
        (!set.certificates.is_empty() && set.certificates.contains(peer.certificate_sha256()))
            || (!set.workloads.is_empty() && set.workloads.contains(peer.identity().actor.id.as_str()))
    }
}

impl Set {
    /// Error: the number of the line at fault, from 1.
    fn parse(text: &str) -> Result<Self, usize> {
        let mut set = Self::default();
        for (at, line) in text.lines().enumerate() {
            let entry = line.split('#').next().unwrap_or_default().trim();
            if entry.is_empty() {
                continue;
            }
            if let Ok(id) = entry.parse::<SpiffeId>() {
                set.workloads.insert(id.as_str().into());
            } else if let Some(fingerprint) = fingerprint(entry) {
                set.certificates.insert(fingerprint);
            } else {
                return Err(at + 1);
            }
        }
        Ok(set)
    }
}

fn fingerprint(text: &str) -> Option<[u8; 32]> {
    let digits = text.replace(':', "");
    HEXLOWER_PERMISSIVE.decode(digits.as_bytes()).ok()?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::test_ca::{Leaf, TestCa};

    fn peer(id: &str) -> Peer {
        Peer::from_leaf(&TestCa::new("acme").issue(Leaf::of(id)).certificate).unwrap()
    }

    #[test]
    fn a_reload_revokes_by_id_and_by_fingerprint_and_takes_back() {
        let (api, job) = (peer("spiffe://acme.dev/api"), peer("spiffe://acme.dev/job"));
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("revoked");
        std::fs::write(&file, "# nobody yet\n").unwrap();
        let revocations = Revocations::load(file.clone()).unwrap();
        assert!(revocations.is_empty() && !revocations.covers(&api));

        let colons: Vec<String> = job.certificate_sha256().iter().map(|b| format!("{b:02X}")).collect();
        std::fs::write(&file, format!("spiffe://acme.dev/api # left\n{}\n", colons.join(":"))).unwrap();
        revocations.reload().unwrap();
        assert!(revocations.covers(&api) && revocations.covers(&job));
        assert!(
            !revocations.covers(&peer("spiffe://acme.dev/job")),
            "another certificate of the job"
        );

        std::fs::write(&file, "").unwrap();
        revocations.reload().unwrap();
        assert!(!revocations.covers(&api) && !revocations.covers(&job));
    }

    #[test]
    fn a_bad_file_names_its_line_and_changes_nothing() {
        let api = peer("spiffe://acme.dev/api");
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("revoked");
        std::fs::write(&file, "spiffe://acme.dev/api\n").unwrap();
        let revocations = Revocations::load(file.clone()).unwrap();
        for bad in ["\nspiffe://acme.dev/*\n", "\nabcd\n", "\nspiffe://acme.dev\n"] {
            std::fs::write(&file, bad).unwrap();
            let error = revocations.reload().unwrap_err();
            assert!(matches!(error, RevocationError::Line { line: 2, .. }), "{error}");
        }
        std::fs::remove_file(&file).unwrap();
        assert!(matches!(revocations.reload(), Err(RevocationError::Unreadable(..))));
        assert!(revocations.covers(&api));
    }
}

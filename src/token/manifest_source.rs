//! Where the manifest of a group is, and who vouches for its bytes: the configuration file says both, never the store.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{
    custodians::{Custodians, Signatures},
    files,
    manifest::{MAX_BYTES, Manifest, sha256_hex},
};

/// A manifest, and why it is believed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManifestSource {
    pub path: PathBuf,
    pub trust: Trust,
}

/// Who vouches for a manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Trust {
    /// Single-token form: the configuration pins the SHA-256, hex.
    Pinned { sha256: String },
    /// Ceremony form: custodians signed it, in the file beside it.
    Custodians {
        /// Group id, 16 bytes in hex: one group's manifest cannot stand for another's.
        group: String,
        /// Public keys, PEM.
        keys: Vec<String>,
        /// So many of them must have signed.
        quorum: usize,
    },
}

#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    #[error(
        "cannot read the manifest `{path}`: {error}; `keyreeve init` or a ceremony makes it, a backup brings it back"
    )]
    Unreadable { path: String, error: std::io::Error },
    #[error("the manifest `{path}` has SHA-256 {found}, the configuration pins {pinned}: one of them was changed")]
    NotPinned {
        path: String,
        found: String,
        pinned: String,
    },
    #[error("the manifest `{path}` is not of the form that the configuration asks for: {problem}")]
    Malformed { path: String, problem: String },
    #[error("the custodians in the configuration: {0}")]
    Custodians(String),
    #[error(
        "the manifest `{path}` is signed by {signers} of the custodians in the configuration, {quorum} are needed: \
         `keyreeve ceremony sign` adds one more"
    )]
    UnderQuorum {
        path: String,
        signers: usize,
        quorum: usize,
    },
    #[error("the manifest `{path}` is of group {found}, the configuration wants {wanted}")]
    OtherGroup {
        path: String,
        found: String,
        wanted: String,
    },
}

impl Manifest {
    /// Reads the manifest and holds it against what the configuration trusts.
    pub fn load(source: &ManifestSource) -> Result<Self, ManifestError> {
        let path = source.path.display().to_string();
        let unreadable = |error| ManifestError::Unreadable {
            path: path.clone(),
            error,
        };
        let malformed = |problem| ManifestError::Malformed {
            path: path.clone(),
            problem,
        };
        let bytes = files::read(&source.path, MAX_BYTES).map_err(unreadable)?;
        match &source.trust {
            Trust::Pinned { sha256 } => {
                let found = sha256_hex(&bytes);
                if found != sha256.trim().to_ascii_lowercase() {
                    let pinned = sha256.clone();
                    return Err(ManifestError::NotPinned { path, found, pinned });
                }
                let manifest = Self::parse(&bytes).map_err(malformed)?;
                manifest.check_single_token_form().map_err(malformed)?;
                Ok(manifest)
            }
            Trust::Custodians { group, keys, quorum } => {
                let custodians = Custodians::new(keys, *quorum).map_err(ManifestError::Custodians)?;
                let beside = Signatures::beside(&source.path);
                let signatures = Signatures::read(&beside).map_err(|error| ManifestError::Unreadable {
                    path: beside.display().to_string(),
                    error,
                })?;
                let signers = custodians.signers(&bytes, &signatures);
                if signers < custodians.quorum() {
                    let quorum = custodians.quorum();
                    return Err(ManifestError::UnderQuorum { path, signers, quorum });
                }
                let manifest = Self::parse(&bytes).map_err(malformed)?;
                if manifest.group != *group {
                    let (found, wanted) = (manifest.group, group.clone());
                    return Err(ManifestError::OtherGroup { path, found, wanted });
                }
                // `sha256()` computes the hash from what was read.
                if manifest.bytes() != bytes {
                    return Err(malformed("it is not written as Keyreeve writes it".into()));
                }
                manifest.check_ceremony_form().map_err(malformed)?;
                Ok(manifest)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use data_encoding::HEXLOWER;

    use super::*;
    use crate::token::{
        custodians::MANIFEST_LABEL,
        manifest::{Member, OaepHash},
        public_key::{statement, testing::Signer},
    };

    fn published() -> serde_json::Value {
        let text = include_str!("../../tests/vectors/formats-v1.json");
        serde_json::from_str::<serde_json::Value>(text).unwrap()["manifest"].take()
    }

    fn pinned(path: &Path, sha256: &str) -> ManifestSource {
        ManifestSource {
            path: path.to_owned(),
            trust: Trust::Pinned {
                sha256: sha256.to_owned(),
            },
        }
    }

    #[test]
    fn the_published_manifest_is_believed_for_its_hash_and_a_changed_one_is_not() {
        let vector = published();
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("manifest.json");
        let source = pinned(&path, vector["sha256"].as_str().unwrap());
        let text = vector["bytes_text"].as_str().unwrap();
        std::fs::write(&path, text).unwrap();
        assert_eq!(Manifest::load(&source).unwrap().epochs[0].epoch, 3);
        std::fs::write(&path, text.replace("0001", "0002")).unwrap();
        let error = Manifest::load(&source).unwrap_err();
        assert!(matches!(error, ManifestError::NotPinned { .. }), "{error}");
    }

    /// Three custodians, two of whom must sign, and a manifest that nobody signed yet.
    struct Group {
        directory: tempfile::TempDir,
        custodians: [Signer; 3],
        manifest: Manifest,
    }

    impl Group {
        fn new() -> Self {
            let rsa = keyreeve_pkcs11::RsaPublicKey {
                modulus: vec![0xc5; 384],
                exponent: vec![1, 0, 1],
            };
            let member = Member {
                serial: "1".into(),
                model: "example".into(),
                firmware: String::new(),
                transport_spki: HEXLOWER.encode(&rsa.spki()),
                audit_spki: HEXLOWER.encode(Signer::ed25519().public.spki()),
                canary: "dd".repeat(32),
                probes: vec![],
                oaep_hash: Some(OaepHash::Sha1),
            };
            let manifest = Manifest {
                v: 1,
                group: "cc".repeat(16),
                seq: 1,
                prev: "0".repeat(64),
                members: vec![member],
                recovery: vec![],
                epochs: vec![],
            };
            Self {
                directory: tempfile::tempdir().unwrap(),
                custodians: [Signer::ed25519(), Signer::p256(), Signer::ed25519()],
                manifest,
            }
        }

        fn source(&self) -> ManifestSource {
            ManifestSource {
                path: self.directory.path().join("manifest.json"),
                trust: Trust::Custodians {
                    group: "cc".repeat(16),
                    keys: self.custodians.iter().map(Signer::pem).collect(),
                    quorum: 2,
                },
            }
        }

        fn signed_by(&self, signers: &[&Signer]) -> Result<Manifest, ManifestError> {
            self.signed_as(signers, MANIFEST_LABEL)
        }

        fn signed_as(&self, signers: &[&Signer], label: &str) -> Result<Manifest, ManifestError> {
            let source = self.source();
            let bytes = self.manifest.bytes();
            std::fs::write(&source.path, &bytes).unwrap();
            let mut signatures = Signatures::none();
            for signer in signers {
                signatures.add(&signer.public, &signer.sign(&statement(label, &bytes)));
            }
            let sidecar = serde_json::to_vec(&signatures).unwrap();
            std::fs::write(Signatures::beside(&source.path), sidecar).unwrap();
            Manifest::load(&source)
        }
    }

    #[test]
    fn a_quorum_of_custodians_is_believed_and_fewer_are_not() {
        let group = Group::new();
        let [one, two, three] = &group.custodians;
        assert_eq!(group.signed_by(&[one, two]).unwrap(), group.manifest);
        assert_eq!(group.signed_by(&[one, two, three]).unwrap(), group.manifest);
        let stranger = Signer::p256();
        for signers in [&[] as &[&Signer], &[two], &[one, one], &[one, &stranger]] {
            let error = group.signed_by(signers).unwrap_err();
            assert!(matches!(error, ManifestError::UnderQuorum { quorum: 2, .. }), "{error}");
        }
        let error = group.signed_as(&[one, two], "transfer.v1").unwrap_err();
        assert!(
            matches!(error, ManifestError::UnderQuorum { signers: 0, .. }),
            "{error}"
        );
    }

    #[test]
    fn a_manifest_without_its_signatures_is_not_believed() {
        let group = Group::new();
        group.signed_by(&[&group.custodians[0], &group.custodians[1]]).unwrap();
        std::fs::remove_file(Signatures::beside(&group.source().path)).unwrap();
        let error = Manifest::load(&group.source()).unwrap_err();
        assert!(
            matches!(error, ManifestError::UnderQuorum { signers: 0, .. }),
            "{error}"
        );
    }

    #[test]
    fn another_groups_manifest_is_refused_though_it_is_signed() {
        let mut group = Group::new();
        group.manifest.group = "ab".repeat(16);
        let error = group
            .signed_by(&[&group.custodians[0], &group.custodians[1]])
            .unwrap_err();
        assert!(matches!(error, ManifestError::OtherGroup { .. }), "{error}");
    }

    #[test]
    fn what_is_no_group_of_enrolled_tokens_is_refused_though_it_is_signed() {
        let refused = |change: fn(&mut Manifest), why: &str| {
            let mut group = Group::new();
            change(&mut group.manifest);
            let error = group
                .signed_by(&[&group.custodians[0], &group.custodians[1]])
                .unwrap_err()
                .to_string();
            assert!(error.contains(why), "{error}");
        };
        refused(|manifest| manifest.members.clear(), "no member");
        refused(
            |manifest| manifest.members[0].transport_spki.clear(),
            "no RSA public key",
        );
        refused(|manifest| manifest.members[0].audit_spki.truncate(10), "AUDIT key");
        refused(|manifest| manifest.members[0].oaep_hash = None, "OAEP hash");
        refused(|manifest| manifest.recovery.push(manifest.members[0].clone()), "shares");
    }
}

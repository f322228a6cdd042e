//! The manifest of a token group: which tokens they are, what they answer, and what their root keys answer.
//!
//! Stored, hashed and signed as exact bytes. Who vouches for them is in `manifest_source.rs`. Source: docs/formats.md, section 7.

use std::{collections::HashSet, path::Path};

use aws_lc_rs::digest::{SHA256, digest};
use data_encoding::HEXLOWER;
use keyreeve_envelope::KekId;
use keyreeve_pkcs11::{RsaPublicKey, presets::TRANSPORT_BITS};
use serde::{Deserialize, Serialize};

use super::{files, public_key::PublicKey};

/// Largest manifest: some hundred tokens.
pub(super) const MAX_BYTES: u64 = 1024 * 1024;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    pub v: u32,
    /// 16 bytes, hex.
    pub group: String,
    pub seq: u64,
    /// SHA-256 of the manifest before, hex; zeros for the first.
    pub prev: String,
    pub members: Vec<Member>,
    /// Tokens that hold no root key, kept offline: they open the transfer files of the group for a new member.
    pub recovery: Vec<Member>,
    pub epochs: Vec<Epoch>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Member {
    pub serial: String,
    pub model: String,
    #[serde(default)]
    pub firmware: String,
    /// SubjectPublicKeyInfo of TRANSPORT, DER in hex; empty in the single-token form.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub transport_spki: String,
    /// SubjectPublicKeyInfo of AUDIT, DER in hex.
    #[serde(default)]
    pub audit_spki: String,
    /// CANARY's answer, hex.
    pub canary: String,
    /// What the probes found when the token was made: name to outcome.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub probes: Vec<(String, String)>,
    /// The best hash with which this token unwraps by OAEP; none in the single-token form.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oaep_hash: Option<OaepHash>,
}

/// Hash of OAEP and of its MGF1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum OaepHash {
    /// No attack follows, since only a fixed label is hashed; yet policies are against it.
    #[serde(rename = "SHA-1")]
    Sha1,
    #[serde(rename = "SHA-256")]
    Sha256,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Epoch {
    /// 16 bytes, hex.
    pub kek_id: String,
    pub epoch: u32,
    pub check: Checks,
}

/// First 16 bytes of what each root key makes of a fixed input, hex.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Checks {
    pub kek: String,
    pub bind: String,
    pub svc: String,
}

impl Epoch {
    pub fn kek_id(&self) -> Option<KekId> {
        from_hex::<16>(&self.kek_id).map(KekId::from_bytes)
    }
}

impl Manifest {
    /// The bytes that are stored, hashed and signed.
    pub fn bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("a manifest is strings and numbers, which always serialise")
    }

    /// SHA-256 of the bytes, hex.
    pub fn sha256(&self) -> String {
        sha256_hex(&self.bytes())
    }

    /// Reads a manifest of either form. The error says what is wrong with it.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        let manifest: Self = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        if manifest.v != 1 {
            return Err(format!("version {} is not known", manifest.v));
        }
        if manifest.group_id().is_none() || manifest.epochs.iter().any(|epoch| epoch.kek_id().is_none()) {
            return Err("`group` and `kek_id` are 16 bytes in hex".into());
        }
        if from_hex::<32>(&manifest.prev).is_none() || (manifest.seq == 1) != (manifest.prev == "0".repeat(64)) {
            return Err("`prev` is a SHA-256 in hex, zeros in the first manifest and in no other".into());
        }
        let ascend = manifest.epochs.is_sorted_by(|one, next| one.epoch < next.epoch);
        let kek_ids: HashSet<_> = manifest.epochs.iter().map(|epoch| &epoch.kek_id).collect();
        if !ascend || kek_ids.len() < manifest.epochs.len() {
            return Err("epochs ascend, and each has a KEK id of its own".into());
        }
        if manifest
            .epochs
            .windows(2)
            .any(|pair| pair[0].check.svc != pair[1].check.svc)
        {
            return Err("a group has one SVC in all its epochs".into());
        }
        Ok(manifest)
    }

    /// One token that made its root keys itself, and can never have a sibling.
    pub(super) fn check_single_token_form(&self) -> Result<(), String> {
        if self.members.len() != 1 || self.epochs.len() != 1 || !self.recovery.is_empty() {
            return Err("one member, one epoch and no recovery token are expected".into());
        }
        Ok(())
    }

    /// Tokens that were enrolled. A group that has no epoch yet is of this form, too.
    pub(super) fn check_ceremony_form(&self) -> Result<(), String> {
        if self.members.is_empty() || self.seq == 0 {
            return Err("it has no member, or `seq` 0".into());
        }
        let mut seen = HashSet::new();
        for token in self.tokens() {
            let name = &token.serial;
            let keys = [&token.transport_spki, &token.audit_spki, &token.canary];
            if name.is_empty() || keys.iter().chain([&name]).any(|key| !seen.insert(key.as_str())) {
                return Err(format!(
                    "token `{name}` has no serial, or shares serial, key or CANARY with another"
                ));
            }
            if token.audit_key().is_none() {
                return Err(format!(
                    "the AUDIT key of token `{name}` is no Ed25519 or P-256 public key"
                ));
            }
            if token.transport_key().is_none() {
                return Err(format!(
                    "the TRANSPORT key of token `{name}` is no RSA public key of 3072 bits or more"
                ));
            }
            if from_hex::<32>(&token.canary).is_none() || token.oaep_hash.is_none() {
                return Err(format!("token `{name}` has no CANARY answer or no OAEP hash"));
            }
        }
        Ok(())
    }

    /// Writes the manifest, synced, never over another one. Returns its SHA-256 in hex, to be pinned.
    pub fn store(&self, path: &Path) -> std::io::Result<String> {
        files::create(path, &self.bytes())?;
        Ok(self.sha256())
    }

    /// Group id, if well formed.
    pub fn group_id(&self) -> Option<[u8; 16]> {
        from_hex(&self.group)
    }

    /// Id of the newest KEK, if there is one.
    pub fn kek_id(&self) -> Option<[u8; 16]> {
        self.epochs.last().and_then(|epoch| from_hex(&epoch.kek_id))
    }

    pub fn member(&self, serial: &str) -> Option<&Member> {
        self.members.iter().find(|member| member.serial == serial)
    }

    /// A member or a recovery token.
    pub fn token(&self, serial: &str) -> Option<&Member> {
        self.tokens().find(|token| token.serial == serial)
    }

    /// Members, then recovery tokens.
    pub fn tokens(&self) -> impl Iterator<Item = &Member> {
        self.members.iter().chain(&self.recovery)
    }
}

impl Member {
    pub fn audit_key(&self) -> Option<PublicKey> {
        PublicKey::from_spki(&HEXLOWER.decode(self.audit_spki.as_bytes()).ok()?)
    }

    /// TRANSPORT, if it is an RSA key of 3,072 bits or more.
    pub fn transport_key(&self) -> Option<RsaPublicKey> {
        let key = RsaPublicKey::from_spki(&HEXLOWER.decode(self.transport_spki.as_bytes()).ok()?)?;
        (key.bits() as u64 >= TRANSPORT_BITS).then_some(key)
    }

    /// SHA-256 of TRANSPORT's DER, hex: what people compare.
    pub fn transport_fingerprint(&self) -> Option<String> {
        Some(sha256_hex(&self.transport_key()?.spki()))
    }
}

/// Exactly `N` bytes of lower-case hex.
pub(super) fn from_hex<const N: usize>(hex: &str) -> Option<[u8; N]> {
    HEXLOWER.decode(hex.as_bytes()).ok()?.try_into().ok()
}

pub(super) fn sha256_hex(bytes: &[u8]) -> String {
    HEXLOWER.encode(digest(&SHA256, bytes).as_ref())
}

impl OaepHash {
    pub fn as_str(self) -> &'static str {
        match self {
            OaepHash::Sha1 => "SHA-1",
            OaepHash::Sha256 => "SHA-256",
        }
    }
}

impl From<OaepHash> for keyreeve_pkcs11::OaepHash {
    fn from(hash: OaepHash) -> Self {
        match hash {
            OaepHash::Sha1 => Self::Sha1,
            OaepHash::Sha256 => Self::Sha256,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn published() -> String {
        let text = include_str!("../../tests/vectors/formats-v1.json");
        let vectors: serde_json::Value = serde_json::from_str(text).unwrap();
        vectors["manifest"]["bytes_text"].as_str().unwrap().to_owned()
    }

    #[test]
    fn the_published_manifest_is_read() {
        let manifest = Manifest::parse(published().as_bytes()).unwrap();
        assert_eq!(manifest.epochs[0].epoch, 3);
        assert_eq!(manifest.kek_id(), Some([0xbb; 16]));
        assert_eq!(manifest.group_id(), Some([0xcc; 16]));
        assert_eq!(manifest.member("0001").unwrap().model, "example");
    }

    #[test]
    fn what_is_not_strictly_a_manifest_is_refused() {
        let epoch = r#"{"kek_id":"#;
        for (from, to) in [
            (r#"{"v":1"#, r#"{"v":2"#),
            (r#"{"v":1"#, r#"{"v":1,"more":0"#),
            (r#"{"v":1"#, r#"{"v":1,"v":1"#),
            (r#""seq":1"#, r#""seq":2"#),
            (r#""seq":1"#, r#""seq":-1"#),
            ("bbbbbbbb", "BBBBBBBB"),
            ("cccc", "cc"),
            ("0000000000", "00000000"),
            (epoch, r#"{"epoch":9,"kek_id":"#),
        ] {
            let text = published().replacen(from, to, 1);
            assert_ne!(text, published(), "{from}");
            assert!(Manifest::parse(text.as_bytes()).is_err(), "{to}");
        }
    }

    #[test]
    fn epochs_ascend_and_share_one_svc_but_no_kek() {
        let mut manifest = Manifest::parse(published().as_bytes()).unwrap();
        let mut next = manifest.epochs[0].clone();
        next.epoch = 4;
        let with = |manifest: &mut Manifest, next: &Epoch| {
            manifest.epochs.truncate(1);
            manifest.epochs.push(next.clone());
            Manifest::parse(&manifest.bytes()).map(drop)
        };
        assert!(with(&mut manifest, &next).unwrap_err().contains("KEK id"));
        next.kek_id = "dd".repeat(16);
        assert_eq!(with(&mut manifest, &next), Ok(()));
        next.epoch = 3;
        assert!(with(&mut manifest, &next).unwrap_err().contains("ascend"));
        next.epoch = 4;
        next.check.svc = "00".repeat(16);
        assert!(with(&mut manifest, &next).unwrap_err().contains("one SVC"));
    }

    #[test]
    fn a_manifest_never_overwrites_another() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("manifest.json");
        let manifest = Manifest::parse(published().as_bytes()).unwrap();
        manifest.store(&path).unwrap();
        assert!(manifest.store(&path).is_err());
    }
}

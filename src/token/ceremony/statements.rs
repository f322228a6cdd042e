//! What tokens state to each other and to custodians. Hex is lower case; unknown fields are refused.

use serde::{Deserialize, Serialize};

use super::signed::Statement;
use crate::token::manifest::{Checks, Member, OaepHash, from_hex};

/// Largest vendor attestation, in bytes.
pub(super) const MAX_ATTESTATION: usize = 64 * 1024;

/// What a token is to its group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Holds the root keys and serves.
    Member,
    /// Holds none, is kept offline, and hands the group's keys to a new member.
    Recovery,
}

impl Role {
    pub fn as_str(self) -> &'static str {
        match self {
            Role::Member => "member",
            Role::Recovery => "recovery",
        }
    }
}

/// A token asks to be of a group. Signed by its own AUDIT key: that alone says nothing of who made the request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EnrolRequest {
    pub v: u32,
    /// 16 bytes, hex.
    pub group: String,
    pub role: Role,
    pub token: Member,
    /// 16 random bytes, hex: no two requests are the same.
    pub nonce: String,
    /// What the vendor's tool says of the keys, hex; at most 64 KiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attestation: Option<String>,
}

/// The keys of one epoch on their way from token to token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Transfer {
    pub v: u32,
    /// SHA-256 of the manifest under which they were wrapped.
    pub manifest: String,
    pub group: String,
    pub epoch: u32,
    pub kek_id: String,
    /// Serials.
    pub from: String,
    pub to: String,
    /// SHA-256 of the TRANSPORT key that they are wrapped to (SPKI, DER).
    pub to_spki_sha256: String,
    pub oaep_hash: OaepHash,
    pub wrapped: WrappedKeys,
    pub check: Checks,
}

/// OAEP ciphertexts, hex.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WrappedKeys {
    pub kek: String,
    pub bind: String,
    /// With the first epoch only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub svc: Option<String>,
}

/// A token has taken an epoch in, and its keys answer as they should.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Receipt {
    pub v: u32,
    pub group: String,
    pub epoch: u32,
    pub kek_id: String,
    /// Of the token that states this.
    pub serial: String,
    /// SHA-256 of the transfer statement.
    pub transfer: String,
    /// As computed in this token.
    pub check: Checks,
    pub keys: Vec<KeyReadBack>,
}

/// Attributes of a key, as its token reports them; `None` where it does not tell.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyReadBack {
    pub label: String,
    pub sensitive: Option<bool>,
    pub extractable: Option<bool>,
    pub modifiable: Option<bool>,
    pub copyable: Option<bool>,
    pub local: Option<bool>,
    pub always_sensitive: Option<bool>,
    pub never_extractable: Option<bool>,
}

impl Statement for EnrolRequest {
    const LABEL: &'static str = "enrol.v1";

    fn check(&self) -> Result<(), String> {
        version(self.v)?;
        hex::<16>("group", &self.group)?;
        hex::<16>("nonce", &self.nonce)?;
        match &self.attestation {
            Some(text) if text.len() > 2 * MAX_ATTESTATION => Err("the attestation is too long".into()),
            _ => Ok(()),
        }
    }
}

impl Statement for Transfer {
    const LABEL: &'static str = "transfer.v1";

    fn check(&self) -> Result<(), String> {
        version(self.v)?;
        hex::<32>("manifest", &self.manifest)?;
        hex::<16>("group", &self.group)?;
        hex::<16>("kek_id", &self.kek_id)?;
        hex::<32>("to_spki_sha256", &self.to_spki_sha256)?;
        checks(&self.check)
    }
}

impl Statement for Receipt {
    const LABEL: &'static str = "receipt.v1";

    fn check(&self) -> Result<(), String> {
        version(self.v)?;
        hex::<16>("group", &self.group)?;
        hex::<16>("kek_id", &self.kek_id)?;
        hex::<32>("transfer", &self.transfer)?;
        checks(&self.check)
    }
}

fn version(v: u32) -> Result<(), String> {
    match v {
        1 => Ok(()),
        other => Err(format!("version {other} is not known")),
    }
}

fn hex<const N: usize>(name: &str, text: &str) -> Result<(), String> {
    match from_hex::<N>(text) {
        Some(_) => Ok(()),
        None => Err(format!("`{name}` is not {N} bytes in hex")),
    }
}

fn checks(check: &Checks) -> Result<(), String> {
    for text in [&check.kek, &check.bind, &check.svc] {
        hex::<16>("check", text)?;
    }
    Ok(())
}

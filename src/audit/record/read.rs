//! Reads a record back, with serde: every field of version 1 and no other.

use std::borrow::Cow;

use serde::Deserialize;

use crate::store::Applied;

/// A record read back. Every field must be there, and no other.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record<'a> {
    pub v: u8,
    #[serde(borrow)]
    pub log: Cow<'a, str>,
    pub seq: u64,
    #[serde(borrow)]
    pub ts: Cow<'a, str>,
    #[serde(borrow)]
    pub node: Cow<'a, str>,
    #[serde(deserialize_with = "Option::deserialize")]
    pub environment: Option<String>,
    #[serde(borrow)]
    pub req: Cow<'a, str>,
    #[serde(deserialize_with = "Option::deserialize")]
    pub trace: Option<String>,
    #[serde(borrow)]
    pub actor: RecordActor<'a>,
    #[serde(deserialize_with = "Option::deserialize")]
    pub on_behalf: Option<String>,
    #[serde(deserialize_with = "Option::deserialize")]
    pub peer: Option<String>,
    #[serde(borrow)]
    pub op: Cow<'a, str>,
    #[serde(borrow, deserialize_with = "Option::deserialize")]
    pub key: Option<RecordKey<'a>>,
    #[serde(borrow)]
    pub object: Cow<'a, str>,
    #[serde(borrow)]
    pub decision: RecordDecision<'a>,
    pub approvals: Vec<String>,
    #[serde(borrow)]
    pub result: Cow<'a, str>,
    #[serde(borrow)]
    pub code: Cow<'a, str>,
    pub ec_keys: Vec<String>,
    #[serde(borrow)]
    pub ec_mac: Cow<'a, str>,
    pub items: u32,
    pub failed: u32,
    pub bytes_in: u64,
    pub bytes_out: u64,
    pub ct: Vec<String>,
    #[serde(borrow, deserialize_with = "Option::deserialize")]
    pub chg: Option<RecordChange<'a>>,
    #[serde(borrow, deserialize_with = "Option::deserialize")]
    pub token: Option<RecordToken<'a>>,
    pub lat_us: u64,
    #[serde(borrow)]
    pub prev: Cow<'a, str>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecordActor<'a> {
    #[serde(borrow)]
    pub id: Cow<'a, str>,
    #[serde(borrow)]
    pub method: Cow<'a, str>,
    #[serde(borrow)]
    pub cert_sha256: Cow<'a, str>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecordKey<'a> {
    #[serde(borrow)]
    pub id: Cow<'a, str>,
    pub ver: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecordDecision<'a> {
    #[serde(borrow)]
    pub policy_hash: Cow<'a, str>,
    #[serde(borrow)]
    pub rule: Cow<'a, str>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecordChange<'a> {
    pub seq: u64,
    #[serde(borrow)]
    pub link: Cow<'a, str>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecordToken<'a> {
    #[serde(borrow)]
    pub serial: Cow<'a, str>,
    pub worker: u64,
}

impl<'a> Record<'a> {
    /// Errors: what is not one JSON object with exactly the fields of version 1.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, RecordError> {
        let record: Self = serde_json::from_slice(bytes).map_err(|error| RecordError(error.to_string()))?;
        if record.v != 1 {
            return Err(RecordError(format!("unknown version {}", record.v)));
        }
        Ok(record)
    }

    /// The name in `object`, without what became of it.
    pub fn name(&self) -> &str {
        self.object.split_once(' ').map_or(&self.object, |(name, _)| name)
    }

    /// The part of `code` that programs compare; empty on success.
    pub fn reason(&self) -> &str {
        self.code.split_once(": ").map_or(&self.code, |(reason, _)| reason)
    }

    /// The part of `code` that only the log knows.
    pub fn detail(&self) -> Option<&str> {
        self.code.split_once(": ").map(|(_, detail)| detail)
    }

    /// Where the store's chain of changes stood, if this record says so and says it well.
    pub fn change(&self) -> Option<Applied> {
        let chg = self.chg.as_ref()?;
        let link = data_encoding::HEXLOWER.decode(chg.link.as_bytes()).ok()?;
        Some(Applied {
            seq: chg.seq,
            link: link.try_into().ok()?,
        })
    }
}

/// Bytes that are not a record.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a record of version 1: {0}")]
pub struct RecordError(String);

//! Keys and their versions, as the rest of the service sees them.

use std::{collections::BTreeMap, sync::Arc};

use super::{EnvironmentId, KeyId, KeyName, KeyState, KeyVersion, Suite, Team};
use crate::{Error, Result, clock::Timestamp};

/// What a key is for. One key, one purpose (`docs/formats.md`, section 1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    EncryptDecrypt,
}

/// Where a key's versions live.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Residency {
    /// In the store, wrapped by the KEK; unwrapped inside the token for use.
    Wrapped,
    /// In one token for good, as an object that cannot leave it. Not replicated, and lost with its token.
    TokenResident,
}

/// How a token makes the ivs of suite 0001: 96 random bits either way (`docs/formats.md`, section 3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IvSource {
    /// In the call that seals (PKCS#11 3.0, CKG_GENERATE_RANDOM): nobody else can choose one.
    TokenMessage,
    /// Twelve bytes of the token's generator (C_GenerateRandom), handed back to it by the service. Not for an approved-only profile.
    TokenRandom,
}

impl IvSource {
    /// The name in rows and output.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::TokenMessage => "TOKEN_MESSAGE",
            Self::TokenRandom => "TOKEN_RANDOM",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        [Self::TokenMessage, Self::TokenRandom]
            .into_iter()
            .find(|source| source.as_str() == text)
    }
}

/// A key: a name, an owner, and versions of which one is primary.
#[derive(Debug, Clone)]
pub struct Key {
    pub id: KeyId,
    pub name: KeyName,
    pub team: Arc<Team>,
    pub purpose: Purpose,
    pub residency: Residency,
    pub owner: String,
    pub labels: BTreeMap<String, String>,
    pub primary: KeyVersion,
    /// In ascending order of number; never empty.
    pub versions: Vec<Arc<Version>>,
    pub created: Timestamp,
    pub row_version: u64,
}

/// One version of a key: what protects data.
#[derive(Debug, Clone)]
pub struct Version {
    pub key: KeyId,
    pub number: KeyVersion,
    /// How envelopes under this version are made; never changes.
    pub suite: Suite,
    /// Suite 0001: how the token made ivs when the version was made.
    pub iv_source: Option<IvSource>,
    pub state: KeyState,
    /// The state from which destruction was scheduled; set in `PendingDestruction` only.
    pub state_before: Option<KeyState>,
    pub state_changed: Timestamp,
    pub state_reason: String,
    /// The earliest moment of destruction; set in `PendingDestruction` only.
    pub destroy_at: Option<Timestamp>,
    /// What is kept of the key: gone once destroyed; of a resident one, once its object is removed.
    pub blob: Option<Arc<Blob>>,
    pub at_birth: TokenAttributes,
    pub created: Timestamp,
    pub row_version: u64,
}

/// What the store keeps of a version key: the wrapped key, parsed and verified by the token layer on first use; or which object of the
/// token it is ([`TokenObject`]).
#[derive(Clone, PartialEq, Eq)]
pub struct Blob {
    bytes: Box<[u8]>,
    sha256: [u8; 32],
}

impl Blob {
    pub fn new(bytes: Vec<u8>) -> Self {
        let sha256 = keyreeve_envelope::blob::blob_sha256(&bytes);
        Self {
            bytes: bytes.into(),
            sha256,
        }
    }

    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The object that it speaks of; `None` for a wrapped key.
    pub fn token_object(&self) -> Option<TokenObject> {
        let rest = self.bytes.strip_prefix(TokenObject::LABEL)?;
        let (key, rest) = rest.split_first_chunk()?;
        let (number, rest) = rest.split_first_chunk()?;
        let (suite, kcv) = rest.split_first_chunk()?;
        Some(TokenObject {
            key: KeyId::from_bytes(*key),
            number: KeyVersion::new(u32::from_be_bytes(*number))?,
            suite: Suite::from_number(u16::from_be_bytes(*suite))?,
            kcv: kcv.try_into().ok()?,
        })
    }

    /// Names the blob in handle caches.
    pub fn sha256(&self) -> &[u8; 32] {
        &self.sha256
    }
}

/// A version key that stays in its token: what finds the object (its CKA_ID is key id and version), and proves that it is the same key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TokenObject {
    pub key: KeyId,
    pub number: KeyVersion,
    pub suite: Suite,
    /// Key check value, pinned when it was made.
    pub kcv: [u8; 16],
}

impl TokenObject {
    /// Begins its bytes, which no wrapped key begins with; they are not stored.
    const LABEL: &[u8; 12] = b"resident.v1\0";

    pub fn cka_id(&self) -> [u8; 20] {
        cka_id(self.key, self.number)
    }

    pub fn to_blob(self) -> Blob {
        let suite = self.suite.number().to_be_bytes();
        Blob::new([&Self::LABEL[..], &self.cka_id(), &suite, &self.kcv].concat())
    }
}

/// CKA_ID of a resident version: key id, then the version as u32.
pub fn cka_id(key: KeyId, number: KeyVersion) -> [u8; 20] {
    let mut id = [0; 20];
    id[..16].copy_from_slice(key.as_bytes());
    id[16..].copy_from_slice(&number.number().to_be_bytes());
    id
}

impl std::fmt::Debug for Blob {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Blob({} bytes)", self.bytes.len())
    }
}

/// Attributes of a key object as the token reported them at `observed`. Self-reported by the module: no proof against a dishonest one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct TokenAttributes {
    pub local: bool,
    pub always_sensitive: bool,
    pub never_extractable: bool,
    pub sensitive: bool,
    pub extractable: bool,
    pub modifiable: bool,
    pub copyable: bool,
    /// Unix ms.
    pub observed: i64,
}

impl Key {
    pub fn environment(&self) -> EnvironmentId {
        self.team.environment.id
    }

    pub fn version(&self, number: KeyVersion) -> Option<&Arc<Version>> {
        self.versions
            .binary_search_by_key(&number, |version| version.number)
            .ok()
            .map(|at| &self.versions[at])
    }

    pub fn primary_version(&self) -> &Arc<Version> {
        self.version(self.primary)
            .expect("the primary version is one of the versions")
    }

    /// The state of the primary version.
    pub fn state(&self) -> KeyState {
        self.primary_version().state
    }

    /// The primary version, if its state lets it protect (encrypt, make data keys).
    pub fn protecting(&self, operation: &'static str) -> Result<&Arc<Version>> {
        let version = self.primary_version();
        if version.state.protects() {
            Ok(version)
        } else {
            Err(self.state_forbids(version, operation))
        }
    }

    /// Version `number`, if its state lets it process (decrypt, unwrap). `DecryptFailed` if there is no such version.
    pub fn processing(&self, number: KeyVersion, operation: &'static str) -> Result<&Arc<Version>> {
        let version = self.version(number).ok_or(Error::DecryptFailed)?;
        if version.state.processes() {
            Ok(version)
        } else {
            Err(self.state_forbids(version, operation))
        }
    }

    pub fn state_forbids(&self, version: &Version, operation: &'static str) -> Error {
        self.state_forbids_in(version, version.state, operation)
    }

    /// The same for a state that `version`, as it was read, does not show yet.
    pub fn state_forbids_in(&self, version: &Version, state: KeyState, operation: &'static str) -> Error {
        Error::StateForbids {
            key: self.name.clone(),
            version: version.number.number(),
            state,
            operation,
        }
    }
}

//! Attest: what the token reports of a key's versions, at birth and now, in the words of what may be claimed (`claims.rs`).

use std::sync::Arc;

use keyreeve_envelope::blob::WrappedKey;

use super::{
    Keys,
    claims::{self, MasterKeyFacts, VersionFacts},
};
use crate::{
    Result,
    audit::{Draft, Outcome},
    model::{Key, Suite, TokenAttributes, Version},
    policy::{Permit, Recorded, action},
    token::{HostStatus, Token},
};

/// What may be said of a key.
pub struct Attestation {
    pub key: Arc<Key>,
    pub versions: Vec<VersionAttestation>,
    /// The KEK that wraps the versions.
    pub master_key: TokenAttributes,
    pub master_key_claims: Vec<&'static str>,
    pub token: HostStatus,
}

/// What may be said of one version.
pub struct VersionAttestation {
    pub version: Arc<Version>,
    /// `None` for destroyed versions.
    pub in_use: Option<TokenAttributes>,
    /// Key check value, bound to key id and version; the token computed it again. `None` for destroyed versions.
    pub kcv: Option<[u8; 16]>,
    /// Suite 0001: uses reserved so far, of 2^32. `None` for other suites and destroyed versions.
    pub uses: Option<u64>,
    pub claims: Vec<&'static str>,
}

impl Keys {
    /// Works each version that still holds a key once in the token. Errors: those of the token.
    pub async fn attest_key(&self, permit: Permit<action::AttestKey>) -> Result<Recorded<Attestation>> {
        let key = permit.on().clone();
        let result = self.observe(&permit, &key).await;
        let recorded = permit.complete(result).await?;
        if let Ok(token) = self.tokens.of(&key.team.environment.name) {
            // What must not process is unwrapped for the observation only.
            for version in key.versions.iter().filter(|version| !version.state.processes()) {
                token.evict(&recorded, version).await;
            }
        }
        Ok(recorded)
    }

    async fn observe(&self, permit: &Permit<action::AttestKey>, key: &Arc<Key>) -> Result<Attestation> {
        let token = self.tokens.of(&key.team.environment.name)?;
        let host = token.representative();
        let master_key = token.master_key_attributes(permit).await?;
        let mut versions = Vec::with_capacity(key.versions.len());
        for version in &key.versions {
            let mut observed = observe_version(token, permit, key, version, host.software_token).await?;
            if version.suite == Suite::TokenGcm && version.state.holds_key() {
                observed.uses = Some(self.directory.use_counter(key.id, version.number).await?.reserved);
            }
            versions.push(observed);
        }
        Ok(Attestation {
            key: key.clone(),
            versions,
            master_key,
            master_key_claims: claims::of_master_key(&MasterKeyFacts {
                attributes: master_key,
                software_token: host.software_token,
            }),
            token: host,
        })
    }
}

async fn observe_version(
    token: &Token,
    permit: &Permit<action::AttestKey>,
    key: &Key,
    version: &Arc<Version>,
    software_token: bool,
) -> Result<VersionAttestation> {
    let in_use = match version.blob {
        Some(_) if version.state.holds_key() => Some(token.attributes(permit, version).await?),
        _ => None,
    };
    // The token checked it a moment ago: with the blob's tag, or in the object.
    let kcv = version.blob.as_ref().filter(|_| in_use.is_some()).and_then(|blob| {
        let wrapped = WrappedKey::parse(blob.bytes()).ok().map(|wrapped| wrapped.kcv());
        blob.token_object().map(|object| object.kcv).or(wrapped)
    });
    let claims = claims::of_version(&VersionFacts {
        at_birth: version.at_birth,
        suite: version.suite,
        residency: key.residency,
        iv_source: version.iv_source,
        in_use,
        destroyed: !version.state.holds_key(),
        removed: version.blob.is_none(),
        software_token,
    });
    Ok(VersionAttestation {
        version: version.clone(),
        in_use,
        kcv,
        uses: None,
        claims,
    })
}

impl Outcome for Attestation {
    fn describe(&self, draft: &mut Draft) {
        draft.key = Some((self.key.id, self.key.primary.number()));
        draft.items = u32::try_from(self.versions.len()).unwrap_or(u32::MAX);
    }
}

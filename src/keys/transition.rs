//! Suspend, resume, deactivate, compromise: one version from one state to another, with a reason and the time.
//!
//! Every transition is a compare-and-set on the version's row, in one transaction with its record. What may follow what: `model::KeyState`.

use std::sync::Arc;

use keyreeve_envelope::KeyVersion;

use super::{
    Keys, Reason, RequestId, record,
    repeat::{Fingerprint, Turn},
    with_versions,
};
use crate::{
    Error, Result,
    audit::{Draft, Outcome},
    clock::Timestamp,
    model::{Key, KeyName, Transition, Version},
    policy::{Changes, Permit, Recorded, action},
    store::Change,
};

/// A request to change the state of one version.
#[derive(Debug, Clone)]
pub struct ChangeState {
    pub key: KeyName,
    /// `None`: the primary version.
    pub version: Option<KeyVersion>,
    pub reason: Reason,
    pub request_id: RequestId,
}

/// A key as it is after a change.
pub struct Changed {
    pub key: Arc<Key>,
    pub(super) version: KeyVersion,
    /// What happened, for the record.
    pub(super) detail: String,
}

impl Keys {
    /// Active → Suspended. Errors: `StateForbids`, `NotFound` for the version, `Conflict`.
    pub async fn suspend_key(
        &self,
        permit: Permit<action::SuspendKey>,
        request: ChangeState,
    ) -> Result<Recorded<Changed>> {
        self.transition(permit, request, Transition::Suspend).await
    }

    /// Suspended → Active. Errors: as [`Self::suspend_key`].
    pub async fn resume_key(
        &self,
        permit: Permit<action::ResumeKey>,
        request: ChangeState,
    ) -> Result<Recorded<Changed>> {
        self.transition(permit, request, Transition::Resume).await
    }

    /// Active or Suspended → Deactivated. Errors: as [`Self::suspend_key`].
    pub async fn deactivate_key(
        &self,
        permit: Permit<action::DeactivateKey>,
        request: ChangeState,
    ) -> Result<Recorded<Changed>> {
        self.transition(permit, request, Transition::Deactivate).await
    }

    /// Any state that holds a key → Compromised, Destroyed → DestroyedCompromised; never undone. Errors: as [`Self::suspend_key`].
    pub async fn compromise_key(
        &self,
        permit: Permit<action::CompromiseKey>,
        request: ChangeState,
    ) -> Result<Recorded<Changed>> {
        self.transition(permit, request, Transition::Compromise).await
    }

    async fn transition<A: Changes<On = Arc<Key>>>(
        &self,
        permit: Permit<A>,
        request: ChangeState,
        transition: Transition,
    ) -> Result<Recorded<Changed>> {
        let before = permit.on().clone();
        let result = self.move_version(&permit, &request, transition).await;
        let recorded = record(permit, result).await?;
        self.evict_stopped(&before, &recorded).await;
        Ok(recorded)
    }

    async fn move_version<A: Changes<On = Arc<Key>>>(
        &self,
        permit: &Permit<A>,
        request: &ChangeState,
        transition: Transition,
    ) -> Result<(Changed, Option<Change>)> {
        let (key, now) = (permit.on(), self.now());
        let fingerprint = fingerprint(request.version, &request.reason);
        let turn = self.turn(permit, &request.request_id, key.name.as_str(), fingerprint, now);
        let remembered = match turn.await? {
            Turn::First(remembered) => remembered,
            Turn::Again => return Ok((Changed::nothing(key), None)),
        };
        let version = version_of(key, request.version)?;
        let next = moved(key, version, transition, request.reason.as_str(), now)?;
        let change = Change::new().update(&next).remember(remembered);
        let changed = Changed {
            version: version.number,
            detail: told(&[(version, &next)], &request.reason),
            key: Arc::new(with_versions(key, vec![next])),
        };
        Ok((changed, Some(change)))
    }

    /// Forgets the token's handles of versions that no longer process.
    pub(super) async fn evict_stopped(&self, before: &Key, changed: &Recorded<Changed>) {
        let Ok(token) = self.tokens.of(&before.team.environment.name) else {
            return;
        };
        for version in &before.versions {
            let now = changed.as_ref().key.version(version.number);
            if version.state.processes() && now.is_none_or(|now| !now.state.processes()) {
                token.evict(changed, version).await;
            }
        }
    }
}

impl Changed {
    /// The answer to a request that was done before.
    pub(super) fn nothing(key: &Arc<Key>) -> Self {
        Self {
            key: key.clone(),
            version: key.primary,
            detail: "answered again under its request id".to_owned(),
        }
    }
}

impl Outcome for Changed {
    fn describe(&self, draft: &mut Draft) {
        draft.key = Some((self.key.id, self.version.number()));
        draft.items = 1;
        draft.detail = Some(self.detail.clone());
    }
}

/// Version `number` of `key`, or the primary one. Errors: `NotFound`.
pub(super) fn version_of(key: &Key, number: Option<KeyVersion>) -> Result<&Arc<Version>> {
    let Some(number) = number else {
        return Ok(key.primary_version());
    };
    key.version(number)
        .ok_or_else(|| Error::NotFound(format!("{} version {number}", key.name)))
}

/// `version` after `transition`. Errors: `StateForbids`.
pub(super) fn moved(
    key: &Key,
    version: &Version,
    transition: Transition,
    reason: &str,
    now: Timestamp,
) -> Result<Version> {
    let state = version
        .state
        .after(transition, version.state_before)
        .ok_or_else(|| key.state_forbids(version, transition.verb()))?;
    Ok(Version {
        state,
        state_before: None,
        destroy_at: None,
        state_changed: now,
        state_reason: reason.to_owned(),
        ..version.clone()
    })
}

/// Both ends of each transition and the reason, as the record tells them.
pub(super) fn told(moves: &[(&Version, &Version)], reason: &Reason) -> String {
    let moves: Vec<String> = moves
        .iter()
        .map(|(from, to)| format!("version {}: {} to {}", from.number, from.state, to.state))
        .collect();
    let moves = moves.join(", ");
    match reason.as_str() {
        "" => moves,
        reason => format!("{moves}; reason: {reason}"),
    }
}

pub(super) fn fingerprint(version: Option<KeyVersion>, reason: &Reason) -> Fingerprint {
    Fingerprint::new()
        .with_number(version.map_or(0, KeyVersion::number))
        .with(reason.as_str())
}

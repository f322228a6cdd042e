//! Suspend, resume, deactivate, compromise: one version from one state to another, with a reason and the time.
//!
//! Every transition is a compare-and-set on the version's row, in one transaction with its record. What may follow what: `model::KeyState`.

use std::sync::Arc;

use keyreeve_envelope::{KeyId, KeyVersion};

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
    /// What happened, a record for each; none if this was done before.
    pub(super) moves: Vec<Move>,
}

/// One transition of one version, as its record tells it.
pub(super) struct Move {
    version: KeyVersion,
    told: String,
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
            moves: vec![Move::between(version, &next)],
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
            moves: Vec::new(),
        }
    }
}

impl Outcome for Changed {
    fn describe(&self, draft: &mut Draft) {
        draft.items = 1;
        let Some(first) = self.moves.first() else {
            draft.key = Some((self.key.id, self.key.primary.number()));
            draft.became = Some("answered=again".to_owned());
            return;
        };
        first.describe(self.key.id, draft);
    }

    /// Every transition has its record.
    fn further(&self, first: &Draft) -> Vec<Draft> {
        let record = |one: &Move| {
            let mut draft = first.clone();
            one.describe(self.key.id, &mut draft);
            draft
        };
        self.moves.iter().skip(1).map(record).collect()
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

impl Move {
    /// `from=ACTIVE to=SUSPENDED reason=…`. The reason, which may hold anything, is last; left out if there is none.
    pub(super) fn between(from: &Version, to: &Version) -> Self {
        let mut told = format!("from={} to={}", from.state, to.state);
        if let Some(due) = to.destroy_at {
            told.push_str(&format!(" due={}", due.rfc3339()));
        }
        Self::new(to.number, told, &to.state_reason)
    }

    /// The first state of a version that takes the place of another.
    pub(super) fn in_place_of(old: KeyVersion, new: &Version) -> Self {
        Self::new(new.number, format!("to={} replaces={old}", new.state), "")
    }

    /// A destroyed version's object left the token.
    pub(super) fn removal(of: &Version) -> Self {
        Self::new(of.number, "object=removed".to_owned(), "")
    }

    fn new(version: KeyVersion, mut told: String, reason: &str) -> Self {
        if !reason.is_empty() {
            told.push_str(" reason=");
            told.push_str(reason);
        }
        Self { version, told }
    }

    fn describe(&self, key: KeyId, draft: &mut Draft) {
        draft.key = Some((key, self.version.number()));
        draft.became = Some(self.told.clone());
    }
}

pub(super) fn fingerprint(version: Option<KeyVersion>, reason: &Reason) -> Fingerprint {
    Fingerprint::new()
        .with_number(version.map_or(0, KeyVersion::number))
        .with(reason.as_str())
}

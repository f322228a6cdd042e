//! Destruction is scheduled, waits 7 to 30 days, can be cancelled meanwhile, and is done by a job (`erase.rs`).

use std::sync::Arc;

use keyreeve_envelope::KeyVersion;

use super::{
    Keys, Reason, RequestId, record,
    repeat::Turn,
    transition::{Changed, Move, fingerprint, moved, version_of},
    with_versions,
};
use crate::{
    Error, Result,
    clock::Timestamp,
    model::{Key, KeyName, KeyState, Transition, Version},
    policy::{Permit, Recorded, action},
    store::Change,
};

const DEFAULT_WAIT_DAYS: u32 = 30;

/// A request to destroy a key or one version of it.
#[derive(Debug, Clone)]
pub struct DestroyKey {
    pub key: KeyName,
    /// `None`: the whole key.
    pub version: Option<KeyVersion>,
    wait_days: u32,
    pub reason: Reason,
    pub request_id: RequestId,
}

/// A request to cancel a scheduled destruction.
#[derive(Debug, Clone)]
pub struct CancelDestruction {
    pub key: KeyName,
    /// `None`: every version that is pending.
    pub version: Option<KeyVersion>,
    pub reason: Reason,
    pub request_id: RequestId,
}

impl DestroyKey {
    /// `wait_days`: 7 to 30; 0 for 30.
    pub fn new(
        key: KeyName,
        version: Option<KeyVersion>,
        wait_days: u32,
        reason: Reason,
        request_id: RequestId,
    ) -> Result<Self> {
        let wait_days = match wait_days {
            0 => DEFAULT_WAIT_DAYS,
            7..=30 => wait_days,
            other => {
                return Err(Error::invalid(
                    "wait_days",
                    format_args!("it is {other}: wait 7 to 30 days"),
                ));
            }
        };
        Ok(Self {
            key,
            version,
            wait_days,
            reason,
            request_id,
        })
    }
}

impl Keys {
    /// Schedules destruction; from this moment the versions neither protect nor process. An Active version is deactivated first, in the
    /// same change. Errors: `ApprovalRequired` in production environments; `StateForbids`, `NotFound` for the version, `Conflict`.
    pub async fn destroy_key(
        &self,
        permit: Permit<action::DestroyKey>,
        request: DestroyKey,
    ) -> Result<Recorded<Changed>> {
        let before = permit.on().clone();
        let result = self.schedule(&permit, &request).await;
        let recorded = record(permit, result).await?;
        self.evict_stopped(&before, &recorded).await;
        Ok(recorded)
    }

    /// Back to the state before. Errors: `StateForbids` if nothing is pending; `NotFound` for the version, `Conflict`.
    pub async fn cancel_key_destruction(
        &self,
        permit: Permit<action::CancelKeyDestruction>,
        request: CancelDestruction,
    ) -> Result<Recorded<Changed>> {
        let result = self.cancel(&permit, &request).await;
        record(permit, result).await
    }

    async fn schedule(
        &self,
        permit: &Permit<action::DestroyKey>,
        request: &DestroyKey,
    ) -> Result<(Changed, Option<Change>)> {
        let (key, now) = (permit.on(), self.now());
        if key.team.environment.production {
            return Err(Error::ApprovalRequired);
        }
        let fingerprint = fingerprint(request.version, &request.reason).with_number(request.wait_days);
        let turn = self.turn(permit, &request.request_id, key.name.as_str(), fingerprint, now);
        let remembered = match turn.await? {
            Turn::First(remembered) => remembered,
            Turn::Again => return Ok((Changed::nothing(key), None)),
        };
        let holds = |state: KeyState| state.holds_key() && state != KeyState::PendingDestruction;
        let versions = chosen(key, request.version, holds, Transition::ScheduleDestruction)?;
        let destroy_at = now.plus_days(request.wait_days);
        let (mut written, mut moves) = (Vec::new(), Vec::new());
        for version in versions {
            let (pending, way) = pending(key, version, &request.reason, destroy_at, now)?;
            written.push(pending);
            moves.extend(way);
        }
        let mut change = Change::new().remember(remembered);
        let mut key = Key::clone(key);
        if request.version.is_none() {
            // The key's row is written, too, so that a rotation at the same time cannot add a version that survives.
            change = change.update(&key);
            key.row_version += 1;
        }
        Ok(changed(&key, written, moves, change))
    }

    async fn cancel(
        &self,
        permit: &Permit<action::CancelKeyDestruction>,
        request: &CancelDestruction,
    ) -> Result<(Changed, Option<Change>)> {
        let (key, now) = (permit.on(), self.now());
        let fingerprint = fingerprint(request.version, &request.reason);
        let turn = self.turn(permit, &request.request_id, key.name.as_str(), fingerprint, now);
        let remembered = match turn.await? {
            Turn::First(remembered) => remembered,
            Turn::Again => return Ok((Changed::nothing(key), None)),
        };
        let is_pending = |state| state == KeyState::PendingDestruction;
        let versions = chosen(key, request.version, is_pending, Transition::CancelDestruction)?;
        let reason = request.reason.as_str();
        let written: Vec<Version> = versions
            .iter()
            .map(|version| moved(key, version, Transition::CancelDestruction, reason, now))
            .collect::<Result<_>>()?;
        let change = Change::new().remember(remembered);
        let moves = versions
            .iter()
            .zip(&written)
            .map(|(from, to)| Move::between(from, to))
            .collect();
        Ok(changed(key, written, moves, change))
    }
}

/// The version asked for, or all in a state that `fits`. Errors: `StateForbids` if there is none.
fn chosen(
    key: &Key,
    number: Option<KeyVersion>,
    fits: impl Fn(KeyState) -> bool,
    transition: Transition,
) -> Result<Vec<&Arc<Version>>> {
    if number.is_some() {
        return Ok(vec![version_of(key, number)?]);
    }
    let versions: Vec<_> = key.versions.iter().filter(|version| fits(version.state)).collect();
    if versions.is_empty() {
        return Err(key.state_forbids(key.primary_version(), transition.verb()));
    }
    Ok(versions)
}

/// `version`, pending destruction, and the way there. What was Active is deactivated first, and comes back from there as Deactivated.
fn pending(
    key: &Key,
    version: &Version,
    reason: &Reason,
    destroy_at: Timestamp,
    now: Timestamp,
) -> Result<(Version, Vec<Move>)> {
    let (schedule, reason) = (Transition::ScheduleDestruction, reason.as_str());
    let mut moves = Vec::new();
    let deactivated;
    let from = if version.state == KeyState::Active {
        deactivated = moved(key, version, Transition::Deactivate, reason, now)?;
        moves.push(Move::between(version, &deactivated));
        &deactivated
    } else {
        version
    };
    let pending = Version {
        state_before: Some(from.state),
        destroy_at: Some(destroy_at),
        ..moved(key, from, schedule, reason, now)?
    };
    moves.push(Move::between(from, &pending));
    Ok((pending, moves))
}

fn changed(key: &Key, written: Vec<Version>, moves: Vec<Move>, change: Change) -> (Changed, Option<Change>) {
    let change = written.iter().fold(change, |change, version| change.update(version));
    let changed = Changed {
        key: Arc::new(with_versions(key, written)),
        moves,
    };
    (changed, Some(change))
}

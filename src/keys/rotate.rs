//! Rotation: a new version, Active and primary; the old one is Deactivated: it decrypts, and encrypts no more.

use super::{
    Keys, RequestId,
    create::new_version,
    record,
    repeat::{Fingerprint, Turn},
    transition::{Changed, Move, moved},
    with_versions,
};
use crate::{
    Error, Result,
    clock::Timestamp,
    model::{Key, KeyName, KeyState, Transition, Version},
    policy::{Permit, Recorded, action},
    store::Change,
};
use std::sync::Arc;

/// Version numbers in a row that a rotation finds taken before it gives up.
const MOST_PASSED_OVER: u32 = 1_000;

/// A request to rotate.
#[derive(Debug, Clone)]
pub struct RotateKey {
    pub key: KeyName,
    pub request_id: RequestId,
}

impl Keys {
    /// Errors: `StateForbids` if the primary version is Suspended, pending destruction or destroyed: rotating would lift a suspension
    /// (a Deactivated version decrypts) or revive a key that is on its way out. `Conflict`; those of the token.
    pub async fn rotate_key(&self, permit: Permit<action::RotateKey>, request: RotateKey) -> Result<Recorded<Changed>> {
        let result = self.make_primary(&permit, &request).await;
        record(permit, result).await
    }

    async fn make_primary(
        &self,
        permit: &Permit<action::RotateKey>,
        request: &RotateKey,
    ) -> Result<(Changed, Option<Change>)> {
        let (key, now) = (permit.on(), self.now());
        let turn = self.turn(permit, &request.request_id, key.name.as_str(), Fingerprint::new(), now);
        let remembered = match turn.await? {
            Turn::First(remembered) => remembered,
            Turn::Again => return Ok((Changed::nothing(key), None)),
        };
        let old = may_rotate(key)?;
        let new = self.next_version(permit, old, now).await?;
        let number = new.number;

        let mut rotated = Key::clone(key);
        rotated.primary = number;
        let mut moves = vec![Move::in_place_of(old.number, &new)];
        // The key's row first: of two rotations at once, the later one conflicts; it does not "exist already".
        let mut change = self.adding(Change::new().update(&rotated), &new).remember(remembered);
        let mut written = vec![new];
        if old.state == KeyState::Active {
            let reason = format!("rotated to version {number}");
            let stopped = moved(key, old, Transition::Deactivate, &reason, now)?;
            moves.push(Move::between(old, &stopped));
            change = change.update(&stopped);
            written.push(stopped);
        }
        rotated.row_version += 1;
        let changed = Changed {
            key: Arc::new(with_versions(&rotated, written)),
            moves,
        };
        Ok((changed, Some(change)))
    }

    /// The version after the last one. Numbers that the token holds objects of are passed over: they were used in a time that a restored
    /// store does not know, or by an attempt that a crash ended.
    async fn next_version(&self, permit: &Permit<action::RotateKey>, old: &Version, now: Timestamp) -> Result<Version> {
        let key = permit.on();
        let token = self.tokens.of(&key.team.environment.name)?;
        let mut last = key.versions.last().map_or(old.number, |version| version.number);
        for _ in 0..MOST_PASSED_OVER {
            last = last
                .next()
                .ok_or_else(|| Error::invalid("name", "the key has no version number left"))?;
            let kind = (old.suite, key.residency);
            if let Some(new) = new_version(token, permit, (key.id, last), kind, now).await? {
                return Ok(new);
            }
        }
        Err(Error::Conflict(key.name.to_string()))
    }
}

fn may_rotate(key: &Key) -> Result<&Version> {
    let primary = key.primary_version();
    match primary.state {
        KeyState::Active | KeyState::Deactivated | KeyState::Compromised => Ok(primary),
        KeyState::PreActivation
        | KeyState::Suspended
        | KeyState::PendingDestruction
        | KeyState::Destroyed
        | KeyState::DestroyedCompromised => Err(key.state_forbids(primary, "be rotated")),
    }
}

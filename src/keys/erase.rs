//! The job that destroys versions whose waiting period has ended: deletes the wrapped key, or the token's object, for ever.
//!
//! The store writes the tombstone when it commits a destroyed version. What "destroyed" means until backups expire: `claims.rs`.

use std::sync::Arc;

use super::{
    Keys, record,
    transition::{Changed, Move, moved},
    with_versions,
};
use crate::{
    Result,
    clock::Timestamp,
    model::{Key, KeyName, KeyState, Transition, Version},
    policy::{Permit, Recorded, action},
    store::Change,
};

/// The name of the job, as the audit log shows it.
pub const ERASE_JOB: &str = "destroy-due-versions";

impl Keys {
    /// Keys with a version whose waiting period has ended, or whose object is to be removed; for each, the job asks for a permit and calls
    /// [`Self::erase_key`].
    pub async fn due_for_destruction(&self) -> Result<Vec<KeyName>> {
        self.directory.due_for_destruction(self.now()).await
    }

    /// Destroys the versions of the permit's key that are due; where none is, removes the objects of destroyed ones from their token. Both
    /// for a version that lives in a token, one after the other: what was cancelled at the last moment must not be gone.
    ///
    /// Errors: `StateForbids` if there is nothing to do, e.g. cancelled meanwhile; `Conflict`; those of the token.
    pub async fn erase_key(&self, permit: Permit<action::EraseKey>) -> Result<Recorded<Changed>> {
        let (before, now) = (permit.on().clone(), self.now());
        let result = if before.versions.iter().any(|version| is_due(version, now)) {
            erased(&before, now)
        } else {
            self.removed(&permit, &before).await
        };
        let recorded = record(permit, result.map(|(changed, change)| (changed, Some(change)))).await?;
        if let Ok(token) = self.tokens.of(&before.team.environment.name) {
            for version in before.versions.iter().filter(|version| is_due(version, now)) {
                token.evict(&recorded, version).await;
            }
        }
        Ok(recorded)
    }

    async fn removed(&self, permit: &Permit<action::EraseKey>, key: &Arc<Key>) -> Result<(Changed, Change)> {
        let token = self.tokens.of(&key.team.environment.name)?;
        let mut written = Vec::new();
        for version in key.versions.iter().filter(|version| is_unremoved(version)) {
            token.remove(permit, version).await?;
            written.push(Version {
                blob: None,
                ..Version::clone(version)
            });
        }
        if written.is_empty() {
            return Err(key.state_forbids(key.primary_version(), "be destroyed yet"));
        }
        let moves = written.iter().map(Move::removal).collect();
        Ok(changed(key, written, moves))
    }
}

fn erased(key: &Arc<Key>, now: Timestamp) -> Result<(Changed, Change)> {
    let due: Vec<&Arc<Version>> = key.versions.iter().filter(|version| is_due(version, now)).collect();
    let written: Vec<Version> = due
        .iter()
        .map(|version| {
            let destroyed = moved(key, version, Transition::Destroy, &version.state_reason, now)?;
            // What lives in a token is removed next, and named until then.
            let object = destroyed.blob.clone().filter(|blob| blob.token_object().is_some());
            Ok(Version {
                blob: object,
                ..destroyed
            })
        })
        .collect::<Result<_>>()?;
    let moves = due
        .iter()
        .zip(&written)
        .map(|(from, to)| Move::between(from, to))
        .collect();
    Ok(changed(key, written, moves))
}

fn changed(key: &Arc<Key>, written: Vec<Version>, moves: Vec<Move>) -> (Changed, Change) {
    let change = written
        .iter()
        .fold(Change::new(), |change, version| change.update(version));
    let changed = Changed {
        moves,
        key: Arc::new(with_versions(key, written)),
    };
    (changed, change)
}

impl Changed {
    /// Whether the object of a destroyed version is still to be removed.
    pub fn is_unfinished(&self) -> bool {
        self.key.versions.iter().any(|version| is_unremoved(version))
    }
}

/// Destroyed, and its object is still in the token.
fn is_unremoved(version: &Version) -> bool {
    !version.state.holds_key() && version.blob.is_some()
}

fn is_due(version: &Version, now: Timestamp) -> bool {
    version.state == KeyState::PendingDestruction && version.destroy_at.is_some_and(|at| at <= now)
}

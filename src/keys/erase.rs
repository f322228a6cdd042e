//! The job that destroys versions whose waiting period has ended: deletes the wrapped key, for ever.
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
    /// Keys with a version whose waiting period has ended; for each, the job asks for a permit and calls [`Self::erase_key`].
    pub async fn due_for_destruction(&self) -> Result<Vec<KeyName>> {
        self.directory.due_for_destruction(self.now()).await
    }

    /// Destroys the versions of the permit's key that are due. Errors: `StateForbids` if none is, e.g. cancelled meanwhile; `Conflict`.
    pub async fn erase_key(&self, permit: Permit<action::EraseKey>) -> Result<Recorded<Changed>> {
        let before = permit.on().clone();
        let result = erased(&before, self.now());
        let recorded = record(permit, result.map(|(changed, change)| (changed, Some(change)))).await?;
        if let Ok(token) = self.tokens.of(&before.team.environment.name) {
            for version in before.versions.iter().filter(|version| is_due(version, self.now())) {
                token.evict(&recorded, version).await;
            }
        }
        Ok(recorded)
    }
}

fn erased(key: &Arc<Key>, now: Timestamp) -> Result<(Changed, Change)> {
    let due: Vec<&Arc<Version>> = key.versions.iter().filter(|version| is_due(version, now)).collect();
    if due.is_empty() {
        return Err(key.state_forbids(key.primary_version(), "be destroyed yet"));
    }
    let written: Vec<Version> = due
        .iter()
        .map(|version| {
            let destroyed = moved(key, version, Transition::Destroy, &version.state_reason, now)?;
            Ok(Version {
                blob: None,
                ..destroyed
            })
        })
        .collect::<Result<_>>()?;
    let change = written
        .iter()
        .fold(Change::new(), |change, version| change.update(version));
    let moves = due
        .iter()
        .zip(&written)
        .map(|(from, to)| Move::between(from, to))
        .collect();
    let changed = Changed {
        moves,
        key: Arc::new(with_versions(key, written)),
    };
    Ok((changed, change))
}

fn is_due(version: &Version, now: Timestamp) -> bool {
    version.state == KeyState::PendingDestruction && version.destroy_at.is_some_and(|at| at <= now)
}

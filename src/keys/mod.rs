//! What can be done with environments, teams, keys and their versions: names, states, life cycle (NIST SP 800-57 part 1).
//!
//! Each operation takes a permit and returns a recorded answer; a change of the store goes with the record, in one transaction.
//! Not here: working data with a key (`operations`), the plain types (`model`), who may do what (`policy`).

mod attest;
mod claims;
mod create;
mod destroy;
mod environment;
mod erase;
mod page;
mod repeat;
mod rotate;
mod team;
mod text;
mod transition;
mod verify;
mod watch;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use aws_lc_rs::rand;
use keyreeve_envelope::{KeyId, subkey::SubkeyBytes};

pub use attest::{Attestation, VersionAttestation};
pub use create::CreateKey;
pub use destroy::{CancelDestruction, DestroyKey};
pub use environment::CreateEnvironment;
pub use erase::ERASE_JOB;
pub use page::{ListRequest, Listed};
pub use repeat::RequestId;
pub use rotate::RotateKey;
pub use team::CreateTeam;
pub use text::{Labels, Owner, Reason};
pub use transition::{ChangeState, Changed};
pub use verify::{Checked, VersionFault};
pub use watch::{Told, WatchRequest};

use crate::{
    Error, Result,
    audit::{Draft, Outcome},
    clock::{Clock, Timestamp},
    model::{Environment, Key, Suite, Team, UseCounter, Version},
    policy::{Changes, Permit, Recorded},
    store::{Change, Directory},
    token::Tokens,
};
use page::PageTokens;

/// Environments, teams and keys of this node.
pub struct Keys {
    tokens: Arc<Tokens>,
    directory: Directory,
    clock: Arc<dyn Clock>,
    pages: PageTokens,
    log_epoch: u64,
    key_ids: KeyIds,
}

/// Draws the id of a new key.
pub type KeyIds = fn() -> Result<KeyId>;

impl Keys {
    /// `page`: the service subkey `page.v1`. `log_epoch`: of the audit log in use; counters of uses begin in it.
    pub fn new(
        tokens: Arc<Tokens>,
        directory: Directory,
        clock: Arc<dyn Clock>,
        page: &SubkeyBytes,
        log_epoch: u64,
    ) -> Self {
        Self {
            tokens,
            directory,
            clock,
            pages: PageTokens::new(page.as_bytes()),
            log_epoch,
            key_ids: || new_id().map(KeyId::from_bytes),
        }
    }

    /// With other ids for new keys: for `server::InsecureDouble`.
    #[must_use]
    pub fn with_key_ids(self, key_ids: KeyIds) -> Self {
        Self { key_ids, ..self }
    }

    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Adds a new version to `change`, with the counter of its uses if its suite has them counted.
    fn adding(&self, change: Change, version: &Version) -> Change {
        let change = change.insert(version);
        match version.suite {
            Suite::PrfCommit => change,
            Suite::TokenGcm => change.insert(&UseCounter::new(version.key, version.number, self.log_epoch)),
        }
    }
}

/// Records an answer together with its change; an answer given before changes nothing.
async fn record<A: Changes, T: Outcome>(permit: Permit<A>, result: Result<(T, Option<Change>)>) -> Result<Recorded<T>> {
    match result {
        Ok((answer, Some(change))) => permit.complete_with(Ok((answer, change))).await,
        Ok((answer, None)) => permit.complete(Ok(answer)).await,
        Err(error) => permit.complete(Err(error)).await,
    }
}

/// Sixteen random bytes of a new id, in the form of a UUID of version 4.
fn new_id() -> Result<[u8; 16]> {
    let mut bytes = [0; 16];
    rand::fill(&mut bytes).map_err(Error::internal)?;
    Ok(uuid::Builder::from_random_bytes(bytes).into_uuid().into_bytes())
}

/// The key as it is once `changed` versions are committed. The store counts each written row one up.
fn with_versions(key: &Key, changed: Vec<Version>) -> Key {
    let mut key = key.clone();
    for mut version in changed {
        version.row_version += 1;
        match key.versions.binary_search_by_key(&version.number, |held| held.number) {
            Ok(at) => key.versions[at] = Arc::new(version),
            Err(at) => key.versions.insert(at, Arc::new(version)),
        }
    }
    key
}

impl Outcome for Arc<Environment> {
    fn describe(&self, draft: &mut Draft) {
        draft.object = self.name.as_str().into();
        draft.environment = Some(self.name.as_str().into());
        draft.items = 1;
    }
}

impl Outcome for Arc<Team> {
    fn describe(&self, draft: &mut Draft) {
        draft.object = self.name.as_str().into();
        draft.items = 1;
    }
}

impl Outcome for Arc<Key> {
    fn describe(&self, draft: &mut Draft) {
        draft.object = self.name.as_str().into();
        draft.key = Some((self.id, self.primary.number()));
        draft.items = 1;
    }
}

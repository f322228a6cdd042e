//! What operations see of a token: every call takes the permit as proof, and the key comes out of the permit.
//!
//! In scope: which token group an environment uses, whose turn a call is, what a token's error means to a caller.
//! Not in scope: queue, sessions, handles (the [`Host`]); work that is not a caller's ([`super::Root`]).

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use keyreeve_envelope::{KeyId, KeyVersion, prf_commit::MessageKeys};
use zeroize::{Zeroize, Zeroizing};

use super::{
    Answer, Call, EnvelopeInput, KeyUses, Lane, Members, TokenError,
    host::{HostStatus, MadeKey, Place},
    members::Worked,
    reserve::{BLOCK_LEN, Reserve},
};
use crate::{
    Error, Result,
    clock::{Clock, Timestamp},
    model::{Blob, EnvironmentName, Key, Residency, Suite, TokenAttributes, Use, Version},
    policy::{
        Action, ChecksKeys, MakesKey, Permit, Recorded, Resource, UsesKey,
        action::{EraseKey, GenerateRandom},
    },
    store::Directory,
};

/// How long a handle may take to be forgotten. Nobody's deadline: the change is committed by then.
const EVICT_WITHIN: Duration = Duration::from_secs(5);

/// The token group of each environment. Bound in the configuration file, never by a row (`SECURITY.md`).
pub struct Tokens {
    groups: Vec<Arc<Token>>,
    of_environment: HashMap<EnvironmentName, Arc<Token>>,
}

impl Tokens {
    /// Each group with the environments that use it.
    pub fn new(bound: impl IntoIterator<Item = (Arc<Token>, Vec<EnvironmentName>)>) -> Self {
        let (mut groups, mut of_environment) = (Vec::new(), HashMap::new());
        for (token, environments) in bound {
            of_environment.extend(environments.into_iter().map(|name| (name, token.clone())));
            groups.push(token);
        }
        Self { groups, of_environment }
    }

    /// The token group of `environment`. Errors: `EnvironmentUnbound`.
    pub fn of(&self, environment: &EnvironmentName) -> Result<&Token> {
        match self.of_environment.get(environment) {
            Some(token) => Ok(token),
            None => Err(Error::EnvironmentUnbound(environment.id().to_owned())),
        }
    }

    /// Every group, for status and metrics.
    pub fn groups(&self) -> &[Arc<Token>] {
        &self.groups
    }
}

/// One token group. All its members hold the same root keys.
pub struct Token {
    group: Arc<str>,
    members: Arc<Members>,
    reserve: Reserve,
    clock: Arc<dyn Clock>,
    directory: Directory,
}

impl Token {
    /// `clock`: the wall clock, against which jumps are seen. `directory`: knows what became of a version since a permit was given.
    pub fn new(group: &str, members: Arc<Members>, clock: Arc<dyn Clock>, directory: Directory) -> Self {
        Self {
            group: group.into(),
            members,
            reserve: Reserve::default(),
            clock,
            directory,
        }
    }

    pub fn group(&self) -> &Arc<str> {
        &self.group
    }

    /// Of each token of the group.
    pub fn status(&self) -> Vec<HostStatus> {
        self.members.status()
    }

    /// One token of the group, one that serves if there is any.
    pub fn representative(&self) -> HostStatus {
        let mut all = self.status();
        let serving = all.iter().position(|status| status.fault.is_none()).unwrap_or(0);
        all.swap_remove(serving)
    }

    /// Uses of each key since the last time, for who records them: of each token that is open, with its serial number.
    pub fn take_uses(&self) -> Vec<(Arc<str>, KeyUses)> {
        self.members.take_uses()
    }

    /// The message keys of `inputs` under `version`, which must be one of the permit's key; in order, worked as one job.
    ///
    /// Errors: `StateForbids` if a change meanwhile ended this use; `Tampered` if the stored key fails its tag; `KeyCeiling`,
    /// `Overloaded`, `DeadlineExceeded`, `TokenUnavailable`, `TokenRefuses`.
    pub async fn envelope_keys<A: UsesKey>(
        &self,
        permit: &Permit<A>,
        version: &Version,
        purpose: Use,
        inputs: Vec<EnvelopeInput>,
    ) -> Result<Vec<MessageKeys>> {
        let (blob, place) = (blob_of(permit, version)?, place_of(permit, version));
        let expected = inputs.len();
        let call = Call::EnvelopeKeys { blob, place, inputs };
        match self.work(permit, version, purpose, call).await? {
            Answer::EnvelopeKeys(keys) if keys.len() == expected => Ok(keys),
            _ => Err(wrong_answer("message keys of another number")),
        }
    }

    /// Runs `call`, which works `version`. Errors: as [`Self::envelope_keys`].
    pub(super) async fn work<A: UsesKey>(
        &self,
        permit: &Permit<A>,
        version: &Version,
        purpose: Use,
        call: Call,
    ) -> Result<Answer> {
        let answer = self.ask(permit, call).await;
        // The permit may be as old as the call's deadline is long, and most of that time is spent in the token's queue.
        if let Some(state) = self.directory.stopped(version, purpose) {
            if let (false, Some(blob)) = (state.processes(), &version.blob) {
                self.forget(*blob.sha256(), version).await; // the call may have unwrapped it again
            }
            return Err(permit.on().state_forbids_in(version, state, verb(purpose)));
        }
        answer.map_err(|error| refined(error, permit, version))
    }

    /// A new version key for `suite` in the permit's environment, wrapped or resident, and checked in use: where the group has several
    /// tokens, in another one than made it, so that no key is in use that the loss of one token would lose. `None`: the token holds an
    /// object of this key and version already, which is left alone: take another version.
    ///
    /// Errors: `TokenUnavailable` also if no second token can check it now; `TokenRefuses` for a token that lacks what the suite needs;
    /// `InvalidArgument` for a resident key in a group of several tokens.
    pub async fn make_version<A: MakesKey>(
        &self,
        permit: &Permit<A>,
        (key, version): (KeyId, KeyVersion),
        (suite, residency): (Suite, Residency),
        now: Timestamp,
    ) -> Result<Option<MadeKey>> {
        let environment = permit.on().environment().ok_or_else(|| misuse("no environment"))?.id;
        if residency == Residency::TokenResident && self.members.list().len() > 1 {
            let why = "the environment's group has several tokens, and such a key would live in one of them only: make a wrapped key";
            return Err(Error::invalid("residency", why));
        }
        let place = Place {
            environment,
            key,
            version,
        };
        let call = Call::MakeEnvelopeKey {
            place,
            suite,
            residency,
            created_ms: u64::try_from(now.unix_ms()).map_err(|_| misuse("a clock before 1970"))?,
        };
        let worked = self.worked(permit, call).await?;
        let made = match worked.answer {
            Answer::MadeEnvelopeKey(made) => made,
            Answer::Occupied => return Ok(None),
            _ => return Err(wrong_answer("not a made key")),
        };
        let check = Call::Check {
            blob: Arc::new(made.blob.clone()),
            place,
        };
        let caller = permit.caller();
        let second = self
            .members
            .run_elsewhere(&worked.serial, check, lane(permit), caller.facts().deadline);
        match second.await.transpose()?.map(|second| second.answer) {
            None | Some(Answer::Done) => Ok(Some(*made)),
            Some(_) => Err(wrong_answer("another answer than to the check")),
        }
    }

    /// What the token reports of `version` now; its key check value is recomputed.
    pub async fn attributes<A: UsesKey>(&self, permit: &Permit<A>, version: &Version) -> Result<TokenAttributes> {
        let blob = blob_of(permit, version)?;
        let place = place_of(permit, version);
        match self.ask(permit, Call::Attributes { blob, place }).await {
            Ok(Answer::Attributes(attributes)) => Ok(attributes),
            Ok(_) => Err(wrong_answer("not attributes")),
            Err(error) => Err(refined(error, permit, version)),
        }
    }

    /// What the token reports of the KEK that wraps the permit's key.
    pub async fn master_key_attributes<A: UsesKey>(&self, permit: &Permit<A>) -> Result<TokenAttributes> {
        match self.ask(permit, Call::MasterKeyAttributes).await? {
            Answer::Attributes(attributes) => Ok(attributes),
            _ => Err(wrong_answer("not attributes")),
        }
    }

    /// Has every token of the group unwrap `version` of `key`, which is one of the permit's team, and compute its key check value again.
    /// Each token with what it found.
    pub async fn check<A: ChecksKeys>(
        &self,
        permit: &Permit<A>,
        key: &Key,
        version: &Version,
    ) -> Result<Vec<(Arc<str>, Result<(), TokenError>)>> {
        if key.team.id != permit.on().id || version.key != key.id {
            return Err(misuse("a key of another team"));
        }
        let Some(blob) = version.blob.clone() else {
            return Err(misuse("a version without a key"));
        };
        let place = Place {
            environment: key.team.environment.id,
            key: key.id,
            version: version.number,
        };
        let deadline = permit.caller().facts().deadline;
        let found = self
            .members
            .run_on_all(&Call::Check { blob, place }, &lane(permit), deadline)
            .await;
        Ok(found
            .into_iter()
            .map(|(serial, outcome)| (serial, outcome.map(drop)))
            .chain(
                self.members
                    .absent()
                    .into_iter()
                    .map(|(serial, why)| (serial, Err(why))),
            )
            .collect())
    }

    /// `length` fresh random bytes of the token, at most 4,096.
    pub async fn random(&self, permit: &Permit<GenerateRandom>, length: usize) -> Result<Zeroizing<Vec<u8>>> {
        self.draw(permit, length).await
    }

    /// The token's half of `length` bytes of data-key material, from a block drawn ahead; no byte is given twice.
    ///
    /// The other half is the host's: neither generator alone decides a data key (`docs/formats.md`, section 3).
    pub async fn random_share<A: UsesKey>(&self, permit: &Permit<A>, length: usize) -> Result<Zeroizing<Vec<u8>>> {
        let mut share = Zeroizing::new(Vec::with_capacity(length));
        while share.len() < length {
            self.take_share(permit, (length - share.len()).min(BLOCK_LEN), &mut share)
                .await?;
        }
        Ok(share)
    }

    /// Removes the object of a destroyed version of the permit's key from the token, for ever; done if it is removed already.
    pub async fn remove(&self, permit: &Permit<EraseKey>, version: &Version) -> Result<()> {
        if version.key != permit.on().id || version.state.holds_key() {
            return Err(misuse("a version that is not destroyed, or of another key"));
        }
        let Some(blob) = version.blob.clone() else {
            return Ok(());
        };
        match self.ask(permit, Call::Remove { blob }).await? {
            Answer::Done => Ok(()),
            _ => Err(wrong_answer("not done")),
        }
    }

    /// Forgets the unwrapped handle of `version`. `_proof`: of the change that ended its use, which is committed before.
    ///
    /// A token that does not answer is no reason to fail the call: states are checked before a handle is used, and a new
    /// worker starts with no handles.
    pub async fn evict<T>(&self, _proof: &Recorded<T>, version: &Version) {
        if let Some(blob) = &version.blob {
            self.forget(*blob.sha256(), version).await;
        }
    }

    async fn forget(&self, blob: [u8; 32], version: &Version) {
        let call = Call::Evict { blob };
        let told = self
            .members
            .run_on_all(&call, &Lane::OWN, Instant::now() + EVICT_WITHIN);
        for (serial, outcome) in told.await {
            if let Err(error) = outcome {
                let key_version = version.number.number();
                tracing::warn!(serial = &*serial, key_id = %version.key, key_version, %error, "handle not evicted");
            }
        }
    }

    /// The error for an answer that proved wrong in use; the token is latched for it (E13), since nobody can say what else is wrong.
    pub fn gave_wrong_answer<A: UsesKey>(&self, _permit: &Permit<A>, why: &str) -> Error {
        Error::TokenUnavailable(self.members.distrust(why))
    }

    async fn take_share<A: UsesKey>(
        &self,
        permit: &Permit<A>,
        length: usize,
        share: &mut Zeroizing<Vec<u8>>,
    ) -> Result<()> {
        if self.reserve.take(length, self.clock.now(), Instant::now(), share) {
            return Ok(());
        }
        // One draws, the others wait and share what he drew.
        let _refilling = self.reserve.refilling().await;
        if self.reserve.take(length, self.clock.now(), Instant::now(), share) {
            return Ok(());
        }
        // Read before the draw: a clone or a stop while it is under way ages the block, too.
        let (wall, now) = (self.clock.now(), Instant::now());
        let mut block = self.draw(permit, BLOCK_LEN).await?;
        let left = block.len() - length;
        share.extend_from_slice(&block[left..]);
        block[left..].zeroize();
        block.truncate(left);
        self.reserve.put(block, wall, now);
        Ok(())
    }

    async fn draw<A: Action>(&self, permit: &Permit<A>, length: usize) -> Result<Zeroizing<Vec<u8>>> {
        match self.ask(permit, Call::Random { length }).await? {
            Answer::Random(bytes) if bytes.len() == length => Ok(bytes),
            _ => Err(wrong_answer("random bytes of another number")),
        }
    }

    async fn ask<A: Action>(&self, permit: &Permit<A>, call: Call) -> Result<Answer, TokenError> {
        Ok(self.worked(permit, call).await?.answer)
    }

    async fn worked<A: Action>(&self, permit: &Permit<A>, call: Call) -> Result<Worked, TokenError> {
        let caller = permit.caller();
        let worked = self.members.run(call, lane(permit), caller.facts().deadline).await?;
        permit.worked_by(&worked.serial, worked.worker_epoch);
        Ok(worked)
    }
}

impl From<TokenError> for Error {
    fn from(error: TokenError) -> Self {
        match error {
            TokenError::Overloaded { retry_after } => Self::Overloaded { retry_after },
            TokenError::KeyCeiling { retry_after } => Self::KeyCeiling { retry_after },
            TokenError::Expired => Self::DeadlineExceeded,
            TokenError::Unavailable(_) | TokenError::WrongAnswer(_) => Self::TokenUnavailable(error),
            TokenError::Refused(_) => Self::TokenRefuses(error),
            TokenError::BlobTag => Self::Tampered {
                object: "a wrapped key".to_owned(),
            },
        }
    }
}

/// For errors: "may not …".
const fn verb(purpose: Use) -> &'static str {
    match purpose {
        Use::Protect => "encrypt",
        Use::Process => "decrypt",
    }
}

/// Names the version in the error of a stored key that failed its tag.
fn refined<A: UsesKey>(error: TokenError, permit: &Permit<A>, version: &Version) -> Error {
    match error {
        TokenError::BlobTag => tampered(permit, version),
        other => other.into(),
    }
}

fn tampered<A: UsesKey>(permit: &Permit<A>, version: &Version) -> Error {
    Error::Tampered {
        object: format!("{} version {}", permit.on().name, version.number),
    }
}

/// The wrapped key of `version`, if it is one of the permit's key.
pub(super) fn blob_of<A: UsesKey>(permit: &Permit<A>, version: &Version) -> Result<Arc<Blob>> {
    if version.key != permit.on().id {
        return Err(misuse("a version of another key"));
    }
    version.blob.clone().ok_or_else(|| tampered(permit, version))
}

/// What the tag of that wrapped key must say.
pub(super) fn place_of<A: UsesKey>(permit: &Permit<A>, version: &Version) -> Place {
    let key = permit.on();
    Place {
        environment: key.team.environment.id,
        key: key.id,
        version: version.number,
    }
}

/// Fair between callers, not between their connections; and what a caller does in one environment waits for none of his others.
fn lane<A: Action>(permit: &Permit<A>) -> Lane {
    let environment = permit.on().environment().map(|environment| &environment.name);
    Lane::of(environment, &permit.caller().identity().actor.id)
}

pub(super) fn wrong_answer(what: &str) -> Error {
    Error::TokenUnavailable(TokenError::WrongAnswer(what.into()))
}

/// A call that the code of this service must not make.
#[derive(Debug, thiserror::Error)]
#[error("the permit does not cover this call to the token: {0}")]
struct Misuse(&'static str);

pub(super) fn misuse(what: &'static str) -> Error {
    Error::internal(Misuse(what))
}

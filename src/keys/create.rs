//! Create and get keys. A new key has one version, made in the token of its environment, Active and primary.

use std::sync::Arc;

use keyreeve_envelope::{KeyId, KeyVersion};

use super::{
    Keys, Labels, Owner, RequestId, record,
    repeat::{Fingerprint, Turn},
};
use crate::{
    Error, Result,
    clock::Timestamp,
    model::{Key, KeyName, KeyState, Purpose, Residency, Suite, Version},
    policy::{MakesKey, Permit, Recorded, action},
    store::Change,
    token::Token,
};

/// A request for a key. The permit is on its team.
#[derive(Debug, Clone)]
pub struct CreateKey {
    pub name: KeyName,
    pub purpose: Purpose,
    pub residency: Residency,
    pub suite: Suite,
    pub owner: Owner,
    pub labels: Labels,
    pub request_id: RequestId,
}

impl Keys {
    /// Makes a key and its version 1. Errors: `AlreadyExists`; `InvalidArgument` if the name is not in the permit's team; those of the token.
    pub async fn create_key(
        &self,
        permit: Permit<action::CreateKey>,
        request: CreateKey,
    ) -> Result<Recorded<Arc<Key>>> {
        let result = self.make_key(&permit, &request).await;
        record(permit, result).await
    }

    pub async fn key(&self, permit: Permit<action::ReadKey>) -> Result<Recorded<Arc<Key>>> {
        let found = permit.on().clone();
        permit.complete(Ok(found)).await
    }

    async fn make_key(
        &self,
        permit: &Permit<action::CreateKey>,
        request: &CreateKey,
    ) -> Result<(Arc<Key>, Option<Change>)> {
        let (name, now) = (&request.name, self.now());
        let team = permit.on();
        if name.team() != team.name {
            return Err(Error::invalid(
                "parent",
                format_args!("`{name}` is not in `{}`", team.name),
            ));
        }
        let turn = self.turn(permit, &request.request_id, name.as_str(), request.fingerprint(), now);
        let turn = turn.await?;
        let found = self.directory.key(name).await?;
        let remembered = match (turn, found) {
            (Turn::Again, Some(found)) => return Ok((found, None)),
            (Turn::Again, None) => return Err(Error::NotFound(name.to_string())),
            (Turn::First(_), Some(_)) => return Err(Error::AlreadyExists(name.to_string())),
            (Turn::First(remembered), None) => remembered,
        };
        let id = (self.key_ids)()?;
        let token = self.tokens.of(&team.environment.name)?;
        let kind = (request.suite, request.residency);
        let version = new_version(token, permit, (id, KeyVersion::FIRST), kind, now).await?;
        // The id is fresh: an object with it is one that a first attempt of this very call made in a worker that died.
        let mut version = version.ok_or_else(|| Error::Conflict(name.to_string()))?;
        let owner = request.owner.as_str().unwrap_or(&permit.caller().identity().actor.id);
        let mut key = Key {
            id,
            name: name.clone(),
            team: team.clone(),
            purpose: request.purpose,
            residency: request.residency,
            owner: owner.to_owned(),
            labels: request.labels.as_map().clone(),
            primary: version.number,
            versions: Vec::new(),
            created: now,
            row_version: 0,
        };
        let change = self.adding(Change::new().insert(&key), &version).remember(remembered);
        version.row_version = 1;
        key.row_version = 1;
        key.versions.push(Arc::new(version));
        Ok((Arc::new(key), Some(change)))
    }
}

impl CreateKey {
    fn fingerprint(&self) -> Fingerprint {
        let labels = self.labels.as_map();
        let start = Fingerprint::new()
            .with(self.owner.as_str().unwrap_or_default())
            .with_number(self.purpose as u32)
            .with_number(self.residency as u32)
            .with_number(self.suite.number().into())
            .with_number(u32::try_from(labels.len()).unwrap_or(u32::MAX));
        let labels = labels.iter();
        labels.fold(start, |all, (key, value)| all.with(key).with(value))
    }
}

/// An Active version that is not stored yet; `None` if the token holds an object of this number.
pub(super) async fn new_version<A: MakesKey>(
    token: &Token,
    permit: &Permit<A>,
    (key, number): (KeyId, KeyVersion),
    (suite, residency): (Suite, Residency),
    now: Timestamp,
) -> Result<Option<Version>> {
    let made = token
        .make_version(permit, (key, number), (suite, residency), now)
        .await?;
    Ok(made.map(|made| Version {
        key,
        number,
        suite,
        iv_source: made.iv_source,
        state: KeyState::Active,
        state_before: None,
        state_changed: now,
        state_reason: String::new(),
        destroy_at: None,
        blob: Some(Arc::new(made.blob)),
        at_birth: made.at_birth,
        created: now,
        row_version: 0,
    }))
}

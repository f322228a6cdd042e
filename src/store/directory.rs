//! Reads: the hot rows from memory, verified when loaded.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use tokio::sync::watch;

use super::{
    Applied, LogEpoch, Remembered, StoreError,
    backend::{ChangedKeys, Names},
    hot::Hot,
    rows,
};
use crate::{
    Result,
    clock::Timestamp,
    model::{
        Environment, EnvironmentName, Key, KeyId, KeyName, KeyState, KeyVersion, ROTATE_AT, Team, TeamName, Use,
        UseCounter, Version,
    },
};

/// Keys that one round of the destruction job is given.
const DUE: u32 = 1_000;
/// Changes that are looked at together.
const CHANGES: u32 = 1_000;
/// Caches obey a change within 1 s (`docs/formats.md`, section 12); this leaves time for the answer.
const GRACE: Duration = Duration::from_millis(500);

/// What everyone may read. Cheap to clone.
#[derive(Clone)]
pub struct Directory {
    hot: Arc<Hot>,
}

/// One page of a list: what follows `after` in order of name. One that is deleted while the page is read is left out.
pub struct Page<T> {
    pub items: Vec<T>,
    pub more: bool,
}

/// Names of keys that were changed, each once, up to a place in the chain.
pub struct ChangedSince {
    pub keys: BTreeSet<KeyName>,
    pub through: Applied,
    /// The chain goes on from there.
    pub more: bool,
}

impl Directory {
    pub(super) fn new(hot: Arc<Hot>) -> Self {
        Self { hot }
    }

    pub async fn environment(&self, name: &EnvironmentName) -> Result<Option<Arc<Environment>>> {
        Ok(self.hot.environment(name).await?)
    }

    pub async fn team(&self, name: &TeamName) -> Result<Option<Arc<Team>>> {
        Ok(self.hot.team(name).await?)
    }

    /// From memory when it is there; loads it once however many ask.
    pub async fn key(&self, name: &KeyName) -> Result<Option<Arc<Key>>> {
        Ok(self.hot.key(name).await?)
    }

    /// From memory only: one hash lookup, no allocation, no wait. `None` says nothing about the store.
    pub fn key_cached(&self, name: &KeyName) -> Option<Arc<Key>> {
        self.hot.key_cached(name)
    }

    pub async fn environments(&self, after: Option<&EnvironmentName>, limit: usize) -> Result<Page<Arc<Environment>>> {
        let after = after.map_or("", EnvironmentName::as_str);
        let (names, more) = self.names(Names::Environments, after, limit).await?;
        let mut items = Vec::with_capacity(names.len());
        for name in &names {
            items.extend(self.environment(&parsed(name)?).await?);
        }
        Ok(Page { items, more })
    }

    pub async fn teams(&self, of: &Environment, after: Option<&TeamName>, limit: usize) -> Result<Page<Arc<Team>>> {
        let after = after.map_or("", TeamName::as_str);
        let (names, more) = self.names(Names::TeamsOf(of.id.as_bytes()), after, limit).await?;
        let mut items = Vec::with_capacity(names.len());
        for name in &names {
            items.extend(self.team(&parsed(name)?).await?);
        }
        Ok(Page { items, more })
    }

    pub async fn keys(&self, of: &Team, after: Option<&KeyName>, limit: usize) -> Result<Page<Arc<Key>>> {
        let after = after.map_or("", KeyName::as_str);
        let (names, more) = self.names(Names::KeysOf(of.id.as_bytes()), after, limit).await?;
        let mut items = Vec::with_capacity(names.len());
        for name in &names {
            items.extend(self.key(&parsed(name)?).await?);
        }
        Ok(Page { items, more })
    }

    /// Told after each commit, of whatever.
    pub fn commits(&self) -> watch::Receiver<()> {
        self.hot.commits.subscribe()
    }

    /// Where the chain of changes ends.
    pub async fn head(&self) -> Result<Applied> {
        let found = self.hot.reader.keys_changed(0, 0).await?;
        found.head.map_or(Ok(Applied::NONE), applied)
    }

    /// Errors: `PositionUnknown` if the chain does not lead through `place`.
    pub async fn check_place(&self, place: &Applied) -> Result<()> {
        self.entries_after(place, 0).await.map(drop)
    }

    /// Keys that were changed after a place in the chain. Errors: `PositionUnknown` if the chain does not lead through it.
    pub async fn changed_since(&self, place: &Applied) -> Result<ChangedSince> {
        let found = self.entries_after(place, CHANGES).await?;
        let keys = found.entries.iter().map(|(.., name)| parsed(name));
        let keys = keys.collect::<Result<BTreeSet<_>>>()?;
        let more = found.entries.len() == CHANGES as usize;
        let last = found.entries.into_iter().next_back().map(|(seq, link, _)| (seq, link));
        let through = if more { last } else { found.head };
        let through = through.map_or(Ok(Applied::NONE), applied)?;
        Ok(ChangedSince { keys, through, more })
    }

    async fn entries_after(&self, place: &Applied, limit: u32) -> Result<ChangedKeys> {
        let found = self.hot.reader.keys_changed(place.seq, limit).await?;
        let is_known = match &found.from {
            Some(link) => link[..] == place.link,
            None => *place == Applied::NONE,
        };
        match is_known {
            true => Ok(found),
            false => Err(crate::Error::PositionUnknown),
        }
    }

    /// Names of keys with a version whose waiting period has ended; the first 1,000.
    pub async fn due_for_destruction(&self, now: Timestamp) -> Result<Vec<KeyName>> {
        let names = self.hot.reader.due_for_destruction(now.unix_ms(), DUE).await?;
        names.iter().map(|name| parsed(name)).collect()
    }

    /// The state that ended this use of `version` after it was read; `None` while it may go on.
    ///
    /// States that stop everything are obeyed at once. A version that only protects no more, as after a rotation, gets [`GRACE`], so
    /// that calls under way do not fail for it.
    pub fn stopped(&self, version: &Version, purpose: Use) -> Option<KeyState> {
        let moved = self
            .hot
            .moved_since(&(version.key, version.number), version.row_version)?;
        let goes_on = match purpose {
            Use::Process => moved.state.processes(),
            Use::Protect => moved.state.protects() || (moved.state.processes() && moved.at.elapsed() < GRACE),
        };
        (!goes_on).then_some(moved.state)
    }

    /// Whether this version was destroyed, by what store and tombstone file know. Its blob is never unwrapped again.
    pub fn is_destroyed(&self, key: KeyId, version: KeyVersion) -> bool {
        self.hot.is_destroyed(&(key, version))
    }

    /// How many uses of a version of suite 0001 are reserved; read anew each time. Errors: `Tampered` also if its counter is missing.
    pub async fn use_counter(&self, key: KeyId, number: KeyVersion) -> Result<UseCounter> {
        let found = self.hot.reader.use_counter(*key.as_bytes(), number.number()).await?;
        let found =
            found.ok_or_else(|| StoreError::tampered(format!("use_counters {key}/{number}"), "it is missing"))?;
        self.hot.check(&"use_counters", &found)?;
        Ok(rows::use_counter(&found.row)?)
    }

    /// Number of Active versions of suite 0001 that should be rotated, or must be; as the database says, not verified.
    pub async fn due_for_rotation(&self, log_epoch: u64) -> Result<u64> {
        Ok(self.hot.reader.due_for_rotation(ROTATE_AT, log_epoch).await?)
    }

    /// What was answered under this caller's request id, if it has not expired.
    pub async fn remembered(
        &self,
        caller: &str,
        method: &'static str,
        request_id: &str,
        now: Timestamp,
    ) -> Result<Option<Remembered>> {
        let remembered = self.hot.reader.remembered(caller, method, request_id, now.unix_ms());
        Ok(remembered.await?)
    }

    /// Numbers of environments and keys, for the status.
    pub async fn counts(&self) -> Result<(u64, u64)> {
        Ok(self.hot.reader.counts().await?)
    }

    /// The epochs of a node's audit log, in order; the last one is in use.
    pub async fn log_epochs(&self, node: &str) -> Result<Vec<LogEpoch>> {
        let found = self.hot.reader.log_epochs(node).await?;
        let epochs = found.iter().map(|epoch| {
            self.hot.check(&"log_epochs", epoch)?;
            Ok(rows::log_epoch(&epoch.row)?)
        });
        epochs.collect()
    }

    /// One name more than `limit`, which tells whether there are more.
    async fn names(&self, of: Names<'_>, after: &str, limit: usize) -> Result<(Vec<String>, bool)> {
        let one_more = u32::try_from(limit).unwrap_or(u32::MAX).saturating_add(1);
        let mut names = self.hot.reader.names(of, after, one_more).await?;
        let more = names.len() > limit;
        names.truncate(limit);
        Ok((names, more))
    }
}

fn applied((seq, link): (u64, Vec<u8>)) -> Result<Applied> {
    let link = link.try_into();
    let link = link.map_err(|_| StoreError::tampered(format!("change {seq}"), "its link has another length"))?;
    Ok(Applied { seq, link })
}

/// A name as the database gives it, before its row was verified.
fn parsed<N: std::str::FromStr>(name: &str) -> Result<N> {
    name.parse().map_err(|_| crate::Error::Tampered {
        object: name.escape_default().take(80).collect(),
    })
}

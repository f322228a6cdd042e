//! The hot rows in memory: verified when loaded, loaded once however many ask, and never older than the last commit.

use std::{
    collections::{HashMap, HashSet},
    hash::{BuildHasher, Hash, RandomState},
    sync::{Arc, PoisonError, RwLock},
    time::Instant,
};

use moka::sync::Cache;
use tokio::sync::{Mutex, MutexGuard, watch};

use super::{
    RowKey, StoreError, Table,
    backend::{Answer, Found, FoundKey, Reader},
    rows,
    tombstones::VersionId,
    verify,
};
use crate::model::{Environment, EnvironmentName, Key, KeyName, KeyState, Team, TeamName};

/// Environments and teams are few and small.
const CACHED_SCOPES: u64 = 100_000;
/// Loads that a commit overtook before the value is given out without being kept.
const TRIES: u32 = 8;

pub struct Hot {
    pub reader: Box<dyn Reader>,
    pub row_key: Arc<RowKey>,
    environments: Cache<EnvironmentName, Arc<Environment>>,
    teams: Cache<TeamName, Arc<Team>>,
    keys: Cache<KeyName, Arc<Key>>,
    /// Counts commits. A loader keeps what it read only if no commit came between.
    generation: RwLock<u64>,
    /// Told after each commit.
    pub commits: watch::Sender<()>,
    loading: [Gates; 3],
    destroyed: RwLock<HashSet<VersionId>>,
    /// Versions that were changed since the start, as they are now. About 60 bytes each.
    moved: RwLock<HashMap<VersionId, Moved>>,
}

/// What a commit made of a version.
#[derive(Debug, Clone, Copy)]
pub struct Moved {
    pub row_version: u64,
    pub state: KeyState,
    pub at: Instant,
}

/// What a commit made stale.
#[derive(Default)]
pub struct Stale {
    pub keys: Vec<KeyName>,
    /// An environment or a team was changed: keys share them.
    pub everything: bool,
    pub destroyed: Vec<VersionId>,
    pub moved: Vec<(VersionId, Moved)>,
}

impl Hot {
    pub fn new(reader: Box<dyn Reader>, row_key: Arc<RowKey>, cached_keys: u64, destroyed: HashSet<VersionId>) -> Self {
        Self {
            reader,
            row_key,
            environments: Cache::new(CACHED_SCOPES),
            teams: Cache::new(CACHED_SCOPES),
            keys: Cache::new(cached_keys),
            generation: RwLock::new(0),
            commits: watch::Sender::new(()),
            loading: std::array::from_fn(|_| Gates::default()),
            destroyed: RwLock::new(destroyed),
            moved: RwLock::default(),
        }
    }

    /// One hash lookup, no allocation, no wait.
    pub fn key_cached(&self, name: &KeyName) -> Option<Arc<Key>> {
        self.keys.get(name)
    }

    pub async fn environment(&self, name: &EnvironmentName) -> Result<Option<Arc<Environment>>, StoreError> {
        if let Some(environment) = self.environments.get(name) {
            return Ok(Some(environment));
        }
        let _gate = self.loading[0].pass(name).await;
        self.load(&self.environments, name, || {
            Box::pin(async {
                let Some(found) = self.reader.named(Table::Environments, name.as_str()).await? else {
                    return Ok(None);
                };
                self.check(name, &found)?;
                let environment = rows::environment(&found.row)?;
                Ok(Some((environment.name.clone(), Arc::new(environment))))
            })
        })
        .await
    }

    pub async fn team(&self, name: &TeamName) -> Result<Option<Arc<Team>>, StoreError> {
        if let Some(team) = self.teams.get(name) {
            return Ok(Some(team));
        }
        let _gate = self.loading[1].pass(name).await;
        self.load(&self.teams, name, || {
            Box::pin(async {
                let Some(found) = self.reader.named(Table::Teams, name.as_str()).await? else {
                    return Ok(None);
                };
                self.check(name, &found)?;
                let environment = self.environment(&name.environment()).await?;
                let environment = environment.ok_or_else(|| tampered(name, "its environment is missing"))?;
                let team = rows::team(&found.row, &environment)?;
                Ok(Some((team.name.clone(), Arc::new(team))))
            })
        })
        .await
    }

    pub async fn key(&self, name: &KeyName) -> Result<Option<Arc<Key>>, StoreError> {
        if let Some(key) = self.keys.get(name) {
            return Ok(Some(key));
        }
        let _gate = self.loading[2].pass(name).await;
        self.load(&self.keys, name, || {
            Box::pin(async {
                let Some(found) = self.reader.key(name.as_str()).await? else {
                    return Ok(None);
                };
                let key = self.verified_key(name, &found).await?;
                Ok(Some((key.name.clone(), Arc::new(key))))
            })
        })
        .await
    }

    /// Called between a commit and its answer.
    pub fn obey(&self, stale: &Stale) {
        if !stale.moved.is_empty() {
            let mut moved = self.moved.write().unwrap_or_else(PoisonError::into_inner);
            moved.extend(stale.moved.iter().copied());
        }
        if !stale.destroyed.is_empty() {
            let mut destroyed = self.destroyed.write().unwrap_or_else(PoisonError::into_inner);
            destroyed.extend(&stale.destroyed);
        }
        let mut generation = self.generation.write().unwrap_or_else(PoisonError::into_inner);
        *generation += 1;
        for key in &stale.keys {
            self.keys.invalidate(key);
        }
        if stale.everything {
            self.environments.invalidate_all();
            self.teams.invalidate_all();
            self.keys.invalidate_all();
        }
        drop(generation);
        self.commits.send_replace(());
    }

    /// What became of a version since `row_version` was read; `None`: nothing.
    pub fn moved_since(&self, version: &VersionId, row_version: u64) -> Option<Moved> {
        let moved = self.moved.read().unwrap_or_else(PoisonError::into_inner);
        moved
            .get(version)
            .filter(|moved| moved.row_version > row_version)
            .copied()
    }

    pub fn is_destroyed(&self, version: &VersionId) -> bool {
        let destroyed = self.destroyed.read().unwrap_or_else(PoisonError::into_inner);
        destroyed.contains(version)
    }

    /// Checks a row that was found under `name`.
    pub fn check(&self, name: &impl ToString, found: &Found) -> Result<(), StoreError> {
        verify::check(&self.row_key, &found.row, found.last.as_ref()).map_err(|problem| tampered(name, problem))
    }

    /// Loads under `name`, and keeps what was read unless a commit came between.
    async fn load<'a, N, T>(
        &'a self,
        cache: &'a Cache<N, Arc<T>>,
        name: &'a N,
        read: impl Fn() -> Answer<'a, Option<(N, Arc<T>)>>,
    ) -> Result<Option<Arc<T>>, StoreError>
    where
        N: Hash + Eq + ToString + Send + Sync + 'static,
        T: Send + Sync + 'static,
    {
        let mut tries = 0;
        loop {
            // Someone may have loaded it while this one waited at the gate.
            if let Some(value) = cache.get(name) {
                return Ok(Some(value));
            }
            let before = *self.generation.read().unwrap_or_else(PoisonError::into_inner);
            let Some((found_name, value)) = read().await? else {
                return Ok(None);
            };
            if found_name != *name {
                return Err(tampered(name, "it is found under another name than its own"));
            }
            tries += 1;
            let generation = self.generation.read().unwrap_or_else(PoisonError::into_inner);
            if *generation == before {
                cache.insert(found_name, value.clone());
                return Ok(Some(value));
            }
            if tries == TRIES {
                return Ok(Some(value));
            }
        }
    }

    async fn verified_key(&self, name: &KeyName, found: &FoundKey) -> Result<Key, StoreError> {
        self.check(name, &found.key)?;
        let team = self.team(&name.team()).await?;
        let team = team.ok_or_else(|| tampered(name, "its team is missing"))?;
        let mut versions = Vec::with_capacity(found.versions.len());
        let mut entries = found.last.iter();
        for row in &found.versions {
            // Both are in order of primary key; an entry without a row is a version that someone took away.
            let last = entries.next();
            if last.is_none_or(|last| last.primary_key != row.primary_key) {
                return Err(tampered(name, "its versions are not those of the chain of changes"));
            }
            verify::check(&self.row_key, row, last).map_err(|problem| tampered(name, problem))?;
            let mut version = rows::version(row)?;
            let is_to_be_removed =
                version.blob.as_ref().is_some_and(|blob| blob.token_object().is_some()) && !version.state.holds_key();
            let destroyed = self.is_destroyed(&(version.key, version.number));
            if version.blob.is_some() && destroyed && !is_to_be_removed {
                tracing::error!(key = %name, version = %version.number, "a destroyed version has a blob again: it is not used");
                version.blob = None;
            }
            versions.push(Arc::new(version));
        }
        if entries.next().is_some() {
            return Err(tampered(name, "a version of it is missing"));
        }
        rows::key(&found.key.row, &team, versions)
    }
}

fn tampered(name: &impl ToString, problem: &'static str) -> StoreError {
    StoreError::tampered(name.to_string(), problem)
}

/// Lets one loader of a name pass at a time. Names share gates; a kind's gate is taken before those of the kinds above it.
struct Gates {
    hash: RandomState,
    gates: [Mutex<()>; 64],
}

impl Default for Gates {
    fn default() -> Self {
        Self {
            hash: RandomState::new(),
            gates: std::array::from_fn(|_| Mutex::new(())),
        }
    }
}

impl Gates {
    async fn pass(&self, name: &impl Hash) -> MutexGuard<'_, ()> {
        let gate = self.hash.hash_one(name) as usize % self.gates.len();
        self.gates[gate].lock().await
    }
}

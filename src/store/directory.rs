//! Reads: the hot rows from memory, verified when loaded.

use std::sync::Arc;

use super::Remembered;
use crate::{
    Result,
    clock::Timestamp,
    model::{Environment, EnvironmentName, Key, KeyName, Team, TeamName},
};

/// What everyone may read. Cheap to clone.
#[derive(Clone)]
pub struct Directory {}

/// One page of a list: what follows `after` in order of name.
pub struct Page<T> {
    pub items: Vec<T>,
    pub more: bool,
}

impl Directory {
    pub async fn environment(&self, _name: &EnvironmentName) -> Result<Option<Arc<Environment>>> {
        todo!()
    }

    pub async fn team(&self, _name: &TeamName) -> Result<Option<Arc<Team>>> {
        todo!()
    }

    /// From memory when it is there; loads it once however many ask.
    pub async fn key(&self, _name: &KeyName) -> Result<Option<Arc<Key>>> {
        todo!()
    }

    pub async fn environments(
        &self,
        _after: Option<&EnvironmentName>,
        _limit: usize,
    ) -> Result<Page<Arc<Environment>>> {
        todo!()
    }

    pub async fn teams(&self, _of: &Environment, _after: Option<&TeamName>, _limit: usize) -> Result<Page<Arc<Team>>> {
        todo!()
    }

    pub async fn keys(&self, _of: &Team, _after: Option<&KeyName>, _limit: usize) -> Result<Page<Arc<Key>>> {
        todo!()
    }

    /// Names of keys with a version whose waiting period has ended.
    pub async fn due_for_destruction(&self, _now: Timestamp) -> Result<Vec<KeyName>> {
        todo!()
    }

    /// What was answered under this caller's request id, if it has not expired.
    pub async fn remembered(
        &self,
        _caller: &str,
        _method: &str,
        _request_id: &str,
        _now: Timestamp,
    ) -> Result<Option<Remembered>> {
        todo!()
    }

    /// Numbers of environments and keys, for the status.
    pub async fn counts(&self) -> Result<(u64, u64)> {
        todo!()
    }
}

//! What actions are done on, and how each is found by its name.

use std::{fmt::Display, sync::Arc};

use crate::{
    Result,
    model::{Environment, EnvironmentName, Key, KeyName, Team, TeamName},
    store::Directory,
};

/// A kind of thing that policies speak of.
pub trait Resource: Send + Sync + Sized + 'static {
    type Name: Display + Send + Sync;
    /// Its entity type in policies.
    const TYPE: &'static str;

    /// Finds it; `None` if there is none of that name.
    fn find(directory: &Directory, name: &Self::Name) -> impl Future<Output = Result<Option<Self>>> + Send;

    /// The environment that holds it; `None` for the system itself.
    fn environment(&self) -> Option<&Arc<Environment>>;

    /// The same, known from the name alone: absent things are judged like present ones.
    fn environment_name(name: &Self::Name) -> Option<EnvironmentName>;
}

/// The service itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct System;

impl Display for System {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("system")
    }
}

impl Resource for System {
    type Name = System;
    const TYPE: &'static str = "System";

    async fn find(_: &Directory, _: &System) -> Result<Option<Self>> {
        Ok(Some(System))
    }

    fn environment(&self) -> Option<&Arc<Environment>> {
        None
    }

    fn environment_name(_: &System) -> Option<EnvironmentName> {
        None
    }
}

impl Resource for Arc<Environment> {
    type Name = EnvironmentName;
    const TYPE: &'static str = "Environment";

    async fn find(directory: &Directory, name: &EnvironmentName) -> Result<Option<Self>> {
        directory.environment(name).await
    }

    fn environment(&self) -> Option<&Arc<Environment>> {
        Some(self)
    }

    fn environment_name(name: &EnvironmentName) -> Option<EnvironmentName> {
        Some(name.clone())
    }
}

impl Resource for Arc<Team> {
    type Name = TeamName;
    const TYPE: &'static str = "Team";

    async fn find(directory: &Directory, name: &TeamName) -> Result<Option<Self>> {
        directory.team(name).await
    }

    fn environment(&self) -> Option<&Arc<Environment>> {
        Some(&self.environment)
    }

    fn environment_name(name: &TeamName) -> Option<EnvironmentName> {
        Some(name.environment())
    }
}

impl Resource for Arc<Key> {
    type Name = KeyName;
    const TYPE: &'static str = "Key";

    async fn find(directory: &Directory, name: &KeyName) -> Result<Option<Self>> {
        directory.key(name).await
    }

    fn environment(&self) -> Option<&Arc<Environment>> {
        Some(&self.team.environment)
    }

    fn environment_name(name: &KeyName) -> Option<EnvironmentName> {
        Some(name.environment())
    }
}

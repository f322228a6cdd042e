//! What actions are done on, and how each is found by its name.

use std::{
    fmt::Display,
    sync::{Arc, LazyLock},
};

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

    /// What policies and records see of it.
    fn view(&self) -> View<'_>;

    /// The environment that holds it; `None` for the system itself.
    fn environment(&self) -> Option<&Arc<Environment>> {
        self.view().environment()
    }

    /// The same, known from the name alone: absent things are judged like present ones.
    fn environment_name(name: &Self::Name) -> Option<EnvironmentName>;

    /// The name as records show it: whole, and shared with it where it can be.
    fn shown(name: &Self::Name) -> Arc<str>;
}

/// A resource of any kind, seen.
#[derive(Debug, Clone, Copy)]
pub enum View<'a> {
    System,
    Environment(&'a Arc<Environment>),
    Team(&'a Team),
    Key(&'a Key),
}

impl<'a> View<'a> {
    /// The environment that holds it; `None` for the system itself.
    pub fn environment(self) -> Option<&'a Arc<Environment>> {
        match self {
            View::System => None,
            View::Environment(environment) => Some(environment),
            View::Team(team) => Some(&team.environment),
            View::Key(key) => Some(&key.team.environment),
        }
    }
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

    fn view(&self) -> View<'_> {
        View::System
    }

    fn environment_name(_: &System) -> Option<EnvironmentName> {
        None
    }

    fn shown(_: &System) -> Arc<str> {
        static NAME: LazyLock<Arc<str>> = LazyLock::new(|| "system".into());
        NAME.clone()
    }
}

impl Resource for Arc<Environment> {
    type Name = EnvironmentName;
    const TYPE: &'static str = "Environment";

    async fn find(directory: &Directory, name: &EnvironmentName) -> Result<Option<Self>> {
        directory.environment(name).await
    }

    fn view(&self) -> View<'_> {
        View::Environment(self)
    }

    fn environment_name(name: &EnvironmentName) -> Option<EnvironmentName> {
        Some(name.clone())
    }

    fn shown(name: &EnvironmentName) -> Arc<str> {
        name.shared()
    }
}

impl Resource for Arc<Team> {
    type Name = TeamName;
    const TYPE: &'static str = "Team";

    async fn find(directory: &Directory, name: &TeamName) -> Result<Option<Self>> {
        directory.team(name).await
    }

    fn view(&self) -> View<'_> {
        View::Team(self)
    }

    fn environment_name(name: &TeamName) -> Option<EnvironmentName> {
        Some(name.environment())
    }

    fn shown(name: &TeamName) -> Arc<str> {
        name.shared()
    }
}

impl Resource for Arc<Key> {
    type Name = KeyName;
    const TYPE: &'static str = "Key";

    async fn find(directory: &Directory, name: &KeyName) -> Result<Option<Self>> {
        directory.key(name).await
    }

    fn view(&self) -> View<'_> {
        View::Key(self)
    }

    fn environment_name(name: &KeyName) -> Option<EnvironmentName> {
        Some(name.environment())
    }

    fn shown(name: &KeyName) -> Arc<str> {
        name.shared()
    }
}

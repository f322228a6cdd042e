//! Environments, the isolation boundary, and teams, which own keys.

use std::sync::Arc;

use super::{EnvironmentId, EnvironmentName, TeamId, TeamName};
use crate::clock::Timestamp;

/// An isolation boundary. Its id is the environment id of the byte formats. Its token group is named in the configuration file, never here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Environment {
    pub id: EnvironmentId,
    pub name: EnvironmentName,
    pub production: bool,
    pub created: Timestamp,
    pub row_version: u64,
}

/// Owns keys within one environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Team {
    pub id: TeamId,
    pub name: TeamName,
    pub environment: Arc<Environment>,
    pub created: Timestamp,
    pub row_version: u64,
}

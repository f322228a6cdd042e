//! Whose turn it is: the queue is fair between lanes, and a lane is one caller in one environment.

use std::{
    collections::BTreeMap,
    hash::{BuildHasher as _, RandomState},
    sync::LazyLock,
};

use crate::model::EnvironmentName;

/// Of the service's own work, and the largest that can be configured.
pub const MAX_WEIGHT: u32 = 1_000;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lane {
    id: u64,
    environment: Option<EnvironmentName>,
}

impl Lane {
    /// The service's own work: a probe, a handle to forget. A few calls, for which nobody's backlog is waited for.
    pub const OWN: Self = Self {
        id: 0,
        environment: None,
    };

    /// `caller`: his identity. His connections share a lane.
    pub fn of(environment: Option<&EnvironmentName>, caller: &str) -> Self {
        // A secret of this process, so that nobody can choose a name that falls into another caller's lane.
        static HASH: LazyLock<RandomState> = LazyLock::new(RandomState::new);
        Self {
            id: HASH.hash_one((environment.map(EnvironmentName::as_str), caller)).max(1),
            environment: environment.cloned(),
        }
    }

    pub(super) fn id(&self) -> u64 {
        self.id
    }

    /// Its share of the token beside others. `weights`: by id of the environment; 1 where it is not named.
    pub(super) fn weight(&self, weights: &BTreeMap<String, u32>) -> u32 {
        match &self.environment {
            _ if *self == Self::OWN => MAX_WEIGHT,
            Some(environment) if !weights.is_empty() => weights.get(environment.id()).copied().unwrap_or(1),
            _ => 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lane_is_one_caller_in_one_environment_and_weighs_what_that_weighs() {
        let (prod, dev): (EnvironmentName, EnvironmentName) = ("prod".parse().unwrap(), "dev".parse().unwrap());
        assert_eq!(Lane::of(Some(&prod), "a"), Lane::of(Some(&prod), "a"));
        let others = [
            Lane::of(Some(&prod), "b"),
            Lane::of(Some(&dev), "a"),
            Lane::of(None, "a"),
            Lane::OWN,
        ];
        for other in others {
            assert_ne!(Lane::of(Some(&prod), "a"), other);
        }
        let weights = [("prod".to_owned(), 4)].into();
        assert_eq!(Lane::of(Some(&prod), "a").weight(&weights), 4);
        assert_eq!(Lane::of(Some(&dev), "a").weight(&weights), 1);
        assert_eq!(Lane::of(None, "a").weight(&weights), 1);
        assert_eq!(Lane::OWN.weight(&weights), MAX_WEIGHT);
    }
}

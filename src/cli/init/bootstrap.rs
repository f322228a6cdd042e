//! The bootstrap file: the first environments and teams. Read once; afterwards the store is what counts.

use std::{fs, path::Path};

use serde::{Deserialize, Deserializer, de::Error as _};

use super::super::failure::Failure;
use crate::{
    config::Config,
    model::{EnvironmentName, TeamName},
};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bootstrap {
    pub(super) environment: Vec<First>,
}

/// One environment with its teams.
#[derive(Debug)]
pub(super) struct First {
    pub name: EnvironmentName,
    pub production: bool,
    pub teams: Vec<TeamName>,
}

impl Bootstrap {
    pub fn read(file: &Path) -> Result<Self, Failure> {
        let text = fs::read_to_string(file).map_err(|error| Failure::file("read", file, &error))?;
        Self::parse(&text).map_err(|error| Failure::failed(format!("{}: {error}", file.display())))
    }

    pub fn parse(text: &str) -> Result<Self, toml::de::Error> {
        toml::from_str(text)
    }

    /// These environments, without teams.
    pub fn of_environments<'a>(ids: impl Iterator<Item = &'a String>) -> Result<Self, Failure> {
        let first = |id: &String| {
            Ok(First {
                name: id.parse().map_err(Failure::failed)?,
                production: false,
                teams: Vec::new(),
            })
        };
        Ok(Self {
            environment: ids.map(first).collect::<Result<_, Failure>>()?,
        })
    }

    /// Every environment must be bound to the token group before anything is made.
    pub fn check_bound(&self, config: &Config) -> Result<(), Failure> {
        let bound = |name: &EnvironmentName| {
            let mut all = config.groups.iter().flat_map(|group| group.environments());
            all.any(|id| id == name.id())
        };
        match self.environments().find(|name| !bound(name)) {
            None => Ok(()),
            Some(name) => Err(Failure::failed(format!(
                "environment `{}` is not bound to a token: add it to the environments of [token], or of one of [[token_groups]], in the configuration file",
                name.id()
            ))),
        }
    }

    pub fn environments(&self) -> impl Iterator<Item = &EnvironmentName> {
        self.environment.iter().map(|first| &first.name)
    }

    pub fn teams(&self) -> impl Iterator<Item = &TeamName> {
        self.environment.iter().flat_map(|first| &first.teams)
    }
}

impl<'de> Deserialize<'de> for First {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Entry {
            name: String,
            #[serde(default)]
            production: bool,
            #[serde(default)]
            teams: Vec<String>,
        }
        let entry = Entry::deserialize(from)?;
        let name: EnvironmentName = entry.name.parse().map_err(D::Error::custom)?;
        let team = |id: &String| name.team(id).map_err(D::Error::custom);
        Ok(Self {
            teams: entry.teams.iter().map(team).collect::<Result<_, _>>()?,
            production: entry.production,
            name,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn environments_and_teams_are_named_by_their_ids() {
        let text = "[[environment]]\nname = \"dev\"\nteams = [\"shop\"]\n[[environment]]\nname = \"prod\"\nproduction = true\n";
        let bootstrap = Bootstrap::parse(text).unwrap();
        let teams: Vec<_> = bootstrap.teams().map(TeamName::as_str).collect();
        assert_eq!(teams, ["envs/dev/teams/shop"]);
        assert!(bootstrap.environment[1].production);
    }

    #[test]
    fn unknown_fields_and_bad_names_are_refused() {
        for text in [
            "[[environment]]\nname = \"dev\"\nteam = [\"shop\"]\n",
            "[[environment]]\nname = \"Dev\"\n",
            "[[environment]]\nname = \"dev\"\nteams = [\"-\"]\n",
        ] {
            assert!(Bootstrap::parse(text).is_err(), "{text}");
        }
    }
}

//! `identities.toml`: who is who. Gives SPIFFE IDs their environments, teams and roles.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use toml::Spanned;

use super::Fault;
use crate::{
    identity::SpiffePattern,
    model::{EnvironmentName, TeamName},
};

/// Name of the file in the policy directory.
pub(super) const FILE: &str = "identities.toml";

/// The file, checked.
#[derive(Debug, Default)]
pub(super) struct Identities {
    pub(super) roles: BTreeSet<String>,
    /// The most specific pattern first.
    entries: Vec<(SpiffePattern, Membership)>,
}

/// What an identity belongs to.
#[derive(Debug, Default)]
pub(super) struct Membership {
    /// Ids of environments: `prod`.
    pub(super) environments: BTreeSet<String>,
    /// Short names of teams: `prod/payments`.
    pub(super) teams: BTreeSet<String>,
    pub(super) roles: BTreeSet<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    roles: Vec<Spanned<String>>,
    #[serde(default)]
    identity: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    id: Spanned<String>,
    #[serde(default)]
    environments: Vec<Spanned<String>>,
    #[serde(default)]
    teams: Vec<Spanned<String>>,
    #[serde(default)]
    roles: Vec<Spanned<String>>,
}

impl Identities {
    pub(super) fn parse(text: &str) -> Result<Self, Vec<Fault>> {
        let file: File = toml::from_str(text).map_err(|error| {
            let offset = error.span().map_or(0, |span| span.start);
            vec![Fault::at(FILE, text, offset, error.message())]
        })?;
        let mut faults = Vec::new();
        let mut roles = BTreeSet::new();
        for role in &file.roles {
            let name = role.get_ref();
            let problem = if !is_role(name) {
                format!("`{name}` is not the name of a role: use 1 to 64 of a-z, 0-9 and `-`")
            } else if !roles.insert(name.clone()) {
                format!("role `{name}` is declared twice: is one of them another role?")
            } else {
                continue;
            };
            faults.push(Fault::at(FILE, text, role.span().start, problem));
        }
        let mut entries = BTreeMap::new();
        for entry in &file.identity {
            let mut fault = |at: &Spanned<String>, problem: String| {
                faults.push(Fault::at(FILE, text, at.span().start, problem));
            };
            let membership = membership(entry, &roles, &mut fault);
            match entry.id.get_ref().parse::<SpiffePattern>() {
                Err(error) => fault(
                    &entry.id,
                    format!("`{}` names no workload: {error}", entry.id.get_ref()),
                ),
                Ok(pattern) => {
                    if entries.insert(pattern, membership).is_some() {
                        let problem = format!("`{}` is listed twice: merge the entries", entry.id.get_ref());
                        fault(&entry.id, problem);
                    }
                }
            }
        }
        if !faults.is_empty() {
            return Err(faults);
        }
        let mut entries: Vec<_> = entries.into_iter().collect();
        entries.sort_by_key(|(pattern, _)| std::cmp::Reverse(pattern.weight()));
        Ok(Self { roles, entries })
    }

    /// The entry that holds for a workload: the most specific one alone, entries are never added up.
    pub(super) fn of(&self, id: &str) -> Option<&Membership> {
        self.entries
            .iter()
            .find(|(pattern, _)| pattern.matches(id))
            .map(|(_, membership)| membership)
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Roles that no identity has.
    pub(super) fn unused_roles(&self) -> impl Iterator<Item = &String> {
        self.roles.iter().filter(|role| {
            !self
                .entries
                .iter()
                .any(|(_, membership)| membership.roles.contains(*role))
        })
    }
}

fn is_role(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=64).contains(&name.len()) && name.bytes().all(plain)
}

fn membership(entry: &Entry, roles: &BTreeSet<String>, fault: &mut impl FnMut(&Spanned<String>, String)) -> Membership {
    let mut membership = Membership::default();
    for text in &entry.environments {
        match format!("envs/{}", text.get_ref()).parse::<EnvironmentName>() {
            Ok(name) => drop(membership.environments.insert(name.short())),
            Err(_) => fault(
                text,
                format!(
                    "`{}` is not the id of an environment: write it like `prod`; there is no wildcard",
                    text.get_ref()
                ),
            ),
        }
    }
    for text in &entry.teams {
        match text.get_ref().parse::<TeamName>() {
            Err(_) => fault(
                text,
                format!(
                    "`{}` is not the name of a team: write it like `prod/payments`",
                    text.get_ref()
                ),
            ),
            Ok(name) => {
                if !membership.environments.contains(&name.environment().short()) {
                    fault(
                        text,
                        format!(
                            "team `{}` is in an environment that this identity has not: add `{}` to its environments",
                            name.short(),
                            name.environment().short()
                        ),
                    );
                }
                membership.teams.insert(name.short());
            }
        }
    }
    for text in &entry.roles {
        if !roles.contains(text.get_ref()) {
            fault(
                text,
                format!(
                    "role `{}` is not declared: add it to `roles` at the top, or correct it",
                    text.get_ref()
                ),
            );
        }
        if !membership.roles.insert(text.get_ref().clone()) {
            fault(text, format!("role `{}` is given twice", text.get_ref()));
        }
    }
    membership
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(text: &str) -> Vec<String> {
        let faults = Identities::parse(text).unwrap_err();
        faults.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn the_most_specific_entry_holds_alone() {
        let identities = Identities::parse(
            r#"
            roles = ["encrypter", "admin"]
            [[identity]]
            id = "spiffe://acme.dev/*"
            environments = ["dev"]
            [[identity]]
            id = "spiffe://acme.dev/ns/pay/*"
            environments = ["prod"]
            teams = ["prod/payments"]
            roles = ["encrypter"]
            [[identity]]
            id = "spiffe://acme.dev/ns/pay/admin"
            environments = ["dev", "prod"]
            roles = ["admin"]
            "#,
        )
        .unwrap();
        let environments = |id: &str| {
            let membership = identities.of(id)?;
            Some(membership.environments.iter().cloned().collect::<Vec<_>>().join(" "))
        };
        assert_eq!(environments("spiffe://acme.dev/ns/shop/api").unwrap(), "dev");
        assert_eq!(environments("spiffe://acme.dev/ns/pay/api").unwrap(), "prod");
        assert_eq!(environments("spiffe://acme.dev/ns/pay/admin").unwrap(), "dev prod");
        assert_eq!(environments("spiffe://other.dev/ns/pay/api"), None);
    }

    #[test]
    fn faults_name_their_line_and_the_next_step() {
        let found = faults(
            "roles = [\"admin\"]\n[[identity]]\nid = \"spiffe://acme.dev/a\"\nenvironments = [\"*\"]\nteams = [\"prod/pay\"]\nroles = [\"amdin\"]\n[[identity]]\nid = \"spiffe://acme.dev/a\"\n[[identity]]\nid = \"acme\"\n",
        );
        assert_eq!(found.len(), 5, "{found:#?}");
        assert!(found[0].starts_with("identities.toml:4: `*` is not the id of an environment"));
        assert!(found[1].starts_with("identities.toml:5: team `prod/pay` is in an environment that"));
        assert!(found[2].starts_with("identities.toml:6: role `amdin` is not declared"));
        assert!(found[3].starts_with("identities.toml:8: `spiffe://acme.dev/a` is listed twice"));
        assert!(found[4].starts_with("identities.toml:10: `acme` names no workload"));
    }

    #[test]
    fn a_role_that_is_named_twice_or_badly_is_a_fault() {
        let found = faults(
            "roles = [\"admin\",\n\"admin\",\n\"\", \"a\\\"b\\u0000\"]\n[[identity]]\nid = \"spiffe://acme.dev/a\"\nroles = [\"admin\", \"admin\"]\n",
        );
        assert_eq!(found.len(), 4, "{found:#?}");
        assert!(found[0].starts_with("identities.toml:2: role `admin` is declared twice"));
        assert!(found[1].starts_with("identities.toml:3: `` is not the name of a role"));
        assert!(found[2].starts_with("identities.toml:3: "));
        assert!(found[3].starts_with("identities.toml:6: role `admin` is given twice"));
    }

    #[test]
    fn unknown_fields_are_refused_with_their_line() {
        let found = faults("roles = []\n[[identity]]\nid = \"spiffe://acme.dev/a\"\nenvironment = [\"prod\"]\n");
        assert!(
            found[0].starts_with("identities.toml:4: unknown field `environment`"),
            "{found:?}"
        );
    }
}

//! Resource names: `envs/{env}`, `envs/{env}/teams/{team}`, `envs/{env}/teams/{team}/keys/{key}`.
//!
//! Every id matches `[a-z][a-z0-9-]{0,61}[a-z0-9]` (AIP-122). A name is built only by parsing. The short form
//! `dev/shop/orders`, which people type at the command line and in files, is accepted by `parse` too and means the same; the wire has
//! full names only ([`FullName`]).

use std::{fmt, str::FromStr, sync::Arc};

/// Why a text is not a resource name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{text}` is not a name of the form `{form}` (each part: 2–63 of a-z, 0-9 and `-`, a letter first, no `-` last)"
)]
pub struct InvalidName {
    text: String,
    form: &'static str,
}

/// A name as programs send it.
pub trait FullName: Sized {
    /// Errors: whatever is not the full form, the short form included.
    fn parse_full(text: &str) -> Result<Self, InvalidName>;
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $form:literal, [$($collection:literal),+]) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            const COLLECTIONS: &[&str] = &[$($collection),+];

            /// The whole name.
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// The whole name, shared.
            pub fn shared(&self) -> Arc<str> {
                self.0.clone()
            }

            /// The last id.
            pub fn id(&self) -> &str {
                self.0.rsplit('/').next().expect("a name has at least one part")
            }

            /// The form people type: the ids alone, joined by `/`.
            pub fn short(&self) -> String {
                self.0.split('/').skip(1).step_by(2).collect::<Vec<_>>().join("/")
            }
        }

        impl FullName for $name {
            fn parse_full(text: &str) -> Result<Self, InvalidName> {
                match is_full(text, Self::COLLECTIONS) {
                    true => Ok(Self(text.into())),
                    false => Err(InvalidName { text: shown(text), form: $form }),
                }
            }
        }

        impl FromStr for $name {
            type Err = InvalidName;

            fn from_str(text: &str) -> Result<Self, InvalidName> {
                Self::parse_full(text)
                    .or_else(|error| written_out(text, Self::COLLECTIONS).map(|name| Self(name.into())).ok_or(error))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name!(
    /// `envs/{env}`
    EnvironmentName,
    "envs/{env}",
    ["envs"]
);
name!(
    /// `envs/{env}/teams/{team}`
    TeamName,
    "envs/{env}/teams/{team}",
    ["envs", "teams"]
);
name!(
    /// `envs/{env}/teams/{team}/keys/{key}`
    KeyName,
    "envs/{env}/teams/{team}/keys/{key}",
    ["envs", "teams", "keys"]
);

impl EnvironmentName {
    pub fn team(&self, id: &str) -> Result<TeamName, InvalidName> {
        format!("{}/teams/{id}", self.0).parse()
    }
}

impl TeamName {
    pub fn environment(&self) -> EnvironmentName {
        EnvironmentName(first_parts(&self.0, 2).into())
    }

    pub fn key(&self, id: &str) -> Result<KeyName, InvalidName> {
        format!("{}/keys/{id}", self.0).parse()
    }
}

impl KeyName {
    pub fn environment(&self) -> EnvironmentName {
        EnvironmentName(first_parts(&self.0, 2).into())
    }

    pub fn team(&self) -> TeamName {
        TeamName(first_parts(&self.0, 4).into())
    }
}

/// The full name of `text`, given in short form.
fn written_out(text: &str, collections: &[&str]) -> Option<String> {
    let ids: Vec<&str> = text.split('/').collect();
    if ids.len() != collections.len() || !ids.iter().all(|id| is_id(id)) {
        return None;
    }
    let parts = collections.iter().zip(ids);
    let parts: Vec<_> = parts.map(|(collection, id)| format!("{collection}/{id}")).collect();
    Some(parts.join("/"))
}

/// Whether `text` is a full name as it stands.
fn is_full(text: &str, collections: &[&str]) -> bool {
    let mut parts = text.split('/');
    collections
        .iter()
        .all(|collection| parts.next() == Some(*collection) && parts.next().is_some_and(is_id))
        && parts.next().is_none()
}

fn is_id(id: &str) -> bool {
    let bytes = id.as_bytes();
    (2..=63).contains(&bytes.len())
        && bytes[0].is_ascii_lowercase()
        && bytes[bytes.len() - 1] != b'-'
        && bytes
            .iter()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-')
}

fn first_parts(name: &str, parts: usize) -> &str {
    let end = name.match_indices('/').nth(parts - 1).map_or(name.len(), |(at, _)| at);
    &name[..end]
}

/// The text as an error may show it: bounded, control characters escaped.
fn shown(text: &str) -> String {
    text.chars().take(80).flat_map(char::escape_default).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_full_and_the_short_form_are_one_name() {
        let full: KeyName = "envs/prod/teams/payments/keys/card-pan".parse().unwrap();
        let short: KeyName = "prod/payments/card-pan".parse().unwrap();
        assert_eq!(full, short);
        assert_eq!(full.short(), "prod/payments/card-pan");
        assert_eq!(full.team().as_str(), "envs/prod/teams/payments");
        assert_eq!(full.environment().as_str(), "envs/prod");
        assert_eq!(full.id(), "card-pan");
        assert_eq!(full.team().key("card-pan").unwrap(), full);
    }

    #[test]
    fn the_full_form_alone_is_one_that_programs_send() {
        let full = "envs/prod/teams/payments/keys/card-pan";
        assert_eq!(KeyName::parse_full(full).unwrap().as_str(), full);
        let error = KeyName::parse_full("prod/payments/card-pan").unwrap_err().to_string();
        assert!(error.contains("envs/{env}/teams/{team}/keys/{key}"), "{error}");
        assert!(TeamName::parse_full("prod/payments").is_err() && EnvironmentName::parse_full("prod").is_err());
    }

    #[test]
    fn what_breaks_the_convention_is_refused() {
        for text in [
            "",
            "a/bb/cc",
            "prod/payments",
            "prod/payments/-x",
            "prod/payments/x-",
            "prod/Payments/xx",
            "envs/prod/keys/x1/teams/t1",
            "prod/payments/x\u{e9}",
        ] {
            assert!(text.parse::<KeyName>().is_err(), "{text}");
        }
        let long = "a".repeat(64);
        assert!(format!("prod/payments/{long}").parse::<KeyName>().is_err());
    }
}

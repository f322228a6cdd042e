//! Who calls, and which roles he has: what `identities.toml` says to the service.

use std::fmt::Write as _;

pub const TRUST_DOMAIN: &str = "keyreeve.dev";
const ROLES: [&str; 5] = ["admin", "operator", "auditor", "encrypter", "decrypter"];

/// One caller, for [`Service::add_caller`](crate::Service::add_caller).
///
/// Roles are those of `policy.example/apps.cedar`: admin, operator, auditor; encrypter and decrypter, for the keys of his teams.
#[derive(Debug, Clone)]
pub struct Caller {
    name: String,
    roles: Vec<String>,
    teams: Vec<String>,
    environments: Option<Vec<String>>,
}

/// The caller cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum InvalidCaller {
    #[error("`{0}` is no name of a caller: write a-z, 0-9 and `-`")]
    Name(String),
    #[error("`{0}` is no role: write admin, operator, auditor, encrypter or decrypter")]
    Role(String),
}

impl Caller {
    /// With no rights yet. His SPIFFE ID is `spiffe://keyreeve.dev/NAME`.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            roles: Vec::new(),
            teams: Vec::new(),
            environments: None,
        }
    }

    #[must_use]
    pub fn roles<T: Into<String>>(mut self, roles: impl IntoIterator<Item = T>) -> Self {
        self.roles.extend(roles.into_iter().map(Into::into));
        self
    }

    /// Written `dev/shop`.
    #[must_use]
    pub fn teams<T: Into<String>>(mut self, teams: impl IntoIterator<Item = T>) -> Self {
        self.teams.extend(teams.into_iter().map(Into::into));
        self
    }

    /// Which environments he reaches at all: every one, unless given.
    #[must_use]
    pub fn environments<T: Into<String>>(mut self, environments: impl IntoIterator<Item = T>) -> Self {
        let given = environments.into_iter().map(Into::into);
        self.environments.get_or_insert_default().extend(given);
        self
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn spiffe_id(&self) -> String {
        format!("spiffe://{TRUST_DOMAIN}/{}", self.name)
    }

    pub(crate) fn check(&self) -> Result<(), InvalidCaller> {
        let first = self.name.bytes().next().is_some_and(|first| first.is_ascii_lowercase());
        let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if !first || !self.name.bytes().all(fits) {
            return Err(InvalidCaller::Name(self.name.clone()));
        }
        match self.roles.iter().find(|role| !ROLES.contains(&role.as_str())) {
            Some(unknown) => Err(InvalidCaller::Role(unknown.clone())),
            None => Ok(()),
        }
    }
}

/// `identities.toml` for these callers. `bound`: every environment there may be.
pub fn identities<'a>(callers: impl Iterator<Item = &'a Caller>, bound: &[String]) -> String {
    let mut text = format!("roles = {ROLES:?}\n");
    for caller in callers {
        let environments = caller.environments.as_deref().unwrap_or(bound);
        let (id, teams, roles) = (caller.spiffe_id(), &caller.teams, &caller.roles);
        write!(
            text,
            "\n[[identity]]\nid = {id:?}\nenvironments = {environments:?}\nteams = {teams:?}\nroles = {roles:?}\n"
        )
        .expect("a String takes what is written to it");
    }
    text
}

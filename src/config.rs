//! The configuration file: one TOML file, environment variables `KEYREEVE_<SECTION>__<KEY>` over it.
//!
//! Unknown sections, fields and variables are refused. `keyreeve.example.toml` lists every option with its default; it is also where a
//! variable finds out whether its value is text, a number or a list. No secret is ever in here, only where one is.

mod environment;
mod groups;
mod sections;

use std::{
    fmt,
    path::{Path, PathBuf},
};

use serde::Deserialize;

pub use groups::GroupConfig;
pub use sections::{
    AuditConfig, Durability, LockMemory, LogConfig, LogFormat, MetricsConfig, PolicyConfig, SecurityConfig,
    ServerConfig, StoreConfig, TlsConfig,
};

use crate::token::TokenConfig;

/// Everything a node needs to know before it starts.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    #[serde(default)]
    pub server: ServerConfig,
    pub tls: TlsConfig,
    /// The short form of one group with one token; gone once the file is read.
    #[serde(default)]
    token: Option<TokenConfig>,
    /// At least one.
    #[serde(default, rename = "token_groups")]
    pub groups: Vec<GroupConfig>,
    #[serde(default)]
    pub store: StoreConfig,
    #[serde(default)]
    pub audit: AuditConfig,
    #[serde(default)]
    pub policy: PolicyConfig,
    #[serde(default)]
    pub log: LogConfig,
    #[serde(default)]
    pub metrics: MetricsConfig,
    #[serde(default)]
    pub security: SecurityConfig,
}

/// The example file, every option with its default: printed by the command line, tested to load.
pub const EXAMPLE: &str = include_str!("../keyreeve.example.toml");

/// What is wrong with the configuration, where, and what to do next. Printed as it is.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("cannot read {}: {source}; name another file with --config", path.display())]
    Unreadable {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("{origin}: {problem}\n{NEXT_STEP}")]
    Invalid { origin: String, problem: String },
    #[error("environment variable {name}: {problem}")]
    Variable { name: String, problem: String },
}

const NEXT_STEP: &str = "every option is in keyreeve.example.toml; check a change with `keyreeve config check`";

impl Config {
    /// Reads the file, lays this process's environment over it, checks it.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Unreadable {
            path: path.to_owned(),
            source,
        })?;
        Self::parse(&text, &path.display().to_string(), std::env::vars_os())
    }

    /// The same from text; `origin` names it in errors.
    pub fn parse(
        text: &str,
        origin: &str,
        variables: impl IntoIterator<Item = (std::ffi::OsString, std::ffi::OsString)>,
    ) -> Result<Self, ConfigError> {
        let invalid = |problem: &dyn fmt::Display| ConfigError::Invalid {
            origin: origin.to_owned(),
            problem: problem.to_string().trim_end().to_owned(),
        };
        let overrides = environment::overrides(variables)?;
        let mut config: Self = if overrides.is_empty() {
            toml::from_str(text).map_err(|error| invalid(&error))?
        } else {
            let mut table: toml::Table = toml::from_str(text).map_err(|error| invalid(&error))?;
            let names = environment::apply(overrides, &mut table)?;
            match Self::deserialize(table) {
                Ok(config) => config,
                // A fault of the file itself is shown with its line, which the merged table no longer knows.
                Err(merged) => match toml::from_str::<Self>(text) {
                    Err(error) if error.message() == merged.message() => return Err(invalid(&error)),
                    _ => {
                        let problem = format!("{} (with {} over it)", merged.message(), names.join(", "));
                        return Err(invalid(&problem));
                    }
                },
            }
        };
        config.lengthen().map_err(|problem| invalid(&problem))?;
        config.check().map_err(|problem| invalid(&problem))?;
        Ok(config)
    }

    /// Makes a `[token]` table the group that it stands for, and says of each token where it stands.
    fn lengthen(&mut self) -> Result<(), &'static str> {
        match (self.token.take(), self.groups.is_empty()) {
            (Some(token), true) => self.groups.push(GroupConfig::short(token)),
            (None, false) => {}
            (Some(_), false) => return Err("[token] is the short form of one group: move it into [[token_groups]]"),
            (None, true) => return Err("a table [token] is missing, or [[token_groups]] for several tokens"),
        }
        for group in &mut self.groups {
            for (number, token) in (1..).zip(&mut group.tokens) {
                token.place = format!("{}/{number}", group.name);
            }
        }
        Ok(())
    }

    /// The token that is meant: the only one, or that with this label or serial number.
    pub fn token(&self, named: Option<&str>) -> Result<&TokenConfig, String> {
        let all: Vec<&TokenConfig> = self.groups.iter().flat_map(|group| &group.tokens).collect();
        let known = || all.iter().map(|token| token.chosen_by()).collect::<Vec<_>>().join(", ");
        match (named, &all[..]) {
            (None, [only]) => Ok(only),
            (None, _) => Err(format!("which token? There are: {}", known())),
            (Some(name), _) => {
                let is_it =
                    |token: &&TokenConfig| [&token.serial, &token.label].into_iter().flatten().any(|is| is == name);
                let found = all.iter().copied().find(is_it);
                found.ok_or_else(|| format!("the configuration has no token `{name}`; there are: {}", known()))
            }
        }
    }

    /// The group whose keys protect the store and the audit log.
    pub fn home(&self) -> &GroupConfig {
        let named = |group: &&GroupConfig| self.audit.token_group.is_empty() || group.name == self.audit.token_group;
        self.groups.iter().find(named).expect("`check` has found it")
    }

    /// What the types cannot say. Opens no file: `keyreeve doctor` does.
    pub fn check(&self) -> Result<(), String> {
        self.server.check()?;
        self.tls.check()?;
        self.audit.check()?;
        if self.tombstone_file().starts_with(&self.store.data_dir) && self.store.tombstones.is_some() {
            return Err(
                "[store] tombstones lies under data_dir, and would be lost with it: put it elsewhere".to_owned(),
            );
        }
        self.log.check()?;
        if !self.server.local.ip().is_loopback() && !self.security.insecure_local_anywhere {
            return Err(format!(
                "[server] local = \"{}\" is not a loopback address, and this port speaks without TLS: use 127.0.0.1, or set [security] \
                 insecure_local_anywhere = true where the network itself keeps others out",
                self.server.local
            ));
        }
        let home = &self.audit.token_group;
        if home.is_empty() && self.groups.len() > 1 {
            return Err(
                "of several token groups one protects the store and signs for the log: name it in [audit] token_group"
                    .to_owned(),
            );
        }
        if !home.is_empty() && !self.groups.iter().any(|group| group.name == *home) {
            return Err(format!("[audit] token_group: there is no group `{home}`"));
        }
        groups::check(&self.groups, self.security.insecure_test_settings)
    }

    /// The tombstone file: as set, or beside the data directory and not in it, so that who wipes and restores that keeps this.
    pub fn tombstone_file(&self) -> PathBuf {
        match (&self.store.tombstones, self.store.data_dir.file_name()) {
            (Some(file), _) => file.clone(),
            (None, Some(name)) => {
                let mut name = name.to_owned();
                name.push(".tombstones");
                self.store.data_dir.with_file_name(name)
            }
            // The root of a file system, or `..`.
            (None, None) => self.store.data_dir.join("tombstones"),
        }
    }

    /// Directory of the audit segments: as set, or `audit` under the data directory.
    pub fn audit_directory(&self) -> PathBuf {
        match &self.audit.directory {
            Some(directory) => directory.clone(),
            None => self.store.data_dir.join("audit"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables(pairs: &[(&str, &str)]) -> Vec<(std::ffi::OsString, std::ffi::OsString)> {
        pairs.iter().map(|(name, value)| (name.into(), value.into())).collect()
    }

    const MINIMAL: &str = "[tls]\ncertificate = \"c\"\nkey = \"k\"\nclient_ca = { \"example.org\" = \"ca\" }\n\
        [token]\nmodule = \"/m.so\"\nlabel = \"a\"\npin_fd = 3\nmanifest = \"/m.json\"\nmanifest_sha256 = \"\"\n";

    #[test]
    fn the_example_loads_and_lists_only_defaults() {
        let example = Config::parse(EXAMPLE, "keyreeve.example.toml", []).unwrap();
        let minimal = Config::parse(MINIMAL, "minimal", []).unwrap();
        for (example, minimal) in [
            (format!("{:?}", example.server), format!("{:?}", minimal.server)),
            (format!("{:?}", example.store), format!("{:?}", minimal.store)),
            (format!("{:?}", example.audit), format!("{:?}", minimal.audit)),
            (format!("{:?}", example.policy), format!("{:?}", minimal.policy)),
            (format!("{:?}", example.log), format!("{:?}", minimal.log)),
            (format!("{:?}", example.metrics), format!("{:?}", minimal.metrics)),
            (format!("{:?}", example.security), format!("{:?}", minimal.security)),
        ] {
            assert_eq!(example, minimal);
        }
    }

    #[test]
    fn every_field_of_every_section_is_in_the_example() {
        let schema = environment::schema();
        let sections = fields::of::<Config>();
        assert_eq!(sections.len(), 10);
        for section in sections {
            let fields = match *section {
                "server" => fields::of::<ServerConfig>(),
                "tls" => fields::of::<TlsConfig>(),
                "token" => fields::of::<TokenConfig>(),
                "token_groups" => continue, // made of the fields of [token]; the example shows it in a comment
                "store" => fields::of::<StoreConfig>(),
                "audit" => fields::of::<AuditConfig>(),
                "policy" => fields::of::<PolicyConfig>(),
                "log" => fields::of::<LogConfig>(),
                "metrics" => fields::of::<MetricsConfig>(),
                "security" => fields::of::<SecurityConfig>(),
                other => panic!("section [{other}] is not tested"),
            };
            for field in fields {
                assert!(
                    schema[*section].as_table().unwrap().contains_key(*field),
                    "[{section}] {field} is missing in keyreeve.example.toml"
                );
            }
        }
    }

    #[test]
    fn what_cannot_be_part_of_the_logs_name_is_refused() {
        let refused = |field: &str, value: &str| {
            let text = format!("{MINIMAL}[server]\n{field} = {value:?}\n");
            Config::parse(&text, "k.toml", []).err().map(|error| error.to_string())
        };
        for field in ["node", "cluster"] {
            for good in ["a", "Keyreeve-1", "node_2.example.org", &"x".repeat(64)] {
                assert_eq!(refused(field, good), None);
            }
            for bad in ["a/b", "..", ".hidden", "-x", "a b", "ä", "a\nb", &"x".repeat(65)] {
                let text = refused(field, bad).unwrap_or_else(|| panic!("{field} = {bad:?} passed"));
                assert!(text.contains(field) && text.contains("letters, digits"), "{text}");
            }
        }
    }

    #[test]
    fn an_unknown_field_is_refused_with_its_line_and_what_is_allowed() {
        let error = Config::parse(&format!("{MINIMAL}pin = \"1234\"\n"), "k.toml", []).unwrap_err();
        let text = error.to_string();
        assert!(
            text.contains("k.toml") && text.contains("line 11") && text.contains("`pin_file`"),
            "{text}"
        );
        assert!(text.contains("keyreeve config check"), "{text}");
    }

    #[test]
    fn an_unknown_section_is_refused() {
        assert!(Config::parse(&format!("{MINIMAL}[tokens]\n"), "k.toml", []).is_err());
    }

    #[test]
    fn a_variable_wins_over_the_file_and_keeps_its_type() {
        let set = variables(&[
            ("KEYREEVE_SERVER__LISTEN", "127.0.0.1:9"),
            ("KEYREEVE_TOKEN__LABEL", "1234"),
            ("KEYREEVE_SERVER__DRAIN_S", "7"),
            ("KEYREEVE_TLS__CLIENT_CA", "{ \"other.org\" = \"x\" }"),
            ("KEYREEVE_ADDR", "for clients: not ours"),
        ]);
        let config = Config::parse(MINIMAL, "k.toml", set).unwrap();
        assert_eq!(config.server.listen.port(), 9);
        assert_eq!(config.home().any().label.as_deref(), Some("1234"));
        assert_eq!(config.server.drain_s, 7);
        assert!(config.tls.client_ca.contains_key("other.org"));
    }

    #[test]
    fn a_variable_may_supply_what_the_file_lacks() {
        let file = MINIMAL
            .replace("label = \"a\"\n", "")
            .replace("module = \"/m.so\"\n", "");
        let set = variables(&[("KEYREEVE_TOKEN__SERIAL", "77"), ("KEYREEVE_TOKEN__MODULE", "/n.so")]);
        assert_eq!(
            Config::parse(&file, "k.toml", set)
                .unwrap()
                .home()
                .any()
                .serial
                .as_deref(),
            Some("77")
        );
    }

    #[test]
    fn a_misspelt_variable_is_refused_and_says_what_is_allowed() {
        for (name, hint) in [
            ("KEYREEVE_SERVER__LISTNE", "listen"),
            ("KEYREEVE_SERVERS__LISTEN", "server"),
            ("KEYREEVE_SERVER__DRAIN_S", "number"),
        ] {
            let error = Config::parse(MINIMAL, "k.toml", variables(&[(name, "soon")])).unwrap_err();
            let text = error.to_string();
            assert!(text.contains(name) && text.contains(hint), "{text}");
        }
    }

    #[test]
    fn a_fault_of_the_file_is_shown_with_its_line_even_under_variables() {
        let file = format!("{MINIMAL}\n[log]\nformt = \"json\"\n");
        let set = variables(&[("KEYREEVE_SERVER__DRAIN_S", "7")]);
        let text = Config::parse(&file, "k.toml", set).unwrap_err().to_string();
        assert!(text.contains("line 13"), "{text}");
    }

    #[test]
    fn the_tombstone_file_is_never_in_the_data_directory() {
        let parse = |store: &str| Config::parse(&format!("{MINIMAL}[store]\n{store}\n"), "k.toml", []);
        let file = |store: &str| parse(store).unwrap().tombstone_file();
        assert_eq!(file(""), Path::new("/var/lib/keyreeve.tombstones"));
        assert_eq!(file("data_dir = \"/srv/k/\""), Path::new("/srv/k.tombstones"));
        assert_eq!(file("data_dir = \"k\""), Path::new("k.tombstones"));
        assert_eq!(file("tombstones = \"/a/b\""), Path::new("/a/b"));
        let inside = "data_dir = \"/srv/k\"\ntombstones = \"/srv/k/audit/tombstones\"";
        assert!(parse(inside).unwrap_err().to_string().contains("data_dir"));
    }

    #[test]
    fn the_local_port_stays_on_the_loopback_unless_told() {
        let file = format!("[server]\nlocal = \"0.0.0.0:7480\"\n{MINIMAL}");
        let text = Config::parse(&file, "k.toml", []).unwrap_err().to_string();
        assert!(text.contains("insecure_local_anywhere"), "{text}");
        assert!(
            Config::parse(
                &format!("{file}[security]\ninsecure_local_anywhere = true\n"),
                "k.toml",
                []
            )
            .is_ok()
        );
    }

    /// The field names of a derived struct, as serde hands them to a format.
    mod fields {
        use serde::{Deserialize, de};

        pub fn of<T: for<'de> Deserialize<'de>>() -> &'static [&'static str] {
            let mut fields: &'static [&'static str] = &[];
            let _ = T::deserialize(Names(&mut fields));
            assert!(!fields.is_empty());
            fields
        }

        struct Names<'a>(&'a mut &'static [&'static str]);

        impl<'de> de::Deserializer<'de> for Names<'_> {
            type Error = de::value::Error;

            fn deserialize_struct<V: de::Visitor<'de>>(
                self,
                _name: &'static str,
                fields: &'static [&'static str],
                _visitor: V,
            ) -> Result<V::Value, Self::Error> {
                *self.0 = fields;
                Err(de::Error::custom("only the names are wanted"))
            }

            fn deserialize_any<V: de::Visitor<'de>>(self, _visitor: V) -> Result<V::Value, Self::Error> {
                Err(de::Error::custom("not a struct"))
            }

            serde::forward_to_deserialize_any! {
                bool i8 i16 i32 i64 u8 u16 u32 u64 f32 f64 char str string bytes byte_buf option unit unit_struct
                newtype_struct seq tuple tuple_struct map enum identifier ignored_any
            }
        }
    }
}

//! `[[token_groups]]`: groups of tokens that hold the same root keys, and the environments bound to each.
//!
//! `[token]` is the short form of one group with one token. The binding stands here and never in the store: no row can point an
//! environment at another token (`docs/formats.md`, section 5a).

use serde::Deserialize;

use crate::token::{Isolation, TokenConfig};

/// What a group has once, for all its tokens.
const OF_THE_GROUP: [&str; 7] = [
    "environments",
    "manifest",
    "manifest_sha256",
    "group_id",
    "custodians",
    "quorum",
    "weights",
];

/// One group. What its table sets beside `name` and `tokens` holds for each of its tokens, unless a token's own table says otherwise.
#[derive(Debug, Clone, Deserialize)]
#[serde(try_from = "toml::Table")]
pub struct GroupConfig {
    /// Shown in the status, named by `[audit] token_group`.
    pub name: String,
    /// At least one; all with the same environments and manifest.
    pub tokens: Vec<TokenConfig>,
}

impl GroupConfig {
    /// The group of a `[token]` table.
    pub const SHORT_FORM: &str = "home";

    pub(super) fn short(token: TokenConfig) -> Self {
        Self {
            name: Self::SHORT_FORM.to_owned(),
            tokens: vec![token],
        }
    }

    /// Names of the environments whose keys this group wraps.
    pub fn environments(&self) -> &[String] {
        &self.any().environments
    }

    /// One of its tokens, for what they have in common.
    pub fn any(&self) -> &TokenConfig {
        self.tokens
            .first()
            .expect("a group without tokens is refused when it is read")
    }
}

impl TryFrom<toml::Table> for GroupConfig {
    type Error = String;

    fn try_from(mut table: toml::Table) -> Result<Self, String> {
        let name = match table.remove("name") {
            Some(toml::Value::String(name)) if is_name(&name) => name,
            _ => {
                return Err(
                    "each of [[token_groups]] needs a `name`: small letters, digits and `-`, at most 63".to_owned(),
                );
            }
        };
        let problem = |what: &dyn std::fmt::Display| format!("token group `{name}`: {what}");
        let own = match table.remove("tokens") {
            Some(toml::Value::Array(tokens)) if !tokens.is_empty() => tokens,
            _ => return Err(problem(&"at least one [[token_groups.tokens]] is needed")),
        };
        let mut tokens = Vec::with_capacity(own.len());
        for token in own {
            let toml::Value::Table(token) = token else {
                return Err(problem(&"each of `tokens` is a table"));
            };
            if let Some(misplaced) = OF_THE_GROUP.into_iter().find(|option| token.contains_key(*option)) {
                return Err(problem(&format_args!(
                    "`{misplaced}` is the same for all its tokens: move it up into [[token_groups]]"
                )));
            }
            let mut all = table.clone();
            all.extend(token);
            tokens.push(TokenConfig::deserialize(all).map_err(|error| problem(&error.message()))?);
        }
        Ok(Self { name, tokens })
    }
}

/// It is part of the names of files, and printed.
fn is_name(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=63).contains(&name.len()) && name.bytes().all(allowed)
}

/// What no single table can see. `insecure_allowed`: settings for tests and benchmarks may be used.
pub(super) fn check(groups: &[GroupConfig], insecure_allowed: bool) -> Result<(), String> {
    let several = groups.iter().map(|group| group.tokens.len()).sum::<usize>() > 1;
    for (index, group) in groups.iter().enumerate() {
        let named = |problem: &dyn std::fmt::Display| match group.name.as_str() {
            GroupConfig::SHORT_FORM => problem.to_string(),
            name => format!("token group `{name}`: {problem}"),
        };
        if groups[..index].iter().any(|other| other.name == group.name) {
            return Err(named(&"there are two groups of this name: rename one"));
        }
        for environment in group.environments() {
            let twice = groups[..index]
                .iter()
                .find(|other| other.environments().contains(environment));
            if let Some(other) = twice {
                return Err(named(&format_args!(
                    "environment `{environment}` is bound to group `{}`, too: an environment has one group",
                    other.name
                )));
            }
        }
        for token in &group.tokens {
            token.check(insecure_allowed).map_err(|error| named(&error))?;
            if several && token.pin_fd.is_some() {
                return Err(named(
                    &"with several tokens one that is lost is opened again, and `pin_fd` can be read once only: use pin_file or pin_credential",
                ));
            }
            if several && token.isolation == Isolation::Thread {
                return Err(named(
                    &"with several tokens each needs a process of its own, so that one cannot take down or reach the others: set \
                      isolation = \"process\"",
                ));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::config::Config;

    const TLS: &str = "[tls]\ncertificate = \"c\"\nkey = \"k\"\nclient_ca = { \"example.org\" = \"ca\" }\n";

    fn group(name: &str, environments: &str, tokens: &[&str]) -> String {
        let tokens: String = tokens
            .iter()
            .map(|serial| format!("[[token_groups.tokens]]\nserial = \"{serial}\"\npin_file = \"/pin-{serial}\"\n"))
            .collect();
        format!(
            "[[token_groups]]\nname = \"{name}\"\nenvironments = {environments}\nmodule = \"/m.so\"\nisolation = \"process\"\n\
             manifest = \"/{name}.json\"\nmanifest_sha256 = \"\"\n{tokens}"
        )
    }

    fn parse(text: &str) -> Result<Config, String> {
        Config::parse(&format!("{TLS}{text}"), "k.toml", []).map_err(|error| error.to_string())
    }

    #[test]
    fn what_a_group_sets_holds_for_each_of_its_tokens_unless_the_token_says_otherwise() {
        let text = group("main", "[\"dev\"]", &["1", "2"]) + "module = \"/other.so\"\n";
        let config = parse(&text).unwrap();
        let [first, second] = &config.groups[0].tokens[..] else {
            panic!("two tokens")
        };
        assert_eq!(
            (first.module.to_str(), second.module.to_str()),
            (Some("/m.so"), Some("/other.so"))
        );
        assert_eq!(second.serial.as_deref(), Some("2"));
        assert_eq!(config.groups[0].environments(), ["dev"]);
        assert_eq!(config.home().name, "main");
    }

    #[test]
    fn an_environment_has_one_group() {
        let text = group("a", "[\"dev\", \"test\"]", &["1"]) + &group("b", "[\"dev\"]", &["2"]);
        let text = parse(&format!("{text}[audit]\ntoken_group = \"a\"\n")).unwrap_err();
        assert!(
            text.contains("`dev`") && text.contains("`a`") && text.contains("`b`"),
            "{text}"
        );
    }

    #[test]
    fn of_several_groups_one_is_the_home_group() {
        let two = group("a", "[\"dev\"]", &["1"]) + &group("b", "[\"prod\"]", &["2"]);
        assert!(parse(&two).unwrap_err().contains("token_group"));
        assert!(
            parse(&format!("{two}[audit]\ntoken_group = \"c\"\n"))
                .unwrap_err()
                .contains("`c`")
        );
        assert_eq!(
            parse(&format!("{two}[audit]\ntoken_group = \"b\"\n"))
                .unwrap()
                .home()
                .name,
            "b"
        );
    }

    #[test]
    fn what_belongs_to_the_group_is_refused_in_a_token() {
        for option in ["environments = []", "manifest = \"/m\"", "quorum = 1"] {
            let text = parse(&format!("{}{option}\n", group("main", "[]", &["1"]))).unwrap_err();
            assert!(text.contains("move it up"), "{text}");
        }
    }

    #[test]
    fn several_tokens_are_not_worked_in_threads() {
        let text = group("main", "[]", &["1", "2"]).replace("\"process\"", "\"thread\"");
        assert!(parse(&text).unwrap_err().contains("isolation = \"process\""));
        assert!(parse(&group("main", "[]", &["1"]).replace("\"process\"", "\"thread\"")).is_ok());
    }

    #[test]
    fn a_pin_that_can_be_read_once_is_not_taken_for_a_token_that_is_opened_again() {
        let descriptor = |serials: &[&str]| group("main", "[]", serials).replace("pin_file = \"/pin-1\"", "pin_fd = 3");
        assert!(parse(&descriptor(&["1", "2"])).unwrap_err().contains("pin_credential"));
        assert!(parse(&descriptor(&["1"])).is_ok());
    }

    #[test]
    fn a_token_table_and_groups_exclude_each_other_and_one_is_needed() {
        assert!(parse("").unwrap_err().contains("[token]"));
        let short =
            "[token]\nmodule = \"/m.so\"\nlabel = \"a\"\npin_fd = 3\nmanifest = \"/m\"\nmanifest_sha256 = \"\"\n";
        assert_eq!(parse(short).unwrap().home().name, "home");
        assert!(
            parse(&format!("{short}{}", group("main", "[]", &["1"])))
                .unwrap_err()
                .contains("[token]")
        );
    }

    #[test]
    fn an_unknown_option_of_a_group_is_refused() {
        let text = group("main", "[]", &["1"]).replace("name =", "pin = \"1\"\nname =");
        assert!(parse(&text).unwrap_err().contains("`pin`"));
    }
}

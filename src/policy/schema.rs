//! The Cedar schema, made of the action table.

use std::{collections::BTreeSet, fmt::Write};

use super::action;

/// Jobs of the service that act as callers.
pub(super) const JOBS: [&str; 3] = ["init", "destroy-due-versions", "count-uses"];

/// Facts of a request that policies may mention, in the words of the schema.
pub(super) const CONTEXT: [&str; 3] = ["encryption_context_keys", "items", "plaintext_bytes"];

/// The schema in Cedar's own syntax, for the given roles of `identities.toml`.
pub fn schema(roles: &BTreeSet<String>) -> String {
    let mut text = String::from(HEAD);
    let mut line = |line: std::fmt::Arguments<'_>| writeln!(text, "{line}").expect("writing to a string cannot fail");
    line(format_args!("entity Job enum [{}];", quoted(JOBS)));
    if roles.is_empty() {
        line(format_args!("entity Role;"));
    } else {
        line(format_args!("entity Role enum [{}];", quoted(roles)));
    }
    line(format_args!(""));
    for action in action::ALL {
        line(format_args!(
            "action \"{}\" appliesTo {{ principal: [Workload, Job], resource: [{}], context: Request }};",
            action.name, action.resource
        ));
    }
    text
}

fn quoted<T: AsRef<str>>(names: impl IntoIterator<Item = T>) -> String {
    let names: Vec<String> = names.into_iter().map(|name| format!("{:?}", name.as_ref())).collect();
    names.join(", ")
}

const HEAD: &str = r#"// Names are the short ones: Environment::"prod", Team::"prod/payments", Key::"prod/payments/card-pan".
// An environment that does not exist is judged as production; a key that does not exist has no owner, purpose or label.
type Request = {
  encryption_context_keys: Set<String>,  // of each item: a batch is decided for every set of keys in it
  items: Long,                           // 1 for a single call, 0 for a call without data
  plaintext_bytes: Long,                 // of all items together
};

entity Workload in [Role] = { environments: Set<Environment>, teams: Set<Team> };
entity System;
entity Environment = { environment: Environment, name: String, production: Bool };
entity Team in [Environment] = { environment: Environment, name: String };
entity Key in [Team] = { environment: Environment, team: Team, name: String, owner?: String, purpose?: String }
  tags String;  // labels
"#;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cedar_accepts_the_schema_and_knows_every_action() {
        for roles in [BTreeSet::new(), BTreeSet::from(["admin".to_owned()])] {
            let (schema, warnings) = cedar_policy::Schema::from_cedarschema_str(&schema(&roles)).unwrap();
            assert_eq!(warnings.count(), 0);
            assert_eq!(schema.actions().count(), action::ALL.len());
        }
    }
}

//! One set of policies: checked whole when it is loaded, then immutable. It decides, and remembers what it decided.
//!
//! The cache lives and ends with the set, so a reload leaves no stale decision behind. Its key holds everything a decision depends on:
//! caller, action, name, the rows that attributes were read from, and those facts of the request that the loaded policies mention.

use std::{
    collections::BTreeSet,
    hash::{Hash, Hasher},
    sync::Arc,
};

use aws_lc_rs::digest::{self, SHA256};
use cedar_policy::{Authorizer, Decision as Cedar, Policy, PolicyId, Schema, ValidationMode, Validator};
use data_encoding::HEXLOWER;
use moka::sync::Cache;

use super::{
    Context, Fault, InvalidPolicies, Report, View,
    entities::{self, Principal, Target},
    identities::{self, Identities},
    schema,
};
use crate::identity::Identity;

const BUILTIN: &str = include_str!("builtin.cedar");
const BUILTIN_FILE: &str = "built-in";

/// Decisions and callers kept. At some 400 bytes each, the decisions take at most 26 MiB.
const MAX_DECISIONS: u64 = 65_536;
const MAX_PRINCIPALS: u64 = 8_192;

/// Policies, identities, schema, as of one load.
pub(super) struct PolicySet {
    hash: Arc<str>,
    policies: cedar_policy::PolicySet,
    identities: Identities,
    mentioned: Mentioned,
    authorizer: Authorizer,
    principals: Cache<Arc<str>, Arc<Principal>>,
    decisions: Cache<Key, Decision>,
}

/// What was decided, and by which rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Decision {
    pub(super) allowed: bool,
    /// Ids of the determining policies, ascending, joined by `, `; `default-deny` if there is none.
    pub(super) rule: Arc<str>,
}

/// A question to decide.
pub(super) struct Question<'a> {
    pub(super) who: &'a Arc<Identity>,
    pub(super) action: &'static str,
    pub(super) name: &'a Arc<str>,
    pub(super) target: Target<'a>,
    pub(super) context: &'a Context,
    /// Whether a remembered decision will do.
    pub(super) cached: bool,
}

/// Which facts of a request the policies mention.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Mentioned {
    ec_keys: bool,
    items: bool,
    plaintext_bytes: bool,
}

#[derive(Clone, PartialEq, Eq)]
struct Key {
    who: Arc<Identity>,
    action: &'static str,
    name: Arc<str>,
    /// Id and row version of resource and environment; `None` if absent.
    rows: [Option<([u8; 16], u64)>; 2],
    ec_keys: Option<[u8; 32]>,
    items: Option<u32>,
    plaintext_bytes: Option<u64>,
}

impl PolicySet {
    /// Checks and takes `files` (name, text): `identities.toml` and any number of `*.cedar`.
    pub(super) fn compile(files: &[(String, String)]) -> Result<(Self, Report), InvalidPolicies> {
        let mut report = Report::default();
        let identities = identities(files, &mut report);
        let schema_text = schema::schema(&identities.roles);
        let (schema, _) = Schema::from_cedarschema_str(&schema_text).expect("the schema is made of the action table");
        let validator = Validator::new(schema);
        let mut policies = cedar_policy::PolicySet::new();
        let mut mentioned = Mentioned::default();
        let cedar = files.iter().filter(|(name, _)| name.ends_with(".cedar"));
        let builtin = (BUILTIN_FILE.to_owned(), BUILTIN.to_owned());
        for (file, text) in std::iter::once(&builtin).chain(cedar) {
            for policy in read(file, text, &validator, &mut report) {
                mentioned.add(&policy);
                let id = policy.id().to_string();
                match policies.add(policy) {
                    Ok(()) => report.policies.push(id),
                    Err(_) => report.faults.push(Fault::whole(
                        file,
                        format!("`@id(\"{id}\")` is used twice: records name rules by it, so choose another"),
                    )),
                }
            }
        }
        for role in identities.unused_roles() {
            let problem = format!("role `{role}` is declared, but no identity has it");
            report.warnings.push(Fault::whole(identities::FILE, problem));
        }
        report.identities = identities.len();
        if !report.is_ok() {
            return Err(InvalidPolicies(report));
        }
        let hash: Arc<str> = hash(files).into();
        report.hash = Some(hash.clone());
        let set = Self {
            hash,
            policies,
            identities,
            mentioned,
            authorizer: Authorizer::new(),
            principals: Cache::new(MAX_PRINCIPALS),
            decisions: Cache::new(MAX_DECISIONS),
        };
        Ok((set, report))
    }

    /// SHA-256 of everything the set is made of, hex.
    pub(super) fn hash(&self) -> &Arc<str> {
        &self.hash
    }

    /// Ids of environments, and roles.
    pub(super) fn membership(&self, who: &Identity) -> (Vec<String>, Vec<String>) {
        let membership = self.identities.of(&who.actor.id);
        membership.map_or_else(Default::default, |membership| {
            let environments = membership.environments.iter().cloned().collect();
            (environments, membership.roles.iter().cloned().collect())
        })
    }

    /// The caller as this set knows him.
    pub(super) fn principal(&self, who: &Identity) -> Arc<Principal> {
        let id = &who.actor.id;
        let known = self.principals.get(id.as_str());
        known.unwrap_or_else(|| {
            let principal = Arc::new(Principal::new(who, self.identities.of(id)));
            self.principals.insert(id.as_str().into(), principal.clone());
            principal
        })
    }

    /// A batch is allowed if each set of context keys in it is; otherwise the decision is that on the first set that is not.
    pub(super) fn decide(&self, principal: &Principal, question: &Question<'_>) -> Decision {
        let mut sets = question.context.key_sets();
        let first = self.decide_on(principal, question, sets.next().unwrap_or_default());
        // Where no policy mentions the keys, all sets are decided alike.
        if !first.allowed || !self.mentioned.ec_keys {
            return first;
        }
        let refused = sets
            .map(|keys| self.decide_on(principal, question, keys))
            .find(|decision| !decision.allowed);
        refused.unwrap_or(first)
    }

    fn decide_on(&self, principal: &Principal, question: &Question<'_>, ec_keys: &[String]) -> Decision {
        if !question.cached {
            return self.evaluate(principal, question, ec_keys);
        }
        let key = self.key(question, ec_keys);
        self.decisions.get(&key).unwrap_or_else(|| {
            let decision = self.evaluate(principal, question, ec_keys);
            self.decisions.insert(key, decision.clone());
            decision
        })
    }

    fn evaluate(&self, principal: &Principal, question: &Question<'_>, ec_keys: &[String]) -> Decision {
        let (request, entities) =
            entities::request(principal, question.action, &question.target, question.context, ec_keys);
        let response = self.authorizer.is_authorized(&request, &self.policies, &entities);
        // Cedar leaves out a policy that fails to evaluate; a `forbid` left out would allow. Validation should not let it come to that.
        if response.diagnostics().errors().next().is_some() {
            return Decision {
                allowed: false,
                rule: "evaluation-error".into(),
            };
        }
        let rules: BTreeSet<&str> = response.diagnostics().reason().map(AsRef::as_ref).collect();
        let rule = if rules.is_empty() {
            "default-deny".into()
        } else {
            rules.into_iter().collect::<Vec<_>>().join(", ").into()
        };
        Decision {
            allowed: response.decision() == Cedar::Allow,
            rule,
        }
    }

    fn key(&self, question: &Question<'_>, ec_keys: &[String]) -> Key {
        let (context, mentioned) = (question.context, self.mentioned);
        Key {
            who: question.who.clone(),
            action: question.action,
            name: question.name.clone(),
            rows: rows(question.target.seen, question.target.production),
            ec_keys: mentioned.ec_keys.then(|| digest_of(ec_keys)),
            items: mentioned.items.then_some(context.items),
            plaintext_bytes: mentioned.plaintext_bytes.then_some(context.plaintext_bytes),
        }
    }
}

/// The hash leaves out what equal names nearly always share; equality does not.
impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.who.actor.id.hash(state);
        self.action.hash(state);
        self.name.hash(state);
        self.ec_keys.hash(state);
        self.items.hash(state);
        self.plaintext_bytes.hash(state);
    }
}

impl Mentioned {
    /// Looks for `context` in the policy's syntax tree. Used as a whole, it counts as mentioning everything.
    fn add(&mut self, policy: &Policy) {
        let tree = policy
            .to_json()
            .unwrap_or_else(|_| serde_json::json!({ "Var": "context" }));
        self.walk(&tree);
    }

    fn walk(&mut self, tree: &serde_json::Value) {
        use serde_json::Value;
        match tree {
            Value::Array(parts) => parts.iter().for_each(|part| self.walk(part)),
            Value::Object(parts) => {
                if parts.get("Var").and_then(Value::as_str) == Some("context") {
                    *self = Self {
                        ec_keys: true,
                        items: true,
                        plaintext_bytes: true,
                    };
                }
                let of_context = parts.get("left").and_then(|left| left.get("Var")?.as_str()) == Some("context");
                match parts.get("attr").and_then(Value::as_str) {
                    Some(attribute) if of_context && self.mark(attribute) => {}
                    _ => parts.values().for_each(|part| self.walk(part)),
                }
            }
            _ => {}
        }
    }

    /// False if there is no such fact.
    fn mark(&mut self, attribute: &str) -> bool {
        let [ec_keys, items, plaintext_bytes] = schema::CONTEXT;
        self.ec_keys |= attribute == ec_keys;
        self.items |= attribute == items;
        self.plaintext_bytes |= attribute == plaintext_bytes;
        schema::CONTEXT.contains(&attribute)
    }
}

fn identities(files: &[(String, String)], report: &mut Report) -> Identities {
    let Some((_, text)) = files.iter().find(|(name, _)| name == identities::FILE) else {
        report.faults.push(Fault::whole(
            identities::FILE,
            "there is no such file: it says who is who; see policy.example/identities.toml",
        ));
        return Identities::default();
    };
    Identities::parse(text).unwrap_or_else(|faults| {
        report.faults.extend(faults);
        Identities::default()
    })
}

/// The policies of one file under their own names; what is wrong with them goes into the report.
fn read(file: &str, text: &str, validator: &Validator, report: &mut Report) -> Vec<Policy> {
    let set: cedar_policy::PolicySet = match text.parse() {
        Ok(set) => set,
        Err(errors) => {
            let errors: cedar_policy::ParseErrors = errors;
            report
                .faults
                .extend(errors.iter().map(|error| Fault::of(file, text, error)));
            return Vec::new();
        }
    };
    if set.templates().next().is_some() {
        let problem = "templates (`?principal`, `?resource`) have no use here: write the policy out";
        report.faults.push(Fault::whole(file, problem));
    }
    let result = validator.validate(&set, ValidationMode::Strict);
    report
        .faults
        .extend(result.validation_errors().map(|error| Fault::of(file, text, error)));
    report.warnings.extend(
        result
            .validation_warnings()
            .map(|warning| Fault::of(file, text, warning)),
    );
    // Ids count up from `policy0` in the order of the text.
    let mut policies: Vec<&Policy> = set.policies().collect();
    policies.sort_by_key(|policy| {
        let id: &str = policy.id().as_ref();
        id.trim_start_matches("policy").parse::<usize>().unwrap_or(usize::MAX)
    });
    let mut named = Vec::new();
    for (at, policy) in policies.into_iter().enumerate() {
        match policy.annotation("id") {
            Some(id) if is_rule_id(id) => named.push(policy.new_id(PolicyId::new(id))),
            _ => report.faults.push(Fault::whole(
                file,
                format!(
                    "policy {} of the file has no usable name: write `@id(\"name\")` above it, with 1 to 64 of a-z, 0-9 and `-`; records show it",
                    at + 1
                ),
            )),
        }
    }
    named
}

fn is_rule_id(id: &str) -> bool {
    (1..=64).contains(&id.len())
        && id
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

/// `SHA-256(u32 length || name || u32 length || text, …)` over the built-in rules and the files in order of name.
fn hash(files: &[(String, String)]) -> String {
    let mut sorted: Vec<(&str, &str)> = files
        .iter()
        .map(|(name, text)| (name.as_str(), text.as_str()))
        .collect();
    sorted.sort_unstable();
    sorted.insert(0, (BUILTIN_FILE, BUILTIN));
    let mut context = digest::Context::new(&SHA256);
    for part in sorted.into_iter().flat_map(|(name, text)| [name, text]) {
        context.update(&length(part));
        context.update(part.as_bytes());
    }
    HEXLOWER.encode(context.finish().as_ref())
}

fn digest_of(keys: &[String]) -> [u8; 32] {
    let mut context = digest::Context::new(&SHA256);
    for key in keys {
        context.update(&length(key));
        context.update(key.as_bytes());
    }
    context.finish().as_ref().try_into().expect("SHA-256 has 32 bytes")
}

fn length(text: &str) -> [u8; 4] {
    u32::try_from(text.len()).unwrap_or(u32::MAX).to_be_bytes()
}

/// The rows that policies read attributes from. An absent resource in an environment that exists still depends on that environment.
fn rows(seen: Option<View<'_>>, production: bool) -> [Option<([u8; 16], u64)>; 2] {
    let environment = seen.and_then(View::environment);
    let of_environment = environment.map(|environment| (environment.id.to_bytes(), environment.row_version));
    let of_resource = match seen {
        Some(View::Key(key)) => Some((key.id.to_bytes(), key.row_version)),
        Some(View::Team(team)) => Some((team.id.to_bytes(), team.row_version)),
        Some(View::Environment(_) | View::System) => of_environment,
        None => Some(([0; 16], production.into())),
    };
    [of_resource, of_environment]
}

#[cfg(test)]
mod tests;

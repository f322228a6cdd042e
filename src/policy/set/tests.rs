use super::*;
use crate::{
    audit::Actor,
    clock::Timestamp,
    identity::Kind,
    model::{self, EnvironmentId, KeyId, KeyState, KeyVersion, Purpose, Residency, TeamId, TokenAttributes},
    policy::action,
};

const IDENTITIES: &str = r#"
roles = ["encrypter"]
[[identity]]
id = "spiffe://acme.dev/app"
environments = ["dev"]
teams = ["dev/shop"]
roles = ["encrypter"]
"#;

fn compile(policies: &str) -> Result<(PolicySet, Report), InvalidPolicies> {
    compile_with(IDENTITIES, policies)
}

fn compile_with(identities: &str, policies: &str) -> Result<(PolicySet, Report), InvalidPolicies> {
    let files = [("identities.toml", identities), ("apps.cedar", policies)];
    PolicySet::compile(&files.map(|(name, text)| (name.to_owned(), text.to_owned())))
}

fn faults(policies: &str) -> Vec<String> {
    let Err(InvalidPolicies(report)) = compile(policies) else {
        panic!("these policies should be refused: {policies}");
    };
    report.faults.iter().map(ToString::to_string).collect()
}

fn who(id: &str, kind: Kind) -> Arc<Identity> {
    let actor = Actor {
        id: id.to_owned(),
        ..Actor::default()
    };
    Arc::new(Identity {
        actor: Arc::new(actor),
        kind,
    })
}

fn app() -> Arc<Identity> {
    who("spiffe://acme.dev/app", Kind::Workload)
}

/// A key of the given name in an environment that is not production.
fn key(name: &str, labels: &[(&str, &str)], row_version: u64) -> model::Key {
    let name: model::KeyName = name.parse().unwrap();
    let created = Timestamp::from_unix_ms(0);
    let environment = Arc::new(model::Environment {
        id: EnvironmentId::from_bytes([1; 16]),
        name: name.environment(),
        production: false,
        created,
        row_version: 1,
    });
    let team = Arc::new(model::Team {
        id: TeamId::from_bytes([2; 16]),
        name: name.team(),
        environment,
        created,
        row_version: 1,
    });
    let id = KeyId::from_bytes([3; 16]);
    let number = KeyVersion::new(1).unwrap();
    let version = model::Version {
        suite: model::Suite::PrfCommit,
        iv_source: None,
        key: id,
        number,
        state: KeyState::Active,
        state_before: None,
        state_changed: created,
        state_reason: String::new(),
        destroy_at: None,
        blob: None,
        at_birth: TokenAttributes {
            local: true,
            always_sensitive: true,
            never_extractable: false,
            sensitive: true,
            extractable: true,
            modifiable: false,
            copyable: false,
            observed: 0,
        },
        created,
        row_version: 1,
    };
    model::Key {
        id,
        name,
        team,
        purpose: Purpose::EncryptDecrypt,
        residency: Residency::Wrapped,
        owner: "shop".to_owned(),
        labels: labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
        primary: number,
        versions: vec![Arc::new(version)],
        created,
        row_version,
    }
}

/// What the set says of an action on a key, present (`Ok`) or absent (`Err`: its name).
fn ask(set: &PolicySet, who: &Arc<Identity>, action: &'static str, key: Result<&model::Key, &str>) -> Decision {
    ask_with(set, who, action, key, &Context::none())
}

fn ask_with(
    set: &PolicySet,
    who: &Arc<Identity>,
    action: &'static str,
    key: Result<&model::Key, &str>,
    context: &Context,
) -> Decision {
    let name: Arc<str> = match key {
        Ok(key) => key.name.shared(),
        Err(name) => name.parse::<model::KeyName>().unwrap().shared(),
    };
    let question = Question {
        who,
        action,
        name: &name,
        target: Target {
            kind: "Key",
            name: &name,
            seen: key.ok().map(View::Key),
            production: false,
        },
        context,
        cached: true,
    };
    set.decide(&set.principal(who), &question)
}

#[test]
fn without_a_policy_nothing_is_allowed() {
    let (set, _) = compile("").unwrap();
    let key = key("dev/shop/orders", &[], 1);
    for action in action::ALL.iter().filter(|action| action.resource == "Key") {
        let decision = ask(&set, &app(), action.name, Ok(&key));
        assert_eq!(
            (decision.allowed, &*decision.rule),
            (false, "default-deny"),
            "{}",
            action.name
        );
    }
}

#[test]
fn isolation_forbids_even_what_a_policy_permits() {
    let (set, _) = compile(r#"@id("all") permit (principal, action, resource);"#).unwrap();
    let decision = ask(&set, &app(), "Encrypt", Ok(&key("dev/shop/orders", &[], 1)));
    assert_eq!((decision.allowed, &*decision.rule), (true, "all"));
    let decision = ask(&set, &app(), "Encrypt", Ok(&key("prod/shop/orders", &[], 1)));
    assert_eq!((decision.allowed, &*decision.rule), (false, "isolation"));
    let stranger = who("spiffe://acme.dev/other", Kind::Workload);
    let decision = ask(&set, &stranger, "Encrypt", Ok(&key("dev/shop/orders", &[], 1)));
    assert_eq!((decision.allowed, &*decision.rule), (false, "isolation"));
}

#[test]
fn who_cannot_reach_an_environment_is_known_from_the_name_alone() {
    let (set, _) = compile("").unwrap();
    let app = set.principal(&app());
    assert!(app.reaches("envs/dev") && app.reaches("envs/dev/teams/shop/keys/orders") && app.reaches("system"));
    assert!(!app.reaches("envs/prod") && !app.reaches("envs/dev2/teams/shop") && !app.reaches("envs/de"));
}

#[test]
fn jobs_do_what_they_are_for_whatever_policies_permit() {
    let (set, _) = compile(r#"@id("all") permit (principal, action, resource);"#).unwrap();
    let key = key("dev/shop/orders", &[], 1);
    let eraser = who("destroy-due-versions", Kind::Job);
    assert!(ask(&set, &eraser, "EraseKey", Ok(&key)).allowed);
    let decision = ask(&set, &eraser, "Decrypt", Ok(&key));
    assert_eq!((decision.allowed, &*decision.rule), (false, "job-limits"));
    let counter = who("count-uses", Kind::Job);
    assert!(ask(&set, &counter, "ReserveUses", Ok(&key)).allowed);
    assert!(!ask(&set, &counter, "Encrypt", Ok(&key)).allowed);
    assert!(!ask(&set, &who("init", Kind::Job), "EraseKey", Ok(&key)).allowed);
    assert!(!ask(&set, &who("other", Kind::Job), "EraseKey", Ok(&key)).allowed);
}

#[test]
fn absent_keys_are_judged_by_their_names() {
    let (set, _) = compile(
        r#"@id("team") permit (principal in Role::"encrypter", action == Action::"Encrypt", resource is Key)
           when { principal.teams.contains(resource.team) };
           @id("one") permit (principal, action == Action::"ReadKey", resource == Key::"dev/bank/cards");"#,
    )
    .unwrap();
    assert!(ask(&set, &app(), "Encrypt", Err("dev/shop/nothing")).allowed);
    assert!(!ask(&set, &app(), "Encrypt", Err("dev/bank/nothing")).allowed);
    assert!(ask(&set, &app(), "ReadKey", Err("dev/bank/cards")).allowed);
    assert!(!ask(&set, &app(), "ReadKey", Err("dev/bank/nothing")).allowed);
}

#[test]
fn a_changed_label_is_a_new_question() {
    let (set, _) = compile(
        r#"@id("open") permit (principal, action == Action::"Encrypt", resource is Key)
           when { resource.hasTag("tier") && resource.getTag("tier") == "open" };"#,
    )
    .unwrap();
    assert!(
        ask(
            &set,
            &app(),
            "Encrypt",
            Ok(&key("dev/shop/orders", &[("tier", "open")], 1))
        )
        .allowed
    );
    assert!(
        !ask(
            &set,
            &app(),
            "Encrypt",
            Ok(&key("dev/shop/orders", &[("tier", "shut")], 2))
        )
        .allowed
    );
    assert!(!ask(&set, &app(), "Encrypt", Err("dev/shop/orders")).allowed);
}

#[test]
fn cached_decisions_tell_apart_the_facts_that_policies_mention() {
    let (set, _) = compile(
        r#"@id("bound") permit (principal, action == Action::"Encrypt", resource is Key)
           when { context.encryption_context_keys.contains("table") && context.plaintext_bytes <= 10 };"#,
    )
    .unwrap();
    let (ec_keys, plaintext_bytes) = (true, true);
    assert_eq!(
        set.mentioned,
        Mentioned {
            ec_keys,
            items: false,
            plaintext_bytes
        }
    );
    let key = key("dev/shop/orders", &[], 1);
    let context = |name: &str, bytes| Context {
        ec_keys: vec![name.to_owned()],
        ..Context::none().plaintext(bytes)
    };
    let allowed = |context: &Context| ask_with(&set, &app(), "Encrypt", Ok(&key), context).allowed;
    assert!(allowed(&context("table", 10)));
    assert!(!allowed(&context("row", 10)));
    assert!(!allowed(&context("table", 11)));
}

#[test]
fn a_batch_is_allowed_only_if_each_set_of_context_keys_in_it_is() {
    use keyreeve_envelope::context::EncryptionContext;
    let (set, _) = compile(
        r#"@id("bound") permit (principal, action == Action::"Encrypt", resource is Key)
           when { context.encryption_context_keys.contains("table") };"#,
    )
    .unwrap();
    let key = key("dev/shop/orders", &[], 1);
    let of = |name: &str| EncryptionContext::from_pairs([(name, "x")]).unwrap();
    let (table, row, none) = (of("table"), of("row"), EncryptionContext::empty());
    let allowed = |items: &[&EncryptionContext]| {
        let context = Context::of_items(items.iter().copied());
        ask_with(&set, &app(), "Encrypt", Ok(&key), &context).allowed
    };
    // Twice: decided, and remembered.
    for _ in 0..2 {
        assert!(allowed(&[&table]));
        assert!(allowed(&[&table, &table]));
        assert!(!allowed(&[&table, &row]), "one good item does not cover for another");
        assert!(!allowed(&[&none, &table]));
    }
}

#[test]
fn a_mention_of_a_fact_is_found_wherever_it_stands() {
    let mentioned = |condition: &str| {
        let policy =
            format!(r#"@id("x") permit (principal, action == Action::"Encrypt", resource) when {{ {condition} }};"#);
        compile(&policy).unwrap().0.mentioned
    };
    assert_eq!(mentioned("true"), Mentioned::default());
    assert!(mentioned("if context.items > 1 then true else false").items);
    assert!(mentioned("context has items && resource.name like \"a*\"").items);
    assert!(mentioned("[1, context.items].contains(2)").items);
    assert!(mentioned("{a: context}.a.items == 2").items);
    assert!(!mentioned("context.plaintext_bytes > 1").items);
}

#[test]
fn a_cached_decision_is_the_one_first_made() {
    let (set, _) = compile(r#"@id("all") permit (principal, action, resource);"#).unwrap();
    let key = key("dev/shop/orders", &[], 1);
    let first = ask(&set, &app(), "Encrypt", Ok(&key));
    let again = ask(&set, &app(), "Encrypt", Ok(&key));
    assert!(Arc::ptr_eq(&first.rule, &again.rule), "decided anew");
}

#[test]
fn faults_say_file_line_and_what_to_do() {
    let found = faults("@id(\"a\")\npermit (principal, action == Action::\"Encrpyt\", resource);\n");
    assert!(
        found[0].starts_with("apps.cedar:") && found[0].contains("Encrypt"),
        "{found:?}"
    );
    let found = faults("\n\n@id(\"a\") permit (principal in Role::\"encryptor\", action, resource);");
    assert!(found[0].starts_with("apps.cedar:3: "), "{found:?}");
    let found = faults(
        "@id(\"a\")\npermit (principal, action == Action::\"Encrypt\", resource)\nwhen { resource.ownr == \"x\" };",
    );
    assert!(
        found[0].starts_with("apps.cedar:3: ") && found[0].contains("owner"),
        "{found:?}"
    );
    let found = faults("permit (principal, action, resource);");
    assert!(
        found[0].contains("policy 1 of the file has no usable name"),
        "{found:?}"
    );
    let found = faults("@id(\"isolation\") permit (principal, action, resource);");
    assert!(found[0].contains("`@id(\"isolation\")` is used twice"), "{found:?}");
    let found = faults("@id(\"a\")\npermit (principal action, resource);");
    assert!(found[0].starts_with("apps.cedar:2: "), "{found:?}");
    let found = faults("@id(\"a\") permit (principal == ?principal, action, resource);");
    assert!(found[0].contains("templates"), "{found:?}");
}

#[test]
fn a_set_without_identities_is_refused() {
    let Err(InvalidPolicies(report)) = PolicySet::compile(&[]) else {
        panic!("no identities, no set");
    };
    assert!(report.to_string().contains("identities.toml: there is no such file"));
}

#[test]
fn the_hash_covers_policies_names_and_identities() {
    let hash = |identities: &str, policies: &str| compile_with(identities, policies).unwrap().0.hash().clone();
    let policy = r#"@id("a") permit (principal, action, resource);"#;
    let first = hash(IDENTITIES, policy);
    assert_eq!(first, hash(IDENTITIES, policy));
    assert_eq!(first.len(), 64);
    assert_ne!(first, hash(IDENTITIES, &format!("{policy} ")));
    assert_ne!(first, hash(&format!("{IDENTITIES}#"), policy));
}

#[test]
fn the_built_in_rules_and_the_example_have_no_faults_and_no_warnings() {
    let identities = include_str!("../../../policy.example/identities.toml");
    let policies = include_str!("../../../policy.example/apps.cedar");
    let (set, report) = compile_with(identities, policies).unwrap();
    assert_eq!(report.warnings, []);
    let web = who("spiffe://keyreeve.local/prod/shop/web", Kind::Workload);
    let developer = who("spiffe://keyreeve.local/dev/anna", Kind::Workload);
    let admin = who("spiffe://keyreeve.local/admin", Kind::Workload);
    let prod = key("prod/shop/orders", &[], 1);
    let dev = key("dev/shop/orders", &[], 1);
    let allowed = |who: &Arc<Identity>, action, key| ask(&set, who, action, Ok(key)).allowed;
    assert!(allowed(&web, "Encrypt", &prod) && !allowed(&web, "Decrypt", &prod));
    assert!(allowed(&developer, "Decrypt", &dev) && !allowed(&developer, "Decrypt", &prod));
    assert!(allowed(&admin, "RotateKey", &prod) && !allowed(&admin, "Decrypt", &prod));
    assert!(!allowed(&developer, "RotateKey", &dev));
}

/// Not a bound, which would depend on the machine: says on demand what a decision costs (`--nocapture`), and that caching pays.
#[test]
fn a_cached_decision_is_much_cheaper_than_a_new_one() {
    let policies = include_str!("../../../policy.example/apps.cedar");
    let identities = include_str!("../../../policy.example/identities.toml");
    let (set, _) = compile_with(identities, policies).unwrap();
    let web = who("spiffe://keyreeve.local/prod/shop/web", Kind::Workload);
    let prod = key("prod/shop/orders", &[], 1);
    let context = Context::none();
    let principal = set.principal(&web);
    let name = prod.name.shared();
    let time = |cached: bool, rounds: u32| {
        let started = std::time::Instant::now();
        for _ in 0..rounds {
            let question = Question {
                who: &web,
                action: "Encrypt",
                name: &name,
                target: Target {
                    kind: "Key",
                    name: &name,
                    seen: Some(View::Key(&prod)),
                    production: false,
                },
                context: &context,
                cached,
            };
            assert!(set.decide(&principal, &question).allowed);
        }
        started.elapsed() / rounds
    };
    let (new, cached) = (time(false, 200), time(true, 20_000));
    println!("new: {new:?}, cached: {cached:?}");
    assert!(cached * 3 < new, "new: {new:?}, cached: {cached:?}");
}

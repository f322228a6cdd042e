//! The life of a key through the API: what each state allows, what follows what, and what a repeated request does.

#![allow(clippy::unwrap_used)] // all of this file is a test

mod support;

use keyreeve_proto::v1 as proto;
use support::{Client, Outcome, answer, fault, key_name, shared, team_name};
use tonic::Code;

const ACTIVE: &str = "KEY_STATE_ACTIVE";
const SUSPENDED: &str = "KEY_STATE_SUSPENDED";
const DEACTIVATED: &str = "KEY_STATE_DEACTIVATED";
const COMPROMISED: &str = "KEY_STATE_COMPROMISED";
const PENDING: &str = "KEY_STATE_PENDING_DESTRUCTION";

/// What may be done to one version of a key.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Do {
    Suspend,
    Resume,
    Deactivate,
    Compromise,
    Destroy,
    Cancel,
}

use Do::{Cancel, Compromise, Deactivate, Destroy, Resume, Suspend};

impl Client {
    async fn act(&self, key: &str, what: Do, version: u32) -> Outcome<proto::Key> {
        self.act_as(key, what, version, "a test", "").await
    }

    async fn act_as(&self, key: &str, what: Do, version: u32, reason: &str, id: &str) -> Outcome<proto::Key> {
        let (name, reason, request_id) = (key_name(key), reason.to_owned(), id.to_owned());
        macro_rules! call {
            ($method:ident, $request:ident { $($more:tt)* }) => {
                answer(
                    self.keys()
                        .$method(proto::$request { name, version, reason, request_id, $($more)* })
                        .await,
                )
                .map(|answer| answer.key)
            };
        }
        let key = match what {
            Suspend => call!(suspend_key, SuspendKeyRequest {}),
            Resume => call!(resume_key, ResumeKeyRequest {}),
            Deactivate => call!(deactivate_key, DeactivateKeyRequest {}),
            Compromise => call!(compromise_key, CompromiseKeyRequest {}),
            Destroy => call!(destroy_key, DestroyKeyRequest { wait_days: 7 }),
            Cancel => call!(cancel_key_destruction, CancelKeyDestructionRequest {}),
        };
        key.map(|key| key.expect("a key"))
    }
}

async fn admin() -> Client {
    shared().await.admin().await
}

fn state_of(key: &proto::Key, version: u32) -> &'static str {
    let found = key.versions.iter().find(|found| found.version == version);
    found.expect("the version").state().as_str_name()
}

#[tokio::test]
async fn a_new_key_is_active_and_says_what_it_is() {
    let client = admin().await;
    let request = proto::CreateKeyRequest {
        parent: team_name("dev/shop"),
        key_id: "described".to_owned(),
        owner: "ann@example.org".to_owned(),
        labels: [("cost-centre".to_owned(), "4711".to_owned())].into(),
        ..Default::default()
    };
    let made = answer(client.keys().create_key(request.clone()).await)
        .unwrap()
        .key
        .unwrap();
    let read = client.key("dev/shop/described").await.unwrap();
    for key in [&made, &read] {
        assert_eq!(key.name, "envs/dev/teams/shop/keys/described");
        assert_eq!(
            (key.owner.as_str(), key.labels["cost-centre"].as_str()),
            ("ann@example.org", "4711")
        );
        assert_eq!(
            (key.state().as_str_name(), key.primary_version, key.versions.len()),
            (ACTIVE, 1, 1)
        );
        assert_eq!(key.purpose().as_str_name(), "KEY_PURPOSE_ENCRYPT_DECRYPT");
        assert_eq!(key.residency().as_str_name(), "KEY_RESIDENCY_WRAPPED");
        assert!(key.versions[0].suite.starts_with("0002"), "{}", key.versions[0].suite);
        assert_eq!(key.id.len(), 36);
    }
    assert_eq!(made.id, read.id);
    let again = fault(answer(client.keys().create_key(request).await));
    assert_eq!(
        (again.code, again.reason.as_str()),
        (Code::AlreadyExists, "ALREADY_EXISTS")
    );
}

#[tokio::test]
async fn every_state_allows_what_the_table_says_and_nothing_more() {
    let client = admin().await;
    for (name, steps, state, encrypts, decrypts) in [
        ("fresh", [].as_slice(), ACTIVE, true, true),
        ("suspended", &[Suspend], SUSPENDED, false, false),
        ("resumed", &[Suspend, Resume], ACTIVE, true, true),
        ("deactivated", &[Deactivate], DEACTIVATED, false, true),
        ("suspended-for-good", &[Suspend, Deactivate], DEACTIVATED, false, true),
        ("compromised", &[Compromise], COMPROMISED, false, false),
        ("pending", &[Destroy], PENDING, false, false),
        ("cancelled", &[Destroy, Cancel], DEACTIVATED, false, true),
        (
            "cancelled-suspended",
            &[Suspend, Destroy, Cancel],
            SUSPENDED,
            false,
            false,
        ),
        (
            "cancelled-compromised",
            &[Compromise, Destroy, Cancel],
            COMPROMISED,
            false,
            false,
        ),
        (
            "compromised-while-pending",
            &[Destroy, Compromise],
            COMPROMISED,
            false,
            false,
        ),
    ] {
        let key = format!("dev/shop/state-{name}");
        client.create_key(&key).await.unwrap();
        let sealed = client.encrypt(&key, b"hello", &[]).await.unwrap();
        let (plain, envelope) = client.data_key(&key, &[]).await.unwrap();
        for step in steps {
            client
                .act(&key, *step, 0)
                .await
                .unwrap_or_else(|fault| panic!("{name}, {step:?}: {fault:?}"));
        }
        let read = client.key(&key).await.unwrap();
        assert_eq!(
            (read.state().as_str_name(), state_of(&read, 1)),
            (state, state),
            "{name}"
        );
        for (what, result, allowed) in [
            (
                "encrypt",
                client.encrypt(&key, b"hello", &[]).await.map(|_| ()),
                encrypts,
            ),
            ("data key", client.data_key(&key, &[]).await.map(|_| ()), encrypts),
            (
                "decrypt",
                client
                    .decrypt(&key, &sealed, &[])
                    .await
                    .map(|opened| assert_eq!(opened, b"hello")),
                decrypts,
            ),
            (
                "unwrap",
                client
                    .unwrap_data_key(&key, &envelope, &[])
                    .await
                    .map(|opened| assert_eq!(opened, plain)),
                decrypts,
            ),
        ] {
            match result {
                Ok(()) => assert!(allowed, "{name} may {what}"),
                Err(fault) => {
                    assert!(!allowed, "{name} may not {what}: {fault:?}");
                    assert_eq!(
                        (fault.code, fault.reason.as_str()),
                        (Code::FailedPrecondition, "STATE_FORBIDS")
                    );
                }
            }
        }
    }
}

#[tokio::test]
async fn no_other_transition_is_allowed() {
    let client = admin().await;
    for (name, steps, forbidden) in [
        ("active", [].as_slice(), [Resume, Cancel].as_slice()),
        ("suspended", &[Suspend], &[Suspend, Cancel]),
        ("deactivated", &[Deactivate], &[Suspend, Resume, Deactivate, Cancel]),
        (
            "compromised",
            &[Compromise],
            &[Suspend, Resume, Deactivate, Compromise, Cancel],
        ),
        ("pending", &[Destroy], &[Suspend, Resume, Deactivate, Destroy]),
    ] {
        let key = format!("dev/shop/only-{name}");
        client.create_key(&key).await.unwrap();
        for step in steps {
            client.act(&key, *step, 0).await.unwrap();
        }
        let before = client.key(&key).await.unwrap();
        for step in forbidden {
            let fault = fault(client.act(&key, *step, 0).await);
            assert_eq!(
                (fault.code, fault.reason.as_str()),
                (Code::FailedPrecondition, "STATE_FORBIDS"),
                "{name}, {step:?}"
            );
        }
        assert!(
            client.key(&key).await.unwrap() == before,
            "{name}: a refusal changes nothing"
        );
    }
}

#[tokio::test]
async fn rotation_makes_a_new_primary_and_old_ciphertexts_still_open() {
    let (client, key) = (admin().await, "dev/shop/rotated");
    client.create_key(key).await.unwrap();
    let mut sealed = vec![client.encrypt(key, b"1", &[]).await.unwrap()];
    for version in 2..=4u32 {
        let rotated = client.rotate(key).await.unwrap();
        assert_eq!(
            (rotated.primary_version, rotated.versions.len()),
            (version, version as usize)
        );
        assert_eq!(state_of(&rotated, version), ACTIVE);
        assert_eq!(state_of(&rotated, version - 1), DEACTIVATED);
        sealed.push(client.encrypt(key, version.to_string().as_bytes(), &[]).await.unwrap());
    }
    for (at, sealed) in sealed.iter().enumerate() {
        assert_eq!(
            sealed[24..28],
            (at as u32 + 1).to_be_bytes(),
            "the version is in the header"
        );
        assert_eq!(
            client.decrypt(key, sealed, &[]).await.unwrap(),
            (at + 1).to_string().as_bytes()
        );
    }
    // An old version alone is taken out, and the others are not touched.
    client.act(key, Compromise, 2).await.unwrap();
    for (at, sealed) in sealed.iter().enumerate() {
        assert_eq!(
            client.decrypt(key, sealed, &[]).await.is_ok(),
            at != 1,
            "version {}",
            at + 1
        );
    }
    assert_eq!(client.key(key).await.unwrap().state().as_str_name(), ACTIVE);
    let missing = fault(client.act(key, Suspend, 9).await);
    assert_eq!(missing.code, Code::NotFound);
}

#[tokio::test]
async fn destruction_waits_as_long_as_asked_and_can_be_cancelled() {
    let (client, key) = (admin().await, "dev/shop/destroyed-later");
    client.create_key(key).await.unwrap();
    client.rotate(key).await.unwrap();
    let destroy = async |wait_days: u32| {
        let request = proto::DestroyKeyRequest {
            name: key_name(key),
            wait_days,
            reason: "no longer needed".to_owned(),
            ..Default::default()
        };
        answer(client.keys().destroy_key(request).await).map(|answer| answer.key.unwrap())
    };
    for days in [1, 6, 31, u32::MAX] {
        assert_eq!(fault(destroy(days).await).code, Code::InvalidArgument, "{days}");
    }
    let pending = destroy(0).await.unwrap();
    for version in &pending.versions {
        assert_eq!(version.state().as_str_name(), PENDING);
        assert_eq!(version.state_reason, "no longer needed");
        let (now, then) = (version.state_change_time.unwrap(), version.destroy_time.unwrap());
        assert_eq!(then.seconds - now.seconds, 30 * 86_400, "0 is 30 days");
    }
    let back = client.act(key, Cancel, 0).await.unwrap();
    assert!(
        back.versions
            .iter()
            .all(|version| version.state().as_str_name() == DEACTIVATED)
    );
    assert!(back.versions.iter().all(|version| version.destroy_time.is_none()));
}

#[tokio::test]
async fn production_refuses_destruction() {
    let (client, key) = (admin().await, "prod/payments/card-pan");
    client.create_key(key).await.unwrap();
    let refused = fault(client.act(key, Destroy, 0).await);
    assert_eq!(
        (refused.code, refused.reason.as_str()),
        (Code::FailedPrecondition, "APPROVAL_REQUIRED")
    );
    client.encrypt(key, b"still works", &[]).await.unwrap();
}

#[tokio::test]
async fn a_repeated_request_id_answers_the_same_and_does_nothing_again() {
    let client = admin().await;
    let id = "3f0c1f0a-8f53-4a4e-9c3b-0e6f2a1b7c5d";
    let create = |key_id: &str| proto::CreateKeyRequest {
        parent: team_name("dev/shop"),
        key_id: key_id.to_owned(),
        request_id: id.to_owned(),
        ..Default::default()
    };
    let first = answer(client.keys().create_key(create("idempotent")).await)
        .unwrap()
        .key
        .unwrap();
    let again = answer(client.keys().create_key(create("idempotent")).await)
        .unwrap()
        .key
        .unwrap();
    assert!(first == again);
    let other = fault(answer(client.keys().create_key(create("idempotent-2")).await));
    assert_eq!(
        (other.code, other.reason.as_str()),
        (Code::InvalidArgument, "REQUEST_ID_REUSED")
    );
    // The id belongs to caller and method: the same one elsewhere is another.
    let rotate = || proto::RotateKeyRequest {
        name: key_name("dev/shop/idempotent"),
        request_id: id.to_owned(),
    };
    for _ in 0..3 {
        let rotated = answer(client.keys().rotate_key(rotate()).await).unwrap().key.unwrap();
        assert_eq!(rotated.primary_version, 2, "rotated once");
    }
    let key = "dev/shop/idempotent";
    client.act_as(key, Suspend, 0, "once", id).await.unwrap();
    client.act(key, Resume, 0).await.unwrap();
    client.act_as(key, Suspend, 0, "once", id).await.unwrap();
    assert_eq!(
        client.key(key).await.unwrap().state().as_str_name(),
        ACTIVE,
        "suspended once, resumed since"
    );
    let other = fault(client.act_as(key, Suspend, 0, "twice", id).await);
    assert_eq!(other.reason, "REQUEST_ID_REUSED");
}

#[tokio::test]
async fn concurrent_rotations_never_give_a_version_twice() {
    let (client, key) = (admin().await, "dev/shop/raced");
    client.create_key(key).await.unwrap();
    let tasks: Vec<_> = (0..8)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move { client.rotate(key).await.map(|key| key.primary_version) })
        })
        .collect();
    let mut won = Vec::new();
    for task in tasks {
        match task.await.unwrap() {
            Ok(version) => won.push(version),
            Err(fault) => assert_eq!((fault.code, fault.reason.as_str()), (Code::Aborted, "CONFLICT")),
        }
    }
    won.sort_unstable();
    assert_eq!(won, (2..2 + won.len() as u32).collect::<Vec<_>>());
    let read = client.key(key).await.unwrap();
    assert_eq!(read.versions.len(), won.len() + 1);
    let active = read
        .versions
        .iter()
        .filter(|version| version.state().as_str_name() == ACTIVE);
    assert_eq!(active.count(), 1);
}

#[tokio::test]
async fn lists_come_in_pages_in_order_of_name() {
    let client = admin().await;
    let request = proto::CreateTeamRequest {
        parent: "envs/dev".to_owned(),
        team_id: "listing".to_owned(),
        ..Default::default()
    };
    answer(client.keys().create_team(request).await).map(drop).unwrap();
    for at in 0..7 {
        client.create_key(&format!("dev/listing/key-{at}")).await.unwrap();
    }
    let page = async |page_size: i32, page_token: &str| {
        let request = proto::ListKeysRequest {
            parent: team_name("dev/listing"),
            page_size,
            page_token: page_token.to_owned(),
        };
        answer(client.keys().list_keys(request).await).map(|page| {
            (
                page.keys.into_iter().map(|key| key.name).collect::<Vec<_>>(),
                page.next_page_token,
            )
        })
    };
    let all: Vec<String> = (0..7).map(|at| key_name(&format!("dev/listing/key-{at}"))).collect();
    let (names, next) = page(0, "").await.unwrap();
    assert_eq!((names, next.as_str()), (all.clone(), ""));
    let (mut names, mut next) = page(3, "").await.unwrap();
    let mut sizes = vec![names.len()];
    while !next.is_empty() {
        let (more, after) = page(3, &next).await.unwrap();
        sizes.push(more.len());
        names.extend(more);
        next = after;
    }
    assert_eq!((names, sizes), (all, vec![3, 3, 1]));
    let (_, next) = page(3, "").await.unwrap();
    let forged = format!("{}A", &next[..next.len() - 1]);
    for token in ["x", "AAAA", &forged[..forged.len() - 4]] {
        assert_eq!(fault(page(3, token).await).code, Code::InvalidArgument, "{token}");
    }
    assert_eq!(fault(page(-1, "").await).code, Code::InvalidArgument);
    // A token is of one list and one caller.
    let request = proto::ListKeysRequest {
        parent: team_name("dev/shop"),
        page_size: 3,
        page_token: next.clone(),
    };
    assert_eq!(
        fault(answer(client.keys().list_keys(request).await)).code,
        Code::InvalidArgument
    );
    let environments = proto::ListEnvironmentsRequest {
        page_size: 2,
        ..Default::default()
    };
    let first = answer(client.keys().list_environments(environments).await).unwrap();
    let names: Vec<_> = first
        .environments
        .iter()
        .map(|environment| environment.name.as_str())
        .collect();
    assert_eq!(names, ["envs/dev", "envs/prod"]);
    assert_ne!(first.next_page_token, "");
}

#[tokio::test]
async fn an_environment_needs_a_token_group_and_names_are_checked() {
    let client = admin().await;
    let create = async |id: &str| {
        let request = proto::CreateEnvironmentRequest {
            environment_id: id.to_owned(),
            ..Default::default()
        };
        fault(answer(client.keys().create_environment(request).await).map(drop))
    };
    assert_eq!(create("unbound").await.reason, "ENVIRONMENT_UNBOUND");
    assert_eq!(create("dev").await.code, Code::AlreadyExists);
    for name in ["", "a", "Dev", "dev_1", "-dev", "dev-", "1dev", &"d".repeat(64)] {
        assert_eq!(create(name).await.code, Code::InvalidArgument, "{name}");
    }
}

#[tokio::test]
async fn an_attestation_speaks_of_a_software_token_in_the_words_of_the_claims() {
    let (client, key) = (admin().await, "dev/shop/attested");
    client.create_key(key).await.unwrap();
    let request = proto::AttestKeyRequest { name: key_name(key) };
    let said = answer(client.keys().attest_key(request).await).unwrap();
    let master = said.master_key.unwrap();
    assert!(said.software_token, "SoftHSM is not hardware");
    assert!(master.local && master.always_sensitive && master.never_extractable);
    assert!(master.sensitive && !master.extractable && !master.modifiable && !master.copyable);
    let version = &said.versions[0];
    let (birth, in_use) = (version.at_birth.as_ref().unwrap(), version.in_use.as_ref().unwrap());
    assert!(birth.local && birth.always_sensitive && birth.extractable);
    assert!(in_use.sensitive && !in_use.extractable && !in_use.modifiable && !in_use.copyable);
    assert!(
        !in_use.never_extractable && !in_use.local,
        "what is unwrapped cannot say so"
    );
    assert_eq!(version.kcv.len(), 32);
    let claims = [version.claims.join("\n"), said.master_key_claims.join("\n")]
        .concat()
        .to_lowercase();
    assert!(!claims.contains("hardware"), "{claims}");
}

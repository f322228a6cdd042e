//! The gate over a real store, with a writer of the log that the test plays.

use std::{sync::Mutex, time::Duration};

use keyreeve_envelope::context::EncryptionContext;
use tokio::{sync::mpsc, time::timeout};

use super::*;
use crate::{
    audit::{CommitError, Entry},
    identity::RequestFacts,
    model::{EnvironmentName, KeyName, TeamName},
    policy::{System, action},
    store::testing::{Place, seed},
};

const APP: &str = "spiffe://acme.dev/app";
const OUTSIDER: &str = "spiffe://acme.dev/outsider";

/// The app belongs to `dev` and to an environment that was never made.
const IDENTITIES: &str = r#"
roles = []
[[identity]]
id = "spiffe://acme.dev/app"
environments = ["dev", "nowhere"]
[[identity]]
id = "spiffe://acme.dev/outsider"
environments = ["other"]
"#;

const ALL: &str = r#"@id("all") permit (principal, action, resource);"#;
const NONE: &str = "";
const NOT_DECRYPT: &str = r#"@id("all") permit (principal, action, resource);
@id("no-decrypt") forbid (principal, action == Action::"Decrypt", resource);"#;

struct Site {
    gate: Gate,
    queue: mpsc::Receiver<Entry>,
    _place: Place,
}

/// `dev/shop/orders` in the store, these policies, and room for so many entries.
async fn site(policies: &str, room: usize) -> Site {
    let place = Place::new();
    let (directory, mut committer) = place.open().await.unwrap();
    seed(&mut committer).await;
    site_on(place, directory, policies, room)
}

fn site_on(place: Place, directory: Directory, policies: &str, room: usize) -> Site {
    let (sender, queue) = mpsc::channel(room);
    let policies = Policies::from_texts(&[("identities.toml", IDENTITIES), ("apps.cedar", policies)]).unwrap();
    let clock = Arc::new(place.clock.clone());
    Site {
        gate: Gate::new(Log::new(sender), directory, policies, clock),
        queue,
        _place: place,
    }
}

impl Site {
    /// Commits whatever comes, and shows the drafts of each commit.
    fn commit_all(self) -> (Gate, Arc<Mutex<Vec<Vec<Draft>>>>, Place) {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (mut queue, commits) = (self.queue, seen.clone());
        tokio::spawn(async move {
            while let Some(entry) = queue.recv().await {
                commits.lock().unwrap().push(entry.drafts);
                if let Some(done) = entry.done {
                    let _ = done.send(Ok(()));
                }
            }
        });
        (self.gate, seen, self._place)
    }
}

fn caller(id: &str) -> Caller {
    Caller::for_test(id, RequestFacts::for_test(30))
}

fn key(name: &str) -> KeyName {
    name.parse().unwrap()
}

async fn next(queue: &mut mpsc::Receiver<Entry>) -> Entry {
    timeout(Duration::from_secs(10), queue.recv()).await.unwrap().unwrap()
}

/// What a permit's record says: dropping it sends the record.
async fn dropped<A: Action>(permit: Permit<A>, queue: &mut mpsc::Receiver<Entry>) -> Draft {
    drop(permit);
    next(queue).await.drafts.remove(0)
}

#[tokio::test]
async fn without_room_in_the_log_nothing_is_decided() {
    let site = site(NONE, 1).await;
    let _taken = site.gate.log.reserve(std::time::Instant::now()).await.unwrap();
    let hurried = Caller::for_test(APP, RequestFacts::for_test(0));
    let result = site
        .gate
        .permit::<action::Encrypt>(&hurried, &key("dev/shop/orders"), Context::none())
        .await;
    // Decided, it would be `Denied`.
    assert!(matches!(result, Err(Error::Overloaded { .. })));
    let Site { gate, queue, .. } = site;
    drop(queue);
    let result = gate
        .permit::<action::Encrypt>(&hurried, &key("dev/shop/orders"), Context::none())
        .await;
    assert!(matches!(result, Err(Error::LogUnavailable)));
}

#[tokio::test]
async fn a_refusal_is_answered_only_after_its_record_is_committed() {
    let Site {
        gate,
        mut queue,
        _place,
    } = site(NOT_DECRYPT, 4).await;
    let context = Context::of(&EncryptionContext::from_pairs([("table", "orders")]).unwrap()).plaintext(7);
    let task = tokio::spawn(async move {
        let permit = gate
            .permit::<action::Decrypt>(&caller(APP), &key("dev/shop/orders"), context)
            .await;
        permit.map(drop).unwrap_err()
    });
    let entry = next(&mut queue).await;
    let [draft] = &entry.drafts[..] else {
        panic!("one record")
    };
    assert_eq!((draft.verdict, draft.code), (Verdict::Refused, "PERMISSION_DENIED"));
    assert_eq!((&*draft.rule, draft.operation), ("no-decrypt", "Decrypt"));
    assert_eq!(&*draft.object, "envs/dev/teams/shop/keys/orders");
    assert_eq!(draft.environment.as_deref(), Some("envs/dev"));
    assert_eq!((draft.actor.id.as_str(), &*draft.request_id), (APP, "request-1"));
    assert_eq!(
        (draft.ec_keys.join(" ").as_str(), draft.items, draft.bytes_in),
        ("table", 1, 7)
    );
    assert_eq!(draft.policy.len(), 64);
    assert!(draft.time.is_some() && draft.ec.is_some());
    assert!(!task.is_finished(), "answered before the commit");
    entry.done.unwrap().send(Ok(())).unwrap();
    assert!(matches!(task.await.unwrap(), Error::Denied { action: "Decrypt", .. }));
}

#[tokio::test]
async fn a_refusal_that_cannot_be_recorded_is_not_told() {
    let Site {
        gate,
        mut queue,
        _place,
    } = site(NONE, 4).await;
    let (caller, name) = (caller(APP), key("dev/shop/orders"));
    let (result, ()) = tokio::join!(gate.permit::<action::Encrypt>(&caller, &name, Context::none()), async {
        let _ = next(&mut queue).await.done.unwrap().send(Err(CommitError::Unwritable));
    });
    assert!(matches!(result, Err(Error::LogUnavailable)));
}

#[tokio::test]
async fn a_permit_dropped_unused_is_recorded_as_aborted() {
    let Site {
        gate,
        mut queue,
        _place,
    } = site(ALL, 4).await;
    let permit = gate
        .permit::<action::Encrypt>(&caller(APP), &key("dev/shop/orders"), Context::none())
        .await
        .unwrap();
    assert_eq!(permit.on().name, key("dev/shop/orders"));
    assert!(queue.try_recv().is_err(), "a permit is no record yet");
    let draft = dropped(permit, &mut queue).await;
    assert_eq!((draft.verdict, &*draft.rule), (Verdict::Aborted, "all"));
    assert!(draft.key.is_some());
}

#[tokio::test]
async fn absent_and_forbidden_get_the_same_answer_and_both_are_recorded() {
    let (gate, commits, _place) = site(NOT_DECRYPT, 4).await.commit_all();
    let refused = async |id: &str, name: &str| {
        let result = gate
            .permit::<action::Decrypt>(&caller(id), &key(name), Context::none())
            .await;
        result
            .map(drop)
            .unwrap_err()
            .to_string()
            .replace(key(name).as_str(), "NAME")
    };
    let present = refused(APP, "dev/shop/orders").await;
    assert!(present.contains("may not Decrypt"), "{present}");
    for name in [
        "dev/shop/nothing",
        "dev/nobody/nothing",
        "nowhere/nobody/nothing",
        "prod/shop/orders",
    ] {
        assert_eq!(refused(APP, name).await, present, "{name}");
    }
    assert_eq!(refused(OUTSIDER, "dev/shop/orders").await, present);
    assert_eq!(refused(OUTSIDER, "dev/shop/nothing").await, present);
    let commits = commits.lock().unwrap();
    assert_eq!(commits.len(), 7);
    assert!(
        commits
            .iter()
            .flatten()
            .all(|draft| draft.verdict == Verdict::Refused && draft.key.is_none())
    );
    assert_eq!(commits[1][0].environment.as_deref(), Some("envs/dev"));
}

#[tokio::test]
async fn who_would_be_allowed_learns_that_a_thing_is_absent() {
    let (gate, commits, _place) = site(ALL, 4).await.commit_all();
    let result = gate
        .permit::<action::Encrypt>(&caller(APP), &key("dev/shop/nothing"), Context::none())
        .await;
    assert!(matches!(result, Err(Error::NotFound(name)) if name == "envs/dev/teams/shop/keys/nothing"));
    let team: TeamName = "nowhere/nobody".parse().unwrap();
    let result = gate
        .permit::<action::CreateKey>(&caller(APP), &team, Context::none())
        .await;
    assert!(matches!(result, Err(Error::NotFound(_))));
    let commits = commits.lock().unwrap();
    assert_eq!(
        (commits[0][0].verdict, commits[0][0].code),
        (Verdict::Error, "NOT_FOUND")
    );
    assert_eq!(commits.len(), 2);
}

#[tokio::test]
async fn isolation_holds_against_a_policy_that_permits_everything() {
    let (gate, commits, _place) = site(ALL, 4).await.commit_all();
    let environment: EnvironmentName = "envs/dev".parse().unwrap();
    let outsider = caller(OUTSIDER);
    let result = gate
        .permit::<action::ReadEnvironment>(&outsider, &environment, Context::none())
        .await;
    assert!(matches!(result, Err(Error::Denied { .. })));
    assert!(
        gate.permit::<action::ReadEnvironment>(&caller(APP), &environment, Context::none())
            .await
            .is_ok()
    );
    assert!(
        gate.permit::<action::WhoAmI>(&outsider, &System, Context::none())
            .await
            .is_ok()
    );
    assert_eq!(&*commits.lock().unwrap()[0][0].rule, "isolation");
}

#[tokio::test]
async fn a_cached_decision_ends_with_the_policies_it_came_from() {
    let (gate, _, _place) = site(ALL, 4).await.commit_all();
    let name = key("dev/shop/orders");
    let ask = async || {
        gate.permit::<action::Encrypt>(&caller(APP), &name, Context::none())
            .await
            .is_ok()
    };
    assert!(ask().await && ask().await);
    let before = gate.policies().hash();
    gate.policies().replace(&[("identities.toml", IDENTITIES)]).unwrap();
    assert!(!ask().await, "the decision outlived its policies");
    assert_ne!(gate.policies().hash(), before);
    assert!(gate.policies().replace(&[("identities.toml", "nonsense")]).is_err());
    assert!(!ask().await);
    gate.policies()
        .replace(&[("identities.toml", IDENTITIES), ("apps.cedar", ALL)])
        .unwrap();
    assert!(ask().await);
}

#[tokio::test]
async fn decisions_that_change_the_store_are_made_anew_each_time() {
    let Site {
        gate,
        mut queue,
        _place,
    } = site(ALL, 4).await;
    let team: TeamName = "dev/shop".parse().unwrap();
    let name = key("dev/shop/orders");
    let (mut new, mut cached) = (Vec::new(), Vec::new());
    for _ in 0..2 {
        let permit = gate
            .permit::<action::CreateKey>(&caller(APP), &team, Context::none())
            .await
            .unwrap();
        new.push(dropped(permit, &mut queue).await.rule);
        let permit = gate
            .permit::<action::Encrypt>(&caller(APP), &name, Context::none())
            .await
            .unwrap();
        cached.push(dropped(permit, &mut queue).await.rule);
    }
    assert!(!Arc::ptr_eq(&new[0], &new[1]), "a cached decision allowed a change");
    assert!(Arc::ptr_eq(&cached[0], &cached[1]), "the cache is not used");
}

#[tokio::test]
async fn a_pair_needs_both_and_records_both_in_one_commit() {
    let forbid_to = r#"@id("all") permit (principal, action, resource);
        @id("no-to") forbid (principal, action == Action::"ReEncryptTo", resource);"#;
    let (gate, commits, _place) = site(forbid_to, 4).await.commit_all();
    let name = key("dev/shop/orders");
    let absent = key("dev/shop/nothing");
    for from in [&name, &absent] {
        let pair = gate
            .permit_pair::<action::ReEncryptFrom, action::ReEncryptTo>(
                &caller(APP),
                (from, Context::none()),
                (&name, Context::none()),
            )
            .await;
        assert!(matches!(
            pair,
            Err(Error::Denied {
                action: "ReEncryptTo",
                ..
            })
        ));
    }
    let commits = commits.lock().unwrap().clone();
    let verdicts = |at: usize| commits[at].iter().map(|draft| draft.verdict).collect::<Vec<_>>();
    assert_eq!(commits.len(), 2);
    assert_eq!(verdicts(0), [Verdict::Aborted, Verdict::Refused]);
    assert_eq!(verdicts(1), [Verdict::Error, Verdict::Refused]);
}

#[tokio::test]
async fn many_pairs_do_not_wait_for_each_other_for_ever() {
    // Room for two entries: with places taken one by one, two callers would each hold one and wait for the other's.
    let (gate, commits, _place) = site(ALL, 2).await.commit_all();
    let tasks: Vec<_> = (0..32)
        .map(|_| {
            let gate = gate.clone();
            tokio::spawn(async move {
                let name = key("dev/shop/orders");
                let (first, second) = ((&name, Context::none()), (&name, Context::none()));
                let caller = caller(APP);
                let pair = gate.permit_pair::<action::ReEncryptFrom, action::ReEncryptTo>(&caller, first, second);
                pair.await.map(drop)
            })
        })
        .collect();
    for task in tasks {
        timeout(Duration::from_secs(20), task)
            .await
            .expect("no deadlock")
            .unwrap()
            .unwrap();
    }
    drop(gate);
    assert!(commits.lock().unwrap().len() >= 60);
}

#[tokio::test]
async fn a_fault_of_the_store_is_told_only_to_whom_the_thing_is_open() {
    let place = Place::new();
    let (directory, mut committer) = place.open().await.unwrap();
    seed(&mut committer).await;
    drop((directory, committer));
    let (directory, _committer) = place.open().await.unwrap();
    place.tamper("UPDATE keys SET owner = 'mallory'").await;
    let (gate, commits, _place) = site_on(place, directory, NOT_DECRYPT, 4).commit_all();
    let name = key("dev/shop/orders");
    let result = gate
        .permit::<action::Encrypt>(&caller(APP), &name, Context::none())
        .await;
    assert!(matches!(result, Err(Error::Tampered { .. })), "{:?}", result.map(drop));
    let result = gate
        .permit::<action::Decrypt>(&caller(APP), &name, Context::none())
        .await;
    assert!(matches!(result, Err(Error::Denied { .. })));
    assert_eq!(commits.lock().unwrap()[0][0].code, "INTEGRITY_FAILED");
}

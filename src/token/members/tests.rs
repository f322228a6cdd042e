use std::time::Duration;

use super::*;
use crate::token::software_host::SoftwareHost;

const LANE: Lane = Lane::OWN;

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(5)
}

fn random() -> Call {
    Call::Random { length: 8 }
}

fn group(serials: &[&str]) -> (Members, Vec<Arc<SoftwareHost>>) {
    let members = Members::new(serials.iter().map(ToString::to_string));
    let hosts: Vec<_> = serials.iter().map(|serial| SoftwareHost::named(serial)).collect();
    for (member, host) in members.list().iter().zip(&hosts) {
        member.open(host.clone());
    }
    (members, hosts)
}

fn dead() -> Option<TokenError> {
    Some(TokenError::Unavailable("gone".into()))
}

#[tokio::test]
async fn what_one_token_fails_to_do_another_one_does() {
    let (members, hosts) = group(&["a", "b"]);
    hosts[0].fail_with(dead());
    for _ in 0..10 {
        let worked = members.run(random(), LANE, soon()).await.ok().unwrap();
        assert_eq!(&*worked.serial, "b");
    }
    hosts[1].fail_with(dead());
    assert!(members.run(random(), LANE, soon()).await.is_err());
}

#[tokio::test]
async fn what_the_caller_or_the_queue_is_the_reason_of_is_not_tried_again() {
    let (members, hosts) = group(&["a", "b"]);
    let refusals = [
        TokenError::Refused("no such mechanism".into()),
        TokenError::Expired,
        TokenError::BlobTag,
        TokenError::Overloaded {
            retry_after: Duration::ZERO,
        },
    ];
    for refusal in refusals {
        hosts.iter().for_each(|host| host.fail_with(Some(refusal.clone())));
        let before = hosts[0].calls("Random") + hosts[1].calls("Random");
        assert!(members.run(random(), LANE, soon()).await.is_err());
        assert_eq!(
            hosts[0].calls("Random") + hosts[1].calls("Random"),
            before + 1,
            "{refusal:?}"
        );
    }
}

#[tokio::test]
async fn a_token_that_does_not_serve_is_the_last_to_be_asked() {
    let (members, hosts) = group(&["a", "b"]);
    hosts[0].distrust("wrong");
    for _ in 0..10 {
        members.run(random(), LANE, soon()).await.ok().unwrap();
    }
    assert_eq!((hosts[0].calls("Random"), hosts[1].calls("Random")), (0, 10));
}

#[tokio::test]
async fn load_goes_to_the_token_with_the_least_under_way() {
    let (members, _) = group(&["a", "b", "c"]);
    let counted = [&members.0[0], &members.0[1]].map(|member| Counted::new(&member.under_way));
    let worked = members.run(random(), LANE, soon()).await.ok().unwrap();
    assert_eq!(&*worked.serial, "c");
    drop(counted);
    assert!(
        members
            .0
            .iter()
            .all(|member| member.under_way.load(Ordering::Relaxed) == 0)
    );
}

#[tokio::test]
async fn a_second_opinion_comes_from_another_token_or_not_at_all() {
    let (members, hosts) = group(&["a", "b"]);
    let second = members.run_elsewhere("a", random(), LANE, soon()).await.unwrap();
    assert_eq!(&*second.ok().unwrap().serial, "b");
    members.list()[1].close("taken out");
    let none = members.run_elsewhere("a", random(), LANE, soon()).await.unwrap();
    assert!(matches!(none, Err(TokenError::Unavailable(_))));
    assert_eq!(hosts[0].calls("Random"), 0);
    let alone = Members::alone(SoftwareHost::named("a"));
    assert!(alone.run_elsewhere("a", random(), LANE, soon()).await.is_none());
}

#[tokio::test]
async fn a_token_that_is_not_open_says_why() {
    let members = Members::new(["label `x`".to_owned()]);
    members.list()[0].lacks("the module is missing");
    assert!(!members.serves());
    let error = members.run(random(), LANE, soon()).await.err().unwrap().to_string();
    assert!(
        error.contains("label `x`") && error.contains("the module is missing"),
        "{error}"
    );
    let [status] = &members.status()[..] else {
        panic!("one token")
    };
    assert_eq!(status.fault.as_deref(), Some("the module is missing"));
}

#[tokio::test]
async fn what_every_token_must_know_is_told_to_every_one_that_is_open() {
    let (members, hosts) = group(&["a", "b", "c"]);
    members.list()[2].close("taken out");
    let call = Call::Evict { blob: [7; 32] };
    assert_eq!(members.run_on_all(&call, &LANE, soon()).await.len(), 2);
    assert_eq!(&*members.absent()[0].0, "c");
    let told: Vec<_> = hosts.iter().map(|host| host.evicted().len()).collect();
    assert_eq!(told, [1, 1, 0]);
}

//! Rule 5, where the application has turned it on.

use std::time::{Duration, Instant};

use keyreeve_client::{Client, Code, EventName, v1};

use crate::{
    World, encrypt,
    service::{Reply, Service, status, unavailable},
};

const AFTER: Duration = Duration::from_millis(50);

impl World {
    async fn hedging(&self, services: &[&Service]) -> Client {
        let mut config = self.config(services);
        config.hedge_after = Some(AFTER);
        Client::connect(config).await.unwrap()
    }
}

#[tokio::test]
async fn rule_5_a_slow_endpoint_is_helped_out_by_another_and_keeps_its_calls() {
    let world = World::new();
    let (slow, other) = (world.service().await, world.service().await);
    let client = world.hedging(&[&slow, &other]).await;
    slow.reply([Reply::Silence]);
    let begun = Instant::now();
    client.encrypt(encrypt()).await.unwrap();
    assert!((AFTER..Duration::from_secs(5)).contains(&begun.elapsed()));
    assert_eq!((slow.seen().len(), other.seen().len()), (1, 1));
    assert_eq!(slow.seen()[0].id, other.seen()[0].id, "rule 10");
    assert_eq!(world.told(EventName::Hedge).len(), 1);
    let call = &world.told(EventName::Call)[0];
    assert_eq!((call.reason.as_str(), call.tries), ("OK", 2));
    client.encrypt(encrypt()).await.unwrap();
    assert_eq!(
        (slow.seen().len(), other.seen().len()),
        (2, 1),
        "one slow call moves nobody"
    );
}

#[tokio::test]
async fn rule_5_a_refusal_is_an_answer_and_an_outage_of_one_is_not() {
    let world = World::new();
    let (slow, other) = (world.service().await, world.service().await);
    let client = world.hedging(&[&slow, &other]).await;
    slow.reply([Reply::Silence]);
    other.reply([Reply::Refuse(status(Code::PermissionDenied, "PERMISSION_DENIED", None))]);
    let error = client.encrypt(encrypt()).await.err().unwrap();
    assert_eq!((error.reason.as_str(), error.tries), ("PERMISSION_DENIED", 2));

    slow.reply([Reply::Late(AFTER * 4)]);
    other.reply([unavailable("TOKEN_UNAVAILABLE")]);
    client.encrypt(encrypt()).await.unwrap();
    assert_eq!((slow.seen().len(), other.seen().len()), (2, 2), "it was no retry");
}

#[tokio::test]
async fn rule_5_a_change_is_never_sent_twice_at_once_nor_is_anything_to_one_endpoint() {
    let world = World::new();
    let (slow, other) = (world.service().await, world.service().await);
    let client = world.hedging(&[&slow, &other]).await;
    slow.reply([Reply::Late(AFTER * 4)]);
    client.rotate_key(v1::RotateKeyRequest::default()).await.unwrap();
    assert_eq!(other.seen().len(), 0);

    let alone = world.hedging(&[&slow]).await;
    slow.reply([Reply::Late(AFTER * 4)]);
    alone.encrypt(encrypt()).await.unwrap();
    assert_eq!(slow.seen().len(), 2);
    assert_eq!(world.told(EventName::Hedge), []);
}

#[tokio::test]
async fn rule_5_second_requests_take_from_the_budget() {
    let world = World::new();
    let (slow, other) = (world.service().await, world.service().await);
    let client = world.hedging(&[&slow, &other]).await;
    slow.always(Reply::Late(AFTER * 4));
    for _ in 0..15 {
        client.encrypt(encrypt()).await.unwrap();
    }
    // A burst of ten, and a tenth of the calls.
    assert!((10..=11).contains(&other.seen().len()), "{}", other.seen().len());
    assert!(!world.told(EventName::BudgetExhausted).is_empty());
}

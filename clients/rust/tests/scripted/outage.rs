//! The service was there, and nobody answers (rule 2, "an outage").

use std::time::{Duration, Instant};

use keyreeve_client::{Client, ClientError, Code, EventName, Pipeline, v1};
use tokio::task::JoinSet;

use crate::{
    World, encrypt,
    service::{Reply, Service, unavailable},
};

/// More than the ten retries of the budget, and more than the operations that are under way on one stream.
const CALLERS: usize = 96;
/// Longer than the waits of four retries together.
const OUTAGE: Duration = Duration::from_millis(1_200);

/// A client that was answered.
async fn answered(world: &World, services: &[&Service]) -> Client {
    let client = world.client(services).await;
    client.encrypt(encrypt()).await.unwrap();
    client
}

/// So many calls at once, single or over the pipeline.
fn begin(client: &Client, pipeline: &Pipeline) -> JoinSet<Result<(), ClientError>> {
    let mut all = JoinSet::new();
    for _ in 0..CALLERS {
        let (client, pipeline) = (client.clone(), pipeline.clone());
        all.spawn(async move { client.encrypt(encrypt()).await.map(drop) });
        all.spawn(async move { pipeline.encrypt(encrypt()).await.map(drop) });
    }
    all
}

#[tokio::test]
async fn rule_2_no_call_is_lost_in_an_outage_however_many_there_are() {
    let world = World::new();
    let mut service = world.service().await;
    service.always(Reply::Silence);
    let client = world.client(&[&service]).await;
    service.reply([Reply::Good]);
    client.encrypt(encrypt()).await.unwrap();
    let all = begin(&client, &client.pipeline());
    while service.messages() < 64 || service.seen().len() < CALLERS {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    // All are under way when their connection is lost.
    service.kill().await;
    tokio::time::sleep(OUTAGE).await;
    let (service, back) = (service.again().await, Instant::now());
    for outcome in all.join_all().await {
        outcome.unwrap();
    }
    assert!(back.elapsed() < Duration::from_secs(3), "{:?}", back.elapsed());
    assert!(world.told(EventName::BudgetExhausted).is_empty(), "rule 4");
    assert!(world.told(EventName::Call).iter().any(|call| call.tries > 5));
    let waits = world
        .told(EventName::Retry)
        .into_iter()
        .map(|retry| retry.wait.unwrap());
    assert!(waits.max().unwrap() <= Duration::from_secs(2), "rule 3");
    assert_eq!(world.told(EventName::CircuitOpened).len(), 1, "rule 7");
    assert!(service.seen().len() > CALLERS);
}

#[tokio::test]
async fn rule_2_an_address_that_never_answered_is_told_soon() {
    let world = World::new();
    let mut service = world.service().await;
    // A connection is no answer.
    let connected = world.client(&[&service]).await;
    service.kill().await;
    let never = Client::new(world.config(&[&service])).unwrap();
    for client in [connected, never] {
        let begun = Instant::now();
        let error = client.encrypt(encrypt()).await.err().unwrap();
        assert_eq!((error.reason.as_str(), error.tries), ("UNREACHABLE", 5));
        // Four waits of 750 ms together, at most.
        assert!(begun.elapsed() < Duration::from_millis(1_500), "{:?}", begun.elapsed());
        assert!(!error.request_id.is_empty() && error.next_step().contains("runs"));
    }
    let begun = Instant::now();
    let pipeline = Client::new(world.config(&[&service])).unwrap().pipeline();
    let error = pipeline.encrypt(encrypt()).await.err().unwrap();
    assert_eq!((error.reason.as_str(), error.tries), ("UNREACHABLE", 5));
    assert!(begun.elapsed() < Duration::from_millis(1_500), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn rule_1_an_outage_longer_than_the_deadline_comes_out_for_all_that_wait() {
    let world = World::new();
    let mut service = world.service().await;
    let client = answered(&world, &[&service]).await;
    let client = client.with_deadline(Duration::from_millis(800)).unwrap();
    let pipeline = client.pipeline();
    pipeline.encrypt(encrypt()).await.unwrap();
    service.kill().await;
    let begun = Instant::now();
    let outcomes = begin(&client, &pipeline).join_all().await;
    let errors: Vec<ClientError> = outcomes.into_iter().map(|outcome| outcome.err().unwrap()).collect();
    for error in &errors {
        assert!(
            ["UNREACHABLE", "DEADLINE_EXCEEDED"].contains(&&*error.reason),
            "{error}"
        );
        assert!(error.tries >= 1 && !error.request_id.is_empty(), "{error:?}");
    }
    assert!(
        errors.iter().any(|error| error.tries > 5),
        "they go on until the deadline"
    );
    // A few may be cut while they connect.
    let unreachable = errors.iter().filter(|error| error.code == Code::Unavailable);
    assert!(unreachable.count() > errors.len() * 9 / 10);
    assert!(begun.elapsed() < Duration::from_millis(1_500), "{:?}", begun.elapsed());
    // Nobody waits for what is over.
    let service = service.again().await;
    pipeline.encrypt(encrypt()).await.unwrap();
    assert_eq!(service.messages(), 1);
}

#[tokio::test]
async fn rule_2_other_failures_count_in_an_outage_and_only_they() {
    let world = World::new();
    let mut service = world.service().await;
    let client = answered(&world, &[&service]).await;
    service.kill().await;
    let call = tokio::spawn({
        let client = client.clone();
        async move { client.encrypt(encrypt()).await.map(drop) }
    });
    tokio::time::sleep(OUTAGE).await;
    let service = service.again().await;
    service.always(unavailable("TOKEN_UNAVAILABLE"));
    let error = call.await.unwrap().err().unwrap();
    assert_eq!(error.reason, "TOKEN_UNAVAILABLE");
    assert_eq!(service.seen().len(), 5);
    assert!(error.tries > 6, "{}", error.tries);
}

#[tokio::test]
async fn what_may_not_be_tried_again_fails_at_once_and_clearly() {
    let world = World::new();
    let mut service = world.service().await;
    let client = answered(&world, &[&service]).await;
    service.kill().await;
    let begun = Instant::now();
    let once = client.without_request_ids();
    let change = once.rotate_key(v1::RotateKeyRequest::default()).await.err().unwrap();
    let stream = client.crypt(tokio_stream::pending()).await.err().unwrap();
    for error in [change, stream] {
        assert_eq!((error.code, error.reason.as_str()), (Code::Unavailable, "UNREACHABLE"));
        assert!(error.tries == 1 && !error.request_id.is_empty(), "{error:?}");
    }
    assert!(begun.elapsed() < Duration::from_millis(500), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn of_two_endpoints_that_are_gone_the_one_that_comes_back_is_found() {
    let world = World::new();
    let (mut one, mut two) = (world.service().await, world.service().await);
    let client = answered(&world, &[&one, &two]).await;
    one.kill().await;
    two.kill().await;
    let all = begin(&client, &client.pipeline());
    // Both circuits have long pauses by then.
    tokio::time::sleep(Duration::from_secs(6)).await;
    let (_one, back) = (one.again().await, Instant::now());
    for outcome in all.join_all().await {
        outcome.unwrap();
    }
    // Two waits of 2 s, at most: the first try after the return may go to the other endpoint.
    assert!(back.elapsed() < Duration::from_secs(5), "{:?}", back.elapsed());
}

#[tokio::test]
async fn rule_3_while_another_endpoint_serves_an_outage_of_one_costs_no_wait() {
    let world = World::new();
    let (mut one, two) = (world.service().await, world.service().await);
    let client = answered(&world, &[&one, &two]).await;
    one.kill().await;
    let begun = Instant::now();
    for outcome in begin(&client, &client.pipeline()).join_all().await {
        outcome.unwrap();
    }
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    let retries = world.told(EventName::Retry);
    assert!(
        retries.iter().all(|retry| retry.wait == Some(Duration::ZERO)),
        "{retries:?}"
    );
    assert!(world.told(EventName::BudgetExhausted).is_empty());
}

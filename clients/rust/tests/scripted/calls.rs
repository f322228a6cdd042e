//! One call at one endpoint.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use keyreeve_client::{Client, Code, EventName, v1};

use crate::{
    World, encrypt,
    service::{Reply, overloaded, status, unavailable},
};

#[tokio::test]
async fn an_overloaded_service_is_asked_again_after_its_delay() {
    let world = World::new();
    let service = world.service().await;
    let client = world.client(&[&service]).await;
    service.reply([overloaded(200)]);
    client.encrypt(encrypt()).await.unwrap();
    let seen = service.seen();
    assert_eq!(seen.len(), 2);
    assert!(seen[1].at - seen[0].at >= Duration::from_millis(200), "rule 3");
    assert_eq!(seen[0].id, seen[1].id, "rule 10");
    let retry = &world.told(EventName::Retry)[0];
    assert_eq!((retry.reason.as_str(), retry.tries), ("OVERLOADED", 1));
    assert!(retry.wait.unwrap() >= Duration::from_millis(200));
    let call = &world.told(EventName::Call)[0];
    assert_eq!((call.reason.as_str(), call.tries), ("OK", 2));
}

#[tokio::test]
async fn an_overload_that_stays_comes_out_after_five_tries() {
    let world = World::new();
    let service = world.service().await;
    let client = world.client(&[&service]).await;
    service.always(overloaded(1));
    let error = client.encrypt(encrypt()).await.err().unwrap();
    assert_eq!(
        (error.code, error.reason.as_str()),
        (Code::ResourceExhausted, "OVERLOADED")
    );
    assert_eq!((error.tries, service.seen().len()), (5, 5));
    assert_eq!(error.retry_after, Some(Duration::from_millis(1)));
    assert_eq!(error.request_id, service.seen()[0].id);
}

#[tokio::test]
async fn a_refusal_is_asked_once() {
    let world = World::new();
    let service = world.service().await;
    let client = world.client(&[&service]).await;
    for (code, reason) in [
        (Code::PermissionDenied, "PERMISSION_DENIED"),
        (Code::InvalidArgument, "DECRYPT_FAILED"),
        (Code::FailedPrecondition, "STATE_FORBIDS"),
        (Code::ResourceExhausted, "MESSAGE_TOO_LARGE"),
        (Code::Unauthenticated, "UNAUTHENTICATED"),
    ] {
        let before = service.seen().len();
        service.reply([Reply::Refuse(status(code, reason, None))]);
        let error = client.encrypt(encrypt()).await.err().unwrap();
        assert_eq!((error.code, error.reason.as_str(), error.tries), (code, reason, 1));
        assert_eq!(service.seen().len(), before + 1, "{reason}");
    }
}

#[tokio::test]
async fn a_slow_service_meets_the_total_deadline() {
    let world = World::new();
    let service = world.service().await;
    let client = world
        .client(&[&service])
        .await
        .with_deadline(Duration::from_millis(400))
        .unwrap();
    service.reply([overloaded(150), Reply::Silence]);
    let begun = Instant::now();
    let error = client.encrypt(encrypt()).await.err().unwrap();
    assert_eq!(
        (error.code, error.reason.as_str()),
        (Code::DeadlineExceeded, "DEADLINE_EXCEEDED")
    );
    assert!(begun.elapsed() >= Duration::from_millis(390) && begun.elapsed() < Duration::from_secs(2));
    let seen = service.seen();
    assert_eq!(seen.len(), 2);
    let sent = |index: usize| {
        let (number, unit) = seen[index].timeout.split_at(seen[index].timeout.len() - 1);
        let unit = if unit == "n" { 1 } else { 1_000 };
        Duration::from_nanos(number.parse::<u64>().unwrap() * unit)
    };
    assert!(
        sent(0) <= Duration::from_millis(400) && sent(1) <= Duration::from_millis(250),
        "rule 1: what is left"
    );
}

#[tokio::test]
async fn rule_1_a_deadline_that_is_not_possible_is_refused_before_anything_is_sent() {
    let world = World::new();
    let service = world.service().await;
    let client = world.client(&[&service]).await;
    for deadline in [Duration::ZERO, Duration::MAX] {
        assert_eq!(client.with_deadline(deadline).unwrap_err().reason, "CONFIGURATION");
        let mut config = world.config(&[&service]);
        config.deadline = deadline;
        assert_eq!(Client::new(config).unwrap_err().reason, "CONFIGURATION");
    }
}

#[tokio::test]
async fn a_change_is_asked_again_under_one_request_id_and_without_one_never() {
    let world = World::new();
    let service = world.service().await;
    let client = world.client(&[&service]).await;
    service.reply([unavailable("TOKEN_UNAVAILABLE")]);
    client.rotate_key(v1::RotateKeyRequest::default()).await.unwrap();
    let seen = service.seen();
    assert_eq!(seen.len(), 2);
    assert!(!seen[0].field.is_empty() && seen[0].field == seen[1].field);

    service.reply([unavailable("TOKEN_UNAVAILABLE")]);
    let once = client.without_request_ids();
    let error = once.rotate_key(v1::RotateKeyRequest::default()).await.err().unwrap();
    assert_eq!((error.reason.as_str(), error.tries), ("TOKEN_UNAVAILABLE", 1));
    assert_eq!((service.seen().len(), service.seen()[2].field.as_str()), (3, ""));
}

#[tokio::test]
async fn rule_4_a_client_adds_ten_retries_to_the_load_and_then_a_tenth() {
    let world = World::new();
    let service = world.service().await;
    let client = world.client(&[&service]).await;
    service.always(overloaded(1));
    for _ in 0..10 {
        client.encrypt(encrypt()).await.err().unwrap();
    }
    // Ten calls, ten retries, and one more that the ten calls paid for.
    assert!((20..=21).contains(&service.seen().len()), "{}", service.seen().len());
    assert!(world.told(EventName::BudgetExhausted).len() >= 7);
}

#[tokio::test]
async fn an_answer_that_changed_on_its_way_is_refused_and_not_asked_again() {
    let world = World::new();
    let service = world.service().await;
    let client = world.client(&[&service]).await;
    service.reply([Reply::Damaged]);
    let error = client.encrypt(encrypt()).await.err().unwrap();
    assert_eq!(
        (error.code, error.reason.as_str()),
        (Code::DataLoss, "CHECKSUM_MISMATCH")
    );
    assert_eq!(service.seen().len(), 1);
}

#[tokio::test]
async fn an_answer_of_something_between_is_told_apart() {
    let world = World::new();
    let service = world.service().await;
    let client = world.client(&[&service]).await;
    service.reply([Reply::Refuse(tonic::Status::permission_denied("by a proxy"))]);
    let error = client.encrypt(encrypt()).await.err().unwrap();
    assert_eq!(
        (error.code, error.reason.as_str()),
        (Code::PermissionDenied, "TRANSPORT")
    );
}

#[tokio::test]
async fn rule_10_ids_are_the_callers_if_he_gives_them_and_differ_otherwise() {
    let world = World::new();
    let service = world.service().await;
    let client = world.client(&[&service]).await;
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let named = client
        .with_request_id("order-17")
        .unwrap()
        .with_traceparent(trace)
        .unwrap();
    named.encrypt(encrypt()).await.unwrap();
    client.encrypt(encrypt()).await.unwrap();
    client.encrypt(encrypt()).await.unwrap();
    let seen = service.seen();
    assert_eq!(
        (seen[0].id.as_str(), seen[0].traceparent.as_deref()),
        ("order-17", Some(trace))
    );
    assert_eq!(seen.iter().map(|seen| &seen.id).collect::<BTreeSet<_>>().len(), 3);
    assert_eq!(client.with_request_id("a b").unwrap_err().reason, "CONFIGURATION");
}

#[tokio::test]
async fn a_call_that_is_given_up_is_told() {
    let world = World::new();
    let service = world.service().await;
    let client = world.client(&[&service]).await;
    service.reply([Reply::Silence]);
    let given_up = tokio::time::timeout(Duration::from_millis(100), client.encrypt(encrypt())).await;
    assert!(given_up.is_err());
    assert_eq!(world.told(EventName::Call)[0].reason, "CANCELLED");
}

#[tokio::test]
async fn the_callback_of_a_client_is_told_of_its_data_keys() {
    let world = World::new();
    let service = world.service().await;
    let client = world.client(&[&service]).await;
    let events = keyreeve_client::DataKeys::events(&client);
    assert_eq!(format!("{events:?}"), "Events(callback)");
}

//! Limits and deadlines of the wire: what is too large or too late ends with the right code and details, before any work.

#![allow(clippy::unwrap_used)] // all of this file is a test

mod support;

use std::time::Duration;

use keyreeve_proto::v1 as proto;
use support::{Client, Fault, Setup, answer, fault, key_name, shared, with_id};
use tonic::{Code, Request};

async fn key(name: &str) -> (Client, String) {
    let key = format!("dev/shop/{name}");
    let client = shared().await.admin().await;
    client.create_key(&key).await.unwrap();
    (client, key)
}

fn encrypt(key: &str, plaintext: usize) -> proto::EncryptRequest {
    proto::EncryptRequest {
        name: key_name(key),
        plaintext: vec![7; plaintext].into(),
        ..Default::default()
    }
}

#[tokio::test]
async fn a_message_above_4_mib_is_refused_with_a_reason() {
    let (client, key) = key("large").await;
    let fault = fault(answer(client.crypto().encrypt(encrypt(&key, (4 << 20) + 1)).await));
    assert_eq!(
        (fault.code, fault.reason.as_str()),
        (Code::ResourceExhausted, "MESSAGE_TOO_LARGE")
    );
    // The connection is as good as before.
    client.encrypt(&key, b"small", &[]).await.unwrap();
}

#[tokio::test]
async fn a_plaintext_above_64_kib_is_refused_and_says_what_to_do() {
    let (client, key) = key("plaintext").await;
    answer(client.crypto().encrypt(encrypt(&key, 65_536)).await)
        .map(drop)
        .unwrap();
    let fault = fault(answer(client.crypto().encrypt(encrypt(&key, 65_537)).await));
    assert_eq!(
        (fault.code, fault.fields),
        (Code::InvalidArgument, vec!["plaintext".to_owned()])
    );
    assert!(fault.message.contains("data key"), "{}", fault.message);
}

#[tokio::test]
async fn headers_above_8_kib_are_refused_and_the_connection_survives() {
    let (client, key) = key("headers").await;
    let mut request = Request::new(encrypt(&key, 1));
    let long = "x".repeat(9_000);
    request.metadata_mut().insert("x-padding", long.parse().unwrap());
    let fault: Fault = fault(answer(client.crypto().encrypt(request).await));
    assert_ne!(fault.code, Code::Ok);
    client.encrypt(&key, b"small", &[]).await.unwrap();
}

#[tokio::test]
async fn contexts_beyond_their_limits_are_refused() {
    let (client, key) = key("contexts").await;
    let (key_128, value_1024) = ("k".repeat(128), "v".repeat(1_024));
    let many: Vec<(String, String)> = (0..33).map(|at| (format!("k{at}"), String::new())).collect();
    let many: Vec<(&str, &str)> = many.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    let large: Vec<(String, String)> = (0..9).map(|at| (format!("k{at}"), value_1024.clone())).collect();
    let large: Vec<(&str, &str)> = large
        .iter()
        .map(|(key, value)| (key.as_str(), value.as_str()))
        .collect();
    client.encrypt(&key, b"x", &many[..32]).await.unwrap();
    client.encrypt(&key, b"x", &[(&key_128, &value_1024)]).await.unwrap();
    let (key_129, value_1025) = ("k".repeat(129), "v".repeat(1_025));
    for (what, context) in [
        ("33 pairs", many.as_slice()),
        ("9 KiB", &large),
        ("a key of 129 B", &[(&key_129, "")]),
        ("an empty key", &[("", "v")]),
        ("a value of 1,025 B", &[("k", &value_1025)]),
        ("a key twice", &[("k", "1"), ("k", "2")]),
        ("the same pair twice", &[("k", "1"), ("k", "1")]),
        ("a reserved key", &[("kms:anything", "v")]),
        ("a reserved key with a value that is no hash", &[("kms:aad", "v")]),
    ] {
        let fault = fault(client.encrypt(&key, b"x", context).await);
        assert_eq!(
            (fault.code, fault.reason.as_str()),
            (Code::InvalidArgument, "INVALID_ARGUMENT"),
            "{what}"
        );
    }
}

#[tokio::test]
async fn a_batch_beyond_its_limits_is_refused_whole() {
    let (client, key) = key("batch").await;
    let batch = async |count: usize, bytes: usize| {
        let item = proto::batch_encrypt_request::Item {
            plaintext: vec![7; bytes].into(),
            ..Default::default()
        };
        let request = proto::BatchEncryptRequest {
            name: key_name(&key),
            items: vec![item; count],
        };
        answer(client.crypto().batch_encrypt(request).await).map(|answer| answer.results.len())
    };
    assert_eq!(batch(1_000, 1).await, Ok(1_000));
    assert_eq!(batch(16, 65_536).await, Ok(16));
    for (count, bytes) in [(0, 0), (1_001, 1), (17, 65_536)] {
        let fault = fault(batch(count, bytes).await);
        assert_eq!(
            (fault.code, fault.fields),
            (Code::InvalidArgument, vec!["items".to_owned()]),
            "{count} × {bytes}"
        );
    }
}

#[tokio::test]
async fn malformed_names_are_refused_before_anything_is_looked_up() {
    let client = shared().await.admin().await;
    for name in [
        "",
        "envs/dev/teams/shop/keys/",
        "envs/dev/teams/shop/keys/Orders",
        "envs/dev/teams/shop/keys/../orders",
        "envs/dev/teams/shop/keys/a/versions/1",
        "envs//teams/shop/keys/orders",
        "envs/dev/teams/shop/secrets/orders",
    ] {
        let request = proto::EncryptRequest {
            name: name.to_owned(),
            ..Default::default()
        };
        let fault = fault(answer(client.crypto().encrypt(request).await));
        assert_eq!(
            (fault.code, fault.fields),
            (Code::InvalidArgument, vec!["name".to_owned()]),
            "{name}"
        );
    }
}

#[tokio::test]
async fn the_short_form_of_a_name_is_refused_on_the_wire_and_the_error_shows_the_full_one() {
    let (client, key) = key("short").await;
    let request = proto::EncryptRequest {
        name: key.clone(),
        ..Default::default()
    };
    let name = answer(client.crypto().encrypt(request).await).map(drop);
    let request = proto::ListKeysRequest {
        parent: "dev/shop".to_owned(),
        ..Default::default()
    };
    let parent = answer(client.keys().list_keys(request).await).map(drop);
    let request = proto::GenerateRandomRequest {
        environment: "dev".to_owned(),
        length: 8,
    };
    let environment = answer(client.crypto().generate_random(request).await).map(drop);
    for (outcome, field, form) in [
        (name, "name", "`envs/{env}/teams/{team}/keys/{key}`"),
        (parent, "parent", "`envs/{env}/teams/{team}`"),
        (environment, "environment", "`envs/{env}`"),
    ] {
        let fault = fault(outcome);
        assert_eq!(
            (fault.code, fault.fields),
            (Code::InvalidArgument, vec![field.to_owned()])
        );
        assert!(fault.message.contains(form), "{}", fault.message);
    }
}

/// Five times the deadline, so that a busy machine is not taken for a server that waits for the token. Making a key takes a dozen.
const TOKEN_CALL: Duration = Duration::from_millis(500);

#[tokio::test]
async fn a_passed_deadline_ends_the_call_and_leaves_a_record() {
    let mut server = Setup::default()
        .token_delay_us(u64::try_from(TOKEN_CALL.as_micros()).unwrap())
        .init();
    server.serve().await;
    let client = server.admin().await;
    client.create_key("dev/shop/slow").await.unwrap();
    let mut request = with_id(encrypt("dev/shop/slow", 5), "too-late");
    request.set_timeout(Duration::from_millis(100));
    let mut patient = server.patient_crypto(support::ADMIN).await;
    let started = std::time::Instant::now();
    let fault = fault(answer(patient.encrypt(request).await));
    assert_eq!(
        (fault.code, fault.reason.as_str()),
        (Code::DeadlineExceeded, "DEADLINE_EXCEEDED"),
        "{fault:?}"
    );
    assert!(started.elapsed() < TOKEN_CALL, "it waited for the token");
    // Its record is written although nobody waits for it any more.
    let end = std::time::Instant::now() + support::PATIENCE;
    let records = loop {
        let records = server.records_of("too-late");
        if !records.is_empty() {
            break records;
        }
        assert!(std::time::Instant::now() < end, "no record of the call");
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert_eq!(records.len(), 1);
    assert_ne!(records[0].result(), "success");
    // A caller with more time is served.
    client.encrypt("dev/shop/slow", b"hello", &[]).await.unwrap();
    drop(patient);
    assert!(server.stop().await.success());
    server.verifies();
}

#[tokio::test]
async fn a_malformed_deadline_is_refused_with_the_name_of_its_header() {
    let (_, key) = key("deadlines").await;
    let mut request = Request::new(encrypt(&key, 1));
    request.metadata_mut().insert("grpc-timeout", "soon".parse().unwrap());
    let mut client = shared().await.patient_crypto(support::ADMIN).await;
    let fault = fault(answer(client.encrypt(request).await));
    assert_eq!(
        (fault.code, fault.reason.as_str()),
        (Code::InvalidArgument, "INVALID_ARGUMENT")
    );
    assert_eq!(fault.fields, ["grpc-timeout"]);
}

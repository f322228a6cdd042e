//! One group of two tokens behind one service: shared load, a lost token, a token that comes back (A1, A6, A7, T13).

#![allow(clippy::unwrap_used)] // all of this file is a test

mod support;

use std::{
    collections::BTreeSet,
    fs,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
};

use keyreeve_proto::v1 as proto;
use rustix::process::{Pid, Signal, kill_process};
use support::{ADMIN, Client, ceremony::two_tokens, text, until};
use tonic::Code;

const KEY: &str = "dev/shop/orders";

async fn serving(client: &Client) -> usize {
    let status = client.system().get_status(proto::GetStatusRequest {}).await.unwrap();
    status.into_inner().tokens.iter().filter(|token| token.serving).count()
}

/// Encrypts and decrypts without a pause until told to stop; every failure counts.
async fn load(client: &Client, stop: &AtomicBool, failures: &AtomicUsize) -> usize {
    let mut done = 0;
    while !stop.load(Ordering::Relaxed) {
        let outcome = async {
            let sealed = client.encrypt(KEY, b"hello", &[]).await?;
            client.decrypt(KEY, &sealed, &[]).await
        };
        match outcome.await {
            Ok(opened) => assert_eq!(opened, b"hello"),
            Err(_) => _ = failures.fetch_add(1, Ordering::Relaxed),
        }
        done += 1;
    }
    done
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_token_costs_no_call_and_new_keys_wait_until_it_is_back() {
    let (mut server, places) = two_tokens();
    server.serve().await;
    let client = server.admin().await;
    assert_eq!(serving(&client).await, 2);
    client.create_key(KEY).await.unwrap();

    let (stop, failures) = (AtomicBool::new(false), AtomicUsize::new(0));
    let away = server.path("away"); // out of the directory in which the module looks for tokens
    let events = async {
        let both = async || {
            let used: BTreeSet<String> = server
                .records()
                .iter()
                .map(|record| record.token().to_owned())
                .collect();
            used.iter().filter(|serial| !serial.is_empty()).count() == 2
        };
        until("both tokens at work", both).await;
        fs::rename(&places[1], &away).unwrap();
        until("one token is lost", async || serving(&client).await == 1).await;
        let refused = client.create_key("dev/shop/unchecked").await.map(drop).unwrap_err();
        assert_eq!(
            refused.code,
            Code::Unavailable,
            "a key that no second token has checked"
        );
        fs::rename(&away, &places[1]).unwrap();
        until("it is back", async || serving(&client).await == 2).await;
        stop.store(true, Ordering::Relaxed);
    };
    let (_, a, b) = tokio::join!(events, load(&client, &stop, &failures), load(&client, &stop, &failures));
    assert_eq!(failures.load(Ordering::Relaxed), 0, "of {} calls", a + b);
    client.create_key("dev/shop/checked").await.unwrap();
    let verified = server.run_as(ADMIN, &["tokens", "verify"]);
    assert!(verified.status.success(), "{}", text(&verified));
}

#[tokio::test]
async fn a_service_starts_with_what_tokens_there_are() {
    let (mut server, places) = two_tokens();
    server.serve().await;
    let client = server.admin().await;
    client.create_key(KEY).await.unwrap();
    let sealed = client.encrypt(KEY, b"hello", &[]).await.unwrap();
    server.stop().await;

    let away = server.path("away");
    fs::rename(&places[0], &away).unwrap();
    server.serve().await;
    let client = server.admin().await;
    assert_eq!(client.decrypt(KEY, &sealed, &[]).await.unwrap(), b"hello");
    assert_eq!(serving(&client).await, 1);
    fs::rename(&away, &places[0]).unwrap();
    until("both serve", async || serving(&client).await == 2).await;
}

#[tokio::test]
async fn a_resident_key_is_refused_where_it_would_live_in_one_token_of_several() {
    let (mut server, _) = two_tokens();
    server.serve().await;
    let created = server.run_as(ADMIN, &["keys", "create", KEY, "--residency", "token-resident"]);
    assert!(!created.status.success());
    assert!(text(&created).contains("several tokens"), "{}", text(&created));
}

#[tokio::test]
async fn a_changed_pin_is_tried_once_takes_out_that_token_only_and_is_put_right_without_a_restart() {
    let (mut server, _) = two_tokens();
    server.serve().await;
    let client = server.admin().await;
    client.create_key(KEY).await.unwrap();
    let sealed = client.encrypt(KEY, b"hello", &[]).await.unwrap();

    let (right, other) = (server.token.pin.clone(), "changed-31415");
    server.token.change_pin("two", &right, other);
    for worker in server.workers() {
        kill_process(Pid::from_raw(worker).unwrap(), Signal::KILL).unwrap();
    }
    // A call that sees both workers of a token die fails: it may be what kills them.
    until("the first token goes on", async || {
        client.decrypt(KEY, &sealed, &[]).await.is_ok()
    })
    .await;
    let lost = async || {
        let status = client.system().get_status(proto::GetStatusRequest {}).await.unwrap();
        let mut tokens = status.into_inner().tokens.into_iter();
        tokens.find(|token| !token.serving && token.detail.contains("PIN"))
    };
    until("the other token says that its PIN was refused", async || {
        lost().await.is_some()
    })
    .await;
    let serial = lost().await.unwrap().serial;
    assert_eq!(client.decrypt(KEY, &sealed, &[]).await.unwrap(), b"hello");

    // One refused attempt and no more: the token is not locked, and takes the PIN that is right now.
    server.token.change_pin("two", other, &right);
    let reason = ["--serial", &serial, "--reason", "the PIN is as it was", "--yes"];
    server.run_ok("tokens unlatch", &reason);
    until("it serves again", async || serving(&client).await == 2).await;
    server.stop().await;
    server.serve().await;
    let unlatched = server
        .records()
        .into_iter()
        .filter(|record| record.operation() == "UnlatchToken");
    assert_eq!(unlatched.count(), 1);
}

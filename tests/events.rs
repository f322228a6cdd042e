//! Watch: changes of keys, told to who may know them, in order, over restarts (A3, T22, T25).

#![allow(clippy::unwrap_used)] // all of this file is a test

mod support;

use std::{fs, time::Duration};

use keyreeve_proto::v1::{self as proto, event_service_client::EventServiceClient};
use support::{Client, Outcome, SHOP, Setup, TestServer, answer, key_name};
use tonic::{Code, Streaming};

const ORDERS: &str = "dev/shop/orders";
const REFUNDS: &str = "dev/shop/refunds";
const WATCHERS: &str = r#"
@id("shop-watches-its-orders")
permit (principal in Role::"user", action == Action::"WatchKey", resource == Key::"dev/shop/orders");
"#;

async fn watching() -> TestServer {
    let mut server = Setup::default().init();
    fs::write(server.path("policy").join("watchers.cedar"), WATCHERS).unwrap();
    server.serve().await;
    let admin = server.admin().await;
    admin.create_key(ORDERS).await.unwrap();
    admin.create_key(REFUNDS).await.unwrap();
    server
}

struct Watched(Streaming<proto::WatchResponse>);

async fn watch(client: &Client, keys: &[&str], after: Option<proto::Position>) -> Outcome<Watched> {
    let request = proto::WatchRequest {
        names: keys.iter().map(|key| key_name(key)).collect(),
        after,
    };
    let mut service = EventServiceClient::new(client.channel());
    answer(service.watch(request).await).map(Watched)
}

impl Watched {
    /// The next message, which must come within a second.
    async fn next(&mut self) -> Outcome<proto::WatchResponse> {
        let next = tokio::time::timeout(Duration::from_secs(1), self.0.message()).await;
        match next.expect("a change is told within a second") {
            Ok(message) => Ok(message.expect("the stream goes on")),
            Err(status) => answer(Err(status)),
        }
    }

    async fn is_quiet(&mut self) -> bool {
        tokio::time::timeout(Duration::from_millis(300), self.0.message())
            .await
            .is_err()
    }
}

fn key(message: proto::WatchResponse) -> (String, u32, usize) {
    let key = message.key.expect("it is about a key");
    (key.name, key.primary_version, key.versions.len())
}

async fn rotate(client: &Client, key: &str) {
    let request = proto::RotateKeyRequest {
        name: key_name(key),
        ..Default::default()
    };
    answer(client.keys().rotate_key(request).await).unwrap();
}

#[tokio::test]
async fn a_change_is_told_within_a_second_to_who_watches_the_key_and_is_recorded() {
    let server = watching().await;
    let (admin, shop) = (server.admin().await, server.client(SHOP).await);
    let mut all = watch(&admin, &[ORDERS, REFUNDS], None).await.unwrap();
    let mut one = watch(&shop, &[ORDERS], None).await.unwrap();
    let first = one.next().await.unwrap();
    assert!(first.key.is_none() && first.position.is_some(), "where it begins");
    assert!(all.next().await.unwrap().key.is_none());

    rotate(&admin, ORDERS).await;
    assert_eq!(key(all.next().await.unwrap()), (key_name(ORDERS), 2, 2));
    assert_eq!(key(one.next().await.unwrap()), (key_name(ORDERS), 2, 2));
    rotate(&admin, REFUNDS).await;
    assert_eq!(key(all.next().await.unwrap()), (key_name(REFUNDS), 2, 2));
    assert!(one.is_quiet().await, "what it does not watch");

    let records = server.records();
    let told = records
        .iter()
        .filter(|record| record.operation() == "WatchKey" && record.object() == key_name(ORDERS));
    // Both began, and both were told.
    assert_eq!(told.count(), 4);
}

#[tokio::test]
async fn who_may_not_watch_a_key_is_refused_before_and_later() {
    let server = watching().await;
    let (admin, shop) = (server.admin().await, server.client(SHOP).await);
    for keys in [
        &[REFUNDS][..],
        &[ORDERS, REFUNDS],
        &["dev/shop/absent"],
        &["prod/payments/cards"],
    ] {
        let refused = watch(&shop, keys, None).await.err().unwrap();
        assert_eq!(
            (refused.code, &*refused.reason),
            (Code::PermissionDenied, "PERMISSION_DENIED"),
            "{keys:?}"
        );
    }
    let mut one = watch(&shop, &[ORDERS], None).await.unwrap();
    one.next().await.unwrap();
    fs::remove_file(server.path("policy").join("watchers.cedar")).unwrap();
    server.hang_up();
    support::until("the right is gone", async || {
        watch(&shop, &[ORDERS], None).await.is_err()
    })
    .await;
    rotate(&admin, ORDERS).await;
    assert_eq!(one.next().await.err().unwrap().code, Code::PermissionDenied);
}

#[tokio::test]
async fn a_stream_goes_on_after_a_restart_where_it_ended() {
    let mut server = watching().await;
    let admin = server.admin().await;
    let mut watched = watch(&admin, &[ORDERS, REFUNDS], None).await.unwrap();
    let begun = watched.next().await.unwrap().position;
    rotate(&admin, ORDERS).await;
    let seen = watched.next().await.unwrap().position;
    let stopping = server.stop();
    let last = async {
        assert_eq!(watched.next().await.err().unwrap().reason, "DRAINING");
    };
    tokio::join!(stopping, last);

    server.serve().await;
    let admin = server.admin().await;
    rotate(&admin, REFUNDS).await;
    rotate(&admin, REFUNDS).await;
    let mut resumed = watch(&admin, &[ORDERS, REFUNDS], seen).await.unwrap();
    resumed.next().await.unwrap();
    // Two changes, told as one.
    assert_eq!(key(resumed.next().await.unwrap()), (key_name(REFUNDS), 3, 3));
    assert!(resumed.is_quiet().await);
    let mut earlier = watch(&admin, &[ORDERS, REFUNDS], begun).await.unwrap();
    earlier.next().await.unwrap();
    assert_eq!(key(earlier.next().await.unwrap()).0, key_name(ORDERS));
    assert_eq!(key(earlier.next().await.unwrap()).0, key_name(REFUNDS));
}

#[tokio::test]
async fn a_position_of_another_store_and_a_senseless_request_are_refused() {
    let server = watching().await;
    let admin = server.admin().await;
    let mut watched = watch(&admin, &[ORDERS], None).await.unwrap();
    let here = watched.next().await.unwrap().position.unwrap();
    let mut other = here.clone();
    let mut link = other.link.to_vec();
    link[0] ^= 1;
    other.link = link.into();
    let ahead = proto::Position {
        sequence: here.sequence + 100,
        ..here.clone()
    };
    for unknown in [other, ahead] {
        let refused = watch(&admin, &[ORDERS], Some(unknown)).await.err().unwrap();
        assert_eq!((refused.code, &*refused.reason), (Code::OutOfRange, "POSITION_UNKNOWN"));
    }
    let cut = proto::Position {
        link: here.link.slice(..8),
        ..here.clone()
    };
    let refused = watch(&admin, &[ORDERS], Some(cut)).await.err().unwrap();
    assert_eq!(
        (refused.code, refused.fields),
        (Code::InvalidArgument, vec!["after".to_owned()])
    );
    let many: Vec<String> = (0..257).map(|number| format!("dev/shop/key-{number}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    for names in [&[][..], &many] {
        let refused = watch(&admin, names, None).await.err().unwrap();
        assert_eq!(
            (refused.code, refused.fields),
            (Code::InvalidArgument, vec!["names".to_owned()])
        );
    }
    let beginning = proto::Position {
        sequence: 0,
        link: vec![0; 32].into(),
    };
    let mut everything = watch(&admin, &[ORDERS], Some(beginning)).await.unwrap();
    everything.next().await.unwrap();
    assert_eq!(key(everything.next().await.unwrap()).0, key_name(ORDERS));
}

//! A key after its waiting period, seen from the wire: destroyed, for good, also in a backup that still holds it (A4, T24).
//!
//! The days are waited out by libfaketime: the service is told another time of day, its certificates and callers are not.

#![allow(clippy::unwrap_used)] // all of this file is a test

mod support;

use std::{fs, path::PathBuf, time::Duration};

use keyreeve_proto::v1 as proto;
use support::{Client, PATIENCE, Setup, TestServer, answer, key_name, text};
use tonic::Code;

const KEY: &str = "dev/shop/doomed";
const OTHER: &str = "dev/shop/spared";

/// The service's clock is so far ahead. Its waiting and its deadlines are left alone.
async fn serve_days_later(server: &mut TestServer, days: u32) {
    let libraries = ["x86_64", "aarch64"].map(|cpu| format!("/usr/lib/{cpu}-linux-gnu/faketime/libfaketimeMT.so.1"));
    let library = libraries.iter().map(PathBuf::from).find(|path| path.exists());
    let library = library.expect("faketime is installed: run softhsm/packages.sh faketime");
    server
        .serve_with(&[
            ("LD_PRELOAD", library),
            ("FAKETIME", format!("+{days}d").into()),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".into()),
        ])
        .await;
}

async fn destroy(client: &Client, wait_days: u32) -> proto::Key {
    let request = proto::DestroyKeyRequest {
        name: key_name(KEY),
        wait_days,
        reason: "no longer needed".to_owned(),
        ..Default::default()
    };
    answer(client.keys().destroy_key(request).await).unwrap().key.unwrap()
}

async fn state(client: &Client) -> &'static str {
    let request = proto::GetKeyRequest { name: key_name(KEY) };
    let key = answer(client.keys().get_key(request).await).unwrap().key.unwrap();
    key.versions[0].state().as_str_name()
}

async fn is_gone(client: &Client, sealed: &[u8]) {
    assert_eq!(state(client).await, "KEY_STATE_DESTROYED");
    for refused in [
        client.decrypt(KEY, sealed, &[]).await,
        client.encrypt(KEY, b"x", &[]).await,
    ] {
        let refused = refused.unwrap_err();
        assert_eq!(
            (refused.code, refused.reason.as_str()),
            (Code::FailedPrecondition, "STATE_FORBIDS")
        );
    }
}

#[tokio::test]
async fn a_key_is_destroyed_when_its_days_are_over_and_no_backup_brings_it_back() {
    let mut server = Setup::default().init();
    server.serve().await;
    let client = server.admin().await;
    for key in [KEY, OTHER] {
        client.create_key(key).await.unwrap();
    }
    let sealed = client.encrypt(KEY, b"hello", &[]).await.unwrap();
    let spared = client.encrypt(OTHER, b"stays", &[]).await.unwrap();
    let backup = server.path("backup");
    server.run_ok("backup", &[backup.to_str().unwrap()]);
    let pending = destroy(&client, 7).await;
    assert_eq!(
        pending.versions[0].state().as_str_name(),
        "KEY_STATE_PENDING_DESTRUCTION"
    );
    server.stop().await;

    serve_days_later(&mut server, 6).await;
    let client = server.admin().await;
    assert_eq!(state(&client).await, "KEY_STATE_PENDING_DESTRUCTION", "a day is left");
    server.stop().await;

    serve_days_later(&mut server, 8).await;
    let client = server.admin().await;
    let end = std::time::Instant::now() + PATIENCE;
    while state(&client).await != "KEY_STATE_DESTROYED" {
        assert!(std::time::Instant::now() < end, "{}", server.output());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    is_gone(&client, &sealed).await;
    assert_eq!(client.decrypt(OTHER, &spared, &[]).await.unwrap(), b"stays");
    let erased = server.run_ok(
        "audit search",
        &["--operation", "EraseKey", "--object", KEY, "-o", "json"],
    );
    assert_eq!(erased.matches("\"op\":\"EraseKey\"").count(), 1, "{erased}");
    server.stop().await;
    server.verifies();

    // The backup still holds the wrapped key. Its restore does not bring it back.
    fs::remove_dir_all(server.data()).unwrap();
    fs::create_dir(server.data()).unwrap();
    let restored = server.run("restore", &[backup.to_str().unwrap(), "--reason", "drill"]);
    assert!(restored.status.success(), "{}", text(&restored));
    server.serve().await;
    let client = server.admin().await;
    assert!(
        client.decrypt(KEY, &sealed, &[]).await.is_err(),
        "a destroyed key came back"
    );
    assert_eq!(client.decrypt(OTHER, &spared, &[]).await.unwrap(), b"stays");
}

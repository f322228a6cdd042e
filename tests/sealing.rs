//! Local sealing against a real service: seal, open, rotate, wrap anew, in two environments; what a caller may and may not.

#![allow(clippy::unwrap_used)] // all of this file is a test

mod support;

use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use keyreeve_client::sealing::{front::Front, rewrap::Existing};
use keyreeve_client::{CacheLimits, Client, ClientConfig, EncryptionContext, Expectation, KeyWatcher, Opener, Sealer};
use support::{ADMIN, SHOP, STAGING, TestServer, key_name, shared, until};

fn context(pairs: &[(&str, &str)]) -> EncryptionContext {
    EncryptionContext::from_pairs(pairs.iter().copied()).unwrap()
}

fn orders() -> Expectation {
    Expectation::context(context(&[("table", "orders")]))
}

/// The client that applications use, as the workload of this path.
async fn client(server: &TestServer, path: &str) -> Client {
    // Files of its own: the tests of this file run at once.
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let name = format!("{path}-{}", NEXT.fetch_add(1, Ordering::Relaxed));
    let (certificate, private_key) = server.client_ca.client(path).write(&server.path("tls"), &name);
    let config = ClientConfig::new(
        server.listen.to_string().replace("127.0.0.1", "localhost"),
        server.path("tls/server-ca.pem"),
        certificate,
        private_key,
    );
    Client::connect(config).await.unwrap()
}

async fn create(server: &TestServer, key: &str) -> String {
    server.admin().await.create_key(key).await.unwrap();
    key_name(key)
}

#[tokio::test]
async fn a_message_opens_after_a_rotation_and_is_wrapped_anew() {
    let server = shared().await;
    let key = create(server, "dev/shop/sealing-rotation").await;
    let client = client(server, SHOP).await;
    let (sealer, opener) = (Sealer::new(client.clone(), &key), Opener::new(client, &key));
    let plaintext = vec![7; 100_000];
    let sealed = sealer.seal(&plaintext, &context(&[("table", "orders")])).await.unwrap();
    assert_eq!(opener.open(&sealed, &orders()).await.unwrap().as_bytes(), plaintext);

    server.admin().await.rotate("dev/shop/sealing-rotation").await.unwrap();
    assert_eq!(opener.open(&sealed, &orders()).await.unwrap().as_bytes(), plaintext);
    let again = opener
        .rewrap(&sealed, &orders(), &[&key], Existing::Replace)
        .await
        .unwrap();
    let version = |message: &[u8]| {
        let wrapped = Front::split(message).unwrap().0.header().wrapped_keys()[0].clone();
        wrapped.envelope_header().unwrap().key_version().number()
    };
    assert_eq!((version(&sealed), version(&again)), (1, 2));
    assert_eq!(sealed[sealed.len() - 100_000..], again[again.len() - 100_000..]);
    let identity = Front::split(&sealed).unwrap().0.identity();
    let opened = opener.open(&again, &orders().identity(identity)).await.unwrap();
    assert_eq!(opened.as_bytes(), plaintext);
}

#[tokio::test]
async fn another_context_key_or_byte_is_one_error() {
    let server = shared().await;
    let key = create(server, "dev/shop/sealing-faults").await;
    let other = create(server, "dev/shop/sealing-others").await;
    let client = client(server, SHOP).await;
    let sealer = Sealer::new(client.clone(), &key).storing_context();
    let sealed = sealer.seal(b"hello", &context(&[("table", "orders")])).await.unwrap();
    let opener = Opener::new(client.clone(), &key);
    let refunds = Expectation::context(context(&[("table", "refunds")]));
    let foreign = Opener::new(client, &other);
    let mut wrapped_changed = sealed.clone();
    let header = Front::split(&sealed).unwrap().0.header().encoded_len();
    wrapped_changed[header - 1] ^= 1;
    let mut payload_changed = sealed.clone();
    *payload_changed.last_mut().unwrap() ^= 1;
    let mut texts = Vec::new();
    for (opener, message, expected) in [
        (&opener, &sealed, &refunds),
        (&foreign, &sealed, &orders()),
        (&opener, &wrapped_changed, &orders()),
        (&opener, &payload_changed, &orders()),
    ] {
        let error = opener.open(message, expected).await.err().unwrap();
        texts.push((error.code, error.reason, error.message));
    }
    texts.dedup();
    assert_eq!(texts.len(), 1, "{texts:?}");
    assert_eq!(texts[0].1, "DECRYPT_FAILED");
    assert!(
        opener
            .open(&sealed, &Expectation::accept_stored_context())
            .await
            .is_ok()
    );
}

#[tokio::test]
async fn one_message_for_two_environments_opens_in_each_and_only_for_whom_may() {
    let server = shared().await;
    let dev = create(server, "dev/shop/sealing-here").await;
    let staging = create(server, "staging/shop/sealing-there").await;
    let (admin, shop) = (client(server, ADMIN).await, client(server, SHOP).await);
    let there = client(server, STAGING).await;
    let ec = context(&[("table", "orders")]);
    // Whoever is at home in one environment only cannot seal into the other.
    let error = Sealer::new(shop.clone(), &dev)
        .and(&staging)
        .seal(b"x", &ec)
        .await
        .err()
        .unwrap();
    assert_eq!(error.reason, "PERMISSION_DENIED");

    let sealed = Sealer::new(admin, &dev)
        .and(&staging)
        .seal(b"hello", &ec)
        .await
        .unwrap();
    for opener in [Opener::new(shop.clone(), &dev), Opener::new(there.clone(), &staging)] {
        assert_eq!(opener.open(&sealed, &orders()).await.unwrap().as_bytes(), b"hello");
    }
    // A reader with two clients finds the one that may.
    let only_here = Sealer::new(shop.clone(), &dev).seal(b"hello", &ec).await.unwrap();
    let both = Opener::new(there.clone(), &staging).or_of(shop, &dev);
    assert_eq!(both.open(&only_here, &orders()).await.unwrap().as_bytes(), b"hello");
    // The key of the other environment is not even named to who may not see it.
    let error = Opener::new(there, &dev)
        .open(&only_here, &orders())
        .await
        .err()
        .unwrap();
    assert_eq!(error.reason, "PERMISSION_DENIED");
}

#[tokio::test]
async fn one_message_for_two_services_opens_at_each_and_is_not_made_if_one_refuses() {
    let (here, there) = (shared().await, TestServer::start().await);
    let key = create(here, "dev/shop/sealing-two-services").await;
    create(&there, "dev/shop/letters").await;
    let (shop, other) = (client(here, SHOP).await, client(&there, SHOP).await);
    let theirs = key_name("dev/shop/letters");
    let ec = context(&[("table", "orders")]);
    let sealer = Sealer::new(shop.clone(), &key).and_elsewhere(other.clone(), &theirs);
    let sealed = sealer.seal(b"hello", &ec).await.unwrap();
    for opener in [Opener::new(shop.clone(), &key), Opener::new(other.clone(), &theirs)] {
        assert_eq!(opener.open(&sealed, &orders()).await.unwrap().as_bytes(), b"hello");
    }
    let absent = Sealer::new(shop, &key).and_elsewhere(other, key_name("dev/payments/absent"));
    let error = absent.seal(b"hello", &ec).await.err().unwrap();
    assert_eq!(error.reason, "PERMISSION_DENIED");
}

#[tokio::test]
async fn a_suspended_key_opens_nothing_but_what_a_cache_still_holds() {
    let server = shared().await;
    let key = create(server, "dev/shop/sealing-cache").await;
    let client = client(server, ADMIN).await;
    let ec = context(&[("table", "orders")]);
    let sealer = Sealer::new(client.clone(), &key)
        .with_cache(CacheLimits::default())
        .unwrap();
    let caching = Opener::new(client.clone(), &key)
        .with_cache(CacheLimits::default())
        .unwrap();
    let plain = Opener::new(client.clone(), &key);
    let sealed = sealer.seal(b"hello", &ec).await.unwrap();
    caching.open(&sealed, &orders()).await.unwrap();
    let id = client
        .get_key(keyreeve_client::v1::GetKeyRequest { name: key.clone() })
        .await
        .unwrap()
        .key
        .unwrap()
        .id;
    let request = keyreeve_client::v1::SuspendKeyRequest {
        name: key.clone(),
        version: 1,
        reason: "test".into(),
        ..Default::default()
    };
    client.suspend_key(request).await.unwrap();
    let reason = async |opener: &Opener| opener.open(&sealed, &orders()).await.err().map(|error| error.reason);
    assert_eq!(reason(&plain).await.as_deref(), Some("STATE_FORBIDS"));
    // T25: this is what a cache costs, and what a push of the key's state is for.
    assert!(reason(&caching).await.is_none());
    assert!(sealer.seal(b"again", &ec).await.is_ok());
    caching.evict(id.parse().unwrap());
    sealer.evict(id.parse().unwrap());
    assert_eq!(reason(&caching).await.as_deref(), Some("STATE_FORBIDS"));
    assert_eq!(sealer.seal(b"again", &ec).await.err().unwrap().reason, "STATE_FORBIDS");
}

#[tokio::test]
async fn a_cache_that_is_told_of_changes_uses_the_new_version_and_lets_stopped_ones_go() {
    let server = shared().await;
    let key = create(server, "dev/shop/sealing-told").await;
    let client = client(server, ADMIN).await;
    let ec = context(&[("table", "orders")]);
    let limits = CacheLimits::default;
    let sealer = Arc::new(Sealer::new(client.clone(), &key).with_cache(limits()).unwrap());
    let opener = Arc::new(Opener::new(client.clone(), &key).with_cache(limits()).unwrap());
    let watched = [key.clone()];
    let _of_sealer = KeyWatcher::start(&client, watched.clone(), sealer.clone());
    let _of_opener = KeyWatcher::start(&client, watched, opener.clone());
    let version = async || {
        let sealed = sealer.seal(b"hello", &ec).await.unwrap();
        let wrapped = Front::split(&sealed).unwrap().0.header().wrapped_keys()[0].clone();
        (sealed, wrapped.envelope_header().unwrap().key_version().number())
    };
    let (sealed, first) = version().await;
    assert_eq!(first, 1);
    opener.open(&sealed, &orders()).await.unwrap();

    server.admin().await.rotate("dev/shop/sealing-told").await.unwrap();
    until("the sealer knows of the rotation", async || version().await.1 == 2).await;
    let request = keyreeve_client::v1::CompromiseKeyRequest {
        name: key.clone(),
        version: 1,
        reason: "test".into(),
        ..Default::default()
    };
    client.compromise_key(request).await.unwrap();
    let stopped = async || {
        let opened = opener.open(&sealed, &orders()).await;
        opened.err().is_some_and(|error| error.reason == "STATE_FORBIDS")
    };
    until("the opener knows that version 1 is compromised", stopped).await;
    let (sealed, _) = version().await;
    opener.open(&sealed, &orders()).await.unwrap();
}

#[tokio::test]
async fn files_and_streams_go_through_the_same_service() {
    let server = shared().await;
    let key = create(server, "dev/shop/sealing-files").await;
    let client = client(server, SHOP).await;
    let ec = context(&[("table", "orders")]);
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let plaintext: Vec<u8> = (0..3_000_000_u32).map(|at| (at / 5) as u8).collect();
    std::fs::write(path("plain"), &plaintext).unwrap();
    let (sealer, opener) = (Sealer::new(client.clone(), &key), Opener::new(client, &key));
    let identity = sealer.seal_file(path("plain"), path("sealed"), &ec).await.unwrap();
    opener
        .rewrap_file(path("sealed"), &orders(), &[&key], Existing::Keep)
        .await
        .unwrap();
    let expected = orders().identity(identity);
    opener
        .open_file(path("sealed"), path("opened"), &expected)
        .await
        .unwrap();
    assert!(std::fs::read(path("opened")).unwrap() == plaintext);

    let file = tokio::fs::File::open(path("sealed")).await.unwrap();
    let mut reader = opener.async_reader(file, &expected).await.unwrap();
    let mut read = Vec::new();
    tokio::io::AsyncReadExt::read_to_end(&mut reader, &mut read)
        .await
        .unwrap();
    assert!(read == plaintext);
}

/// A killed `open` leaves neither the file nor a part of it, though most of the plaintext was written.
#[tokio::test]
async fn an_opening_that_is_killed_leaves_nothing() {
    let server = shared().await;
    let key = create(server, "dev/shop/sealing-killed").await;
    let sealer = Sealer::new(client(server, ADMIN).await, &key);
    let sealed = sealer.seal(&vec![7; 8 << 20], &context(&[])).await.unwrap();
    let (certificate, private_key) = server.client_ca.client(ADMIN).write(&server.path("tls"), "killed");
    let directory = tempfile::tempdir_in(server.directory.path()).unwrap();
    let mut opening = Command::new(env!("CARGO_BIN_EXE_keyreeve"))
        .args(["open", "--with", &key, "-", "--out"])
        .arg(directory.path().join("opened"))
        .env("KEYREEVE_ADDR", format!("https://{}", server.listen))
        .env("KEYREEVE_CA", server.path("tls/server-ca.pem"))
        .env("KEYREEVE_CERT", certificate)
        .env("KEYREEVE_KEY", private_key)
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    // When this much has gone through the pipe, all but the last batches were opened and written.
    opening.stdin.as_mut().unwrap().write_all(&sealed[..7 << 20]).unwrap();
    opening.kill().unwrap();
    opening.wait().unwrap();
    let left: Vec<_> = std::fs::read_dir(directory.path()).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
}

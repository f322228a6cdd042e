//! Tests as users of the double write them: their application is the client here.
#![allow(clippy::unwrap_used)] // all of this file is a test

use std::time::{Duration, Instant};

use keyreeve_client::{Client, ClientError, EncryptionContext, Expectation, Opener, Sealer, v1};
use keyreeve_testing::{Caller, Service, is_test_ciphertext, is_test_key_id};

const ORDERS: &str = "envs/dev/teams/shop/keys/orders";

async fn with_orders() -> (Service, Client) {
    let double = Service::start().await.unwrap();
    let client = double.client().await.unwrap();
    create(&client, "orders").await;
    (double, client)
}

async fn create(client: &Client, key_id: &str) -> v1::Key {
    let request = v1::CreateKeyRequest {
        parent: "envs/dev/teams/shop".into(),
        key_id: key_id.into(),
        ..Default::default()
    };
    client.create_key(request).await.unwrap().key.unwrap()
}

fn encrypt(text: &'static str) -> v1::EncryptRequest {
    v1::EncryptRequest {
        name: ORDERS.into(),
        plaintext: text.into(),
        ..Default::default()
    }
}

fn decrypt(ciphertext: impl Into<bytes::Bytes>) -> v1::DecryptRequest {
    v1::DecryptRequest {
        name: ORDERS.into(),
        ciphertext: ciphertext.into(),
        ..Default::default()
    }
}

async fn state(client: &Client) -> &'static str {
    let request = v1::GetKeyRequest { name: ORDERS.into() };
    let key = client.get_key(request).await.unwrap().key.unwrap();
    key.state().as_str_name()
}

/// Of a call that must fail.
fn reason<T>(outcome: Result<T, ClientError>) -> String {
    outcome.err().expect("the call should fail").reason.to_string()
}

#[tokio::test]
async fn what_was_encrypted_is_decrypted_and_every_ciphertext_is_marked() {
    let (_double, client) = with_orders().await;
    let sealed = client.encrypt(encrypt("hello")).await.unwrap();
    let opened = client.decrypt(decrypt(sealed.ciphertext.clone())).await.unwrap();
    assert_eq!(&opened.plaintext[..], b"hello");
    assert!(is_test_ciphertext(&sealed.ciphertext));
    assert!(is_test_key_id(&create(&client, "refunds").await.id));
}

#[tokio::test]
async fn a_message_is_sealed_and_opened_and_marked() {
    let (_double, client) = with_orders().await;
    let context = EncryptionContext::default();
    let sealed = Sealer::new(client.clone(), ORDERS)
        .seal(b"a long letter", &context)
        .await
        .unwrap();
    assert!(is_test_ciphertext(&sealed));
    let opener = Opener::new(client, ORDERS);
    let opened = opener.open(&sealed, &Expectation::context(context)).await.unwrap();
    assert_eq!(opened.as_bytes(), b"a long letter");
}

#[tokio::test]
async fn a_client_survives_two_outages_and_the_double_says_what_was_called() {
    let (double, client) = with_orders().await;
    double.faults().calls(["Encrypt"]).unavailable(2);
    client.encrypt(encrypt("hello")).await.unwrap();
    let calls = double.calls();
    let (created, encrypts) = calls.split_first().unwrap();
    assert_eq!((created.method, created.reason.as_str()), ("CreateKey", "OK"));
    let reasons: Vec<_> = encrypts
        .iter()
        .map(|call| (call.method, call.reason.as_str()))
        .collect();
    assert_eq!(
        reasons,
        [
            ("Encrypt", "TOKEN_UNAVAILABLE"),
            ("Encrypt", "TOKEN_UNAVAILABLE"),
            ("Encrypt", "OK")
        ]
    );
    let last = calls.last().unwrap();
    assert_eq!(
        (last.name.as_str(), last.caller.as_str()),
        (ORDERS, "spiffe://keyreeve.dev/admin")
    );
}

#[tokio::test]
async fn a_slow_answer_meets_the_deadline_and_a_lost_one_has_done_its_work() {
    let (double, client) = with_orders().await;
    double.faults().slow(Duration::from_secs(60), 1);
    let patient = client.with_deadline(Duration::from_millis(200)).unwrap();
    let outcome = patient.encrypt(encrypt("hello")).await;
    assert_eq!(reason(outcome), "DEADLINE_EXCEEDED");

    double.faults().lose_answer(1);
    // Tried again under the request id of the first attempt, which has made the key.
    create(&client, "refunds").await;
    let reasons: Vec<_> = double
        .calls()
        .iter()
        .rev()
        .take(2)
        .map(|call| call.reason.clone())
        .collect();
    assert_eq!(reasons, ["OK", "LOG_UNAVAILABLE"]);
}

#[tokio::test]
async fn a_message_of_a_pipeline_meets_the_faults_of_its_method_and_key() {
    let (double, client) = with_orders().await;
    create(&client, "refunds").await;
    let pipeline = client.pipeline();
    double
        .faults()
        .calls(["Encrypt"])
        .key("dev/shop/orders")
        .fail("STATE_FORBIDS", 1);
    let of_refunds = v1::EncryptRequest {
        name: "envs/dev/teams/shop/keys/refunds".into(),
        ..encrypt("hello")
    };
    let (refused, other) = tokio::join!(pipeline.encrypt(encrypt("hello")), pipeline.encrypt(of_refunds));
    assert_eq!(reason(refused), "STATE_FORBIDS");
    let sealed = other.unwrap();
    assert!(is_test_ciphertext(&sealed.ciphertext));
    let became = |key: &str| {
        let calls = double.calls().into_iter();
        let mut of_key = calls.filter(|call| call.method == "Encrypt" && call.name.ends_with(key));
        (of_key.next().unwrap().reason, of_key.next())
    };
    assert_eq!(became("orders"), ("STATE_FORBIDS".to_owned(), None));
    assert_eq!(became("refunds"), ("OK".to_owned(), None));

    double.faults().lose_answer(1);
    double.faults().overloaded(1, Duration::from_millis(10));
    // The answer is lost, then refused, and comes at the third attempt.
    pipeline.encrypt(encrypt("hello")).await.unwrap();
}

#[tokio::test]
async fn a_slow_message_of_a_pipeline_holds_no_other_up() {
    let (double, client) = with_orders().await;
    create(&client, "refunds").await;
    let pipeline = client.pipeline();
    let by = Duration::from_millis(400);
    double.faults().key("dev/shop/orders").slow(by, 1);
    let quick = v1::EncryptRequest {
        name: "envs/dev/teams/shop/keys/refunds".into(),
        ..encrypt("quick")
    };
    let started = Instant::now();
    let mut slow = std::pin::pin!(pipeline.encrypt(encrypt("slow")));
    tokio::select! {
        biased;
        _ = &mut slow => panic!("the slow one came first"),
        quick = pipeline.encrypt(quick) => drop(quick.unwrap()),
    }
    slow.await.unwrap();
    assert!(started.elapsed() >= by);
}

#[tokio::test]
async fn without_its_token_only_what_needs_it_fails() {
    let (double, client) = with_orders().await;
    let once = client.with_deadline(Duration::from_millis(300)).unwrap();
    double.faults().token_away(true);
    assert_eq!(reason(once.encrypt(encrypt("hello")).await), "TOKEN_UNAVAILABLE");
    assert_eq!(state(&client).await, "KEY_STATE_ACTIVE");
    double.faults().clear();
    client.encrypt(encrypt("hello")).await.unwrap();
}

#[tokio::test]
async fn what_is_scheduled_for_destruction_is_destroyed_when_the_clock_has_moved() {
    let (double, client) = with_orders().await;
    let sealed = client.encrypt(encrypt("hello")).await.unwrap();
    let request = v1::DestroyKeyRequest {
        name: ORDERS.into(),
        wait_days: 30,
        ..Default::default()
    };
    client.destroy_key(request).await.unwrap();
    double.advance(Duration::from_hours(29 * 24)).await;
    assert_eq!(state(&client).await, "KEY_STATE_PENDING_DESTRUCTION");
    double.advance(Duration::from_hours(2 * 24)).await;
    assert_eq!(state(&client).await, "KEY_STATE_DESTROYED");
    let outcome = client.decrypt(decrypt(sealed.ciphertext)).await;
    assert_eq!(reason(outcome), "STATE_FORBIDS");
}

#[tokio::test]
async fn a_caller_may_do_what_his_roles_let_him() {
    let (double, client) = with_orders().await;
    let sealed = client.encrypt(encrypt("hello")).await.unwrap();
    let app = double.client_of("app").await.unwrap();
    app.encrypt(encrypt("hello")).await.unwrap();
    let refused = app.decrypt(decrypt(sealed.ciphertext.clone())).await;
    assert_eq!(reason(refused), "PERMISSION_DENIED");

    let reader = Caller::new("reader").roles(["decrypter"]).teams(["dev/shop"]);
    double.add_caller(reader.clone()).await.unwrap();
    let reading = double.client_of("reader").await.unwrap();
    reading.decrypt(decrypt(sealed.ciphertext.clone())).await.unwrap();
    double
        .add_caller(Caller::new("reader").roles(["auditor"]))
        .await
        .unwrap();
    let refused = reading.decrypt(decrypt(sealed.ciphertext)).await;
    assert_eq!(reason(refused), "PERMISSION_DENIED", "new rights hold at once");

    let abroad = Caller::new("reader").roles(["decrypter"]).teams(["elsewhere/shop"]);
    for wrong in [abroad, Caller::new("x").roles(["king"]), Caller::new("X")] {
        assert!(double.add_caller(wrong).await.is_err());
    }
    double.add_caller(reader).await.unwrap();
}

#[tokio::test]
async fn keys_survive_a_stop_and_the_address_stays() {
    let (double, client) = with_orders().await;
    let sealed = client.encrypt(encrypt("hello")).await.unwrap();
    let address = double.address();
    double.stop().await;
    let impatient = client.with_deadline(Duration::from_millis(300)).unwrap();
    assert_eq!(reason(impatient.encrypt(encrypt("hello")).await), "UNREACHABLE");
    double.start_again().await.unwrap();
    assert_eq!(double.address(), address);
    client.decrypt(decrypt(sealed.ciphertext)).await.unwrap();
}

#[tokio::test]
async fn no_two_doubles_open_each_others_ciphertexts() {
    let (_one, client) = with_orders().await;
    let sealed = client.encrypt(encrypt("hello")).await.unwrap();
    let (_other, stranger) = with_orders().await;
    let outcome = stranger.decrypt(decrypt(sealed.ciphertext)).await;
    assert_eq!(reason(outcome), "DECRYPT_FAILED");
}

#[tokio::test]
async fn a_dropped_double_is_gone_at_once_with_its_files_although_a_client_is_open() {
    let (double, client) = with_orders().await;
    let (address, ca) = (double.address(), double.settings("admin").ca);
    assert!(ca.exists());
    let started = Instant::now();
    drop(double);
    // To drain would take two seconds: nobody is there to let go of the client's connection.
    assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
    assert!(!ca.parent().unwrap().parent().unwrap().exists());
    assert!(std::net::TcpStream::connect(address).is_err());
    drop(client);
}

#[tokio::test]
#[should_panic(expected = "`Sign` is no method of the service")]
async fn a_fault_of_a_method_that_there_is_not_is_a_mistake_of_the_test() {
    let double = Service::start().await.unwrap();
    double.faults().calls(["Sign"]).unavailable(1);
}

use super::*;
use crate::sealing::{
    Sealer,
    double::{ARCHIVE, Double, ORDERS, context},
};
use keyreeve_envelope::{EncryptionContext, MessageId};

fn table() -> EncryptionContext {
    context(&[("table", "orders"), ("tenant", "acme")])
}

async fn sealed(double: &Double) -> Vec<u8> {
    Sealer::new(double.clone(), ORDERS)
        .storing_context()
        .seal(b"hello", &table())
        .await
        .unwrap()
}

async fn reason(opener: &Opener, message: &[u8], expected: &Expectation) -> String {
    opener
        .open(message, expected)
        .await
        .err()
        .expect("it does not open")
        .reason
}

#[tokio::test]
async fn every_flipped_bit_fails_and_all_failures_look_the_same() {
    let double = Double::new();
    let message = sealed(&double).await;
    let opener = Opener::new(double.clone(), ORDERS);
    let expected = Expectation::context(table());
    let (mut texts, mut asked) = (std::collections::HashSet::new(), 0);
    for bit in 0..message.len() * 8 {
        let mut flipped = message.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        let error = opener
            .open(&flipped, &expected)
            .await
            .err()
            .unwrap_or_else(|| panic!("bit {bit}"));
        // The request id names a call in the audit log, where there was one.
        asked += usize::from(!error.request_id.is_empty());
        texts.insert((
            error.code,
            error.reason.clone(),
            error.message.clone(),
            error.retry_after,
        ));
    }
    assert_eq!(texts.len(), 1, "{texts:?}");
    assert!(asked > 0 && asked < message.len() * 8);
    for length in 0..message.len() {
        assert_eq!(reason(&opener, &message[..length], &expected).await, "DECRYPT_FAILED");
    }
    assert_eq!(opener.open(&message, &expected).await.unwrap().as_bytes(), b"hello");
}

#[tokio::test]
async fn only_a_wrapped_key_of_a_named_key_goes_to_the_service() {
    let double = Double::new();
    let message = sealed(&double).await;
    let foreign = Opener::new(double.clone(), ARCHIVE);
    assert_eq!(
        reason(&foreign, &message, &Expectation::context(table())).await,
        "DECRYPT_FAILED"
    );
    assert_eq!(double.service().unwrapped, 0);
}

#[tokio::test]
async fn only_the_first_match_is_tried() {
    let double = Double::new();
    let message = sealed(&double).await;
    let (front, chunks) = Front::split(&message).unwrap();
    let good = front.header.wrapped_keys()[0].clone();
    let mut bad = good.as_bytes().to_vec();
    *bad.last_mut().unwrap() ^= 1;
    let bad = WrappedKey::from_envelope(bad).unwrap();
    let expected = Expectation::context(table());
    let opener = Opener::new(double.clone(), ORDERS);
    for (keys, opens) in [(vec![bad.clone(), good.clone()], false), (vec![good, bad], true)] {
        let header = front.header.with_wrapped_keys(keys).unwrap();
        let message = [&header.encode()[..], &front.payload, chunks].concat();
        double.service().unwrapped = 0;
        assert_eq!(opener.open(&message, &expected).await.is_ok(), opens);
        assert_eq!(double.service().unwrapped, 1);
    }
}

/// T8: whoever may make data keys under the reader's key cannot make a message open to something else by adding one.
#[tokio::test]
async fn a_wrapped_key_of_another_data_key_does_not_open() {
    let double = Double::new();
    let message = sealed(&double).await;
    let (front, chunks) = Front::split(&message).unwrap();
    let (_, other) = double.generate(ORDERS, &table()).await.unwrap();
    let header = front.header.with_wrapped_keys(vec![other]).unwrap();
    let message = [&header.encode()[..], &front.payload, chunks].concat();
    let opener = Opener::new(double, ORDERS);
    assert_eq!(
        reason(&opener, &message, &Expectation::context(table())).await,
        "DECRYPT_FAILED"
    );
}

#[tokio::test]
async fn an_opener_finds_its_key_among_others() {
    let (double, elsewhere) = (Double::new(), Double::new());
    let message = sealed(&double).await;
    let opener = Opener::new(elsewhere.clone(), ORDERS)
        .or(ARCHIVE)
        .or_of(double.as_(9), ORDERS);
    let opened = opener.open(&message, &Expectation::context(table())).await.unwrap();
    assert_eq!(opened.as_bytes(), b"hello");
    assert_eq!(elsewhere.service().unwrapped, 0);
}

#[tokio::test]
async fn an_id_is_asked_for_once_and_a_pinned_one_never() {
    let double = Double::new();
    let message = sealed(&double).await;
    let expected = Expectation::context(table());
    let opener = Opener::new(double.clone(), ORDERS);
    for _ in 0..3 {
        opener.open(&message, &expected).await.unwrap();
    }
    assert_eq!(double.service().ids_asked, 1);
    let pinned = Opener::pinned(double.clone(), ORDERS, double.id(ORDERS));
    pinned.open(&message, &expected).await.unwrap();
    assert_eq!(double.service().ids_asked, 1);
    // A key made anew under the old name is another key.
    double.create(ORDERS);
    let unwrapped = double.service().unwrapped;
    let newer = sealed(&double).await;
    assert_eq!(reason(&pinned, &newer, &expected).await, "DECRYPT_FAILED");
    assert_eq!(double.service().unwrapped, unwrapped);
}

#[tokio::test]
async fn an_id_is_asked_for_only_until_the_key_of_a_message_is_found() {
    let double = Double::new();
    let message = sealed(&double).await;
    let expected = Expectation::context(table());
    let absent = "envs/dev/teams/shop/keys/absent";
    let opener = Opener::new(double.clone(), ORDERS).or(ARCHIVE).or(absent);
    opener.open(&message, &expected).await.unwrap();
    assert_eq!(double.service().ids_asked, 1);
    let archived = Sealer::new(double.clone(), ARCHIVE)
        .seal(b"old", &table())
        .await
        .unwrap();
    for _ in 0..2 {
        opener.open(&archived, &expected).await.unwrap();
    }
    opener.open(&message, &expected).await.unwrap();
    assert_eq!(double.service().ids_asked, 2);
    // Of two wrapped keys the first that names one of our keys counts, whichever ids are known.
    let both = Sealer::new(double.clone(), ORDERS)
        .and(ARCHIVE)
        .seal(b"both", &table())
        .await
        .unwrap();
    let (front, _) = Front::split(&both).unwrap();
    for known in [[ORDERS, ARCHIVE], [ARCHIVE, ORDERS]] {
        let opener = Opener::new(double.clone(), known[0]).or(known[1]);
        opener.open(&archived, &expected).await.unwrap();
        assert_eq!(opener.first_match(&front).await.unwrap().0.name, ORDERS);
    }
}

#[tokio::test]
async fn a_stored_context_is_believed_only_as_far_as_the_caller_says() {
    let double = Double::new();
    let message = sealed(&double).await;
    let bare = Sealer::new(double.clone(), ORDERS)
        .seal(b"hello", &table())
        .await
        .unwrap();
    let opener = Opener::new(double, ORDERS);
    let part = |pairs: &[(&str, &str)]| Expectation::context_including(context(pairs));
    for (expected, stored, not_stored) in [
        (Expectation::context(table()), true, true),
        (Expectation::context(context(&[("table", "orders")])), false, false),
        (Expectation::context(context(&[])), false, false),
        (part(&[("table", "orders")]), true, false),
        (part(&[("table", "orders"), ("tenant", "acme")]), true, false),
        (part(&[("table", "refunds")]), false, false),
        (part(&[("other", "orders")]), false, false),
        (part(&[]), true, false),
        (Expectation::accept_stored_context(), true, false),
    ] {
        assert_eq!(
            opener.open(&message, &expected).await.is_ok(),
            stored,
            "stored, {expected:?}"
        );
        assert_eq!(
            opener.open(&bare, &expected).await.is_ok(),
            not_stored,
            "not stored, {expected:?}"
        );
    }
    let (front, _) = Front::split(&message).unwrap();
    let unlocked = opener
        .unlock(&front, &Expectation::accept_stored_context())
        .await
        .unwrap();
    assert_eq!(unlocked.context(), &table());
}

#[tokio::test]
async fn an_older_message_is_told_from_the_expected_one() {
    let double = Double::new();
    let (old, new) = (sealed(&double).await, sealed(&double).await);
    let front = |message: &[u8]| Front::split(message).unwrap().0;
    let opener = Opener::new(double.clone(), ORDERS);
    let by_id = Expectation::context(table()).message_id(front(&new).message_id());
    let by_identity = Expectation::context(table()).identity(front(&new).identity());
    for expected in [&by_id, &by_identity] {
        assert_eq!(opener.open(&new, expected).await.unwrap().as_bytes(), b"hello");
        let asked = double.service().unwrapped;
        assert_eq!(reason(&opener, &old, expected).await, "UNEXPECTED_MESSAGE");
        assert_eq!(
            double.service().unwrapped,
            asked,
            "it was refused before the service was asked"
        );
    }
    let other = Expectation::context(table()).message_id(MessageId::from_bytes([7; 16]));
    assert_eq!(reason(&opener, &new, &other).await, "UNEXPECTED_MESSAGE");
}

#[tokio::test]
async fn that_the_service_is_not_there_is_told_apart() {
    let double = Double::new();
    let message = sealed(&double).await;
    let opener = Opener::pinned(double.clone(), ORDERS, double.id(ORDERS));
    double.go_down();
    let error = opener
        .open(&message, &Expectation::context(table()))
        .await
        .err()
        .unwrap();
    assert!(error.is_unavailable() && error.reason == "UNREACHABLE");
}

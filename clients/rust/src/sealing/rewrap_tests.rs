use super::*;
use crate::{
    EncryptionContext,
    sealing::{
        Sealer,
        data_keys::DataKeys,
        double::{ARCHIVE, Double, ORDERS, context},
    },
};

fn ec() -> EncryptionContext {
    context(&[("table", "orders")])
}

fn expected() -> Expectation {
    Expectation::context(ec())
}

async fn sealed(double: &Double) -> Vec<u8> {
    Sealer::new(double.clone(), ORDERS).seal(b"hello", &ec()).await.unwrap()
}

fn split(message: &[u8]) -> (Header, &[u8]) {
    Header::split(message).unwrap()
}

#[tokio::test]
async fn after_a_rotation_a_message_is_wrapped_under_the_new_version() {
    let double = Double::new();
    let message = sealed(&double).await;
    let opener = Opener::new(double.clone(), ORDERS);
    let version = double.rotate(ORDERS);
    let again = opener
        .rewrap(&message, &expected(), &[ORDERS], Existing::Keep)
        .await
        .unwrap();
    let ((old, old_payload), (new, payload)) = (split(&message), split(&again));
    assert_eq!(payload, old_payload);
    assert_eq!(new.message_id(), old.message_id());
    assert_eq!(new.wrapped_keys().len(), 1, "the old wrapping of the same key went");
    assert_eq!(new.wrapped_keys()[0].envelope_header().unwrap().key_version(), version);
    assert_eq!(opener.open(&again, &expected()).await.unwrap().as_bytes(), b"hello");
    assert_eq!(double.service().unwrapped, 1, "for that alone was the data key shown");
}

#[tokio::test]
async fn a_reader_is_added_and_another_taken_away() {
    let double = Double::new();
    let message = sealed(&double).await;
    let (orders, archive) = (
        Opener::new(double.clone(), ORDERS),
        Opener::new(double.clone(), ARCHIVE),
    );
    assert!(archive.open(&message, &expected()).await.is_err());
    let both = orders
        .rewrap(&message, &expected(), &[ARCHIVE], Existing::Keep)
        .await
        .unwrap();
    for opener in [&orders, &archive] {
        assert_eq!(opener.open(&both, &expected()).await.unwrap().as_bytes(), b"hello");
    }
    let one = archive
        .rewrap(&both, &expected(), &[ARCHIVE], Existing::Replace)
        .await
        .unwrap();
    assert_eq!(archive.open(&one, &expected()).await.unwrap().as_bytes(), b"hello");
    assert!(orders.open(&one, &expected()).await.is_err());
}

#[tokio::test]
async fn wrapped_keys_of_unknown_kinds_stay_when_keys_are_added() {
    let double = Double::new();
    let message = sealed(&double).await;
    // Another kind, in the first byte of the only wrapped key; and the good one behind it.
    let (header, payload) = split(&message);
    let two = [header.wrapped_keys(), header.wrapped_keys()].concat();
    let mut bytes = header.with_wrapped_keys(two).unwrap().encode();
    bytes[32] = 9;
    let message = [&bytes, payload].concat();
    let opener = Opener::new(double, ORDERS);
    let added = opener
        .rewrap(&message, &expected(), &[ARCHIVE], Existing::Keep)
        .await
        .unwrap();
    let kinds: Vec<u8> = split(&added).0.wrapped_keys().iter().map(|key| key.kind()).collect();
    assert_eq!(kinds, [9, 1, 1]);
    let replaced = opener
        .rewrap(&message, &expected(), &[ORDERS], Existing::Replace)
        .await
        .unwrap();
    assert_eq!(split(&replaced).0.wrapped_keys().len(), 1);
}

#[tokio::test]
async fn what_does_not_open_is_not_wrapped_anew() {
    let double = Double::new();
    let message = sealed(&double).await;
    let opener = Opener::new(double.clone(), ORDERS);
    let other = Expectation::context(context(&[("table", "refunds")]));
    let error = opener
        .rewrap(&message, &other, &[ARCHIVE], Existing::Keep)
        .await
        .err()
        .unwrap();
    assert_eq!(error.reason, "DECRYPT_FAILED");
    let foreign = Opener::new(double.clone(), ARCHIVE);
    let error = foreign
        .rewrap(&message, &expected(), &[ARCHIVE], Existing::Keep)
        .await
        .err()
        .unwrap();
    assert_eq!(error.reason, "DECRYPT_FAILED");
    let error = opener
        .rewrap(&message, &expected(), &[], Existing::Replace)
        .await
        .err()
        .unwrap();
    assert_eq!(error.reason, "INVALID_ARGUMENT");
    // A wrapped key of another message's data key is found out where it is opened.
    let (_, stolen) = double.generate(ORDERS, &ec()).await.unwrap();
    let (header, payload) = split(&message);
    let swapped = [&header.with_wrapped_keys(vec![stolen]).unwrap().encode(), payload].concat();
    let wrapped = opener
        .rewrap(&swapped, &expected(), &[ARCHIVE], Existing::Replace)
        .await
        .unwrap();
    assert!(Opener::new(double, ARCHIVE).open(&wrapped, &expected()).await.is_err());
}

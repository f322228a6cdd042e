use super::*;
use crate::sealing::{
    Expectation, Opener,
    double::{ARCHIVE, Double, ORDERS, context, plaintext},
};
use keyreeve_envelope::sealed::Header;

#[tokio::test]
async fn what_is_sealed_opens_under_its_context_and_nothing_else() {
    let double = Double::new();
    let ec = context(&[("table", "orders")]);
    let sealer = Sealer::new(double.clone(), ORDERS);
    let opener = Opener::new(double, ORDERS);
    for length in [0, 1, 16_383, 16_384, 16_385, 3 << 20] {
        let plaintext = plaintext(length);
        let sealed = sealer.seal(&plaintext, &ec).await.unwrap();
        let opened = opener.open(&sealed, &Expectation::context(ec.clone())).await.unwrap();
        assert!(opened.as_bytes() == plaintext, "{length}");
        let other = Expectation::context(context(&[("table", "refunds")]));
        let error = opener.open(&sealed, &other).await.err().unwrap();
        assert_eq!(error.reason, "DECRYPT_FAILED");
    }
}

#[tokio::test]
async fn each_message_has_a_data_key_of_its_own_without_a_cache() {
    let double = Double::new();
    let sealer = Sealer::new(double.clone(), ORDERS);
    for _ in 0..3 {
        sealer.seal(b"hello", &context(&[])).await.unwrap();
    }
    assert_eq!(double.service().generated, 3);
}

#[tokio::test]
async fn a_message_to_several_keys_opens_with_each_of_them() {
    let double = Double::new();
    let ec = context(&[("a", "b")]);
    let sealer = Sealer::new(double.clone(), ORDERS)
        .and_of(double.as_(2), ARCHIVE)
        .storing_context();
    let sealed = sealer.seal(b"hello", &ec).await.unwrap();
    assert_eq!(Header::split(&sealed).unwrap().0.wrapped_keys().len(), 2);
    for key in [ORDERS, ARCHIVE] {
        let opener = Opener::new(double.clone(), key);
        let opened = opener.open(&sealed, &Expectation::context(ec.clone())).await.unwrap();
        assert_eq!(opened.as_bytes(), b"hello");
    }
    let service = double.service();
    assert_eq!((service.generated, service.wrapped_anew), (1, 1));
}

#[tokio::test]
async fn a_message_to_keys_of_two_services_opens_at_either_alone() {
    let (here, there) = (Double::new(), Double::new());
    let ec = context(&[("a", "b")]);
    let limits = CacheLimits::default();
    let sealer = Sealer::new(here.clone(), ORDERS).and_elsewhere(there.clone(), ORDERS);
    let sealer = sealer.with_cache(limits).unwrap();
    for text in [b"hello", b"again"] {
        let sealed = sealer.seal(text, &ec).await.unwrap();
        for service in [&here, &there] {
            let opener = Opener::new(service.clone(), ORDERS);
            let opened = opener.open(&sealed, &Expectation::context(ec.clone())).await.unwrap();
            assert_eq!(opened.as_bytes(), text);
        }
    }
    assert_eq!(here.service().generated, 1);
    // What is kept goes with the key of either.
    sealer.evict(there.id(ORDERS));
    there.go_down();
    let error = sealer.seal(b"hello", &ec).await.err().unwrap();
    assert_eq!(error.reason, "UNREACHABLE");
    assert_eq!(here.service().generated, 2);
}

#[tokio::test]
async fn the_context_is_stored_only_when_asked_for() {
    let double = Double::new();
    let ec = context(&[("table", "orders")]);
    let bare = Sealer::new(double.clone(), ORDERS).seal(b"x", &ec).await.unwrap();
    let storing = Sealer::new(double, ORDERS)
        .storing_context()
        .seal(b"x", &ec)
        .await
        .unwrap();
    assert!(Header::split(&bare).unwrap().0.stored_context().is_none());
    assert!(!bare.windows(6).any(|window| window == b"orders"));
    assert_eq!(Header::split(&storing).unwrap().0.stored_context(), Some(&ec));
}

#[tokio::test]
async fn seventeen_keys_are_too_many() {
    let double = Double::new();
    let sealer = (0..16).fold(Sealer::new(double, ORDERS), |sealer, _| sealer.and(ARCHIVE));
    let error = sealer.seal(b"x", &context(&[])).await.err().unwrap();
    assert_eq!(error.reason, "INVALID_ARGUMENT");
    assert!(error.message.contains("16"), "{error}");
}

#[tokio::test]
async fn an_error_of_the_service_is_passed_on() {
    let double = Double::new();
    let absent = Sealer::new(double.clone(), "envs/dev/teams/shop/keys/absent");
    assert_eq!(
        absent.seal(b"x", &context(&[])).await.err().unwrap().code,
        crate::Code::NotFound
    );
    double.go_down();
    let error = Sealer::new(double, ORDERS)
        .seal(b"x", &context(&[]))
        .await
        .err()
        .unwrap();
    assert!(error.is_unavailable());
}

/// Compiles only while the work can move between threads.
#[test]
fn sealing_and_opening_can_be_spawned() {
    fn spawnable(_: impl Future + Send + 'static) {}
    let _ = |sealer: Sealer, opener: Opener, bytes: Vec<u8>| {
        spawnable(async move {
            let sealed = sealer.seal(&bytes, &context(&[])).await?;
            opener.open(&sealed, &Expectation::accept_stored_context()).await
        });
    };
}

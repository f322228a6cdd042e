use std::{
    thread,
    time::{Instant, SystemTime},
};

use super::*;
use crate::sealing::{
    Expectation, OfflineBudget, Opener, Sealer,
    double::{ARCHIVE, Double, ORDERS, context},
};

fn limits(change: impl Fn(&mut CacheLimits)) -> CacheLimits {
    let mut limits = CacheLimits::default();
    change(&mut limits);
    limits
}

fn sealer(double: &Double, change: impl Fn(&mut CacheLimits)) -> Sealer {
    Sealer::new(double.clone(), ORDERS).with_cache(limits(change)).unwrap()
}

async fn seal(sealer: &Sealer, pairs: &[(&str, &str)]) -> Vec<u8> {
    sealer.seal(b"hello", &context(pairs)).await.unwrap()
}

#[tokio::test]
async fn messages_of_one_context_share_a_data_key_and_of_two_do_not() {
    let double = Double::new();
    let sealer = sealer(&double, |_| ());
    let mut sealed = Vec::new();
    for _ in 0..5 {
        sealed.push(seal(&sealer, &[]).await);
    }
    assert_eq!(double.service().generated, 1);
    seal(&sealer, &[("a", "b")]).await;
    seal(&sealer, &[("a", "b")]).await;
    assert_eq!(double.service().generated, 2);
    // Each message has an id, a salt and so keys of its own all the same.
    sealed.dedup();
    assert_eq!(sealed.len(), 5);

    let opener = Opener::new(double.clone(), ORDERS)
        .with_cache(CacheLimits::default())
        .unwrap();
    for message in &sealed {
        let expected = Expectation::context(context(&[]));
        assert_eq!(opener.open(message, &expected).await.unwrap().as_bytes(), b"hello");
    }
    assert_eq!(double.service().unwrapped, 1);
    let other = Expectation::context(context(&[("a", "b")]));
    assert!(opener.open(&sealed[0], &other).await.is_err());
    assert_eq!(double.service().unwrapped, 2, "another context is another place");
}

#[tokio::test]
async fn an_opener_with_two_identities_does_not_hand_one_what_the_other_got() {
    let double = Double::new();
    let sealed = seal(&Sealer::new(double.clone(), ORDERS), &[]).await;
    let cache = OpenCache::new(CacheLimits::default(), Events::default());
    let wrapped = Header::parse(sealed_envelope(&sealed).as_bytes()).unwrap();
    let key = DataKey::copied(&[7; 32]).unwrap();
    cache.keep(0, ([1; 32], [2; 32], [3; 32]), &wrapped, &key);
    assert!(cache.take(&([1; 32], [2; 32], [3; 32])).is_some());
    for other in [
        ([9; 32], [2; 32], [3; 32]),
        ([1; 32], [9; 32], [3; 32]),
        ([1; 32], [2; 32], [9; 32]),
    ] {
        assert!(cache.take(&other).is_none());
    }
}

fn sealed_envelope(message: &[u8]) -> WrappedKey {
    keyreeve_envelope::sealed::Header::split(message)
        .unwrap()
        .0
        .wrapped_keys()[0]
        .clone()
}

#[tokio::test]
async fn a_data_key_goes_after_its_messages_its_bytes_and_its_time() {
    for change in [
        (|limits| limits.messages = 2) as fn(&mut CacheLimits),
        // Counted are sealed bytes, of which each message has 5 and a tag, or no tag.
        |limits| limits.bytes = 9,
    ] {
        let double = Double::new();
        let sealer = sealer(&double, change);
        for _ in 0..6 {
            seal(&sealer, &[]).await;
        }
        assert_eq!(double.service().generated, 3);
    }
    let double = Double::new();
    let sealer = sealer(&double, |limits| limits.seal_age = Duration::from_millis(30));
    seal(&sealer, &[]).await;
    seal(&sealer, &[]).await;
    thread::sleep(Duration::from_millis(40));
    seal(&sealer, &[]).await;
    assert_eq!(double.service().generated, 2);
}

#[tokio::test]
async fn what_streams_seal_is_counted_too() {
    let double = Double::new();
    let sealer = sealer(&double, |limits| limits.bytes = 1 << 20);
    let message = sealer.begin(&context(&[])).await.unwrap();
    message.stream_on(2, &vec![0; 2 << 20][..], std::io::sink()).unwrap();
    seal(&sealer, &[]).await;
    assert_eq!(double.service().generated, 2);
}

#[tokio::test]
async fn the_entry_that_was_unused_for_longest_makes_room() {
    let double = Double::new();
    let sealer = sealer(&double, |limits| limits.entries = 2);
    for tenant in ["a", "b", "a", "c", "a", "b"] {
        seal(&sealer, &[("tenant", tenant)]).await;
    }
    assert_eq!(double.service().generated, 4, "a, b, c, and b again");
}

#[tokio::test]
async fn a_rotation_that_shows_itself_and_a_push_evict() {
    let double = Double::new();
    let sealer = sealer(&double, |_| ());
    seal(&sealer, &[]).await;
    seal(&sealer, &[("a", "b")]).await;
    let version = double.rotate(ORDERS);
    // The answer for a third context shows the new version: what is under the old one goes.
    seal(&sealer, &[("c", "d")]).await;
    let again = seal(&sealer, &[]).await;
    assert_eq!(double.service().generated, 4);
    assert_eq!(
        sealed_envelope(&again).envelope_header().unwrap().key_version(),
        version
    );

    sealer.primary_changed(double.id(ORDERS), version);
    seal(&sealer, &[]).await;
    assert_eq!(double.service().generated, 4, "it is of this version");
    let version = double.rotate(ORDERS);
    sealer.primary_changed(double.id(ORDERS), version);
    seal(&sealer, &[]).await;
    assert_eq!(double.service().generated, 5);
    sealer.evict(double.id(ARCHIVE));
    seal(&sealer, &[]).await;
    assert_eq!(double.service().generated, 5, "another key");
    sealer.evict(double.id(ORDERS));
    seal(&sealer, &[]).await;
    assert_eq!(double.service().generated, 6);

    let opener = Opener::new(double.clone(), ORDERS)
        .with_cache(CacheLimits::default())
        .unwrap();
    let message = seal(&sealer, &[]).await;
    let expected = Expectation::context(context(&[]));
    for (evict, asked) in [
        ((|_, _| ()) as fn(&Opener, KeyId), 1),
        (|opener, key| opener.evict_version(key, KeyVersion::FIRST), 1),
        (|opener, key| opener.evict(key), 2),
        (|opener, _| opener.evict_all(), 3),
    ] {
        evict(&opener, double.id(ORDERS));
        opener.open(&message, &expected).await.unwrap();
        assert_eq!(double.service().unwrapped, asked);
    }
}

fn offline(limits: &mut CacheLimits) {
    limits.seal_age = Duration::ZERO;
    limits.offline = Some(OfflineBudget {
        age: Duration::from_secs(60),
        messages: 3,
        bytes: 1 << 20,
    });
}

#[tokio::test]
async fn without_leave_nothing_is_sealed_while_the_service_is_down() {
    let double = Double::new();
    let sealer = sealer(&double, |limits| limits.seal_age = Duration::ZERO);
    seal(&sealer, &[]).await;
    double.go_down();
    assert!(sealer.seal(b"x", &context(&[])).await.err().unwrap().is_unavailable());
}

#[tokio::test]
async fn an_outage_is_bridged_within_the_budget_and_no_further() {
    let double = Double::new();
    let sealer = sealer(&double, offline);
    seal(&sealer, &[]).await;
    seal(&sealer, &[]).await;
    assert_eq!(double.service().generated, 2, "while it answers it is asked");
    double.go_down();
    let mut sealed = Vec::new();
    for _ in 0..3 {
        let message = sealer.begin(&context(&[])).await.unwrap();
        assert!(message.is_offline());
        sealed.push(message.seal(b"hello").unwrap());
    }
    assert!(
        sealer.begin(&context(&[])).await.err().unwrap().is_unavailable(),
        "the budget is used up"
    );
    assert!(
        sealer.begin(&context(&[("a", "b")])).await.is_err(),
        "nothing is kept for this context"
    );
    assert_eq!(
        double.service().generated,
        3,
        "an outage is not asked about again at once"
    );

    double.come_back();
    thread::sleep(ASK_AGAIN);
    assert!(!sealer.begin(&context(&[])).await.unwrap().is_offline());
    double.go_down();
    assert!(
        sealer.begin(&context(&[])).await.unwrap().is_offline(),
        "the budget is new"
    );
    double.come_back();
    let opener = Opener::new(double, ORDERS);
    for message in sealed {
        let expected = Expectation::context(context(&[]));
        assert_eq!(opener.open(&message, &expected).await.unwrap().as_bytes(), b"hello");
    }
}

#[tokio::test]
async fn a_refusal_and_an_eviction_are_not_bridged() {
    let double = Double::new();
    let refused = sealer(&double, offline);
    let evicted = sealer(&double, offline);
    for sealer in [&refused, &evicted] {
        seal(sealer, &[]).await;
    }
    double.service().outage = Some(tonic::Status::permission_denied("no longer").into());
    let error = refused.seal(b"x", &context(&[])).await.err().unwrap();
    assert_eq!(error.code, crate::Code::PermissionDenied);
    evicted.evict(double.id(ORDERS));
    double.go_down();
    for sealer in [&refused, &evicted] {
        assert!(sealer.seal(b"x", &context(&[])).await.is_err());
    }
}

/// A data key that the service makes or opens, and its envelope.
async fn made(double: &Double) -> (DataKey, WrappedKey, Header) {
    let (data_key, wrapped) = crate::DataKeys::generate(double, ORDERS, &context(&[])).await.unwrap();
    let header = wrapped.envelope_header().unwrap();
    (data_key, wrapped, header)
}

#[tokio::test]
async fn what_was_asked_for_before_an_eviction_serves_its_message_alone() {
    let double = Double::new();
    let (data_key, wrapped, header) = made(&double).await;
    let of_opener = ([1; 32], [2; 32], [3; 32]);
    let opener = OpenCache::new(CacheLimits::default(), Events::default());
    let asked = opener.evictions();
    opener.evict(|_, _| true);
    opener.keep(asked, of_opener, &header, &data_key);
    assert!(opener.take(&of_opener).is_none());
    opener.keep(opener.evictions(), of_opener, &header, &data_key);
    assert!(opener.take(&of_opener).is_some());

    let sealer = SealCache::new(CacheLimits::default(), Events::default());
    let of_sealer = (vec![([1; 32], header.key_id())], [0; 32]);
    let asked = sealer.evictions();
    sealer.evict(|_, _| true);
    let used = sealer.keep(asked, vec![([1; 32], header)], [0; 32], data_key, vec![wrapped]);
    assert_eq!(used.wrapped.len(), 1, "the message has its key");
    assert!(sealer.take(&of_sealer).is_none());
}

#[tokio::test]
async fn a_late_answer_under_an_older_version_does_not_take_the_place_of_a_newer_one() {
    let double = Double::new();
    let (old_key, old_wrapped, old) = made(&double).await;
    double.rotate(ORDERS);
    let (new_key, new_wrapped, new) = made(&double).await;
    let sealer = SealCache::new(CacheLimits::default(), Events::default());
    let place = (vec![([1; 32], new.key_id())], [0; 32]);
    sealer.keep(0, vec![([1; 32], new)], [0; 32], new_key, vec![new_wrapped.clone()]);
    sealer.keep(0, vec![([1; 32], old)], [0; 32], old_key, vec![old_wrapped]);
    assert_eq!(sealer.take(&place).unwrap().wrapped, [new_wrapped]);
}

#[tokio::test]
async fn offline_bytes_are_bounded() {
    let double = Double::new();
    let sealer = sealer(&double, offline);
    seal(&sealer, &[]).await;
    double.go_down();
    let large = vec![0; 1 << 20];
    assert!(sealer.seal(&large, &context(&[])).await.is_ok());
    assert!(sealer.seal(b"x", &context(&[])).await.is_err());
}

/// Notes the names of the events of the cache.
#[derive(Clone, Default)]
struct Told(Arc<Mutex<Vec<&'static str>>>);

impl Told {
    fn events(&self) -> Events {
        let told = self.0.clone();
        Events::new(move |event| lock(&told).push(event.name.as_str()))
    }

    /// Since this was asked last.
    fn names(&self) -> Vec<&'static str> {
        std::mem::take(&mut *lock(&self.0))
    }
}

#[tokio::test]
async fn it_is_told_what_a_cache_takes_in_saves_and_lets_go() {
    let told = Told::default();
    let double = Double::new().telling(told.events());
    let (cached, reused, evicted) = ("data_key_cached", "data_key_reused", "data_key_evicted");
    let one = sealer(&double, |limits| limits.entries = 1);
    let message = seal(&one, &[]).await;
    assert_eq!(told.names(), [cached]);
    seal(&one, &[]).await;
    assert_eq!(told.names(), [reused]);
    seal(&one, &[("a", "b")]).await;
    assert_eq!(told.names(), [evicted, cached], "it made room");
    one.evict_all();
    one.evict_all();
    assert_eq!(told.names(), [evicted]);
    seal(&one, &[]).await;
    double.rotate(ORDERS);
    seal(&one, &[("a", "b")]).await;
    assert_eq!(told.names(), [cached, evicted, cached], "the rotation showed itself");

    let opener = Opener::new(double.clone(), ORDERS)
        .with_cache(CacheLimits::default())
        .unwrap();
    for name in [cached, reused, reused] {
        opener
            .open(&message, &Expectation::context(context(&[])))
            .await
            .unwrap();
        assert_eq!(told.names(), [name]);
    }

    let none = sealer(&double, |limits| limits.entries = 0);
    seal(&none, &[]).await;
    assert!(told.names().is_empty(), "nothing was taken in");
}

#[tokio::test]
async fn an_outage_and_a_refusal_are_told_by_what_they_do_to_a_key() {
    let told = Told::default();
    let double = Double::new().telling(told.events());
    let sealer = sealer(&double, offline);
    seal(&sealer, &[]).await;
    double.go_down();
    seal(&sealer, &[]).await;
    assert_eq!(told.names(), ["data_key_cached", "data_key_reused"]);
    double.service().outage = Some(tonic::Status::permission_denied("no longer").into());
    thread::sleep(ASK_AGAIN);
    assert!(sealer.seal(b"x", &context(&[])).await.is_err());
    assert_eq!(told.names(), ["data_key_evicted"]);
}

/// An answer of a service that is down may take as long as the deadline.
#[tokio::test]
async fn one_caller_a_second_asks_whether_an_outage_is_over() {
    let double = Double::new();
    let (_, _, header) = made(&double).await;
    let place = (vec![([1; 32], header.key_id())], [0; 32]);
    let sealer = SealCache::new(limits(offline), Events::default());
    assert!(sealer.down().is_none());
    let outage = ClientError::from(tonic::Status::unavailable("nobody listens"));
    sealer.take_offline(&place, &outage);
    assert!(sealer.down().is_some());
    thread::sleep(ASK_AGAIN);
    assert!(sealer.down().is_none(), "this one asks");
    assert!(
        sealer.down().is_some(),
        "and the next does not, though there is no answer yet"
    );
    let refusal = ClientError::from(tonic::Status::permission_denied("no"));
    sealer.take_offline(&place, &refusal);
    assert!(sealer.down().is_none(), "who refuses is there");
}

#[tokio::test]
async fn a_data_key_belongs_to_the_identity_of_before_the_call() {
    let double = Double::new();
    let sealer = sealer(&double, |_| ());
    let opener = Opener::pinned(double.clone(), ORDERS, double.id(ORDERS))
        .with_cache(CacheLimits::default())
        .unwrap();
    let expected = Expectation::context(context(&[]));
    double.service().certificates_change = true;
    let message = seal(&sealer, &[]).await;
    opener.open(&message, &expected).await.unwrap();
    double.service().certificates_change = false;
    // What the old identity was given is not handed to the new one.
    seal(&sealer, &[]).await;
    opener.open(&message, &expected).await.unwrap();
    let service = double.service();
    assert_eq!((service.generated, service.unwrapped), (2, 2));
}

/// Puts in a data key that is over at once.
async fn keep_briefly(sealer: &SealCache) {
    let (data_key, wrapped, header) = made(&Double::new()).await;
    let asked = sealer.evictions();
    sealer.keep(asked, vec![([1; 32], header)], [0; 32], data_key, vec![wrapped]);
    assert!(sealer.kept.shelf().any(|_| true));
}

async fn wait_until_swept(sealer: &SealCache) {
    let end = Instant::now() + Duration::from_secs(20);
    while sealer.kept.shelf().any(|_| true) {
        assert!(Instant::now() < end, "it was not swept");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn brief() -> CacheLimits {
    limits(|limits| limits.seal_age = Duration::from_millis(50))
}

#[tokio::test]
async fn what_is_over_is_swept_though_nobody_asks() {
    let told = Told::default();
    let sealer = SealCache::new(brief(), told.events());
    keep_briefly(&sealer).await;
    wait_until_swept(&sealer).await;
    assert_eq!(told.names(), ["data_key_cached", "data_key_evicted"]);
    assert!(lock(&sealer.kept.sweeper).is_none(), "there is nothing left to sweep");
    let kept = Arc::downgrade(&sealer.kept);
    drop(sealer);
    assert!(kept.upgrade().is_none(), "the sweeper keeps nothing alive");
}

#[test]
fn a_cache_is_swept_after_the_runtime_of_its_first_use_ended() {
    let runtime = || {
        tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap()
    };
    let sealer = SealCache::new(brief(), Events::default());
    runtime().block_on(keep_briefly(&sealer));
    runtime().block_on(async {
        keep_briefly(&sealer).await;
        wait_until_swept(&sealer).await;
    });
}

fn shelf() -> (Shelf<u8, u8>, Allowance, Moment) {
    let allowance = Allowance {
        age: Duration::from_secs(300),
        messages: 10,
        bytes: 10,
    };
    let now = Moment::now();
    let mut shelf = Shelf::new(10, 77);
    shelf.put(1, 1, &now);
    (shelf, allowance, now)
}

#[test]
fn a_child_process_inherits_nothing() {
    let (mut shelf, allowance, now) = shelf();
    assert!(shelf.of(77).take(&1, &allowance, &now).is_some());
    assert!(shelf.of(78).take(&1, &allowance, &now).is_none());
    assert!(
        shelf.of(77).take(&1, &allowance, &now).is_none(),
        "it was wiped, not hidden"
    );
}

#[test]
fn time_that_a_machine_slept_counts_and_a_clock_put_back_gives_no_time() {
    let (mut shelf, allowance, now) = shelf();
    let hour = Duration::from_secs(3_600);
    let slept = Moment {
        monotonic: now.monotonic,
        wall: now.wall + hour,
    };
    assert!(shelf.take(&1, &allowance, &slept).is_none());
    let put_back = |monotonic| Moment {
        monotonic,
        wall: SystemTime::UNIX_EPOCH,
    };
    assert!(shelf.take(&1, &allowance, &put_back(now.monotonic)).is_some());
    assert!(shelf.take(&1, &allowance, &put_back(now.monotonic + hour)).is_none());
    assert_eq!(shelf.sweep(&allowance, &slept), 0);
}

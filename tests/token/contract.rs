//! What the token layer does on every token.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use keyreeve::token::{
    Answer, Call, Host, Isolation, KeyUses, Lane, OpenError, TokenError, Uses, examine, host::SubkeyLabel,
};
use keyreeve_envelope::prf_commit::{self, Envelope};

use crate::{
    contract,
    fixture::{
        ISOLATION, ask, assert_same, bury, config, data, header, initialised, input, keys, keys_call, make, place,
        serve, submit,
    },
    support::{self, TestModule},
};

contract! {
    a_key_made_in_the_token_gives_the_same_message_keys_each_time => same_keys;
    a_made_key_reads_as_the_claims_table_says => attributes;
    a_blob_outlives_a_restart => restart;
    a_key_that_fell_out_of_the_cache_works_again => small_cache;
    an_evicted_key_works_again => eviction;
    every_flipped_bit_of_a_blob_is_refused_and_the_token_serves_on => flipped_bits;
    a_blob_in_another_keys_row_is_refused => swapped_rows;
    a_header_of_another_key_is_refused => foreign_header;
    a_destroyed_version_is_not_unwrapped => tombstone;
    a_batch_answers_in_order => batch;
    a_flood_of_one_lane_does_not_starve_another => fairness;
    expired_work_costs_no_token_call => expiry;
    a_flood_beyond_the_queue_is_refused_once_each_and_leaves_others_alone => overload;
    a_stopped_host_refuses_and_closes_the_module => stop;
    uses_of_a_key_are_counted_and_its_ceilings_hold => ceilings;
    subkeys_differ_by_label_and_origin => subkeys;
    random_bytes_differ_and_are_bounded => random;
    init_refuses_a_token_that_has_root_keys => second_init;
    doctor_finds_nothing_that_refuses => doctor;
}

mod in_worker_processes {
    use super::*;

    contract! {
        a_key_made_in_the_token_gives_the_same_message_keys_each_time => by_workers(same_keys);
        a_made_key_reads_as_the_claims_table_says => by_workers(attributes);
        a_blob_outlives_a_restart => by_workers(restart);
        a_key_that_fell_out_of_the_cache_works_again => by_workers(small_cache);
        an_evicted_key_works_again => by_workers(eviction);
        every_flipped_bit_of_a_blob_is_refused_and_the_token_serves_on => by_workers(flipped_bits);
        a_blob_in_another_keys_row_is_refused => by_workers(swapped_rows);
        a_header_of_another_key_is_refused => by_workers(foreign_header);
        a_destroyed_version_is_not_unwrapped => by_workers(tombstone);
        a_batch_answers_in_order => by_workers(batch);
        a_flood_of_one_lane_does_not_starve_another => by_workers(fairness);
        expired_work_costs_no_token_call => by_workers(expiry);
        a_flood_beyond_the_queue_is_refused_once_each_and_leaves_others_alone => by_workers(overload);
        a_stopped_host_refuses_and_closes_the_module => by_workers(stop);
        uses_of_a_key_are_counted_and_its_ceilings_hold => by_workers(ceilings);
        subkeys_differ_by_label_and_origin => by_workers(subkeys);
        random_bytes_differ_and_are_bounded => by_workers(random);
    }
}

/// The same body, its token served by worker processes. Each test has a process of its own.
pub fn by_workers(body: fn(&TestModule)) -> impl Fn(&TestModule) {
    move |test| {
        ISOLATION.set(Isolation::Process).expect("one test, one process");
        body(test);
    }
}

fn same_keys(test: &TestModule) {
    let host = serve(test, initialised(test)).unwrap();
    let (one, other) = (place(1), place(2));
    let (made, foreign) = (make(&host, one), make(&host, other));
    let (blob, foreign) = (Arc::new(made.blob), Arc::new(foreign.blob));
    let first = keys(&host, &blob, one).unwrap();
    assert_same(&first, &keys(&host, &blob, one).unwrap(), one);

    let mut envelope = Vec::new();
    prf_commit::seal(
        &first,
        &header(one),
        &[7; 32],
        &[3; 12],
        &[9; 32],
        b"hello",
        &mut envelope,
    )
    .unwrap();
    let of_another_key = keys(&host, &foreign, other).unwrap();
    assert!(prf_commit::open(&of_another_key, &Envelope::parse(&envelope).unwrap(), &[9; 32]).is_err());
    host.stop();
}

fn attributes(test: &TestModule) {
    let host = serve(test, initialised(test)).unwrap();
    let made = make(&host, place(1));
    let birth = made.at_birth;
    assert!(birth.local && birth.always_sensitive && birth.sensitive && birth.extractable);
    let call = Call::Attributes {
        blob: Arc::new(made.blob),
        place: place(1),
    };
    let Ok(Answer::Attributes(now)) = ask(&host, call) else {
        panic!("no attributes")
    };
    assert!(now.sensitive && !now.extractable && !now.modifiable && !now.copyable);
    let Ok(Answer::Attributes(kek)) = ask(&host, Call::MasterKeyAttributes) else {
        panic!("no attributes")
    };
    assert!(kek.local && kek.always_sensitive && kek.never_extractable && !kek.modifiable && !kek.copyable);
    host.stop();
}

fn restart(test: &TestModule) {
    let config = initialised(test);
    let host = serve(test, config.clone()).unwrap();
    let blob = Arc::new(make(&host, place(1)).blob);
    let before = keys(&host, &blob, place(1)).unwrap();
    host.stop();
    let host = serve(test, config).unwrap();
    assert_same(&before, &keys(&host, &blob, place(1)).unwrap(), place(1));
    host.stop();
}

fn small_cache(test: &TestModule) {
    let mut config = initialised(test);
    config.cached_handles = 2;
    let host = serve(test, config).unwrap();
    let made: Vec<_> = (1..=6)
        .map(|number| {
            let blob = Arc::new(make(&host, place(number)).blob);
            let keys = keys(&host, &blob, place(number)).unwrap();
            (place(number), blob, keys)
        })
        .collect();
    for _ in 0..3 {
        for (place, blob, before) in &made {
            assert_same(before, &keys(&host, blob, *place).unwrap(), *place);
        }
    }
    assert_eq!(host.status().cached_handles, 2);
    host.stop();
}

fn eviction(test: &TestModule) {
    let host = serve(test, initialised(test)).unwrap();
    let blob = Arc::new(make(&host, place(1)).blob);
    let before = keys(&host, &blob, place(1)).unwrap();
    ask(&host, Call::Evict { blob: *blob.sha256() }).unwrap();
    assert_eq!(host.status().cached_handles, 0);
    assert_same(&before, &keys(&host, &blob, place(1)).unwrap(), place(1));
    host.stop();
}

fn flipped_bits(test: &TestModule) {
    let host = serve(test, initialised(test)).unwrap();
    let blob = make(&host, place(1)).blob;
    for bit in 0..blob.bytes().len() * 8 {
        let mut bytes = blob.bytes().to_vec();
        bytes[bit / 8] ^= 1 << (bit % 8);
        let flipped = Arc::new(keyreeve::model::Blob::new(bytes));
        match keys(&host, &flipped, place(1)) {
            Err(TokenError::BlobTag | TokenError::Refused(_)) => {}
            Err(other) => panic!("bit {bit}: {other}"),
            Ok(_) => panic!("bit {bit} passed"),
        }
    }
    assert_eq!(host.status().fault, None);
    assert!(keys(&host, &Arc::new(blob), place(1)).is_ok());
    host.stop();
}

fn swapped_rows(test: &TestModule) {
    let host = serve(test, initialised(test)).unwrap();
    let blob = Arc::new(make(&host, place(1)).blob);
    for evicted in [false, true] {
        if evicted {
            ask(&host, Call::Evict { blob: *blob.sha256() }).unwrap();
        }
        let error = keys(&host, &blob, place(2)).err().expect("the blob is of another key");
        assert!(matches!(error, TokenError::BlobTag), "{error}");
    }
    host.stop();
}

fn foreign_header(test: &TestModule) {
    let host = serve(test, initialised(test)).unwrap();
    let blob = Arc::new(make(&host, place(1)).blob);
    let call = Call::EnvelopeKeys {
        blob,
        place: place(1),
        inputs: vec![input(place(2))],
    };
    assert!(matches!(ask(&host, call), Err(TokenError::Refused(_))));
    host.stop();
}

fn tombstone(test: &TestModule) {
    let config = initialised(test);
    let host = serve(test, config.clone()).unwrap();
    let blob = Arc::new(make(&host, place(1)).blob);
    host.stop();
    let host = bury(test, config, place(1));
    let error = keys(&host, &blob, place(1)).err().expect("its tombstone stands");
    assert!(error.to_string().contains("tombstone"), "{error}");
    host.stop();
}

fn batch(test: &TestModule) {
    let host = serve(test, initialised(test)).unwrap();
    let blob = Arc::new(make(&host, place(1)).blob);
    let inputs: Vec<_> = (0..1000_u16)
        .map(|number| {
            let mut input = input(place(1));
            input.salt[..2].copy_from_slice(&number.to_be_bytes());
            input
        })
        .collect();
    let single = |salt: [u8; 32]| {
        let mut one = input(place(1));
        one.salt = salt;
        let call = Call::EnvelopeKeys {
            blob: Arc::clone(&blob),
            place: place(1),
            inputs: vec![one],
        };
        match ask(&host, call) {
            Ok(Answer::EnvelopeKeys(mut keys)) => keys.remove(0),
            _ => panic!("no keys"),
        }
    };
    let call = Call::EnvelopeKeys {
        blob: Arc::clone(&blob),
        place: place(1),
        inputs: inputs.clone(),
    };
    let Ok(Answer::EnvelopeKeys(all)) = ask(&host, call) else {
        panic!("no keys")
    };
    assert_eq!(all.len(), 1000);
    for at in [0, 31, 32, 500, 999] {
        assert_same(&all[at], &single(inputs[at].salt), place(1));
    }
    host.stop();
}

fn fairness(test: &TestModule) {
    let mut config = initialised(test);
    config.session_threads = 1;
    config.insecure_test_call_delay_us = 500;
    let host = serve(test, config).unwrap();
    let blob = Arc::new(make(&host, place(1)).blob);
    let patience = Duration::from_secs(30);
    let mut flood = submit(
        &host,
        keys_call(&blob, place(1), 2000),
        Lane::of(None, "flood"),
        patience,
    );
    let single = submit(&host, keys_call(&blob, place(1), 1), Lane::of(None, "other"), patience);
    single.blocking_recv().unwrap().unwrap();
    assert!(flood.try_recv().is_err(), "the single call waited for the flood");
    flood.blocking_recv().unwrap().unwrap();
    host.stop();
}

fn expiry(test: &TestModule) {
    let mut config = initialised(test);
    config.session_threads = 1;
    config.insecure_test_call_delay_us = 20_000;
    let host = serve(test, config).unwrap();
    let blob = Arc::new(make(&host, place(1)).blob);
    let busy = submit(
        &host,
        keys_call(&blob, place(1), 10),
        Lane::of(None, "flood"),
        Duration::from_secs(30),
    );
    // To work it would take 20 s.
    let late = submit(
        &host,
        keys_call(&blob, place(1), 1000),
        Lane::of(None, "other"),
        Duration::from_millis(30),
    );
    let began = Instant::now();
    let error = late.blocking_recv().unwrap().err().expect("its deadline passed");
    assert!(
        matches!(error, TokenError::Expired | TokenError::Overloaded { .. }),
        "{error}"
    );
    busy.blocking_recv().unwrap().unwrap();
    host.stop();
    assert!(began.elapsed() < Duration::from_secs(15), "the expired item was worked");
}

fn overload(test: &TestModule) {
    let mut config = initialised(test);
    config.session_threads = 1;
    config.queue_items = 40;
    config.insecure_test_call_delay_us = 1_000;
    let host = serve(test, config).unwrap();
    let blob = Arc::new(make(&host, place(1)).blob);
    let patience = Duration::from_secs(30);
    let flood: Vec<_> = (0..300)
        .map(|_| submit(&host, keys_call(&blob, place(1), 1), Lane::of(None, "flood"), patience))
        .collect();
    let other = submit(&host, keys_call(&blob, place(1), 1), Lane::of(None, "other"), patience);
    other.blocking_recv().unwrap().unwrap();
    let (mut served, mut refused) = (0, 0);
    for answer in flood {
        match answer.blocking_recv().unwrap() {
            Ok(_) => served += 1,
            Err(TokenError::Overloaded { retry_after }) => {
                assert!(retry_after >= Duration::from_millis(10));
                refused += 1;
            }
            Err(error) => panic!("{error}"),
        }
    }
    assert!(served > 0 && refused > 0, "{served} served, {refused} refused");
    host.stop();
}

fn stop(test: &TestModule) {
    let host = serve(test, initialised(test)).unwrap();
    let blob = Arc::new(make(&host, place(1)).blob);
    let waiting = submit(
        &host,
        keys_call(&blob, place(1), 500),
        Lane::of(None, "flood"),
        Duration::from_secs(30),
    );
    host.stop();
    assert!(waiting.blocking_recv().unwrap().is_ok(), "queued work is finished");
    assert!(matches!(keys(&host, &blob, place(1)), Err(TokenError::Unavailable(_))));
    host.stop(); // twice does no harm
    assert!(
        keyreeve_pkcs11::Module::load(&test.path).is_ok(),
        "the module was finalised"
    );
}

fn ceilings(test: &TestModule) {
    let mut config = initialised(test);
    // An envelope of the fixture has a body of 97 bytes.
    config.key_bytes_per_day = 10 * 97;
    let host = serve(test, config).unwrap();
    let of = |number| (Arc::new(make(&host, place(number)).blob), place(number));
    let ((first, first_place), (second, second_place)) = (of(1), of(2));
    ask(&host, keys_call(&first, first_place, 10)).unwrap();
    for (blob, place, may) in [(&first, first_place, false), (&second, second_place, true)] {
        match keys(&host, blob, place) {
            Ok(_) => assert!(may),
            Err(TokenError::KeyCeiling { retry_after }) => assert!(!may && retry_after > Duration::from_secs(60)),
            Err(error) => panic!("{error}"),
        }
    }
    // Evicted and unwrapped again it is the same key.
    ask(&host, Call::Evict { blob: *first.sha256() }).unwrap();
    assert!(matches!(
        keys(&host, &first, first_place),
        Err(TokenError::KeyCeiling { .. })
    ));

    let (until, mut seen) = (Instant::now() + Duration::from_secs(10), KeyUses::default());
    while seen.of_keys.len() < 2 {
        assert!(Instant::now() < until, "{seen:?}");
        for (key, uses) in host.take_uses().of_keys {
            seen.add(key, uses);
        }
    }
    let uses = |operations, bytes| Uses { operations, bytes };
    let expected = [(first_place.key, uses(10, 970)), (second_place.key, uses(1, 97))];
    assert_eq!(seen.of_keys, expected.into());
    host.stop();
}

fn subkeys(test: &TestModule) {
    let host = serve(test, initialised(test)).unwrap();
    let subkey = |label| match ask(&host, Call::Subkey(label)) {
        Ok(Answer::Subkey(bytes)) => *bytes.as_bytes(),
        _ => panic!("no subkey"),
    };
    let redact = |origin: &str| SubkeyLabel::Redact {
        log_origin: origin.into(),
    };
    let mut all: Vec<_> = [
        SubkeyLabel::Row,
        SubkeyLabel::Cred,
        SubkeyLabel::Page,
        SubkeyLabel::Hedge,
        redact("a"),
        redact("b"),
    ]
    .into_iter()
    .map(subkey)
    .collect();
    assert_eq!(all[0], subkey(SubkeyLabel::Row));
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), 6);
    host.stop();
}

fn random(test: &TestModule) {
    let host = serve(test, initialised(test)).unwrap();
    let draw = |length| match ask(&host, Call::Random { length }) {
        Ok(Answer::Random(bytes)) => Ok(bytes.to_vec()),
        Ok(_) => panic!("another answer"),
        Err(error) => Err(error),
    };
    let (one, two) = (draw(4096).unwrap(), draw(4096).unwrap());
    assert_eq!((one.len(), two.len()), (4096, 4096));
    assert_ne!(one, two);
    assert!(draw(4097).is_err());
    host.stop();
}

fn second_init(test: &TestModule) {
    let mut config = initialised(test);
    config.manifest = test.directory.join("second.json");
    let error = keyreeve::token::init(&config, &data(test))
        .err()
        .expect("the token is in use");
    assert!(matches!(error, OpenError::RootKeys(_)), "{error}");
    assert!(!config.manifest.exists());
}

fn doctor(test: &TestModule) {
    let report = examine(&initialised(test), &data(test));
    assert!(report.can_serve(), "{:#?}", report.failures);
    assert!(report.software_token);
    assert!(report.probes.len() > 20);
    assert!(report.known_answers.len() == 7, "{:#?}", report.known_answers);
    let uninitialised = {
        let mut config = config(test);
        config.label = Some("second".into());
        config.manifest = test.directory.join("absent.json");
        examine(&config, &data(test))
    };
    assert!(!uninitialised.can_serve());
    assert!(
        uninitialised
            .failures
            .iter()
            .any(|failure| failure.next_step.contains("keyreeve init"))
    );
}

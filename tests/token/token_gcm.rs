//! Suite 0001 on every token, in threads and in worker processes: what is sealed in the token opens in it, and nothing else does.

use std::{collections::HashSet, sync::Arc};

use keyreeve::{
    model::{Blob, IvSource, Suite},
    token::{
        Answer, Call, Host, OpenInput, SealInput, TokenError,
        host::{MadeKey, Place},
    },
};
use keyreeve_envelope::{Plaintext, token_gcm::Envelope};
use keyreeve_faultmod::{Fault, Function, ReturnCode, Rule, Schedule, When};
use keyreeve_pkcs11::Selector;

use crate::{
    contract,
    contract::by_workers,
    fixture::{ask, bury, controller, data, initialised, keys, make, make_of, place, returned, serve, start, workers},
    support::{self, Kind, TestModule},
    workers::standby,
};

contract! {
    what_the_token_sealed_opens_with_its_context_only => round_trip;
    the_token_makes_the_ivs_in_its_own_way_and_they_differ => ivs;
    every_flipped_bit_of_an_envelope_does_not_open_and_the_token_serves_on => flipped_bits;
    a_made_key_reads_as_the_claims_table_says_and_outlives_a_restart => attributes;
    a_key_of_another_type_is_refused => other_type;
    an_envelope_of_another_key_does_not_open => foreign_envelope;
    a_plaintext_beyond_the_limit_is_refused => too_long;
    a_destroyed_version_seals_and_opens_no_more => tombstone;
}

contract! { steered through faultmod:
    a_token_that_makes_an_iv_twice_is_latched_at_its_start => equal_ivs;
    a_fault_that_passes_at_the_start_does_not_choose_who_makes_the_ivs => passing_fault;
    a_decryption_that_fails_like_a_dead_token_is_the_envelopes_fault_where_canary_answers => canary_decides;
    a_token_that_dies_under_a_seal_or_an_open_costs_the_caller_no_error => next_worker;
}

mod in_worker_processes {
    use super::*;

    contract! {
        what_the_token_sealed_opens_with_its_context_only => by_workers(round_trip);
        the_token_makes_the_ivs_in_its_own_way_and_they_differ => by_workers(ivs);
        every_flipped_bit_of_an_envelope_does_not_open_and_the_token_serves_on => by_workers(flipped_bits);
        a_made_key_reads_as_the_claims_table_says_and_outlives_a_restart => by_workers(attributes);
        a_key_of_another_type_is_refused => by_workers(other_type);
        an_envelope_of_another_key_does_not_open => by_workers(foreign_envelope);
        a_plaintext_beyond_the_limit_is_refused => by_workers(too_long);
        a_destroyed_version_seals_and_opens_no_more => by_workers(tombstone);
    }
}

const CONTEXT: [u8; 32] = [9; 32];

fn round_trip(test: &TestModule) {
    let host = serve(test, initialised(test)).unwrap();
    let blob = made(&host, place(1));
    for length in [0, 1, 5, 16, 8_192] {
        let plaintext = vec![7; length];
        let envelope = seal(&host, &blob, place(1), &plaintext).unwrap();
        assert_eq!(envelope.len(), length + 60);
        assert_eq!(
            open(&host, &blob, place(1), &envelope, CONTEXT).unwrap().unwrap(),
            plaintext
        );
        assert_eq!(open(&host, &blob, place(1), &envelope, [8; 32]).unwrap(), None);
    }
    // Each input has its own answer, in order; one that does not open fails alone.
    let envelopes = seal_all(&host, &blob, place(1), &[b"one", b"", b"three"]).unwrap();
    let mut inputs: Vec<(Vec<u8>, [u8; 32])> = envelopes.into_iter().map(|one| (one, CONTEXT)).collect();
    inputs[1].1 = [0; 32];
    let opened = open_all(&host, &blob, place(1), inputs).unwrap();
    assert_eq!(opened, [Some(b"one".to_vec()), None, Some(b"three".to_vec())]);
    host.stop();
}

fn ivs(test: &TestModule) {
    let host = serve(test, initialised(test)).unwrap();
    let key = make_of(&host, place(1), Suite::TokenGcm);
    let expected = match test.kind {
        Kind::SoftHsm => IvSource::TokenRandom,
        Kind::Kryoptic => IvSource::TokenMessage,
    };
    assert_eq!(key.iv_source, Some(expected));
    assert_eq!(make(&host, place(2)).iv_source, None);
    let blob = Arc::new(key.blob);
    let mut seen = HashSet::new();
    for _ in 0..20 {
        for envelope in seal_all(&host, &blob, place(1), &[b"x".as_slice(); 16]).unwrap() {
            assert!(seen.insert(*Envelope::parse(&envelope).unwrap().iv()));
        }
    }
    assert!(!seen.contains(&[0; 12]));
    host.stop();
}

fn flipped_bits(test: &TestModule) {
    let host = serve(test, initialised(test)).unwrap();
    let blob = made(&host, place(1));
    let envelope = seal(&host, &blob, place(1), b"hello").unwrap();
    for bit in 0..envelope.len() * 8 {
        let mut flipped = envelope.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        let opened = open(&host, &blob, place(1), &flipped, CONTEXT);
        assert_eq!(opened.unwrap(), None, "bit {bit}");
    }
    assert_eq!(host.status().fault, None);
    assert_eq!(
        open(&host, &blob, place(1), &envelope, CONTEXT).unwrap().unwrap(),
        b"hello"
    );
    host.stop();
}

fn attributes(test: &TestModule) {
    let config = initialised(test);
    let host = serve(test, config.clone()).unwrap();
    let MadeKey {
        blob, at_birth: birth, ..
    } = make_of(&host, place(1), Suite::TokenGcm);
    assert!(birth.local && birth.always_sensitive && birth.sensitive && birth.extractable);
    let blob = Arc::new(blob);
    let envelope = seal(&host, &blob, place(1), b"hello").unwrap();
    host.stop();

    let host = serve(test, config).unwrap();
    let call = Call::Attributes {
        blob: Arc::clone(&blob),
        place: place(1),
    };
    let Ok(Answer::Attributes(now)) = ask(&host, call) else {
        panic!("no attributes")
    };
    assert!(now.sensitive && !now.extractable && !now.modifiable && !now.copyable);
    assert_eq!(
        open(&host, &blob, place(1), &envelope, CONTEXT).unwrap().unwrap(),
        b"hello"
    );
    host.stop();
}

fn other_type(test: &TestModule) {
    let host = serve(test, initialised(test)).unwrap();
    let (prf, aes) = (Arc::new(make(&host, place(1)).blob), made(&host, place(2)));
    for cached in [true, false] {
        assert!(matches!(keys(&host, &aes, place(2)), Err(TokenError::BlobTag)));
        assert!(matches!(seal(&host, &prf, place(1), b"x"), Err(TokenError::BlobTag)));
        if cached {
            for blob in [&prf, &aes] {
                ask(&host, Call::Evict { blob: *blob.sha256() }).unwrap();
            }
        }
    }
    assert_eq!(host.status().fault, None);
    host.stop();
}

fn foreign_envelope(test: &TestModule) {
    let host = serve(test, initialised(test)).unwrap();
    let (one, other) = (made(&host, place(1)), made(&host, place(2)));
    let envelope = seal(&host, &one, place(1), b"hello").unwrap();
    assert_eq!(open(&host, &other, place(2), &envelope, CONTEXT).unwrap(), None);
    let error = open(&host, &one, place(2), &envelope, CONTEXT);
    assert!(matches!(error, Ok(None) | Err(TokenError::BlobTag)));
    host.stop();
}

fn too_long(test: &TestModule) {
    let host = serve(test, initialised(test)).unwrap();
    let blob = made(&host, place(1));
    let error = seal(&host, &blob, place(1), &[0; 8_193]).unwrap_err();
    assert!(error.to_string().contains("8192"), "{error}");
    host.stop();
}

fn tombstone(test: &TestModule) {
    let config = initialised(test);
    let host = serve(test, config.clone()).unwrap();
    let blob = made(&host, place(1));
    let envelope = seal(&host, &blob, place(1), b"hello").unwrap();
    host.stop();
    let host = bury(test, config, place(1));
    for error in [
        seal(&host, &blob, place(1), b"hello").unwrap_err(),
        open(&host, &blob, place(1), &envelope, CONTEXT).unwrap_err(),
    ] {
        assert!(error.to_string().contains("tombstone"), "{error}");
    }
    host.stop();
}

/// The call that makes an iv says that it has filled the buffer, and has not, twice in some thousand calls.
fn equal_ivs(test: &TestModule) {
    let controller = controller(test);
    let config = initialised(test);
    let unfilled = returned(ReturnCode::OK, When::Before);
    let makes = match test.kind {
        Kind::SoftHsm => Function::C_GenerateRandom,
        Kind::Kryoptic => Function::C_EncryptMessage,
    };
    let rule = Rule::on(makes, unfilled);
    let schedule = Schedule::default().rule(rule.clone().nth(400)).rule(rule.nth(500));
    controller.set(schedule).unwrap();
    let error = workers(test, config).err().expect("the ivs repeat");
    assert!(error.to_string().contains("ivs"), "{error}");
    let latch = keyreeve::token::Latch::of(&data(test), &serial(test)).read().unwrap();
    assert_eq!(latch.class, "E13");
}

fn passing_fault(test: &TestModule) {
    if test.kind == Kind::SoftHsm {
        return; // It makes no ivs in any case.
    }
    let controller = controller(test);
    let config = initialised(test);
    let sealed = || controller.counts(std::process::id()).unwrap()[&Function::C_EncryptMessage].calls;
    let before = sealed();
    start(test, config.clone()).unwrap().stop();
    // The last one decides.
    let asked = sealed() - before;
    let fault = returned(ReturnCode::DEVICE_ERROR, When::Before);
    controller
        .set(Schedule::default().rule(Rule::on(Function::C_EncryptMessage, fault).nth(asked)))
        .unwrap();
    let host = start(test, config).unwrap();
    let key = make_of(&host, place(1), Suite::TokenGcm);
    assert_eq!(key.iv_source, Some(IvSource::TokenMessage));
    host.stop();
}

fn canary_decides(test: &TestModule) {
    let controller = controller(test);
    let served = workers(test, initialised(test)).unwrap();
    let blob = made(&served.host, place(1));
    let envelope = seal(&served.host, &blob, place(1), b"hello").unwrap();
    let (active, ready) = standby(&served);
    for code in [
        ReturnCode::DEVICE_ERROR,
        ReturnCode::GENERAL_ERROR,
        ReturnCode::FUNCTION_FAILED,
    ] {
        let fault = Fault::Return {
            code,
            when: When::Before,
        };
        let rule = Rule::on(Function::C_Decrypt, fault).times(1);
        controller.set_for(active, Schedule::new(1).rule(rule)).unwrap();
        assert_eq!(open(&served.host, &blob, place(1), &envelope, CONTEXT).unwrap(), None);
        let opened = open(&served.host, &blob, place(1), &envelope, CONTEXT).unwrap();
        assert_eq!(opened.unwrap(), b"hello");
    }
    assert_eq!(served.host.status().fault, None);
    assert_eq!(
        served.host.workers(),
        (Some(active), Some(ready)),
        "nothing was tripped"
    );
    served.host.stop();
}

fn next_worker(test: &TestModule) {
    let controller = controller(test);
    let served = workers(test, initialised(test)).unwrap();
    let blob = made(&served.host, place(1));
    let envelope = seal(&served.host, &blob, place(1), b"hello").unwrap();
    let gone = Fault::Return {
        code: ReturnCode::DEVICE_REMOVED,
        when: When::Before,
    };
    let seals = match test.kind {
        Kind::SoftHsm => Function::C_Encrypt,
        Kind::Kryoptic => Function::C_EncryptMessage,
    };
    for function in [Function::C_Decrypt, seals] {
        let (active, ready) = standby(&served);
        let rule = Rule::on(function, gone).times(1);
        controller.set_for(active, Schedule::new(1).rule(rule)).unwrap();
        let opened = open(&served.host, &blob, place(1), &envelope, CONTEXT).unwrap();
        assert_eq!(opened.unwrap(), b"hello");
        let again = seal(&served.host, &blob, place(1), b"hello").unwrap();
        assert_ne!(again, envelope);
        assert_eq!(served.host.workers().0, Some(ready));
    }
    served.host.stop();
}

fn serial(test: &TestModule) -> String {
    let module = test.load();
    let token = module.select(&Selector::Label("first".into())).unwrap();
    token.serial
}

fn made(host: &dyn Host, place: Place) -> Arc<Blob> {
    Arc::new(make_of(host, place, Suite::TokenGcm).blob)
}

fn seal(host: &dyn Host, blob: &Arc<Blob>, place: Place, plaintext: &[u8]) -> Result<Vec<u8>, TokenError> {
    seal_all(host, blob, place, &[plaintext]).map(|mut sealed| sealed.remove(0))
}

pub fn seal_all(
    host: &dyn Host,
    blob: &Arc<Blob>,
    place: Place,
    plaintexts: &[&[u8]],
) -> Result<Vec<Vec<u8>>, TokenError> {
    let inputs = plaintexts.iter().map(|plaintext| SealInput {
        data_key: false,
        ec_hash: CONTEXT,
        plaintext: Plaintext::new(plaintext.to_vec()),
    });
    let call = Call::Seal {
        blob: Arc::clone(blob),
        place,
        inputs: inputs.collect(),
    };
    match ask(host, call)? {
        Answer::Sealed(envelopes) => Ok(envelopes),
        _ => panic!("another answer"),
    }
}

fn open(
    host: &dyn Host,
    blob: &Arc<Blob>,
    place: Place,
    envelope: &[u8],
    ec_hash: [u8; 32],
) -> Result<Option<Vec<u8>>, TokenError> {
    open_all(host, blob, place, vec![(envelope.to_vec(), ec_hash)]).map(|mut opened| opened.remove(0))
}

pub fn open_all(
    host: &dyn Host,
    blob: &Arc<Blob>,
    place: Place,
    inputs: Vec<(Vec<u8>, [u8; 32])>,
) -> Result<Vec<Option<Vec<u8>>>, TokenError> {
    let inputs = inputs
        .into_iter()
        .map(|(envelope, ec_hash)| OpenInput { envelope, ec_hash });
    let call = Call::Open {
        blob: Arc::clone(blob),
        place,
        inputs: inputs.collect(),
    };
    match ask(host, call)? {
        Answer::Opened(opened) => {
            let bytes = |plaintext: Plaintext| plaintext.as_bytes().to_vec();
            Ok(opened.into_iter().map(|opened| opened.map(bytes)).collect())
        }
        _ => panic!("another answer"),
    }
}

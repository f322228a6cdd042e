//! Version keys that stay in the token, on every token, in threads and in worker processes.

use std::sync::Arc;

use keyreeve::{
    model::{Blob, Residency, Suite, cka_id},
    token::{
        Answer, Call, Host, Latch, TokenConfig, TokenError,
        host::{MadeKey, Place},
    },
};
use keyreeve_pkcs11::{
    Access, Attribute, Mechanism, Module, ObjectClass, ObjectHandle, Selector, Session, Template, presets,
};

use crate::{
    contract,
    contract::by_workers,
    fixture::{ask, assert_same, bury, data, initialised, keys, make_in, place, serve, start},
    support::{self, PIN, TestModule, pin},
    token_gcm::{open_all, seal_all},
};

contract! {
    a_key_made_in_the_token_works_and_outlives_a_restart => restart;
    it_reads_local_always_sensitive_and_never_extractable => attributes;
    a_key_that_is_forgotten_is_not_destroyed => forgotten;
    an_object_that_is_there_is_neither_used_nor_overwritten => occupied;
    a_removed_key_is_gone_from_the_token_for_good => removal;
    a_destroyed_version_works_no_more_although_its_object_is_there => tombstone;
    a_reference_of_another_key_or_value_is_refused => foreign;
    a_key_that_another_tool_deleted_is_refused_and_trips_nothing => deleted;
    a_doubled_object_latches_the_token => doubled;
    a_lost_login_is_cured_and_destroys_nothing => lost_login;
}

mod in_worker_processes {
    use super::*;

    contract! {
        a_key_made_in_the_token_works_and_outlives_a_restart => by_workers(restart);
        it_reads_local_always_sensitive_and_never_extractable => by_workers(attributes);
        a_key_that_is_forgotten_is_not_destroyed => by_workers(forgotten);
        an_object_that_is_there_is_neither_used_nor_overwritten => by_workers(occupied);
        a_removed_key_is_gone_from_the_token_for_good => by_workers(removal);
        a_destroyed_version_works_no_more_although_its_object_is_there => by_workers(tombstone);
    }
}

const CONTEXT: [u8; 32] = [9; 32];

fn made(host: &dyn Host, place: Place, suite: Suite) -> MadeKey {
    make_in(host, place, suite, Residency::TokenResident).expect("no object has its id")
}

/// The type 1 key at place 1 and the type 2 key at place 2.
fn both(host: &dyn Host) -> (Arc<Blob>, Arc<Blob>) {
    let prf = made(host, place(1), Suite::PrfCommit).blob;
    let gcm = made(host, place(2), Suite::TokenGcm).blob;
    (Arc::new(prf), Arc::new(gcm))
}

fn restart(test: &TestModule) {
    let config = initialised(test);
    let host = serve(test, config.clone()).unwrap();
    let (prf, gcm) = both(&host);
    let before = keys(&host, &prf, place(1)).unwrap();
    let envelopes = seal_all(&host, &gcm, place(2), &[b"hello"]).unwrap();
    host.stop();

    let host = serve(test, config).unwrap();
    assert_same(&before, &keys(&host, &prf, place(1)).unwrap(), place(1));
    let opened = open_all(&host, &gcm, place(2), vec![(envelopes[0].clone(), CONTEXT)]);
    assert_eq!(opened.unwrap(), [Some(b"hello".to_vec())]);
    host.stop();
}

fn attributes(test: &TestModule) {
    let host = serve(test, initialised(test)).unwrap();
    for (number, suite) in [(1, Suite::PrfCommit), (2, Suite::TokenGcm)] {
        let MadeKey { blob, at_birth, .. } = made(&host, place(number), suite);
        let call = Call::Attributes {
            blob: Arc::new(blob),
            place: place(number),
        };
        let Ok(Answer::Attributes(now)) = ask(&host, call) else {
            panic!("no attributes")
        };
        for seen in [at_birth, now] {
            assert!(seen.local && seen.always_sensitive && seen.never_extractable && seen.sensitive);
            assert!(!seen.extractable && !seen.modifiable && !seen.copyable);
        }
    }
    host.stop();
}

/// Evicted, and pushed out of a cache of one: objects of the token must survive both.
fn forgotten(test: &TestModule) {
    let mut config = initialised(test);
    config.cached_handles = 1;
    let host = serve(test, config).unwrap();
    let (prf, gcm) = both(&host);
    let before = keys(&host, &prf, place(1)).unwrap();
    for _ in 0..3 {
        let envelopes = seal_all(&host, &gcm, place(2), &[b"hello"]).unwrap();
        let opened = open_all(&host, &gcm, place(2), vec![(envelopes[0].clone(), CONTEXT)]);
        assert_eq!(opened.unwrap(), [Some(b"hello".to_vec())]);
        assert_same(&before, &keys(&host, &prf, place(1)).unwrap(), place(1));
        for blob in [&prf, &gcm] {
            ask(&host, Call::Evict { blob: *blob.sha256() }).unwrap();
        }
    }
    host.stop();
}

fn occupied(test: &TestModule) {
    let host = serve(test, initialised(test)).unwrap();
    let (prf, _) = both(&host);
    let before = keys(&host, &prf, place(1)).unwrap();
    for suite in [Suite::PrfCommit, Suite::TokenGcm] {
        assert!(make_in(&host, place(1), suite, Residency::TokenResident).is_none());
    }
    assert_same(&before, &keys(&host, &prf, place(1)).unwrap(), place(1));
    host.stop();
    assert_eq!(objects(test, place(1)).1.len(), 1);
}

fn removal(test: &TestModule) {
    let host = serve(test, initialised(test)).unwrap();
    let (prf, gcm) = both(&host);
    let remove = |blob: &Arc<Blob>| ask(&host, Call::Remove { blob: blob.clone() });
    for blob in [&prf, &gcm] {
        assert!(matches!(remove(blob), Ok(Answer::Done)));
        assert!(matches!(remove(blob), Ok(Answer::Done)), "twice is as good as once");
    }
    assert!(matches!(keys(&host, &prf, place(1)), Err(TokenError::Refused(_))));
    assert!(matches!(
        seal_all(&host, &gcm, place(2), &[b"x"]),
        Err(TokenError::Refused(_))
    ));
    assert_eq!(host.status().fault, None);
    host.stop();
    for number in [1, 2] {
        let (session, found) = objects(test, place(number));
        assert!(found.is_empty());
        finish(session);
    }
}

fn tombstone(test: &TestModule) {
    let config = initialised(test);
    let host = serve(test, config.clone()).unwrap();
    let (prf, _) = both(&host);
    host.stop();
    let host = bury(test, config, place(1));
    let error = keys(&host, &prf, place(1)).err().expect("its tombstone stands");
    assert!(error.to_string().contains("tombstone"), "{error}");
    assert!(
        matches!(ask(&host, Call::Remove { blob: prf }), Ok(Answer::Done)),
        "it can be removed"
    );
    host.stop();
}

fn foreign(test: &TestModule) {
    let config = initialised(test);
    let host = start(test, config.clone()).unwrap();
    let (prf, _) = both(&host);
    assert!(matches!(keys(&host, &prf, place(3)), Err(TokenError::BlobTag)));
    assert!(matches!(
        seal_all(&host, &prf, place(1), &[b"x"]),
        Err(TokenError::BlobTag)
    ));
    assert_eq!(host.status().fault, None);
    // Another key in the object's place: what the row pinned is not what the token answers.
    let mut object = prf.token_object().unwrap();
    object.kcv[0] ^= 1;
    let swapped = Arc::new(object.to_blob());
    assert!(matches!(
        keys(&host, &swapped, place(1)),
        Err(TokenError::WrongAnswer(_))
    ));
    host.stop();
    latched(test, &config);
}

fn deleted(test: &TestModule) {
    let host = start(test, initialised(test)).unwrap();
    let (prf, gcm) = both(&host);
    let envelopes = seal_all(&host, &gcm, place(2), &[b"hello"]).unwrap();
    // Under handles that are in the cache.
    let (library, slot) = beside(test);
    let session = library.open_rw_session(slot).unwrap();
    for number in [1, 2] {
        let id = cka_id(place(number).key, place(number).version).to_vec();
        for object in session.find_objects(&[cryptoki::object::Attribute::Id(id)]).unwrap() {
            session.destroy_object(object).unwrap();
        }
    }
    drop(session);
    let gone = |error: TokenError| assert!(error.to_string().contains("no object of this version"), "{error}");
    gone(keys(&host, &prf, place(1)).err().expect("it is gone"));
    gone(seal_all(&host, &gcm, place(2), &[b"hello"]).unwrap_err());
    gone(open_all(&host, &gcm, place(2), vec![(envelopes[0].clone(), CONTEXT)]).unwrap_err());
    assert_eq!(host.status().fault, None);
    host.stop();
}

fn doubled(test: &TestModule) {
    let config = initialised(test);
    let host = start(test, config.clone()).unwrap();
    let (prf, _) = both(&host);
    host.stop();
    let (session, _) = objects(test, place(1));
    let id = cka_id(place(1).key, place(1).version);
    session
        .generate_key(Mechanism::GENERIC_SECRET_KEY_GEN, &presets::resident_version_key(&id))
        .unwrap();
    finish(session);
    let host = start(test, config.clone()).unwrap();
    assert!(matches!(keys(&host, &prf, place(1)), Err(TokenError::WrongAnswer(_))));
    host.stop();
    latched(test, &config);
}

fn lost_login(test: &TestModule) {
    let host = start(test, initialised(test)).unwrap();
    let (prf, gcm) = both(&host);
    let before = keys(&host, &prf, place(1)).unwrap();
    let envelopes = seal_all(&host, &gcm, place(2), &[b"hello"]).unwrap();
    // Another part of the process logs out: all handles of private objects are gone.
    let (library, slot) = beside(test);
    library.open_ro_session(slot).unwrap().logout().unwrap();
    assert_same(&before, &keys(&host, &prf, place(1)).unwrap(), place(1));
    let opened = open_all(&host, &gcm, place(2), vec![(envelopes[0].clone(), CONTEXT)]);
    assert_eq!(opened.unwrap(), [Some(b"hello".to_vec())]);
    assert_eq!(host.status().fault, None);
    host.stop();
}

/// The module as another part of this process has it.
fn beside(test: &TestModule) -> (cryptoki::context::Pkcs11, cryptoki::slot::Slot) {
    let library = cryptoki::context::Pkcs11::new(&test.path).unwrap();
    let slots = library.get_slots_with_initialized_token().unwrap();
    let is_first = |slot: &cryptoki::slot::Slot| library.get_token_info(*slot).unwrap().label() == "first";
    let slot = slots.into_iter().find(is_first).unwrap();
    (library, slot)
}

fn latched(test: &TestModule, config: &TokenConfig) {
    let module = Arc::new(Module::load(&test.path).unwrap());
    let serial = module
        .select(&Selector::Label(config.label.clone().unwrap()))
        .unwrap()
        .serial;
    assert_eq!(Latch::of(&data(test), &serial).read().unwrap().class, "E13");
}

/// What another tool sees of the version at `place`, in a session of its own.
fn objects(test: &TestModule, place: Place) -> (Session, Vec<ObjectHandle>) {
    let module = Arc::new(Module::load(&test.path).unwrap());
    let slot = module.select(&Selector::Label("first".into())).unwrap().slot;
    let session = Session::open(&module, slot, Access::ReadWrite).unwrap();
    session.login(&pin(PIN)).unwrap();
    let template = Template::new()
        .class(ObjectClass::SecretKey)
        .flag(Attribute::TOKEN, true)
        .id(&cka_id(place.key, place.version));
    let found = session.find(&template, 4).unwrap();
    (session, found)
}

fn finish(session: Session) {
    let module = Arc::clone(session.module());
    session.close().unwrap();
    module.finalize().unwrap();
}

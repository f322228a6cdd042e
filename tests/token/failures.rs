//! Failures made to happen: wrong PIN, wrong token, doubled keys, hung calls, a lost login.

use std::sync::Arc;

use keyreeve::token::{Host, Latch, OpenError, TokenConfig, init};
use keyreeve_pkcs11::{
    Access, Attribute, Class, Mechanism, Module, Selector, Session, Template,
    presets::{self, Life},
};

use crate::{
    contract,
    fixture::{config, data, initialised, keys, make, place, start},
    support::{self, PIN, TestModule, pin},
};

contract! {
    a_wrong_pin_is_tried_once_and_never_again => wrong_pin;
    a_latch_that_names_no_pin_stands_against_every_one => nameless_latch;
    a_corrected_pin_file_opens_the_latch => corrected_pin;
    a_latch_that_cannot_be_written_lets_no_pin_be_tried => unwritable_latch;
    a_manifest_of_another_token_is_refused => other_token;
    a_changed_manifest_is_refused => changed_manifest;
    a_doubled_root_key_latches_the_token => doubled_key;
    a_doubled_audit_key_latches_the_token => doubled_audit;
    an_audit_pair_that_is_not_the_manifests_latches_the_token => other_audit;
    a_root_key_that_can_do_more_than_it_was_made_for_is_refused_by_name => weak_root_key;
    an_audit_key_that_can_leave_the_token_is_refused_by_name => weak_audit;
    a_hung_call_latches_the_token => hung_call;
    a_lost_login_is_cured_without_the_caller_noticing => lost_login;
    a_missing_module_and_a_wrong_label_say_what_to_do => bad_configuration;
}

fn wrong_pin(test: &TestModule) {
    let config = initialised(test);
    let file = config.pin_file.clone().unwrap();
    std::fs::write(&file, "000000\n").unwrap();
    let error = start(test, config.clone()).err().expect("the PIN is wrong");
    assert!(matches!(error, OpenError::WrongPin { .. }), "{error}");
    for _ in 0..3 {
        let error = start(test, config.clone()).err().expect("the latch holds");
        assert!(matches!(error, OpenError::PinLatched { .. }), "{error}");
    }
    let latch = Latch::of(&data(test), &serial(test)).read().unwrap();
    assert_eq!(latch.class, "E9");
    let text = serde_json::to_string(&latch).unwrap();
    assert!(
        !text.contains("000000") && !text.contains(PIN),
        "the latch holds no PIN"
    );
}

fn nameless_latch(test: &TestModule) {
    let config = initialised(test);
    let latch = Latch::of(&data(test), &serial(test));
    latch.set(Class::Pin, "CKR_PIN_INCORRECT", None).unwrap();
    let error = start(test, config.clone())
        .err()
        .expect("which PIN it was is not known");
    assert!(matches!(error, OpenError::PinLatched { .. }), "{error}");
    latch.unlatch("a test", "it goes on").unwrap();
    start(test, config).unwrap().stop();
}

fn corrected_pin(test: &TestModule) {
    let config = initialised(test);
    let file = config.pin_file.clone().unwrap();
    std::fs::write(&file, "000000").unwrap();
    assert!(start(test, config.clone()).is_err());
    std::fs::write(&file, PIN).unwrap();
    start(test, config.clone()).unwrap().stop();
    assert_eq!(Latch::of(&data(test), &serial(test)).read(), None);
}

fn unwritable_latch(test: &TestModule) {
    let config = initialised(test);
    let absent = test.directory.join("absent");
    let error = keyreeve::token::ThreadHost::start(config, &absent, Arc::new(|_, _| false))
        .err()
        .unwrap();
    assert!(matches!(error, OpenError::LatchFile { .. }), "{error}");
}

fn other_token(test: &TestModule) {
    let first = initialised(test);
    let mut second = config(test);
    second.label = Some("second".into());
    second.manifest = test.directory.join("second.json");
    second.manifest_sha256 = init(&second, &data(test)).unwrap().manifest_sha256;
    let mut crossed = first.clone();
    crossed.manifest = second.manifest.clone();
    crossed.manifest_sha256 = second.manifest_sha256.clone();
    let error = start(test, crossed).err().expect("the manifest is the other token's");
    assert!(error.to_string().contains("serial"), "{error}");
    start(test, first).unwrap().stop();
}

fn changed_manifest(test: &TestModule) {
    let mut config = initialised(test);
    let text = std::fs::read_to_string(&config.manifest).unwrap();
    let changed = text.replacen("\"kek\":\"", "\"kek\":\"00", 1);
    std::fs::write(&config.manifest, &changed).unwrap();
    let error = start(test, config.clone()).err().expect("the pin does not fit");
    assert!(matches!(error, OpenError::Manifest(_)), "{error}");
    // Whoever changes the pin, too, still meets the token's own answer.
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, changed.as_bytes());
    config.manifest_sha256 = data_encoding::HEXLOWER.encode(digest.as_ref());
    let error = start(test, config).err().expect("the KEK answers differently");
    assert!(error.to_string().contains("KEK"), "{error}");
    assert_eq!(Latch::of(&data(test), &serial(test)).read().unwrap().class, "E13");
}

fn doubled_key(test: &TestModule) {
    let config = initialised(test);
    let manifest = keyreeve::token::Manifest::load(&config.manifest_source().unwrap()).unwrap();
    {
        let module = Arc::new(Module::load(&test.path).unwrap());
        let session = open(&module);
        session
            .generate_key(
                Mechanism::GENERIC_SECRET_KEY_GEN,
                &presets::svc(Life::Token, &manifest.group_id().unwrap()),
            )
            .unwrap();
        drop(session);
        module.finalize().unwrap();
    }
    let error = start(test, config.clone()).err().expect("there are two");
    assert!(error.to_string().contains("svc.v1"), "{error}");
    let error = start(test, config).err().expect("latched");
    assert!(matches!(error, OpenError::Latched { .. }), "{error}");
}

fn doubled_audit(test: &TestModule) {
    let config = initialised(test);
    make_audit_pair(test, &config, false, false);
    let error = start(test, config.clone()).err().expect("there are two");
    assert!(error.to_string().contains("audit.v1"), "{error}");
    let error = start(test, config).err().expect("latched");
    assert!(matches!(error, OpenError::Latched { .. }), "{error}");
}

fn other_audit(test: &TestModule) {
    let config = initialised(test);
    make_audit_pair(test, &config, true, false);
    let error = start(test, config).err().expect("it is not the pair of the manifest");
    assert!(error.to_string().contains("AUDIT"), "{error}");
    assert_eq!(Latch::of(&data(test), &serial(test)).read().unwrap().class, "E13");
}

fn weak_root_key(test: &TestModule) {
    let config = initialised(test);
    let manifest = keyreeve::token::Manifest::load(&config.manifest_source().unwrap()).unwrap();
    let kek_id = [
        manifest.kek_id().unwrap().as_slice(),
        &manifest.epochs[0].epoch.to_be_bytes(),
    ]
    .concat();
    let group = manifest.group_id().unwrap();
    let kek = || presets::kek(Life::Token, &kek_id, None);
    let other = [Mechanism::AES_KEY_WRAP, Mechanism::AES_ECB];
    let refused = |label: &'static str, template: Template, found: &str| {
        replace(test, label, &template);
        let error = start(test, config.clone())
            .err()
            .expect("the key is weaker than its preset");
        let text = error.to_string();
        assert!(text.contains(&format!("`{label}` has {found}")), "{found}: {text}");
        let latch = Latch::of(&data(test), &serial(test));
        assert_eq!(latch.read().unwrap().class, "E13");
        latch.unlatch("a test", "it goes on").unwrap();
    };
    for (template, found) in [
        (
            kek().flag(Attribute::DECRYPT, true),
            "DECRYPT=1: whoever has the session reads every version key",
        ),
        (kek().flag(Attribute::ENCRYPT, true), "ENCRYPT=1"),
        (
            kek().flag(Attribute::EXTRACTABLE, true),
            "EXTRACTABLE=1: it can be wrapped out of the token",
        ),
        (kek().flag(Attribute::SENSITIVE, false), "SENSITIVE=0: it can be read"),
        (kek().flag(Attribute::MODIFIABLE, true), "MODIFIABLE=1"),
        (kek().flag(Attribute::COPYABLE, true), "COPYABLE=1"),
        (
            kek().allowed_mechanisms(&other),
            "ALLOWED_MECHANISMS=[CKM_AES_ECB, CKM_AES_KEY_WRAP]",
        ),
    ] {
        refused(presets::KEK_LABEL, template, found);
    }
    replace(test, presets::KEK_LABEL, &kek());
    refused(
        presets::BIND_LABEL,
        presets::bind(Life::Token, &kek_id).flag(Attribute::MODIFIABLE, true),
        "MODIFIABLE=1",
    );
    replace(test, presets::BIND_LABEL, &presets::bind(Life::Token, &kek_id));
    refused(
        presets::SVC_LABEL,
        presets::svc(Life::Token, &group).flag(Attribute::EXTRACTABLE, true),
        "EXTRACTABLE=1",
    );
    replace(test, presets::SVC_LABEL, &presets::svc(Life::Token, &group));
    refused(
        presets::CANARY_LABEL,
        presets::canary(Life::Token, &group).flag(Attribute::SENSITIVE, false),
        "SENSITIVE=0",
    );
    replace(test, presets::CANARY_LABEL, &presets::canary(Life::Token, &group));
    let error = start(test, config).err().expect("these are other keys");
    assert!(error.to_string().contains("answer for CANARY"), "{error}");
}

fn weak_audit(test: &TestModule) {
    let config = initialised(test);
    make_audit_pair(test, &config, true, true);
    let error = start(test, config)
        .err()
        .expect("the private half is extractable")
        .to_string();
    assert!(error.contains("`audit.v1` has EXTRACTABLE=1"), "{error}");
}

/// Puts a secret key of another value and of `template` in the place of the one with `label`.
fn replace(test: &TestModule, label: &'static str, template: &Template) {
    let module = Arc::new(Module::load(&test.path).unwrap());
    let session = open(&module);
    for object in session.find(&Template::new().label(label), 2).unwrap() {
        session.destroy(object).unwrap();
    }
    let mechanism = match label {
        presets::KEK_LABEL => Mechanism::AES_KEY_GEN,
        _ => Mechanism::GENERIC_SECRET_KEY_GEN,
    };
    session.generate_key(mechanism, template).unwrap();
    drop(session);
    module.finalize().unwrap();
}

/// Makes a pair with the label and id of AUDIT beside the right one, or in its place.
fn make_audit_pair(test: &TestModule, config: &TokenConfig, replace: bool, extractable: bool) {
    let manifest = keyreeve::token::Manifest::load(&config.manifest_source().unwrap()).unwrap();
    let module = Arc::new(Module::load(&test.path).unwrap());
    let session = open(&module);
    if replace {
        for object in session.find(&Template::new().label(presets::AUDIT_LABEL), 3).unwrap() {
            session.destroy(object).unwrap();
        }
    }
    let curve = presets::Curve::P256;
    let (public, private) = presets::audit(Life::Token, &manifest.group_id().unwrap(), curve);
    let private = private.flag(Attribute::EXTRACTABLE, extractable);
    session
        .generate_pair(curve.pair_generation(), &public, &private)
        .unwrap();
    drop(session);
    module.finalize().unwrap();
}

fn hung_call(test: &TestModule) {
    let mut config = initialised(test);
    config.insecure_test_call_delay_us = 400_000;
    config.call_deadline_ms = 100;
    config.session_threads = 1;
    let host = start(test, config).unwrap();
    let mut fault = host.fault();
    let blob = Arc::new(keyreeve::model::Blob::new(vec![0; 198]));
    let call = keyreeve::token::Call::Probe;
    let _waiting = crate::fixture::submit(
        &host,
        call,
        keyreeve::token::Lane::of(None, "a"),
        std::time::Duration::from_secs(5),
    );
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    runtime
        .block_on(async { fault.wait_for(Option::is_some).await.map(|_| ()) })
        .unwrap();
    let text = host.status().fault.unwrap();
    assert!(text.contains("E11") && text.contains("100 ms"), "{text}");
    assert!(keys(&host, &blob, place(1)).is_err(), "a latched token serves nothing");
    assert_eq!(
        Latch::of(&data(test), &serial_of(&host)).read(),
        None,
        "a hang is not latched on disk"
    );
}

fn lost_login(test: &TestModule) {
    let host = start(test, initialised(test)).unwrap();
    let blob = Arc::new(make(&host, place(1)).blob);
    let before = keys(&host, &blob, place(1)).unwrap();
    // Another part of the process logs out: every session loses its login, every session object is gone.
    let library = cryptoki::context::Pkcs11::new(&test.path).unwrap();
    let slot = library
        .get_slots_with_initialized_token()
        .unwrap()
        .into_iter()
        .find(|slot| library.get_token_info(*slot).unwrap().label() == "first")
        .unwrap();
    library.open_ro_session(slot).unwrap().logout().unwrap();
    crate::fixture::assert_same(&before, &keys(&host, &blob, place(1)).unwrap(), place(1));
    assert_eq!(host.status().fault, None);
    host.stop();
}

fn bad_configuration(test: &TestModule) {
    let mut missing = initialised(test);
    missing.module = test.directory.join("absent.so");
    assert!(start(test, missing).err().unwrap().to_string().contains("absent.so"));
    let mut label = config(test);
    label.label = Some("third".into());
    let error = init(&label, &data(test)).err().unwrap().to_string();
    assert!(error.contains("`third`") && error.contains("`first`"), "{error}");
}

fn open(module: &Arc<Module>) -> Session {
    let token = module.select(&Selector::Label("first".into())).unwrap();
    let session = Session::open(module, token.slot, Access::ReadWrite).unwrap();
    session.login(&pin(PIN)).unwrap();
    session
}

fn serial(test: &TestModule) -> String {
    let config = config(test);
    let text = std::fs::read_to_string(config.manifest).unwrap();
    serde_json::from_str::<serde_json::Value>(&text).unwrap()["members"][0]["serial"]
        .as_str()
        .unwrap()
        .to_owned()
}

fn serial_of(host: &dyn Host) -> String {
    host.status().serial.to_string()
}

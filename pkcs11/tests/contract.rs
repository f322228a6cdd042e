//! What every token must do for Keyreeve, on SoftHSM and, where KEYREEVE_KRYOPTIC names it, on Kryoptic. The same through
//! `faultmod`, which without a schedule must change nothing.

#![allow(clippy::unwrap_used)] // a test stops at the first surprise

mod support;

use keyreeve_pkcs11::presets::{self, Curve, Life};
use keyreeve_pkcs11::{
    Access, Attribute, CallError, Class, Function, KeyType, Mechanism, Module, ModuleError, ObjectClass, ObjectHandle,
    ReturnCode, Selector, Session, Template, Vendor, spki,
};
use support::{Kind, PIN, TestModule, open, pin};

contract! {
    directly and through faultmod:
    a_token_is_found_by_label_serial_and_slot => found_three_ways;
    a_relative_path_and_a_missing_library_are_refused => bad_paths;
    a_wrong_label_names_the_tokens_that_are_there => wrong_label;
    login_twice_is_success => login_twice;
    a_wrong_pin_is_class_e9 => wrong_pin;
    a_version_key_is_made_wrapped_and_unwrapped => version_key_round_trip;
    the_kek_reads_local_always_sensitive_never_extractable => kek_attributes;
    the_kek_refuses_every_change_and_copy => kek_is_fixed;
    the_kek_forces_what_it_unwraps => kek_forces;
    an_unwrapped_key_is_neither_readable_nor_wrappable => unwrapped_is_sealed;
    an_hmac_is_that_of_rfc_4231 => hmac_vector;
    aes_gcm_seals_and_opens_and_refuses_every_flipped_bit => gcm;
    the_audit_pair_signs_and_has_an_spki => audit_pair;
    a_session_object_dies_with_its_session => session_object_life;
    a_find_returns_every_object_up_to_the_limit => find_pages;
    random_bytes_are_not_constant => random;
    the_module_is_finalised_only_without_sessions => finalise;
}

fn found_three_ways(test: &TestModule) {
    let module = test.load();
    let by_label = module.select(&Selector::Label("second".into())).unwrap();
    assert_eq!(
        module.select(&Selector::Serial(by_label.serial.clone())).unwrap(),
        by_label
    );
    assert_eq!(module.select(&Selector::Slot(by_label.slot)).unwrap(), by_label);
    assert!(by_label.login_required && by_label.user_pin_initialized && !by_label.pin_locked);
    assert!(
        module
            .mechanisms(by_label.slot)
            .unwrap()
            .contains(&Mechanism::AES_KEY_WRAP)
    );
}

fn bad_paths(test: &TestModule) {
    let relative = Module::load("libsofthsm2.so".as_ref());
    assert!(matches!(relative, Err(ModuleError::NotAbsolute(_))));
    let missing = Module::load(&test.directory.join("no.so"));
    assert!(matches!(missing, Err(ModuleError::Missing(_))));
    let text = test.directory.join("text.so");
    std::fs::write(&text, "not a library").unwrap();
    assert!(matches!(Module::load(&text), Err(ModuleError::Load { .. })));
}

fn wrong_label(test: &TestModule) {
    let error = test
        .load()
        .select(&Selector::Label("third".into()))
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("`third`") && error.contains("`first`") && error.contains("`second`"),
        "{error}"
    );
}

fn login_twice(test: &TestModule) {
    let session = test.session();
    session.login(&pin(PIN)).expect("already logged in is no error");
    assert!(session.info().unwrap().logged_in);
}

fn wrong_pin(test: &TestModule) {
    let module = test.load();
    let token = module.select(&Selector::Label("first".into())).unwrap();
    let session = Session::open(&module, token.slot, Access::ReadWrite).unwrap();
    let error = session.login(&pin("000000")).unwrap_err();
    assert_eq!(
        error,
        CallError {
            function: Function::C_Login,
            code: ReturnCode::PIN_INCORRECT
        }
    );
    assert_eq!(error.class(Vendor::Other), Class::Pin);
    assert!(!session.info().unwrap().logged_in);
}

fn version_key_round_trip(test: &TestModule) {
    let session = test.session();
    let kek = make_kek(&session);
    let born = session
        .generate_key(Mechanism::GENERIC_SECRET_KEY_GEN, &presets::version_key_at_birth())
        .unwrap();
    let wrapped = session.wrap(Mechanism::AES_KEY_WRAP, kek, born).unwrap();
    assert_eq!(wrapped.len(), 72, "RFC 3394 adds 8 bytes to 64");
    let (mut before, mut after) = ([0; 64], [0; 64]);
    session.hmac_sha512_into(born, b"question", &mut before).unwrap();
    session.destroy(born).unwrap();
    let used = session
        .unwrap(Mechanism::AES_KEY_WRAP, kek, &wrapped, &presets::version_key_in_use())
        .unwrap();
    session.hmac_sha512_into(used, b"question", &mut after).unwrap();
    assert_eq!(before, after);

    let mut flipped = wrapped.clone();
    flipped[5] ^= 1;
    let error = session
        .unwrap(Mechanism::AES_KEY_WRAP, kek, &flipped, &presets::version_key_in_use())
        .unwrap_err();
    assert!(
        matches!(error.class(Vendor::Other), Class::Ambiguous | Class::Caller),
        "{error}"
    );
    session
        .hmac_sha512_into(used, b"question", &mut after)
        .expect("the session lives on");
}

fn kek_attributes(test: &TestModule) {
    let session = test.session();
    let kek = make_kek(&session);
    for attribute in [
        Attribute::LOCAL,
        Attribute::ALWAYS_SENSITIVE,
        Attribute::NEVER_EXTRACTABLE,
        Attribute::SENSITIVE,
    ] {
        assert_eq!(session.flag(kek, attribute).unwrap(), Some(true), "{attribute:?}");
    }
    for attribute in [
        Attribute::EXTRACTABLE,
        Attribute::MODIFIABLE,
        Attribute::COPYABLE,
        Attribute::DECRYPT,
    ] {
        assert_eq!(session.flag(kek, attribute).unwrap(), Some(false), "{attribute:?}");
    }
    assert!(
        session.bytes(kek, Attribute::VALUE).unwrap().is_none(),
        "the value of a sensitive key is not told"
    );
}

fn kek_is_fixed(test: &TestModule) {
    let session = test.session();
    let kek = make_kek(&session);
    for (attribute, value) in [
        (Attribute::DECRYPT, true),
        (Attribute::ENCRYPT, true),
        (Attribute::DERIVE, true),
        (Attribute::EXTRACTABLE, true),
        (Attribute::SENSITIVE, false),
        (Attribute::MODIFIABLE, true),
    ] {
        let change = Template::new().flag(attribute, value);
        assert!(session.set_attributes(kek, &change).is_err(), "set {attribute:?}");
        let copy = Template::new().flag(Attribute::TOKEN, false).flag(attribute, value);
        assert!(session.copy(kek, &copy).is_err(), "copy with {attribute:?}");
    }
    assert!(session.decrypt(Mechanism::AES_ECB, kek, &[0; 16]).is_err());
    assert!(session.decrypt(Mechanism::AES_KEY_WRAP, kek, &[0; 24]).is_err());
}

fn kek_forces(test: &TestModule) {
    let session = test.session();
    let kek = make_kek(&session);
    let born = session
        .generate_key(Mechanism::GENERIC_SECRET_KEY_GEN, &presets::version_key_at_birth())
        .unwrap();
    let wrapped = session.wrap(Mechanism::AES_KEY_WRAP, kek, born).unwrap();
    for (attribute, value) in [
        (Attribute::EXTRACTABLE, true),
        (Attribute::DERIVE, true),
        (Attribute::SENSITIVE, false),
    ] {
        let template = presets::version_key_in_use().flag(attribute, value);
        let result = session.unwrap(Mechanism::AES_KEY_WRAP, kek, &wrapped, &template);
        assert!(result.is_err(), "unwrapped with {attribute:?} = {value}");
    }
}

fn unwrapped_is_sealed(test: &TestModule) {
    let session = test.session();
    let kek = make_kek(&session);
    let born = session
        .generate_key(Mechanism::GENERIC_SECRET_KEY_GEN, &presets::version_key_at_birth())
        .unwrap();
    let wrapped = session.wrap(Mechanism::AES_KEY_WRAP, kek, born).unwrap();
    let used = session
        .unwrap(Mechanism::AES_KEY_WRAP, kek, &wrapped, &presets::version_key_in_use())
        .unwrap();
    assert!(session.bytes(used, Attribute::VALUE).unwrap().is_none());
    assert!(
        session.wrap(Mechanism::AES_KEY_WRAP, kek, used).is_err(),
        "wrapped a key that is not extractable"
    );
    assert!(
        session.hmac_sha256(used, b"x").is_err(),
        "another mechanism than the allowed one worked"
    );
}

fn hmac_vector(test: &TestModule) {
    // RFC 4231, test case 6: 131 bytes of 0xaa.
    let session = test.session();
    let template = Template::new()
        .class(ObjectClass::SecretKey)
        .key_type(KeyType::GenericSecret)
        .flag(Attribute::TOKEN, false)
        .flag(Attribute::SIGN, true)
        .bytes(Attribute::VALUE, &[0xaa; 131]);
    let key = session.create(&template).unwrap();
    let mut out = [0; 64];
    session
        .hmac_sha512_into(key, b"Test Using Larger Than Block-Size Key - Hash Key First", &mut out)
        .unwrap();
    assert_eq!(out[..8], [0x80, 0xb2, 0x42, 0x63, 0xc7, 0xc1, 0xa3, 0xeb]);
    let short = session
        .hmac_sha256(key, b"Test Using Larger Than Block-Size Key - Hash Key First")
        .unwrap();
    assert_eq!(short[..8], [0x60, 0xe4, 0x31, 0x59, 0x1e, 0xe0, 0xb6, 0x7f]);
}

fn gcm(test: &TestModule) {
    let session = test.session();
    let key = session
        .generate_key(Mechanism::AES_KEY_GEN, &presets::gcm_key_in_use().value_len(32))
        .unwrap();
    let iv = [7; 12];
    for length in [0, 1, 16, 8_192] {
        let (plaintext, mut sealed) = (vec![5; length], vec![0; length + 16]);
        session
            .gcm_seal_into(key, &iv, b"aad", &plaintext, &mut sealed)
            .unwrap();
        assert_eq!(*session.gcm_open(key, &iv, b"aad", &sealed).unwrap(), plaintext);
        let refused = |error: CallError| matches!(error.class(Vendor::Other), Class::Caller | Class::Ambiguous);
        assert!(refused(session.gcm_open(key, &iv, b"aae", &sealed).unwrap_err()));
        for bit in 0..sealed.len().min(40) * 8 {
            let mut flipped = sealed.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(
                refused(session.gcm_open(key, &iv, b"aad", &flipped).unwrap_err()),
                "bit {bit}"
            );
        }
    }
    let (mut iv, mut sealed) = ([0; 12], [0; 21]);
    let made = session.gcm_seal_with_token_iv(key, &mut iv, b"aad", b"hello", &mut sealed);
    // SoftHSM is a module of PKCS#11 2.40.
    if test.kind == Kind::Kryoptic {
        made.unwrap();
        assert_ne!(iv, [0; 12]);
        assert_eq!(**session.gcm_open(key, &iv, b"aad", &sealed).unwrap(), *b"hello");
    } else {
        assert_eq!(made.unwrap_err().code, ReturnCode::FUNCTION_NOT_SUPPORTED);
    }
}

fn audit_pair(test: &TestModule) {
    let session = test.session();
    let token = session.info().unwrap().slot;
    let offered = session.module().mechanisms(token).unwrap();
    let curve = if offered.contains(&Curve::Ed25519.pair_generation()) {
        Curve::Ed25519
    } else {
        Curve::P256
    };
    let (public, private) = presets::audit(Life::Token, b"group", curve);
    let (public, private) = session
        .generate_pair(curve.pair_generation(), &public, &private)
        .unwrap();
    let message = [7; 32]; // of a digest's length, so that it serves both curves
    let mut signature = [0; 128];
    let len = session
        .sign_into(curve.signing(), private, &message, &mut signature)
        .unwrap();
    assert_eq!(len, 64);
    session
        .verify(curve.signing(), public, &message, &signature[..len])
        .unwrap();
    signature[3] ^= 1;
    assert!(
        session
            .verify(curve.signing(), public, &message, &signature[..len])
            .is_err()
    );
    let point = session
        .bytes(public, Attribute::EC_POINT)
        .unwrap()
        .expect("a public key has a point");
    assert!(spki(curve, &point).is_some());
}

fn session_object_life(test: &TestModule) {
    let module = test.load();
    let (keeper, other) = (open(&module), open(&module));
    let key = keeper
        .generate_key(Mechanism::GENERIC_SECRET_KEY_GEN, &presets::version_key_at_birth())
        .unwrap();
    let mut out = [0; 64];
    other
        .hmac_sha512_into(key, b"x", &mut out)
        .expect("a session object serves every session of the process");
    keeper.close().unwrap();
    let error = other.hmac_sha512_into(key, b"x", &mut out).unwrap_err();
    assert_eq!(error.class(Vendor::Other), Class::Handle, "{error}");
}

fn find_pages(test: &TestModule) {
    let session = test.session();
    for _ in 0..70 {
        session
            .generate_key(
                Mechanism::GENERIC_SECRET_KEY_GEN,
                &presets::bind(Life::Session, b"many"),
            )
            .unwrap();
    }
    let wanted = Template::new()
        .class(ObjectClass::SecretKey)
        .label(presets::BIND_LABEL)
        .id(b"many");
    assert_eq!(session.find(&wanted, 1000).unwrap().len(), 70);
    assert_eq!(session.find(&wanted, 2).unwrap().len(), 2);
    assert_eq!(session.find(&Template::new().id(b"none"), 2).unwrap(), []);
}

fn random(test: &TestModule) {
    let session = test.session();
    let (mut one, mut two) = ([0; 32], [0; 32]);
    session.random_into(&mut one).unwrap();
    session.random_into(&mut two).unwrap();
    assert_ne!(one, two);
    assert_ne!(one, [0; 32]);
}

fn finalise(test: &TestModule) {
    let module = test.load();
    let session = open(&module);
    assert!(matches!(module.finalize(), Err(ModuleError::SessionsOpen(1))));
    drop(session);
    module.finalize().unwrap();
    let error = module.tokens().unwrap_err();
    assert!(
        matches!(error, ModuleError::Call(error) if error.class(Vendor::Other) == Class::Library),
        "{error}"
    );
}

fn make_kek(session: &Session) -> ObjectHandle {
    session
        .generate_key(Mechanism::AES_KEY_GEN, &presets::kek(Life::Token, b"kek-id", None))
        .unwrap()
}

//! Every kind of fault, as a caller sees it who goes through `keyreeve-pkcs11` to a real token.

#![allow(clippy::unwrap_used)] // a test stops at the first surprise

mod steer;
#[path = "../../pkcs11/tests/support/mod.rs"]
mod support;

use keyreeve_faultmod::{Calls, Class, Controller, Fault, Function, Functions, ReturnCode, Rule, Schedule, When};
use keyreeve_pkcs11::presets::{self, Life};
use keyreeve_pkcs11::{Access, Class as Recovery, Mechanism, ObjectClass, Selector, Session, Template, Vendor};
use std::time::{Duration, Instant};
use steer::{Signer, controller, until};
use support::{TestModule, open};

contract! {
    through faultmod:
    a_delay_makes_the_call_late_and_nothing_else => delay;
    a_code_returned_before_keeps_the_call_from_the_token => return_before;
    a_code_returned_after_loses_the_reply_of_a_call_that_was_made => return_after;
    a_lost_reply_of_an_init_leaves_the_operation_active => operation_active;
    a_hung_call_returns_when_released_and_holds_up_nobody_else => hang;
    a_dropped_session_is_gone_in_the_token => drop_session;
    a_session_dropped_after_the_call_is_missed_by_the_next_one => drop_session_after;
    a_logout_underneath_takes_the_login_from_every_session => logout;
    a_token_that_is_gone_comes_back_when_cleared => token_gone;
    a_token_that_is_gone_from_the_start_shows_no_slots => gone_from_the_start;
    a_corrupted_output_differs_in_one_bit => corrupt;
    a_corrupted_wrapping_does_not_unwrap => corrupt_wrap;
    a_rule_with_times_strikes_so_often_and_no_more => times;
    a_class_of_functions_fails_together => class;
    a_chance_repeats_with_its_seed_and_changes_with_another => chance;
}

fn returned(code: ReturnCode, when: When) -> Fault {
    Fault::Return { code, when }
}

fn only(function: impl Into<Functions>, fault: Fault) -> Schedule {
    Schedule::new(1).rule(Rule::on(function, fault).nth(1))
}

fn delay(test: &TestModule) {
    let controller = controller(test, Schedule::default());
    let signer = Signer::new(test);
    let expected = signer.sign().unwrap();
    for when in [When::Before, When::After] {
        controller
            .set(only(Function::C_Sign, Fault::Delay { ms: 60, when }))
            .unwrap();
        let started = Instant::now();
        assert_eq!(signer.sign().unwrap(), expected);
        assert!(started.elapsed() >= Duration::from_millis(60));
    }
}

fn return_before(test: &TestModule) {
    let controller = controller(test, Schedule::default());
    let signer = Signer::new(test);
    controller
        .set(only(
            Function::C_SignInit,
            returned(ReturnCode::DEVICE_ERROR, When::Before),
        ))
        .unwrap();
    let error = signer.sign().unwrap_err();
    assert_eq!(
        (error.function.name(), error.code.0),
        ("C_SignInit", ReturnCode::DEVICE_ERROR.0)
    );
    assert_eq!(error.class(Vendor::Other), Recovery::Token);
    signer
        .sign()
        .expect("no operation was begun, so the session is fit for another");
    let vendor = ReturnCode(0x8000_0bad);
    controller
        .set(only(Function::C_SignInit, returned(vendor, When::Before)))
        .unwrap();
    assert_eq!(signer.sign().unwrap_err().code.0, vendor.0);
}

fn return_after(test: &TestModule) {
    let controller = controller(test, Schedule::default());
    let session = open(&test.load());
    let secret_keys = Template::new().class(ObjectClass::SecretKey);
    let keys = || session.find(&secret_keys, 100).unwrap().len();
    let before = keys();
    controller
        .set(only(
            Function::C_GenerateKey,
            returned(ReturnCode::DEVICE_REMOVED, When::After),
        ))
        .unwrap();
    let made = session.generate_key(Mechanism::GENERIC_SECRET_KEY_GEN, &presets::version_key_at_birth());
    assert_eq!(made.unwrap_err().code.0, ReturnCode::DEVICE_REMOVED.0);
    assert_eq!(keys(), before + 1, "the key was made all the same");
}

fn operation_active(test: &TestModule) {
    let controller = controller(test, Schedule::default());
    let signer = Signer::new(test);
    controller
        .set(only(
            Function::C_SignInit,
            returned(ReturnCode::DEVICE_ERROR, When::After),
        ))
        .unwrap();
    assert_eq!(signer.try_sign(), "CKR_DEVICE_ERROR");
    assert_eq!(signer.try_sign(), "CKR_OPERATION_ACTIVE");
    let other = Signer::with(open_another(&signer.session));
    assert_eq!(other.try_sign(), "ok");
}

fn open_another(session: &Session) -> Session {
    let slot = session.info().unwrap().slot;
    Session::open(session.module(), slot, Access::ReadWrite).unwrap()
}

fn hang(test: &TestModule) {
    let controller = controller(test, Schedule::default());
    let mut signer = Signer::new(test);
    let other = Signer::with(open_another(&signer.session));
    for when in [When::Before, When::After] {
        controller.set(only(Function::C_Sign, Fault::Hang { when })).unwrap();
        let faults = || faults_of(&controller, Function::C_Sign);
        let before = faults();
        let hung = std::thread::spawn(move || (signer.try_sign(), signer));
        until(|| faults() > before);
        assert_eq!(other.try_sign(), "ok", "another session goes on");
        controller.clear().expect("the controller is heard while a call hangs");
        assert!(!hung.is_finished(), "clearing does not release");
        controller.release().unwrap();
        let signed;
        (signed, signer) = hung.join().unwrap();
        assert_eq!(signed, "ok");
    }
}

fn faults_of(controller: &Controller, function: Function) -> u64 {
    let counts = controller.counts(std::process::id()).unwrap();
    counts.get(&function).map_or(0, |counts| counts.faults)
}

fn drop_session(test: &TestModule) {
    let controller = controller(test, Schedule::default());
    let signer = Signer::new(test);
    let slot = signer.session.info().unwrap().slot;
    let other = open_another(&signer.session);
    controller
        .set(only(Function::C_SignInit, Fault::DropSession { when: When::Before }))
        .unwrap();
    assert_eq!(signer.try_sign(), "CKR_SESSION_HANDLE_INVALID");
    assert_eq!(signer.try_sign(), "CKR_SESSION_HANDLE_INVALID");
    assert_eq!(other.info().unwrap().slot, slot, "other sessions live");
}

fn drop_session_after(test: &TestModule) {
    let controller = controller(test, Schedule::default());
    let signer = Signer::new(test);
    controller
        .set(only(Function::C_Sign, Fault::DropSession { when: When::After }))
        .unwrap();
    assert_eq!(signer.try_sign(), "ok");
    assert_eq!(signer.try_sign(), "CKR_SESSION_HANDLE_INVALID");
}

fn logout(test: &TestModule) {
    let controller = controller(test, Schedule::default());
    let signer = Signer::new(test);
    let other = open_another(&signer.session);
    assert!(other.info().unwrap().logged_in);
    controller
        .set(only(Function::C_SignInit, Fault::Logout { when: When::Before }))
        .unwrap();
    let error = signer.sign().unwrap_err();
    assert!(
        matches!(error.class(Vendor::Other), Recovery::Login | Recovery::Handle),
        "{error}"
    );
    assert!(!other.info().unwrap().logged_in, "login counts per process");
}

fn token_gone(test: &TestModule) {
    let controller = controller(test, Schedule::default());
    let signer = Signer::new(test);
    let module = signer.session.module();
    let slot = signer.session.info().unwrap().slot;
    controller
        .set(Schedule::default().rule(Rule::on(Function::C_SignInit, Fault::TokenGone).nth(2)))
        .unwrap();
    assert_eq!(signer.try_sign(), "ok");
    assert_eq!(signer.try_sign(), "CKR_DEVICE_REMOVED");
    assert_eq!(signer.try_sign(), "CKR_DEVICE_REMOVED", "it stays gone");
    assert_eq!(module.tokens().unwrap().len(), 0);
    assert_eq!(
        module.token_info(slot).unwrap_err().code.0,
        ReturnCode::TOKEN_NOT_PRESENT.0
    );
    controller.clear().unwrap();
    assert_eq!(signer.try_sign(), "ok");
    module
        .select(&Selector::Label("first".into()))
        .expect("the token is back");
}

fn gone_from_the_start(test: &TestModule) {
    let controller = controller(test, only(Function::C_Initialize, Fault::TokenGone));
    let module = test.load();
    assert_eq!(module.tokens().unwrap().len(), 0);
    assert!(!module.library().is_empty(), "the library still answers for itself");
    controller.clear().unwrap();
    assert_eq!(
        module
            .tokens()
            .unwrap()
            .iter()
            .filter(|token| token.initialized)
            .count(),
        2
    );
}

fn corrupt(test: &TestModule) {
    let controller = controller(test, Schedule::default());
    let signer = Signer::new(test);
    let right = signer.sign().unwrap();
    let different_bits = |wrong: [u8; 64]| -> u32 { right.iter().zip(wrong).map(|(a, b)| (a ^ b).count_ones()).sum() };
    controller
        .set(Schedule::new(1).rule(Rule::on(Functions::All, Fault::CorruptOutput { bit: None }).times(1)))
        .unwrap();
    let wrong = signer.sign().expect("the module says that all is well");
    assert_eq!(different_bits(wrong), 1);
    assert_eq!(signer.sign().unwrap(), right, "once");
    controller
        .set(only(Function::C_Sign, Fault::CorruptOutput { bit: Some(511) }))
        .unwrap();
    assert_eq!(
        signer.sign().unwrap()[63],
        right[63] ^ 0x80,
        "the last bit is within the output"
    );

    controller
        .set(only(Function::C_GenerateRandom, Fault::CorruptOutput { bit: Some(0) }))
        .unwrap();
    let mut random = [0; 32];
    signer.session.random_into(&mut random).unwrap();
    assert_eq!(faults_of(&controller, Function::C_GenerateRandom), 1);
}

fn corrupt_wrap(test: &TestModule) {
    let controller = controller(test, Schedule::default());
    let signer = Signer::new(test);
    let session = &signer.session;
    let kek = session
        .generate_key(Mechanism::AES_KEY_GEN, &presets::kek(Life::Session, b"kek", None))
        .unwrap();
    controller
        .set(only(Function::C_WrapKey, Fault::CorruptOutput { bit: None }))
        .unwrap();
    let unwrap = |wrapped: &[u8]| session.unwrap(Mechanism::AES_KEY_WRAP, kek, wrapped, &presets::version_key_in_use());
    let wrong = session.wrap(Mechanism::AES_KEY_WRAP, kek, signer.key).unwrap();
    unwrap(&wrong).unwrap_err();
    let right = session.wrap(Mechanism::AES_KEY_WRAP, kek, signer.key).unwrap();
    unwrap(&right).unwrap();
}

fn times(test: &TestModule) {
    let controller = controller(test, Schedule::default());
    let signer = Signer::new(test);
    let rule = Rule::on(Function::C_SignInit, returned(ReturnCode::HOST_MEMORY, When::Before));
    controller.set(Schedule::default().rule(rule.times(2))).unwrap();
    let outcomes: Vec<String> = (0..4).map(|_| signer.try_sign()).collect();
    assert_eq!(outcomes, ["CKR_HOST_MEMORY", "CKR_HOST_MEMORY", "ok", "ok"]);
}

fn class(test: &TestModule) {
    let controller = controller(test, Schedule::default());
    let signer = Signer::new(test);
    controller
        .set(Schedule::default().rule(Rule::on(Class::Find, returned(ReturnCode::DEVICE_ERROR, When::Before))))
        .unwrap();
    let found = signer.session.find(&Template::new(), 1);
    assert_eq!(found.unwrap_err().code.0, ReturnCode::DEVICE_ERROR.0);
    assert_eq!(signer.try_sign(), "ok");
}

fn chance(test: &TestModule) {
    let controller = controller(test, Schedule::default());
    let signer = Signer::new(test);
    let run = |seed| -> Vec<String> {
        let rule = Rule::on(Function::C_SignInit, returned(ReturnCode::DEVICE_ERROR, When::Before));
        controller
            .set(Schedule::new(seed).rule(rule.calls(Calls::Chance(0.5))))
            .unwrap();
        (0..64).map(|_| signer.try_sign()).collect()
    };
    let (first, again, other) = (run(7), run(7), run(8));
    assert_eq!(first, again);
    assert_ne!(first, other);
    assert!(first.contains(&"ok".to_owned()) && first.contains(&"CKR_DEVICE_ERROR".to_owned()));
}

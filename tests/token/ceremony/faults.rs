//! Calls of the token that fail amid a step: what it made is gone again.

use keyreeve::token::{
    TokenConfig,
    ceremony::{Left, Role, TokenAtHand},
};
use keyreeve_faultmod::{Calls, Controller, Fault, Function, ReturnCode, Rule, Schedule, When};
use keyreeve_pkcs11::presets;

use super::{objects, remove, serial};
use crate::group::{GROUP, Group, to};

ceremonies! { false;
    a_fault_in_any_call_of_an_import_leaves_nothing => faults;
    a_token_that_fails_to_enrol_is_empty_again => failed_enrolment;
    a_fault_in_a_repeated_import_removes_no_key => repeated_import;
    a_fault_in_a_repeated_enrolment_removes_no_key => repeated_enrolment;
}

/// Of one function, in a step that is repeated.
const CALLS: u64 = 16;

/// Each call of the import fails once, until none is left to fail; wrapped bytes that are wrong are faults, too.
fn faults(group: &Group) {
    let (a, b) = (group.softhsm("a"), group.softhsm("b"));
    let manifest = group.found(&[&a, &b], &[]);
    let transfers = group.at(&a).make_epoch(&manifest).unwrap();
    let transfer = to(&transfers, &serial(group, &b)).clone();
    let before = objects(group, &b);
    let controller = Controller::listen(&group.directory.join("control"), Schedule::default()).unwrap();
    let faulty = TokenConfig {
        module: keyreeve_faultmod::module_path().unwrap(),
        ..b.clone()
    };
    let lost = || Fault::Return {
        code: ReturnCode::DEVICE_ERROR,
        when: When::Before,
    };
    let faults: [(Function, fn() -> Fault); 4] = [
        (Function::C_UnwrapKey, lost),
        (Function::C_CreateObject, lost),
        (Function::C_Sign, lost),
        (Function::C_WrapKey, || Fault::CorruptOutput { bit: None }),
    ];
    let mut failed = 0;
    for (function, fault) in faults {
        for nth in 1.. {
            let at_b = group.at(&faulty);
            controller
                .set(Schedule::new(1).rule(Rule::on(function, fault()).nth(nth)))
                .unwrap();
            let imported = at_b.import((&manifest, &[]), &transfer);
            controller.clear().unwrap();
            drop(at_b);
            if let Ok(stated) = imported {
                stated.handed_over().unwrap();
                break;
            }
            assert_eq!(objects(group, &b), before, "{function:?} {nth}");
            failed += 1;
        }
        remove(
            group,
            &b,
            &[presets::KEK_LABEL, presets::BIND_LABEL, presets::SVC_LABEL],
        );
    }
    assert!(failed > 15, "{failed} imports failed");
}

fn failed_enrolment(group: &Group) {
    let b = group.softhsm("b");
    let controller = Controller::listen(&group.directory.join("control"), Schedule::default()).unwrap();
    let faulty = TokenConfig {
        module: keyreeve_faultmod::module_path().unwrap(),
        ..b.clone()
    };
    // Two pairs are made before: the one that is tried, and TRANSPORT.
    let fault = Fault::Return {
        code: ReturnCode::DEVICE_ERROR,
        when: When::Before,
    };
    let at_b = group.at(&faulty);
    let rule = Rule::on(Function::C_GenerateKeyPair, fault).nth(3);
    controller.set(Schedule::new(1).rule(rule)).unwrap();
    at_b.enrol(Some(GROUP), Role::Member, None).unwrap_err();
    controller.clear().unwrap();
    drop(at_b);
    assert_eq!(objects(group, &b), Vec::<String>::new());
    group.enrol(&b, Role::Member);
}

/// Of each of these functions calls fail, those that `calls` makes of a number, while `step`, which has ended but for its file, is repeated.
/// `step`: whether it kept what is there.
fn repeat(
    group: &Group,
    token: &TokenConfig,
    functions: &[Function],
    calls: fn(u64) -> Calls,
    step: impl Fn(&TokenAtHand) -> Result<bool, String>,
) {
    let controller = Controller::listen(&group.directory.join("control"), Schedule::default()).unwrap();
    let faulty = TokenConfig {
        module: keyreeve_faultmod::module_path().unwrap(),
        ..token.clone()
    };
    let before = objects(group, token);
    let mut failed = 0;
    for function in functions {
        for calls in (1..=CALLS).map(calls) {
            let fault = Fault::Return {
                code: ReturnCode::DEVICE_ERROR,
                when: When::Before,
            };
            let host = group.at(&faulty);
            controller
                .set(Schedule::new(1).rule(Rule::on(*function, fault).calls(calls)))
                .unwrap();
            let repeated = step(&host);
            controller.clear().unwrap();
            drop(host);
            assert_eq!(objects(group, token), before, "{function:?} {calls:?}: {repeated:?}");
            match repeated {
                Ok(kept) => assert!(kept, "{function:?} {calls:?}"),
                Err(_) => failed += 1,
            }
        }
    }
    assert!(failed > 0, "none of them is called");
}

fn repeated_import(group: &Group) {
    let (a, b) = (group.softhsm("a"), group.softhsm("b"));
    let manifest = group.found(&[&a, &b], &[]);
    let transfers = group.at(&a).make_epoch(&manifest).unwrap();
    let transfer = to(&transfers, &serial(group, &b)).clone();
    // Its receipt is not handed over.
    drop(group.at(&b).import((&manifest, &[]), &transfer).unwrap());
    repeat(
        group,
        &b,
        &[Function::C_Sign, Function::C_WrapKey, Function::C_FindObjectsInit],
        |from| Calls::Range { from, to: None },
        |at_b| {
            let repeated = at_b.import((&manifest, &[]), &transfer);
            repeated
                .map(|stated| stated.left == Some(Left::Whole))
                .map_err(|error| error.to_string())
        },
    );
}

fn repeated_enrolment(group: &Group) {
    let b = group.softhsm("b");
    let first = group.at(&b).enrol(Some(GROUP), Role::Member, None).unwrap();
    let spki = first.statement.said.token.transport_spki.clone();
    drop(first);
    repeat(
        group,
        &b,
        &[Function::C_Sign, Function::C_UnwrapKey, Function::C_FindObjectsInit],
        Calls::Nth,
        |at_b| {
            let repeated = at_b
                .enrol(Some(GROUP), Role::Member, None)
                .map_err(|error| error.to_string())?;
            assert_eq!(repeated.statement.said.token.transport_spki, spki);
            Ok(repeated.left == Some(Left::Whole))
        },
    );
}

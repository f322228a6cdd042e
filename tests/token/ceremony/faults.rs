//! Calls of the token that fail amid a step: what it made is gone again.

use keyreeve::token::{TokenConfig, ceremony::Role};
use keyreeve_faultmod::{Controller, Fault, Function, ReturnCode, Rule, Schedule, When};
use keyreeve_pkcs11::presets;

use super::{objects, remove, serial};
use crate::group::{GROUP, Group, to};

ceremonies! { false;
    a_fault_in_any_call_of_an_import_leaves_nothing => faults;
    a_token_that_fails_to_enrol_is_empty_again => failed_enrolment;
}

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

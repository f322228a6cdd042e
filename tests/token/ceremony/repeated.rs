//! A step that is repeated: what an attempt that was not handed over left is kept or made anew; what one that was has made is never removed.

use keyreeve::token::{
    OpenError,
    ceremony::{CeremonyError, Left, Role},
};
use keyreeve_pkcs11::{
    Attribute, Mechanism, Template,
    presets::{self, Life},
};

use super::{objects, remove, serial};
use crate::group::{GROUP, Group, to};

ceremonies! { false;
    a_new_group_keeps_its_id_when_its_first_enrolment_is_repeated => same_group;
    wrong_keys_of_an_unfinished_import_are_removed_and_those_of_a_finished_one_never => only_what_is_unfinished;
}

fn same_group(group: &Group) {
    let a = group.softhsm("a");
    let enrol = |id| group.at(&a).enrol(id, Role::Member, None);
    let first = enrol(None).unwrap();
    assert_eq!(first.left, None);
    // It was not handed over. Another one is not what was begun.
    for other in [
        enrol(Some(GROUP)).unwrap_err(),
        group.at(&a).enrol(None, Role::Recovery, None).unwrap_err(),
    ] {
        let refused = matches!(other, OpenError::Ceremony(CeremonyError::OtherEnrolment { .. }));
        assert!(refused, "{other}");
    }
    remove(group, &a, &[presets::CANARY_LABEL]);
    let second = enrol(None).unwrap();
    let Some(Left::Removed(labels)) = &second.left else {
        panic!("{:?}", second.left)
    };
    assert_eq!(labels.len(), 4, "{labels:?}");
    assert_eq!(first.statement.said.group, second.statement.said.group);
    assert_ne!(first.statement.said.token, second.statement.said.token);
    let third = enrol(None).unwrap();
    assert_eq!(third.left, Some(Left::Whole));
    assert_eq!(second.statement.said, third.statement.said);
    third.handed_over().unwrap();
    assert!(enrol(None).unwrap_err().to_string().contains("transport.v1"));
}

fn only_what_is_unfinished(group: &Group) {
    let (a, b) = (group.softhsm("a"), group.softhsm("b"));
    let manifest = group.found(&[&a, &b], &[]);
    let transfers = group.at(&a).make_epoch(&manifest).unwrap();
    let transfer = to(&transfers, &serial(group, &b)).clone();
    let import = || group.at(&b).import((&manifest, &[]), &transfer);
    let replace_bind = || {
        let (module, session) = group.intruder(&b);
        let bind = session.find(&Template::new().label(presets::BIND_LABEL), 2).unwrap()[0];
        let id = session.bytes(bind, Attribute::ID).unwrap().unwrap();
        session.destroy(bind).unwrap();
        let template = presets::bind(Life::Token, &id);
        session
            .generate_key(Mechanism::GENERIC_SECRET_KEY_GEN, &template)
            .unwrap();
        drop(session);
        module.finalize().unwrap();
    };
    let first = import().unwrap();
    replace_bind();
    let again = import().unwrap();
    assert!(
        matches!(&again.left, Some(Left::Removed(labels)) if labels.len() == 3),
        "{:?}",
        again.left
    );
    assert_eq!(first.statement.said, again.statement.said);
    again.handed_over().unwrap();

    replace_bind();
    let before = objects(group, &b);
    let error = import().unwrap_err();
    let refused = matches!(error, OpenError::Ceremony(CeremonyError::TransferRefused));
    assert!(refused, "{error}");
    assert_eq!(objects(group, &b), before);
}

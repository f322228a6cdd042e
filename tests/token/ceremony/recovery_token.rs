//! A recovery token brings in tokens that come later.

use std::{path::Path, sync::Arc};

use keyreeve::token::{
    Host, Manifest, OpenError,
    ceremony::{CeremonyError, NextManifest, Role, Signed, Transfer},
};

use super::{host, objects, serial};
use crate::{
    fixture::{assert_same, keys, make, place},
    group::{self, Group, to},
    support,
};

ceremonies! { false;
    a_recovery_token_brings_in_a_third_that_opens_old_blobs => |group| third(group, Path::new(support::SOFTHSM));
    a_recovery_token_stands_in_for_the_member_that_made_the_keys => maker_gone;
}

mod kryoptic {
    use super::*;

    ceremonies! { true;
        a_recovery_token_brings_in_a_third_that_opens_old_blobs => |group| third(group, &group::kryoptic().unwrap());
    }
}

fn third(group: &Group, module: &std::path::Path) {
    let (a, r) = (group.token(module, "a"), group.token(module, "r"));
    group.found(&[&a], &[&r]);
    let first = group.epoch(&[&a]);
    let at_a = host(group, &a);
    let blob = Arc::new(make(&at_a, place(1)).blob);
    let here = keys(&at_a, &blob, place(1)).unwrap();
    at_a.stop();
    let second = group.epoch(&[&a]);

    let c = group.softhsm("c");
    let request = group.enrol(&c, Role::Member);
    let serial = request.said.token.serial.clone();
    let manifest = group.publish(NextManifest {
        enrol: vec![request],
        previous: Some(group.manifest()),
        ..NextManifest::default()
    });
    let at_r = group.at(&r);
    let mine = |transfers: &[Signed<Transfer>]| to(transfers, at_r.serial()).clone();
    let error = at_r.pass_on((&manifest, &[]), &[mine(&first)], &serial).unwrap_err();
    assert!(matches!(error, CeremonyError::TransferMissing(2)), "{error}");
    let sent = at_r
        .pass_on((&manifest, &[]), &[mine(&second), mine(&first)], &serial)
        .unwrap();
    drop(at_r);
    assert_eq!(
        objects(group, &r),
        ["audit.v1", "audit.v1", "canary.v1", "transport.v1", "transport.v1"]
    );

    // SVC comes with the first epoch, so that one comes first.
    let at_c = group.at(&c);
    let error = at_c.import((&manifest, &[]), &sent[1]).unwrap_err();
    assert!(
        matches!(error, OpenError::Ceremony(CeremonyError::TransferRefused)),
        "{error}"
    );
    at_c.import((&manifest, &[]), &sent[0]).unwrap();
    at_c.import((&manifest, &[]), &sent[1]).unwrap();
    drop(at_c);
    let at_c = host(group, &c);
    let there = keys(&at_c, &blob, place(1)).unwrap();
    assert_same(&here, &there, place(1));
    make(&at_c, place(2));
    at_c.stop();
}

/// The only member broke, and is out of the manifest: its signature still counts under the manifest that it names.
fn maker_gone(group: &Group) {
    let (a, r, c) = (group.softhsm("a"), group.softhsm("r"), group.softhsm("c"));
    let first = group.found(&[&a], &[&r]);
    let transfers = group.epoch(&[&a]);
    let second = group.manifest();
    let at_a = host(group, &a);
    let blob = Arc::new(make(&at_a, place(1)).blob);
    at_a.stop();
    let request = group.enrol(&c, Role::Member);
    let manifest = group.publish(NextManifest {
        enrol: vec![request],
        remove: vec![serial(group, &a)],
        previous: Some(second.clone()),
        ..NextManifest::default()
    });
    let to_c = serial(group, &c);
    let at_r = group.at(&r);
    let kept = [to(&transfers, at_r.serial()).clone()];
    for earlier in [&[] as &[Manifest], &[second]] {
        let error = at_r.pass_on((&manifest, earlier), &kept, &to_c).unwrap_err();
        assert!(matches!(error, CeremonyError::TransferRefused), "{error}");
    }
    let sent = at_r.pass_on((&manifest, &[first]), &kept, &to_c).unwrap();
    drop(at_r);
    group.import(&c, &sent).unwrap();
    let at_c = host(group, &c);
    keys(&at_c, &blob, place(1)).unwrap();
    at_c.stop();
}

//! A recovery token brings in tokens that come later.

use std::{path::Path, sync::Arc};

use keyreeve::token::{
    Host, Manifest, OpenError,
    ceremony::{CeremonyError, Role, Signed, Transfer},
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
    a_recovery_token_that_came_later_takes_over_from_a_lost_one => |group| taken_over(group, Path::new(support::SOFTHSM));
}

mod kryoptic {
    use super::*;

    ceremonies! { true;
        a_recovery_token_brings_in_a_third_that_opens_old_blobs => |group| third(group, &group::kryoptic().unwrap());
        a_recovery_token_that_came_later_takes_over_from_a_lost_one => |group| taken_over(group, &group::kryoptic().unwrap());
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
    let manifest = group.next(|next| next.enrol.push(request));
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
    for transfer in &sent {
        let stated = at_c.import((&manifest, &[]), transfer).unwrap();
        stated.handed_over().unwrap();
    }
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
    let gone = serial(group, &a);
    let manifest = group.next(|next| {
        next.enrol.push(request);
        next.remove.push(gone);
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

/// R is lost, but R2, enrolled after the first epoch, was brought in by it: D is served by what R2 has, SVC included.
fn taken_over(group: &Group, module: &Path) {
    let (a, b) = (group.softhsm("a"), group.softhsm("b"));
    let (r, r2, d) = (group.softhsm("r"), group.token(module, "r2"), group.softhsm("d"));
    group.found(&[&a, &b], &[&r]);
    let first = group.epoch(&[&a, &b]);
    let made_at_a = |number| {
        let at_a = host(group, &a);
        let blob = Arc::new(make(&at_a, place(number)).blob);
        let keys = keys(&at_a, &blob, place(number)).unwrap();
        at_a.stop();
        (blob, keys, place(number))
    };
    let mut made = vec![made_at_a(1)];
    let second = group.epoch(&[&a, &b]);
    made.push(made_at_a(2));

    let of_r2 = serial(group, &r2);
    let with_r2 = group.next(|next| next.enrol.push(group.enrol(&r2, Role::Recovery)));
    let kept_by_r = [&first, &second].map(|sent| to(sent, &serial(group, &r)).clone());
    let mut kept_by_r2 = group.at(&r).pass_on((&with_r2, &[]), &kept_by_r, &of_r2).unwrap();
    assert!(kept_by_r2[0].said.wrapped.svc.is_some());
    // The next epoch comes to both from the member that makes it.
    let third = group.epoch(&[&a, &b]);
    made.push(made_at_a(3));
    kept_by_r2.push(to(&third, &of_r2).clone());

    let lost = serial(group, &r);
    let of_d = serial(group, &d);
    let today = group.next(|next| {
        next.remove.push(lost);
        next.enrol.push(group.enrol(&d, Role::Member));
    });
    let at_r2 = group.at(&r2);
    let error = at_r2.pass_on((&today, &[]), &kept_by_r2, &of_d).unwrap_err();
    assert!(
        matches!(error, CeremonyError::TransferRefused),
        "who sent it is no longer of the group, and nobody says that he was: {error}"
    );
    let sent = at_r2.pass_on((&today, &[with_r2]), &kept_by_r2, &of_d).unwrap();
    drop(at_r2);
    assert_eq!(
        objects(group, &r2),
        ["audit.v1", "audit.v1", "canary.v1", "transport.v1", "transport.v1"]
    );
    let at_d = group.at(&d);
    for transfer in &sent {
        let stated = at_d.import((&today, &[]), transfer).unwrap();
        stated.handed_over().unwrap();
    }
    drop(at_d);
    let at_d = host(group, &d);
    for (blob, expected, place) in &made {
        assert_same(expected, &keys(&at_d, blob, *place).unwrap(), *place);
    }
    make(&at_d, place(4));
    at_d.stop();
}

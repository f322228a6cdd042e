//! A transfer file that was swapped, forged or made by a liar (T20): one error, nothing left, and no unwrap before it is vouched for.

use keyreeve::token::{
    Checks, Manifest, OaepHash, OpenError, TokenConfig,
    ceremony::{CeremonyError, Role, Signed, Transfer},
};
use keyreeve_pkcs11::presets;

use super::{objects, remove, serial, sign};
use crate::{
    group::{Group, to},
    support,
};

ceremonies! { false;
    every_substitution_is_refused_with_one_error_and_leaves_nothing => substitutions;
    nothing_is_unwrapped_before_the_file_is_vouched_for => order;
}

fn substitutions(group: &Group) {
    let (a, b) = (group.softhsm("a"), group.softhsm("b"));
    let manifest = group.found(&[&a, &b], &[]);
    let transfers = group.at(&a).make_epoch(&manifest).unwrap();
    let (serial, of_a) = (serial(group, &b), serial(group, &a));
    let good = to(&transfers, &serial).clone();
    let before = objects(group, &b);
    let refused = |what: &str, manifest: &Manifest, transfer: &Signed<Transfer>| {
        let error = group.at(&b).import((manifest, &[]), transfer).unwrap_err();
        assert!(
            matches!(error, OpenError::Ceremony(CeremonyError::TransferRefused)),
            "{what}: {error}"
        );
        assert_eq!(objects(group, &b), before, "{what}");
    };

    refused("another's file", &manifest, to(&transfers, &of_a));
    // Changed on its way: the signature does not fit any more.
    let changed = |change: &dyn Fn(&mut Transfer)| {
        let mut said = good.said.clone();
        change(&mut said);
        let signature = String::from_utf8(good.text()).unwrap();
        let signature = signature.lines().nth(1).unwrap().to_owned();
        let text = format!("{}\n{signature}\n", serde_json::to_string(&said).unwrap());
        Signed::parse(text.as_bytes()).unwrap()
    };
    refused("forged", &manifest, &changed(&|said| said.epoch = 2));

    // From here on signed by a member, who lies: what an intruder at A could bring about.
    let lies = |change: &dyn Fn(&mut Transfer)| {
        let mut said = good.said.clone();
        change(&mut said);
        sign(group, &a, &said)
    };
    refused("wrong `to`", &manifest, &lies(&|said| said.to = "other".into()));
    refused(
        "another TRANSPORT",
        &manifest,
        &lies(&|said| said.to_spki_sha256 = "00".repeat(32)),
    );
    refused(
        "another manifest",
        &manifest,
        &lies(&|said| said.manifest = "00".repeat(32)),
    );
    refused("another group", &manifest, &lies(&|said| said.group = "cd".repeat(16)));
    refused("a later epoch", &manifest, &lies(&|said| said.epoch = 2));
    refused(
        "another hash",
        &manifest,
        &lies(&|said| said.oaep_hash = OaepHash::Sha256),
    );
    refused("without SVC", &manifest, &lies(&|said| said.wrapped.svc = None));
    refused(
        "no ciphertext",
        &manifest,
        &lies(&|said| said.wrapped.kek = "00".repeat(384)),
    );
    for change in [
        (|check: &mut Checks| check.kek = "00".repeat(16)) as fn(&mut Checks),
        |check| check.bind = "00".repeat(16),
        |check| check.svc = "00".repeat(16),
    ] {
        refused("a changed check", &manifest, &lies(&|said| change(&mut said.check)));
    }
    // An injected KEK: a good file whose KEK is BIND's bytes.
    refused(
        "swapped keys",
        &manifest,
        &lies(&|said| {
            std::mem::swap(&mut said.wrapped.kek, &mut said.wrapped.bind);
        }),
    );
    // Signed by a token that the manifest does not list.
    let x = group.softhsm("x");
    group.enrol(&x, Role::Member);
    refused("a stranger's", &manifest, &sign(group, &x, &good.said));
    // The manifest has another TRANSPORT for this token: custodians were deceived, or it was swapped.
    let mut swapped = manifest.clone();
    let other = group.enrol(&group.softhsm("y"), Role::Member).said.token.transport_spki;
    let member = swapped
        .members
        .iter_mut()
        .find(|member| member.serial == serial)
        .unwrap();
    member.transport_spki = other;
    let to_other = group.at(&a).make_epoch(&swapped).unwrap();
    refused("swapped TRANSPORT", &swapped, to(&to_other, &serial));

    // The right one, and then again.
    group.import(&b, &transfers).unwrap();
    let error = group.at(&b).import((&manifest, &[]), &good).unwrap_err();
    assert!(
        matches!(error, OpenError::Ceremony(CeremonyError::TransferRefused)),
        "{error}"
    );
    // Another epoch 1, with keys of its own.
    let again = group.at(&a).make_epoch(&manifest).unwrap();
    let error = group.at(&b).import((&manifest, &[]), to(&again, &serial)).unwrap_err();
    assert!(
        matches!(error, OpenError::Ceremony(CeremonyError::TransferRefused)),
        "{error}"
    );
    assert_eq!(objects(group, &b).len(), before.len() + 3);
}

/// An unwrap of what nobody vouched for would be an oracle, whatever it answers.
fn order(group: &Group) {
    let (a, b) = (group.softhsm("a"), group.softhsm("b"));
    let manifest = group.found(&[&a, &b], &[]);
    let transfers = group.at(&a).make_epoch(&manifest).unwrap();
    let good = to(&transfers, &serial(group, &b)).clone();
    let spied = TokenConfig {
        module: support::SPY.into(),
        ..b.clone()
    };
    let refused = |what: &str, transfer: &Signed<Transfer>| {
        group.at(&spied).import((&manifest, &[]), transfer).unwrap_err();
        assert_eq!(group.spied("C_UnwrapKey"), 0, "{what}");
    };
    let x = group.softhsm("x");
    group.enrol(&x, Role::Member);
    refused("a stranger's", &sign(group, &x, &good.said));
    refused("another's", to(&transfers, &serial(group, &a)));
    let lie = |change: fn(&mut Transfer)| {
        let mut said = good.said.clone();
        change(&mut said);
        sign(group, &a, &said)
    };
    refused("another TRANSPORT", &lie(|said| said.to_spki_sha256 = "00".repeat(32)));
    refused("another manifest", &lie(|said| said.manifest = "00".repeat(32)));
    refused("another epoch", &lie(|said| said.epoch = 7));
    group.import(&b, &transfers).unwrap();
    refused("once more", &good);
    // The spy does see an unwrap, once the keys are gone again.
    remove(
        group,
        &b,
        &[presets::KEK_LABEL, presets::BIND_LABEL, presets::SVC_LABEL],
    );
    group.import(&spied, &transfers).unwrap();
    assert!(group.spied("C_UnwrapKey") >= 6);
}

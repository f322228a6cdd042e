//! Groups of several tokens, made by ceremonies on real tokens: what they must do, and every substitution that must fail.

use std::sync::Arc;

use keyreeve::token::{
    Checks, Host, Manifest, ManifestError, OaepHash, OpenError, ThreadHost, TokenConfig,
    ceremony::{
        CeremonyError, LastSeenError, NextManifest, Role, Signed, Transfer, admit_manifest, probe_pair, probe_transport,
    },
};
use keyreeve_faultmod::{Controller, Fault, Function, ReturnCode, Rule, Schedule, When};
use keyreeve_pkcs11::{
    Attribute, Mechanism, Session, Template,
    presets::{self, Life, Recipient},
};

use crate::{
    fixture::{assert_same, keys, make, place, workers},
    group::{self, GROUP, Group, to},
    support,
};

/// `name => body;` makes one test in a process of its own; `with kryoptic:` skips it where there is no Kryoptic.
macro_rules! ceremonies {
    ($with:expr; $($name:ident => $body:expr;)*) => {
        $(#[test] fn $name() {
            group::run(&support::test_name(module_path!(), stringify!($name)), $with, $body)
        })*
    };
}

ceremonies! { false;
    two_softhsm_tokens_become_one_group => |group| {
        let (a, b) = (group.softhsm("a"), group.softhsm("b"));
        serves_as_one(group, &a, &b);
    };
    a_worker_process_serves_a_token_of_a_group => in_a_worker;
    a_recovery_token_brings_in_a_third_that_opens_old_blobs => |group| {
        let module = std::path::Path::new(support::SOFTHSM);
        third(group, module);
    };
    a_recovery_token_stands_in_for_the_member_that_made_the_keys => maker_gone;
    nobody_can_take_a_ceremony_groups_kek_out => |group| {
        let (a, b) = (group.softhsm("a"), group.softhsm("b"));
        sealed(group, &a, &b);
    };
    a_new_epoch_wraps_new_keys_and_the_old_one_opens_old_ones => rotation;
    a_token_without_the_newest_epoch_serves_the_others_and_makes_no_keys => behind;
    every_substitution_is_refused_with_one_error_and_leaves_nothing => substitutions;
    nothing_is_unwrapped_before_the_file_is_vouched_for => order;
    a_fault_in_any_call_of_an_import_leaves_nothing => faults;
    a_token_that_fails_to_enrol_is_empty_again => failed_enrolment;
    a_manifest_under_quorum_opens_no_token => under_quorum;
    an_older_manifest_is_not_admitted_again => going_back;
    making_an_epoch_leaves_no_key_in_the_token => nothing_left;
    a_token_is_enrolled_once => enrolled_once;
    softhsm_holds_what_a_transport_key_must => |group| holds(group, &group.softhsm("a"), OaepHash::Sha1);
    softhsm_the_probes_find_a_weak_transport_key => |group| weak(group, &group.softhsm("a"));
}

mod kryoptic {
    use super::*;

    ceremonies! { true;
        softhsm_and_kryoptic_become_one_group => |group| {
            let (a, b) = (group.softhsm("a"), group.token(&group::kryoptic().unwrap(), "b"));
            serves_as_one(group, &a, &b);
        };
        kryoptic_and_softhsm_become_one_group_made_by_kryoptic => |group| {
            let (a, b) = (group.token(&group::kryoptic().unwrap(), "a"), group.softhsm("b"));
            serves_as_one(group, &a, &b);
        };
        a_recovery_token_brings_in_a_third_that_opens_old_blobs => |group| third(group, &group::kryoptic().unwrap());
        nobody_can_take_a_ceremony_groups_kek_out => |group| {
            let (a, b) = (group.softhsm("a"), group.token(&group::kryoptic().unwrap(), "b"));
            sealed(group, &b, &a);
        };
        holds_what_a_transport_key_must => |group| holds(group, &group.token(&group::kryoptic().unwrap(), "a"), OaepHash::Sha256);
        the_probes_find_a_weak_transport_key => |group| weak(group, &group.token(&group::kryoptic().unwrap(), "a"));
    }
}

fn host(group: &Group, token: &TokenConfig) -> ThreadHost {
    ThreadHost::start(token.clone(), &group.directory, Arc::new(|_, _| false)).unwrap()
}

/// A key made at one opens at the other, to the same message keys.
fn serves_as_one(group: &Group, a: &TokenConfig, b: &TokenConfig) {
    group.found(&[a, b], &[]);
    group.epoch(&[a, b]);
    let at_a = host(group, a);
    let made = make(&at_a, place(1));
    let blob = Arc::new(made.blob);
    let here = keys(&at_a, &blob, place(1)).unwrap();
    at_a.stop();
    let at_b = host(group, b);
    // The KCV is compared as it unwraps: another key would latch the token.
    let there = keys(&at_b, &blob, place(1)).unwrap();
    assert_same(&here, &there, place(1));
    let row = |host: &ThreadHost| {
        let call = keyreeve::token::Call::Subkey(keyreeve::token::host::SubkeyLabel::Row);
        match crate::fixture::ask(host, call).unwrap() {
            keyreeve::token::Answer::Subkey(subkey) => *subkey.as_bytes(),
            _ => panic!("another answer"),
        }
    };
    let of_b = row(&at_b);
    at_b.stop();
    let at_a = host(group, a);
    assert_eq!(row(&at_a), of_b, "one SVC, one row key");
    at_a.stop();
}

fn in_a_worker(group: &Group) {
    let (a, b) = (group.softhsm("a"), group.softhsm("b"));
    group.found(&[&a, &b], &[]);
    group.epoch(&[&a, &b]);
    let test = support::TestModule {
        path: a.module.clone(),
        directory: group.directory.clone(),
        kind: support::Kind::SoftHsm,
    };
    let at_a = workers(&test, a.clone()).unwrap();
    let blob = Arc::new(make(&at_a.host, place(1)).blob);
    at_a.host.stop();
    let at_b = workers(&test, b.clone()).unwrap();
    keys(&at_b.host, &blob, place(1)).unwrap();
    at_b.host.stop();
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

fn sealed(group: &Group, a: &TokenConfig, b: &TokenConfig) {
    group.found(&[a, b], &[]);
    let transfers = group.at(a).make_epoch(&group.manifest()).unwrap();
    let receipt = group.import(a, &transfers).unwrap();
    for key in &receipt.said.keys {
        assert_eq!(
            (key.sensitive, key.extractable),
            (Some(true), Some(false)),
            "{}",
            key.label
        );
        assert_eq!(
            (key.modifiable, key.copyable),
            (Some(false), Some(false)),
            "{}",
            key.label
        );
        // What was unwrapped was not made here: never claim it.
        assert_eq!(key.local, Some(false), "{}", key.label);
        assert_ne!(key.never_extractable, Some(true), "{}", key.label);
    }
    let (module, session) = group.intruder(a);
    let own = aes(&session);
    let rsa = {
        let pair = presets::transport(Life::Session, b"mine", Recipient::Recovery);
        session
            .generate_pair(Mechanism::RSA_PKCS_KEY_PAIR_GEN, &pair.0, &pair.1)
            .unwrap()
            .0
    };
    for label in [presets::KEK_LABEL, presets::BIND_LABEL, presets::SVC_LABEL] {
        let found = session.find(&Template::new().label(label), 2).unwrap();
        let [key] = found.as_slice() else {
            panic!("{label}: {found:?}")
        };
        assert!(session.wrap(Mechanism::AES_KEY_WRAP, own, *key).is_err(), "{label}");
        assert!(
            session.wrap_oaep(keyreeve_pkcs11::OaepHash::Sha1, rsa, *key).is_err(),
            "{label}"
        );
        assert!(!matches!(session.bytes(*key, Attribute::VALUE), Ok(Some(_))), "{label}");
        for (attribute, value) in [
            (Attribute::EXTRACTABLE, true),
            (Attribute::SENSITIVE, false),
            (Attribute::MODIFIABLE, true),
            (Attribute::DECRYPT, true),
        ] {
            let change = Template::new().flag(attribute, value);
            assert!(session.set_attributes(*key, &change).is_err(), "{label} {attribute:?}");
            assert!(session.copy(*key, &change).is_err(), "{label} {attribute:?}");
        }
    }
    // With the transfer file and the session: TRANSPORT gives nothing that can leave.
    let transfer = &transfers
        .iter()
        .find(|transfer| transfer.said.to == receipt.said.serial)
        .unwrap()
        .said;
    let private = Template::new()
        .label(presets::TRANSPORT_LABEL)
        .class(keyreeve_pkcs11::ObjectClass::PrivateKey);
    let private = session.find(&private, 2).unwrap()[0];
    let wrapped = data_encoding::HEXLOWER.decode(transfer.wrapped.kek.as_bytes()).unwrap();
    let weaker = presets::sealed(keyreeve_pkcs11::KeyType::Aes, Life::Session, &[Attribute::DECRYPT])
        .flag(Attribute::EXTRACTABLE, true);
    for hash in [keyreeve_pkcs11::OaepHash::Sha1, keyreeve_pkcs11::OaepHash::Sha256] {
        let stolen = session.unwrap_oaep(hash, private, &wrapped, &weaker);
        assert!(stolen.is_err() || session.flag(stolen.unwrap(), Attribute::EXTRACTABLE).unwrap() == Some(false));
        assert!(session.decrypt_oaep(hash, private, &wrapped).is_err());
    }
    drop(session);
    module.finalize().unwrap();
}

fn rotation(group: &Group) {
    let (a, b) = (group.softhsm("a"), group.softhsm("b"));
    group.found(&[&a, &b], &[]);
    group.epoch(&[&a, &b]);
    let at_a = host(group, &a);
    let old = Arc::new(make(&at_a, place(1)).blob);
    at_a.stop();
    group.epoch(&[&a, &b]);
    let at_b = host(group, &b);
    keys(&at_b, &old, place(1)).unwrap();
    let new = make(&at_b, place(2)).blob;
    at_b.stop();
    let epoch = |bytes: &[u8]| u32::from_be_bytes(bytes[64..68].try_into().unwrap());
    assert_eq!((epoch(old.bytes()), epoch(new.bytes())), (1, 2));
    let at_a = host(group, &a);
    keys(&at_a, &Arc::new(new), place(2)).unwrap();
    at_a.stop();
}

fn behind(group: &Group) {
    let (a, b, c) = (group.softhsm("a"), group.softhsm("b"), group.softhsm("c"));
    group.found(&[&a, &b, &c], &[]);
    group.epoch(&[&a, &b, &c]);
    let at_c = host(group, &c);
    let old = Arc::new(make(&at_c, place(1)).blob);
    at_c.stop();
    group.epoch(&[&a, &b]);
    let at_a = host(group, &a);
    let new = Arc::new(make(&at_a, place(2)).blob);
    at_a.stop();
    let at_c = host(group, &c);
    keys(&at_c, &old, place(1)).unwrap();
    let error = keys(&at_c, &new, place(2)).err().unwrap().to_string();
    assert!(error.contains("epoch 2") && error.contains("tokens import"), "{error}");
    let call = keyreeve::token::Call::MakeEnvelopeKey {
        place: place(3),
        suite: keyreeve_envelope::Suite::PrfCommit,
        residency: keyreeve::model::Residency::Wrapped,
        created_ms: 1,
    };
    let error = crate::fixture::ask(&at_c, call).err().unwrap().to_string();
    assert!(error.contains("newest epoch"), "{error}");
    at_c.stop();
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
    group.at(&b).import((&manifest, &[]), &good).unwrap();
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
    group.at(&b).import((&manifest, &[]), &good).unwrap();
    refused("once more", &good);
    // The spy does see an unwrap, once the keys are gone again.
    remove(
        group,
        &b,
        &[presets::KEK_LABEL, presets::BIND_LABEL, presets::SVC_LABEL],
    );
    group.at(&spied).import((&manifest, &[]), &good).unwrap();
    assert!(group.spied("C_UnwrapKey") >= 6);
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
            if imported.is_ok() {
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
    at_b.enrol(GROUP, Role::Member, None).unwrap_err();
    controller.clear().unwrap();
    drop(at_b);
    assert_eq!(objects(group, &b), Vec::<String>::new());
    group.enrol(&b, Role::Member);
}

fn under_quorum(group: &Group) {
    let (a, b) = (group.softhsm("a"), group.softhsm("b"));
    group.found(&[&a, &b], &[]);
    group.epoch(&[&a, &b]);
    let manifest = group.manifest();
    group.put(&manifest, &[1]);
    let error = ThreadHost::start(a.clone(), &group.directory, Arc::new(|_, _| false))
        .err()
        .unwrap();
    assert!(
        matches!(
            error,
            OpenError::Manifest(ManifestError::UnderQuorum {
                signers: 1,
                quorum: 2,
                ..
            })
        ),
        "{error}"
    );
    group.put(&manifest, &[1, 2]);
    host(group, &a).stop();
}

fn going_back(group: &Group) {
    let (a, b) = (group.softhsm("a"), group.softhsm("b"));
    let first = group.found(&[&a, &b], &[]);
    group.epoch(&[&a, &b]);
    let tombstones = group.directory.join("tombstones");
    admit_manifest(&a, &tombstones).unwrap();
    // Signed it is, and by all of them.
    group.put(&first, &[0, 1, 2]);
    let error = admit_manifest(&a, &tombstones).unwrap_err();
    assert!(
        matches!(
            error,
            OpenError::LastSeen(LastSeenError::Older { found: 1, seen: 2, .. })
        ),
        "{error}"
    );
}

fn nothing_left(group: &Group) {
    let a = group.softhsm("a");
    let manifest = group.found(&[&a], &[]);
    let before = objects(group, &a);
    let transfers = group.at(&a).make_epoch(&manifest).unwrap();
    assert_eq!(transfers.len(), 1);
    assert_eq!(objects(group, &a), before);
    let error = ThreadHost::start(a.clone(), &group.directory, Arc::new(|_, _| false))
        .err()
        .unwrap();
    assert!(error.to_string().contains("no epoch"), "{error}");
}

fn enrolled_once(group: &Group) {
    let a = group.softhsm("a");
    group.enrol(&a, Role::Member);
    let error = group.at(&a).enrol(GROUP, Role::Member, None).unwrap_err();
    assert!(error.to_string().contains("transport.v1"), "{error}");
}

fn holds(group: &Group, token: &TokenConfig, best: OaepHash) {
    let (module, session) = group.intruder(token);
    for role in [Role::Member, Role::Recovery] {
        let (hash, probes) = probe_transport(&session, role).unwrap();
        assert_eq!(hash, best);
        let holes: Vec<_> = probes.iter().filter(|probe| !probe.holds).collect();
        assert!(holes.is_empty(), "{role:?}: {holes:?}");
        assert!(probes.len() > 9);
    }
    drop(session);
    module.finalize().unwrap();
}

/// Each weakness must be found: a probe that cannot fail proves nothing.
fn weak(group: &Group, token: &TokenConfig) {
    let (module, session) = group.intruder(token);
    let holes = |private: Template, public: Template, role| {
        let (_, probes) = probe_pair(&session, role, &(public, private)).unwrap();
        probes
            .into_iter()
            .filter(|probe| !probe.holds)
            .map(|probe| probe.name)
            .collect::<Vec<_>>()
    };
    let pair = || presets::transport(Life::Session, b"weak", Recipient::Member);
    let found =
        |holes: Vec<String>, what: &str| assert!(holes.iter().any(|hole| hole.contains(what)), "{what}: {holes:?}");
    let (public, private) = presets::transport(Life::Session, b"weak", Recipient::Recovery);
    let of_recovery = holes(private, public, Role::Member);
    found(of_recovery.clone(), "unwrap with EXTRACTABLE=1");
    found(of_recovery, "unwrap with MODIFIABLE=1");
    let (public, private) = pair();
    let forces_nothing = private.unwrap_template(Template::new().flag(Attribute::DERIVE, false));
    found(holes(forces_nothing, public, Role::Recovery), "unwrap with SENSITIVE=0");
    let (public, private) = pair();
    found(
        holes(private.flag(Attribute::DECRYPT, true), public, Role::Member),
        "does not decrypt",
    );
    let (public, private) = pair();
    let modifiable = private
        .flag(Attribute::MODIFIABLE, true)
        .flag(Attribute::COPYABLE, true);
    let modifiable = holes(modifiable, public, Role::Member);
    found(modifiable.clone(), "changed to DECRYPT=1");
    found(modifiable, "copied with DECRYPT=1");
    drop(session);
    module.finalize().unwrap();
}

fn serial(group: &Group, token: &TokenConfig) -> String {
    group.at(token).serial().to_owned()
}

fn remove(group: &Group, token: &TokenConfig, labels: &[&str]) {
    let (module, session) = group.intruder(token);
    for label in labels {
        for key in session.find(&Template::new().label(label), 2).unwrap() {
            session.destroy(key).unwrap();
        }
    }
    drop(session);
    module.finalize().unwrap();
}

/// Labels of all objects of a token.
fn objects(group: &Group, token: &TokenConfig) -> Vec<String> {
    let (module, session) = group.intruder(token);
    let found = session
        .find(&Template::new().flag(Attribute::TOKEN, true), 100)
        .unwrap();
    let mut labels: Vec<_> = found
        .into_iter()
        .filter_map(|object| session.bytes(object, Attribute::LABEL).unwrap())
        .map(|label| String::from_utf8(label.to_vec()).unwrap())
        .collect();
    labels.sort();
    drop(session);
    module.finalize().unwrap();
    labels
}

/// A transfer statement signed by a token's AUDIT key, whatever it says.
fn sign(group: &Group, token: &TokenConfig, said: &Transfer) -> Signed<Transfer> {
    let (module, session) = group.intruder(token);
    let private = Template::new()
        .label(presets::AUDIT_LABEL)
        .class(keyreeve_pkcs11::ObjectClass::PrivateKey);
    let private = session.find(&private, 2).unwrap()[0];
    let line = serde_json::to_string(said).unwrap();
    let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, line.as_bytes());
    let message = [b"transfer.v1\0", hash.as_ref()].concat();
    let mut signature = [0; 64];
    session
        .sign_into(Mechanism::EDDSA, private, &message, &mut signature)
        .unwrap();
    drop(session);
    module.finalize().unwrap();
    let text = format!("{line}\ntransfer.v1 {}\n", data_encoding::HEXLOWER.encode(&signature));
    Signed::parse(text.as_bytes()).unwrap()
}

fn aes(session: &Session) -> keyreeve_pkcs11::ObjectHandle {
    let template = presets::sealed(
        keyreeve_pkcs11::KeyType::Aes,
        Life::Session,
        &[Attribute::WRAP, Attribute::UNWRAP],
    )
    .value_len(32);
    session.generate_key(Mechanism::AES_KEY_GEN, &template).unwrap()
}

//! Groups of several tokens, made by ceremonies on real tokens: what they must do, and every substitution that must fail.

use std::sync::Arc;

use keyreeve::token::{
    ThreadHost, TokenConfig,
    ceremony::{Signed, Transfer},
};
use keyreeve_pkcs11::{Attribute, Mechanism, Template, presets};

use crate::group::Group;

/// `name => body;` makes one test in a process of its own; `with kryoptic:` skips it where there is no Kryoptic.
macro_rules! ceremonies {
    ($with:expr; $($name:ident => $body:expr;)*) => {
        $(#[test] fn $name() {
            crate::group::run(&crate::support::test_name(module_path!(), stringify!($name)), $with, $body)
        })*
    };
}

mod enrolment;
mod epochs;
mod faults;
mod interrupted;
mod kept_keys;
mod manifests;
mod one_group;
mod recovery_token;
mod repeated;
mod substitutions;
mod transport_key;

fn host(group: &Group, token: &TokenConfig) -> ThreadHost {
    ThreadHost::start(token.clone(), &group.directory, Arc::new(|_, _| false)).unwrap()
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

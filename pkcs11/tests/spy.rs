//! The hot call is two PKCS#11 calls: counted by OpenSC's pkcs11-spy between this crate and SoftHSM.

#![allow(clippy::unwrap_used)] // a test stops at the first surprise

mod support;

use keyreeve_pkcs11::{Access, Mechanism, Module, Selector, Session, presets};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use support::{Kind, PIN, SOFTHSM, SPY, TestModule, pin};

const LOG: &str = "PKCS11SPY_OUTPUT";

#[test]
fn an_hmac_is_two_calls() {
    if std::env::var_os(LOG).is_some() {
        return support::run(Kind::SoftHsm, "an_hmac_is_two_calls", count_calls);
    }
    // The spy reads its own two variables; `run` in the child adds SoftHSM's.
    let log = tempfile::NamedTempFile::new().unwrap();
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "an_hmac_is_two_calls", "--nocapture"])
        .env("PKCS11SPY", SOFTHSM)
        .env(LOG, log.path())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn count_calls(_: &TestModule) {
    let module = Arc::new(Module::load(Path::new(SPY)).unwrap());
    let token = module.select(&Selector::Label("first".into())).unwrap();
    let session = Session::open(&module, token.slot, Access::ReadWrite).unwrap();
    session.login(&pin(PIN)).unwrap();
    let key = session
        .generate_key(Mechanism::GENERIC_SECRET_KEY_GEN, &presets::version_key_at_birth())
        .unwrap();
    let before = calls();
    let mut out = [0; 64];
    session.hmac_sha512_into(key, &[9; 111], &mut out).unwrap();
    let names: Vec<String> = calls().split_off(before.len());
    assert_eq!(names, ["C_SignInit", "C_Sign"]);
}

/// The names of the calls so far, from lines such as `12: C_SignInit`.
fn calls() -> Vec<String> {
    let log = std::fs::read_to_string(std::env::var_os(LOG).unwrap()).unwrap();
    log.lines()
        .filter_map(|line| {
            line.split_once(": C_")
                .filter(|(number, _)| number.parse::<u32>().is_ok())
        })
        .map(|(_, name)| format!("C_{}", name.trim()))
        .collect()
}

//! At most two PKCS#11 calls for the keys of one message, with 1 and with 2,000 objects, and for a message that the token itself seals
//! (and one for its iv) or opens: counted by OpenSC's pkcs11-spy.

use std::{path::PathBuf, process::Command, sync::Arc};

use keyreeve::{
    model::{Residency, Suite},
    token::Host,
};

use crate::{
    fixture::{initialised, keys, make, make_in, make_of, place, start},
    support::{self, Kind, SOFTHSM, SPY, TestModule},
    token_gcm::{open_all, seal_all},
};

const LOG: &str = "PKCS11SPY_OUTPUT";
const NAME: &str = "spy::message_keys_take_two_calls_with_1_and_with_2000_objects";

#[test]
fn message_keys_take_two_calls_with_1_and_with_2000_objects() {
    if std::env::var_os(LOG).is_some() {
        return support::run(Kind::SoftHsm, NAME, count_calls);
    }
    let log = tempfile::NamedTempFile::new().unwrap();
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", NAME, "--nocapture"])
        .env("PKCS11SPY", SOFTHSM)
        .env(LOG, log.path())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn count_calls(test: &TestModule) {
    // The spy writes every call to its log; keys are made before, without it, and unwrapped through it.
    let spied = TestModule {
        path: PathBuf::from(SPY),
        directory: test.directory.clone(),
        kind: test.kind,
    };
    let host = start(&spied, initialised(&spied)).unwrap();
    let first = Arc::new(make(&host, place(0)).blob);
    assert_eq!(
        calls_of(|| drop(keys(&host, &first, place(0)).unwrap())),
        ["C_SignInit", "C_Sign"]
    );
    for number in 1..2_000_u16 {
        let mut place = place(0);
        place.key = keyreeve_envelope::KeyId::from_bytes([number.to_be_bytes(); 8].concat().try_into().unwrap());
        make(&host, place);
    }
    assert_eq!(host.status().cached_handles, 2_000);
    let gcm = Arc::new(make_of(&host, place(1), Suite::TokenGcm).blob);
    let mut envelopes = Vec::new();
    assert_eq!(
        calls_of(|| envelopes = seal_all(&host, &gcm, place(1), &[b"hello"]).unwrap()),
        ["C_GenerateRandom", "C_EncryptInit", "C_Encrypt"]
    );
    let inputs = envelopes.into_iter().map(|envelope| (envelope, [9; 32])).collect();
    assert_eq!(
        calls_of(|| drop(open_all(&host, &gcm, place(1), inputs).unwrap())),
        ["C_DecryptInit", "C_Decrypt"]
    );
    assert_eq!(
        calls_of(|| drop(keys(&host, &first, place(0)).unwrap())),
        ["C_SignInit", "C_Sign"]
    );
    let resident = make_in(&host, place(2), Suite::PrfCommit, Residency::TokenResident);
    let resident = Arc::new(resident.unwrap().blob);
    assert_eq!(
        calls_of(|| drop(keys(&host, &resident, place(2)).unwrap())),
        ["C_SignInit", "C_Sign"],
        "no search for an object that was found before"
    );
    host.stop();
}

/// The calls that `work` makes.
fn calls_of(work: impl FnOnce()) -> Vec<String> {
    let before = calls().len();
    work();
    calls().split_off(before)
}

/// The names of all calls so far, from lines such as `12: C_SignInit`.
fn calls() -> Vec<String> {
    let log = std::fs::read(std::env::var_os(LOG).unwrap()).unwrap();
    String::from_utf8_lossy(&log)
        .lines()
        .filter_map(|line| {
            line.split_once(": C_")
                .filter(|(number, _)| number.parse::<u32>().is_ok())
        })
        .map(|(_, name)| format!("C_{}", name.trim()))
        .collect()
}

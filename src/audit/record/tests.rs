//! Records as they are written, and read back.

use std::sync::Arc;

use keyreeve_envelope::KeyId;

use super::*;
use crate::{
    audit::{Actor, Draft, Verdict},
    clock::Timestamp,
    store::Applied,
};

fn redact() -> RedactKey {
    RedactKey::new(&SubkeyBytes::from_hmac_output(&[7; 64]))
}

fn write(draft: &Draft, place: &Place) -> Vec<u8> {
    let mut out = Vec::new();
    let mut formatter = Formatter::new("test/audit/node-1/1", "node-1", redact());
    formatter.write(&mut out, draft, place, Timestamp::from_unix_ms(1_700_000_000_007));
    out
}

fn place() -> Place {
    Place {
        seq: 9,
        prev: [0xab; 32],
        chg: Some(Applied { seq: 4, link: [1; 32] }),
    }
}

fn full() -> Draft {
    Draft {
        time: None,
        environment: Some(Arc::from("dev")),
        request_id: Arc::from("r-1"),
        trace: Some(Arc::from("00-aa-bb-01")),
        actor: Arc::new(Actor {
            id: "spiffe://test/shop".into(),
            method: "mtls",
            certificate_sha256: "c0".into(),
        }),
        on_behalf: Some("someone \"else\"\n".into()),
        peer: Some(Arc::from("127.0.0.1:1")),
        operation: "Encrypt",
        key: Some((KeyId::from_bytes([0x11; 16]), 3)),
        object: Arc::from("envs/dev/teams/shop/keys/orders"),
        became: None,
        policy: Arc::from("p"),
        rule: Arc::from("r"),
        verdict: Verdict::Error,
        code: "TOKEN_UNAVAILABLE",
        detail: Some("CKR_DEVICE_REMOVED".into()),
        ec_keys: vec!["table".into()],
        ec: Some(b"\0\x01\0\x05table\0\x01x".to_vec()),
        items: 1,
        failed: 1,
        bytes_in: 5,
        bytes_out: 129,
        ciphertexts: vec![[0xcc; 16]],
        token: Some((Arc::from("serial"), 2)),
        latency_us: 77,
    }
}

#[test]
fn a_transition_stands_behind_the_name_and_leaves_the_code_empty() {
    let draft = Draft {
        became: Some("from=ACTIVE to=SUSPENDED reason=\"odd\" traffic".into()),
        code: "",
        detail: None,
        verdict: Verdict::Success,
        ..full()
    };
    let bytes = write(&draft, &place());
    let record = Record::parse(&bytes).unwrap();
    assert_eq!(record.name(), "envs/dev/teams/shop/keys/orders");
    assert!(
        record
            .object
            .ends_with(" from=ACTIVE to=SUSPENDED reason=\"odd\" traffic")
    );
    assert_eq!((&*record.code, record.reason(), record.detail()), ("", "", None));
}

#[test]
fn a_full_record_has_every_field_in_order_and_reads_back() {
    let bytes = write(&full(), &place());
    let text = std::str::from_utf8(&bytes).unwrap();
    let mac = data_encoding::HEXLOWER.encode(&redact().mac(b"\0\x01\0\x05table\0\x01x"));
    let expected = format!(
        concat!(
            r#"{{"v":1,"log":"test/audit/node-1/1","seq":9,"ts":"2023-11-14T22:13:20.007Z","node":"node-1","environment":"dev","#,
            r#""req":"r-1","trace":"00-aa-bb-01","actor":{{"id":"spiffe://test/shop","method":"mtls","cert_sha256":"c0"}},"#,
            r#""on_behalf":"someone \"else\"\u000a","peer":"127.0.0.1:1","op":"Encrypt","#,
            r#""key":{{"id":"11111111-1111-1111-1111-111111111111","ver":3}},"object":"envs/dev/teams/shop/keys/orders","#,
            r#""decision":{{"policy_hash":"p","rule":"r"}},"approvals":[],"result":"error","code":"TOKEN_UNAVAILABLE: CKR_DEVICE_REMOVED","#,
            r#""ec_keys":["table"],"ec_mac":"{}","items":1,"failed":1,"bytes_in":5,"bytes_out":129,"ct":["{}"],"#,
            r#""chg":{{"seq":4,"link":"{}"}},"token":{{"serial":"serial","worker":2}},"lat_us":77,"prev":"{}"}}"#
        ),
        mac,
        "cc".repeat(16),
        "01".repeat(32),
        "ab".repeat(32),
    );
    assert_eq!(text, expected);
    let record = Record::parse(&bytes).unwrap();
    assert_eq!(record.reason(), "TOKEN_UNAVAILABLE");
    assert_eq!(record.detail(), Some("CKR_DEVICE_REMOVED"));
    assert_eq!(record.change(), place().chg);
}

#[test]
fn a_bare_draft_has_nulls_and_the_mac_of_the_empty_context() {
    let bytes = write(&Draft::default(), &Place { chg: None, ..place() });
    let record = Record::parse(&bytes).unwrap();
    assert_eq!((&record.key, &record.chg, &record.token), (&None, &None, &None));
    assert_eq!(record.result, "aborted");
    assert_eq!(record.ec_mac, data_encoding::HEXLOWER.encode(&redact().mac(&[0, 0])));
}

#[test]
fn a_record_with_everything_too_long_fits_its_frame_and_says_what_was_cut() {
    let long = "\u{1}".repeat(70_000);
    let draft = Draft {
        environment: Some(Arc::from(long.as_str())),
        request_id: Arc::from(long.as_str()),
        trace: Some(Arc::from(long.as_str())),
        actor: Arc::new(Actor {
            id: long.clone(),
            method: "mtls",
            certificate_sha256: long.clone(),
        }),
        on_behalf: Some(long.clone()),
        peer: Some(Arc::from(long.as_str())),
        object: Arc::from(long.as_str()),
        policy: Arc::from(long.as_str()),
        rule: Arc::from(long.as_str()),
        detail: Some(long.clone()),
        ec_keys: vec!["\u{1}".repeat(128); 3_000],
        ciphertexts: vec![[1; 16]; 5_000],
        token: Some((Arc::from(long.as_str()), u64::MAX)),
        items: u32::MAX,
        failed: u32::MAX,
        bytes_in: u64::MAX,
        bytes_out: u64::MAX,
        latency_us: u64::MAX,
        ..full()
    };
    let mut out = Vec::new();
    let mut formatter = Formatter::new(&long, &long, redact());
    let place = Place {
        seq: u64::MAX,
        chg: Some(Applied {
            seq: u64::MAX,
            link: [1; 32],
        }),
        ..place()
    };
    formatter.write(&mut out, &draft, &place, Timestamp::from_unix_ms(0));
    assert!(out.len() <= MAX_BYTES, "{}", out.len());
    let record = Record::parse(&out).unwrap();
    assert!(record.actor.id.ends_with('…') && record.object.ends_with('…'));
    assert_eq!(record.ec_keys.last().unwrap(), "…");
    assert_eq!(record.ct.last().unwrap(), "…");
}

#[test]
fn a_thousand_ciphertexts_fit_uncut() {
    let draft = Draft {
        ciphertexts: vec![[1; 16]; 1_000],
        ..full()
    };
    let bytes = write(&draft, &place());
    assert_eq!(Record::parse(&bytes).unwrap().ct, vec!["01".repeat(16); 1_000]);
}

#[test]
fn the_time_stamp_follows_the_clock_from_second_to_second() {
    let mut formatter = Formatter::new("l", "n", redact());
    for ms in [-1, 0, 999, 1_000, 59_999, 1_700_000_000_007, 1_699_999_999_999] {
        let mut out = Vec::new();
        let time = Timestamp::from_unix_ms(ms);
        formatter.write(&mut out, &Draft::default(), &place(), time);
        assert_eq!(Record::parse(&out).unwrap().ts, time.rfc3339());
    }
}

#[test]
fn a_record_that_lacks_a_field_or_has_another_is_not_a_record() {
    let text = String::from_utf8(write(&full(), &place())).unwrap();
    for broken in [
        text.replace(r#""trace":"00-aa-bb-01","#, ""),
        text.replace(r#""trace":"#, r#""extra":1,"trace":"#),
        text.replace(r#"{"v":1"#, r#"{"v":2"#),
        format!("{text}\n{text}"),
    ] {
        Record::parse(broken.as_bytes()).unwrap_err();
    }
}

#[test]
fn the_published_leaves_come_out_byte_for_byte() {
    let vectors: serde_json::Value =
        serde_json::from_str(include_str!("../../../tests/vectors/formats-v1.json")).unwrap();
    let audit = &vectors["audit"];
    let hex = |bytes: [u8; 32]| data_encoding::HEXLOWER.encode(&bytes);
    assert_eq!(hex(leaf(br#"{"seq":0}"#)), audit["leaf"].as_str().unwrap());
    assert_eq!(hex(leaf(br#"{"seq":1}"#)), audit["leaf_second"].as_str().unwrap());
}

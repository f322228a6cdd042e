//! Logs for tests: real segment files, written by the real tail.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use keyreeve_envelope::{KeyId, subkey::SubkeyBytes};

use super::{
    Actor, Draft, RedactKey, Verdict,
    record::Formatter,
    recover::{Found, recover},
    segment::{Frame, Frames, list},
    tail::Tail,
};
use crate::{clock::Timestamp, store::Applied};

pub(super) const LOG: &str = "test/audit/node-1/1";

pub(super) fn redact() -> RedactKey {
    RedactKey::new(&SubkeyBytes::from_hmac_output(&[7; 64]))
}

/// A record of about the usual size, 600 to 700 bytes.
pub(super) fn draft(number: u64) -> Draft {
    Draft {
        environment: Some(Arc::from("dev")),
        request_id: Arc::from(format!("request-{number}")),
        actor: Arc::new(Actor {
            id: format!("spiffe://test/caller-{}", number % 3),
            method: "mtls",
            certificate_sha256: "c0".repeat(32),
        }),
        peer: Some(Arc::from("127.0.0.1:50000")),
        operation: ["Encrypt", "Decrypt"][usize::from(number % 2 == 1)],
        key: Some((KeyId::from_bytes([7; 16]), 1)),
        object: Arc::from(format!("envs/dev/teams/shop/keys/k{}", number % 5)),
        policy: Arc::from("ab".repeat(32)),
        rule: Arc::from("shop-may-encrypt"),
        verdict: Verdict::Success,
        ec_keys: vec!["table".into()],
        ec: Some(b"\0\x01\0\x05table\0\x01x".to_vec()),
        items: 1,
        bytes_in: 64,
        bytes_out: 188,
        ciphertexts: vec![[u8::try_from(number % 256).unwrap(); 16]],
        token: Some((Arc::from("0123456789abcdef"), 1)),
        latency_us: 120,
        ..Draft::default()
    }
}

pub(super) fn tail(directory: &Path, found: &Found) -> Tail {
    Tail::open(directory, 0, found, Formatter::new(LOG, "node-1", redact()), true).unwrap()
}

/// Writes `count` records behind what is there; every tenth carries a change.
pub(super) fn write(directory: &Path, count: u64) {
    let found = recover(directory, LOG).unwrap();
    let mut tail = tail(directory, &found);
    for number in found.seq..found.seq + count {
        let now = Timestamp::from_unix_ms(1_700_000_000_000 + i64::try_from(number).unwrap());
        let chg = number.is_multiple_of(10).then(|| Applied {
            seq: number + 1,
            link: [u8::try_from(number % 256).unwrap(); 32],
        });
        let (seq, record) = tail.place(&draft(number), chg, now);
        let record = record.to_vec();
        tail.append(seq, &record).unwrap();
    }
    tail.flush().unwrap();
    tail.sync().unwrap();
}

/// Segment, start and length of every frame, length bytes included.
pub(super) fn frames(directory: &Path) -> Vec<(PathBuf, usize, usize)> {
    let mut all = Vec::new();
    for segment in list(directory).unwrap() {
        let mut frames = Frames::open(&segment.path).unwrap();
        let mut record = Vec::new();
        loop {
            let start = frames.offset();
            if frames.advance(&mut record).unwrap() != Frame::Record {
                break;
            }
            all.push((segment.path.clone(), usize::try_from(start).unwrap(), 2 + record.len()));
        }
    }
    all
}

/// Changes the bytes of a file, keeping its length.
pub(super) fn edit(path: &Path, edit: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = std::fs::read(path).unwrap();
    let length = bytes.len();
    edit(&mut bytes);
    bytes.resize(length, 0);
    std::fs::write(path, bytes).unwrap();
}

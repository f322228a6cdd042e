//! The bytes of one record: one JSON object with fields in one order, stored and hashed as exactly these bytes.
//!
//! Written by hand, since every call of the service passes here; read back with serde. Format: `docs/formats.md`, "Audit record".
//! Every part has a limit in bytes, so no record exceeds [`MAX_BYTES`]; what is over its limit is cut and marked with `…` (`json`).

use std::borrow::Cow;

use aws_lc_rs::{digest, hmac};
use keyreeve_envelope::subkey::SubkeyBytes;
use serde::Deserialize;
use static_assertions::{assert_not_impl_any, const_assert};

use super::{Draft, json};
use crate::{clock::Timestamp, store::Applied};

/// Longest record: its length is a `u16` in the segment.
pub const MAX_BYTES: usize = 65_535;

/// `prev` of the first record of a log.
pub const NO_PREV: [u8; 32] = [0; 32];

// Limits in bytes after escaping. A SPIFFE ID has at most 2,048 bytes; a batch at most 1,000 items of 35 bytes.
const IDENTITY: usize = 2_048;
const LONG: usize = 1_024;
const SHORT: usize = 512;
/// A name of 215 bytes, the pairs of a transition, and a reason of 1,024 bytes, of which each may take two.
const OBJECT: usize = 2_560;
const EC_KEYS: usize = 12_000;
const CIPHERTEXTS: usize = 38_000;
const CIPHERTEXT: usize = 35;
/// Punctuation, field names, numbers, hashes.
const FIXED: usize = 1_500;
const_assert!(IDENTITY + 2 * LONG + OBJECT + 12 * SHORT + EC_KEYS + CIPHERTEXTS + FIXED <= MAX_BYTES);

/// `redact.v1`: turns an encryption context into `ec_mac`, so that equal contexts are seen and values are not.
pub struct RedactKey(hmac::Key);

assert_not_impl_any!(RedactKey: std::fmt::Debug, std::fmt::Display, Clone, PartialEq);

impl RedactKey {
    pub fn new(subkey: &SubkeyBytes) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, subkey.as_bytes()))
    }

    /// HMAC-SHA-256 of canonical encryption context.
    pub fn mac(&self, canonical: &[u8]) -> [u8; 32] {
        let tag = hmac::sign(&self.0, canonical);
        tag.as_ref().try_into().expect("HMAC-SHA-256 is 32 bytes")
    }
}

/// Where a record stands in its log.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    pub seq: u64,
    pub prev: [u8; 32],
    pub chg: Option<Applied>,
}

/// Writes the records of one log. Keeps what does not change from record to record ready.
pub(super) struct Formatter {
    /// `{"v":1,"log":"…","seq":`
    head: Vec<u8>,
    /// `","node":"…","environment":`
    node: Vec<u8>,
    redact: RedactKey,
    /// Of the empty context, for calls that have none.
    empty_mac: [u8; 32],
    /// The second that `stamp` shows.
    second: i64,
    stamp: String,
}

/// Canonical form of the empty encryption context.
const EMPTY_EC: &[u8] = &[0, 0];

impl Formatter {
    pub fn new(log: &str, node: &str, redact: RedactKey) -> Self {
        let mut head = br#"{"v":1,"log":"#.to_vec();
        json::string(&mut head, log, SHORT);
        head.extend_from_slice(br#","seq":"#);
        let mut middle = br#"","node":"#.to_vec();
        json::string(&mut middle, node, SHORT);
        middle.extend_from_slice(br#","environment":"#);
        let empty_mac = redact.mac(EMPTY_EC);
        Self {
            head,
            node: middle,
            redact,
            empty_mac,
            second: i64::MIN,
            stamp: String::new(),
        }
    }

    /// Appends the record of `draft` at `place`; `now` is its time unless the draft knows better.
    pub fn write(&mut self, out: &mut Vec<u8>, draft: &Draft, place: &Place, now: Timestamp) {
        out.extend_from_slice(&self.head);
        json::number(out, place.seq);
        out.extend_from_slice(br#","ts":""#);
        self.time(out, draft.time.unwrap_or(now));
        out.extend_from_slice(&self.node);
        json::optional(out, draft.environment.as_deref(), SHORT);
        call(out, draft);
        self.context(out, draft);
        sizes(out, draft);
        place_of(out, draft, place);
    }

    fn time(&mut self, out: &mut Vec<u8>, time: Timestamp) {
        let (second, ms) = (time.unix_ms().div_euclid(1000), time.unix_ms().rem_euclid(1000));
        if second != self.second {
            self.stamp = time.rfc3339();
            self.stamp.truncate(self.stamp.rfind('.').unwrap_or(self.stamp.len()));
            self.second = second;
        }
        out.extend_from_slice(self.stamp.as_bytes());
        let digit = |divisor: i64| b'0' + u8::try_from(ms / divisor % 10).unwrap_or(0);
        out.extend_from_slice(&[b'.', digit(100), digit(10), digit(1), b'Z']);
    }

    fn context(&self, out: &mut Vec<u8>, draft: &Draft) {
        out.extend_from_slice(br#","ec_keys":"#);
        json::strings(out, &draft.ec_keys, EC_KEYS);
        out.extend_from_slice(br#","ec_mac":""#);
        match draft.ec.as_deref() {
            None | Some(EMPTY_EC) => json::hex(out, &self.empty_mac),
            Some(canonical) => json::hex(out, &self.redact.mac(canonical)),
        }
        out.push(b'"');
    }
}

/// `SHA-256(00 || record)`: the record's leaf in the tree, and `prev` of the next.
pub fn leaf(record: &[u8]) -> [u8; 32] {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(&[0]);
    context.update(record);
    context.finish().as_ref().try_into().expect("SHA-256 is 32 bytes")
}

fn call(out: &mut Vec<u8>, draft: &Draft) {
    field(out, r#","req":"#, &draft.request_id, SHORT);
    out.extend_from_slice(br#","trace":"#);
    json::optional(out, draft.trace.as_deref(), SHORT);
    field(out, r#","actor":{"id":"#, &draft.actor.id, IDENTITY);
    field(out, r#","method":"#, draft.actor.method, SHORT);
    field(out, r#","cert_sha256":"#, &draft.actor.certificate_sha256, SHORT);
    out.extend_from_slice(br#"},"on_behalf":"#);
    json::optional(out, draft.on_behalf.as_deref(), LONG);
    out.extend_from_slice(br#","peer":"#);
    json::optional(out, draft.peer.as_deref(), SHORT);
    field(out, r#","op":"#, draft.operation, SHORT);
    match &draft.key {
        Some((id, version)) => {
            out.extend_from_slice(br#","key":{"id":""#);
            uuid(out, id.as_bytes());
            out.extend_from_slice(br#"","ver":"#);
            json::number(out, u64::from(*version));
            out.push(b'}');
        }
        None => out.extend_from_slice(br#","key":null"#),
    }
    match &draft.became {
        Some(became) => field(out, r#","object":"#, &format!("{} {became}", draft.object), OBJECT),
        None => field(out, r#","object":"#, &draft.object, OBJECT),
    }
    field(out, r#","decision":{"policy_hash":"#, &draft.policy, SHORT);
    field(out, r#","rule":"#, &draft.rule, SHORT);
    field(out, r#"},"approvals":[],"result":"#, draft.verdict.as_str(), SHORT);
    match &draft.detail {
        Some(detail) => field(out, r#","code":"#, &format!("{}: {detail}", draft.code), LONG),
        None => field(out, r#","code":"#, draft.code, LONG),
    }
}

fn sizes(out: &mut Vec<u8>, draft: &Draft) {
    for (name, value) in [
        (r#","items":"#, u64::from(draft.items)),
        (r#","failed":"#, u64::from(draft.failed)),
        (r#","bytes_in":"#, draft.bytes_in),
        (r#","bytes_out":"#, draft.bytes_out),
    ] {
        out.extend_from_slice(name.as_bytes());
        json::number(out, value);
    }
    out.extend_from_slice(br#","ct":["#);
    let fits = CIPHERTEXTS / CIPHERTEXT;
    let cut = draft.ciphertexts.len() > fits;
    let shown = if cut { fits - 1 } else { draft.ciphertexts.len() };
    for (index, ciphertext) in draft.ciphertexts[..shown].iter().enumerate() {
        out.extend_from_slice(if index == 0 { b"\"" } else { b",\"" });
        json::hex(out, ciphertext);
        out.push(b'"');
    }
    if cut {
        out.push(b',');
        json::string(out, json::CUT, SHORT);
    }
    out.push(b']');
}

fn place_of(out: &mut Vec<u8>, draft: &Draft, place: &Place) {
    match &place.chg {
        Some(chg) => {
            out.extend_from_slice(br#","chg":{"seq":"#);
            json::number(out, chg.seq);
            out.extend_from_slice(br#","link":""#);
            json::hex(out, &chg.link);
            out.extend_from_slice(br#""}"#);
        }
        None => out.extend_from_slice(br#","chg":null"#),
    }
    match &draft.token {
        Some((serial, worker)) => {
            field(out, r#","token":{"serial":"#, serial, SHORT);
            out.extend_from_slice(br#","worker":"#);
            json::number(out, *worker);
            out.push(b'}');
        }
        None => out.extend_from_slice(br#","token":null"#),
    }
    out.extend_from_slice(br#","lat_us":"#);
    json::number(out, draft.latency_us);
    out.extend_from_slice(br#","prev":""#);
    json::hex(out, &place.prev);
    out.extend_from_slice(br#""}"#);
}

fn field(out: &mut Vec<u8>, name: &str, text: &str, budget: usize) {
    out.extend_from_slice(name.as_bytes());
    json::string(out, text, budget);
}

/// RFC 9562 text, as ids print everywhere.
fn uuid(out: &mut Vec<u8>, bytes: &[u8; 16]) {
    for (index, range) in [0..4, 4..6, 6..8, 8..10, 10..16].into_iter().enumerate() {
        if index > 0 {
            out.push(b'-');
        }
        json::hex(out, &bytes[range]);
    }
}

/// A record read back. Every field must be there, and no other.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record<'a> {
    pub v: u8,
    #[serde(borrow)]
    pub log: Cow<'a, str>,
    pub seq: u64,
    #[serde(borrow)]
    pub ts: Cow<'a, str>,
    #[serde(borrow)]
    pub node: Cow<'a, str>,
    #[serde(deserialize_with = "Option::deserialize")]
    pub environment: Option<String>,
    #[serde(borrow)]
    pub req: Cow<'a, str>,
    #[serde(deserialize_with = "Option::deserialize")]
    pub trace: Option<String>,
    #[serde(borrow)]
    pub actor: RecordActor<'a>,
    #[serde(deserialize_with = "Option::deserialize")]
    pub on_behalf: Option<String>,
    #[serde(deserialize_with = "Option::deserialize")]
    pub peer: Option<String>,
    #[serde(borrow)]
    pub op: Cow<'a, str>,
    #[serde(borrow, deserialize_with = "Option::deserialize")]
    pub key: Option<RecordKey<'a>>,
    #[serde(borrow)]
    pub object: Cow<'a, str>,
    #[serde(borrow)]
    pub decision: RecordDecision<'a>,
    pub approvals: Vec<String>,
    #[serde(borrow)]
    pub result: Cow<'a, str>,
    #[serde(borrow)]
    pub code: Cow<'a, str>,
    pub ec_keys: Vec<String>,
    #[serde(borrow)]
    pub ec_mac: Cow<'a, str>,
    pub items: u32,
    pub failed: u32,
    pub bytes_in: u64,
    pub bytes_out: u64,
    pub ct: Vec<String>,
    #[serde(borrow, deserialize_with = "Option::deserialize")]
    pub chg: Option<RecordChange<'a>>,
    #[serde(borrow, deserialize_with = "Option::deserialize")]
    pub token: Option<RecordToken<'a>>,
    pub lat_us: u64,
    #[serde(borrow)]
    pub prev: Cow<'a, str>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecordActor<'a> {
    #[serde(borrow)]
    pub id: Cow<'a, str>,
    #[serde(borrow)]
    pub method: Cow<'a, str>,
    #[serde(borrow)]
    pub cert_sha256: Cow<'a, str>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecordKey<'a> {
    #[serde(borrow)]
    pub id: Cow<'a, str>,
    pub ver: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecordDecision<'a> {
    #[serde(borrow)]
    pub policy_hash: Cow<'a, str>,
    #[serde(borrow)]
    pub rule: Cow<'a, str>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecordChange<'a> {
    pub seq: u64,
    #[serde(borrow)]
    pub link: Cow<'a, str>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecordToken<'a> {
    #[serde(borrow)]
    pub serial: Cow<'a, str>,
    pub worker: u64,
}

impl<'a> Record<'a> {
    /// Errors: what is not one JSON object with exactly the fields of version 1.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, RecordError> {
        let record: Self = serde_json::from_slice(bytes).map_err(|error| RecordError(error.to_string()))?;
        if record.v != 1 {
            return Err(RecordError(format!("unknown version {}", record.v)));
        }
        Ok(record)
    }

    /// The name in `object`, without what became of it.
    pub fn name(&self) -> &str {
        self.object.split_once(' ').map_or(&self.object, |(name, _)| name)
    }

    /// The part of `code` that programs compare; empty on success.
    pub fn reason(&self) -> &str {
        self.code.split_once(": ").map_or(&self.code, |(reason, _)| reason)
    }

    /// The part of `code` that only the log knows.
    pub fn detail(&self) -> Option<&str> {
        self.code.split_once(": ").map(|(_, detail)| detail)
    }

    /// Where the store's chain of changes stood, if this record says so and says it well.
    pub fn change(&self) -> Option<Applied> {
        let chg = self.chg.as_ref()?;
        let link = data_encoding::HEXLOWER.decode(chg.link.as_bytes()).ok()?;
        Some(Applied {
            seq: chg.seq,
            link: link.try_into().ok()?,
        })
    }
}

/// Bytes that are not a record.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a record of version 1: {0}")]
pub struct RecordError(String);

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use keyreeve_envelope::KeyId;

    use super::*;
    use crate::audit::{Actor, Verdict};

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
            serde_json::from_str(include_str!("../../tests/vectors/formats-v1.json")).unwrap();
        let audit = &vectors["audit"];
        let hex = |bytes: [u8; 32]| data_encoding::HEXLOWER.encode(&bytes);
        assert_eq!(hex(leaf(br#"{"seq":0}"#)), audit["leaf"].as_str().unwrap());
        assert_eq!(hex(leaf(br#"{"seq":1}"#)), audit["leaf_second"].as_str().unwrap());
    }
}

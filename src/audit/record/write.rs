//! Writes a record, by hand: every call of the service passes here.

use static_assertions::const_assert;

use super::{MAX_BYTES, RedactKey};
use crate::{
    audit::{Draft, json},
    clock::Timestamp,
    store::Applied,
};

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

/// Where a record stands in its log.
#[derive(Debug, Clone, Copy)]
pub(in crate::audit) struct Place {
    pub seq: u64,
    pub prev: [u8; 32],
    pub chg: Option<Applied>,
}

/// Writes the records of one log. Keeps what does not change from record to record ready.
pub(in crate::audit) struct Formatter {
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

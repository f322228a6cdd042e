//! What a call leaves in the log, before the writer gives it its place.

use std::sync::Arc;

use keyreeve_envelope::KeyId;

use crate::clock::Timestamp;

/// The fields of one record that are known without its place in the log. One record per (call, key).
///
/// Resource ids are recorded, plaintext, keys and credentials never; encryption-context values only as `ec_mac`, hence no `Debug`.
#[derive(Clone)]
pub struct Draft {
    pub time: Option<Timestamp>,
    /// Name of the environment, in full.
    pub environment: Option<Arc<str>>,
    pub request_id: Arc<str>,
    pub trace: Option<Arc<str>>,
    pub actor: Arc<Actor>,
    pub on_behalf: Option<String>,
    pub peer: Option<Arc<str>>,
    /// Name of the action.
    pub operation: &'static str,
    pub key: Option<(KeyId, u32)>,
    /// Resource name.
    pub object: Arc<str>,
    /// What became of it, as `name=value` pairs; stands behind the name in the record's `object`.
    pub became: Option<String>,
    /// SHA-256 of the policy set, hex, and the rule that decided.
    pub policy: Arc<str>,
    pub rule: Arc<str>,
    pub verdict: Verdict,
    /// Reason of the error, as `ErrorInfo.reason`; empty on success.
    pub code: &'static str,
    /// What only the log may know of a fault; stands behind the reason in the record's `code`.
    pub detail: Option<String>,
    pub ec_keys: Vec<String>,
    /// Canonical encryption context, for `ec_mac`; `None` if the call has none. A batch: its distinct contexts, one after the other.
    pub ec: Option<Vec<u8>>,
    pub items: u32,
    pub failed: u32,
    pub bytes_in: u64,
    pub bytes_out: u64,
    /// First 16 bytes of each envelope's commitment: links an Encrypt to later Decrypts.
    pub ciphertexts: Vec<[u8; 16]>,
    /// Serial of the token that worked, and its worker's epoch.
    pub token: Option<(Arc<str>, u64)>,
    pub latency_us: u64,
}

static_assertions::assert_not_impl_any!(Draft: std::fmt::Debug, std::fmt::Display);

impl Draft {
    /// Nothing yet but who called. Unlike `default`, it makes no actor of its own to throw away.
    pub fn by(actor: Arc<Actor>) -> Self {
        Self {
            actor,
            time: None,
            environment: None,
            request_id: Arc::default(),
            trace: None,
            on_behalf: None,
            peer: None,
            operation: "",
            key: None,
            object: Arc::default(),
            became: None,
            policy: Arc::default(),
            rule: Arc::default(),
            verdict: Verdict::default(),
            code: "",
            detail: None,
            ec_keys: Vec::new(),
            ec: None,
            items: 0,
            failed: 0,
            bytes_in: 0,
            bytes_out: 0,
            ciphertexts: Vec::new(),
            token: None,
            latency_us: 0,
        }
    }
}

impl Default for Draft {
    fn default() -> Self {
        Self::by(Arc::default())
    }
}

/// Who called, as the record shows it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Actor {
    /// SPIFFE ID, or the name of a job.
    pub id: String,
    /// How it proved itself: `mtls`, `job`.
    pub method: &'static str,
    /// SHA-256 of the client certificate (DER), hex; empty for jobs.
    pub certificate_sha256: String,
}

/// How a call ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Verdict {
    /// Dropped midway: cancelled, panicked, or an error path that completed nothing.
    #[default]
    Aborted,
    Success,
    /// Decided against: policy, or a compare-and-set that lost.
    Refused,
    Error,
}

impl Verdict {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Aborted => "aborted",
            Self::Success => "success",
            Self::Refused => "refused",
            Self::Error => "error",
        }
    }
}

/// A result that says of itself what belongs in its record.
pub trait Outcome {
    fn describe(&self, draft: &mut Draft);

    /// Records beside that one, in the same commit: a change of several states has one for each. `first`: as described.
    fn further(&self, first: &Draft) -> Vec<Draft> {
        let _ = first;
        Vec::new()
    }
}

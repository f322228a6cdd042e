//! The seam between the service and whatever hosts the PKCS#11 module: typed calls in, typed answers out.
//!
//! A worker process will speak the same calls over its socket; so nothing here names a handle, a session or a permit.

use std::{sync::Arc, time::Instant};

use keyreeve_envelope::{
    EnvironmentId, KeyId, KeyVersion, Plaintext, Suite, prf_commit::MessageKeys, subkey::SubkeyBytes,
};
use tokio::sync::oneshot;
use zeroize::Zeroizing;

use super::{BreakerState, KeyUses, Lane, TokenError};
use crate::model::{Blob, IvSource, Residency, TokenAttributes};

/// What a message key is derived from (suite 0002): the 32-byte header, the salt, SHA-256 of the canonical encryption context.
#[derive(Clone, Copy)]
pub struct EnvelopeInput {
    pub header: [u8; 32],
    pub salt: [u8; 32],
    pub ec_hash: [u8; 32],
}

/// What is sealed in the token (suite 0001). The header follows from it and the [`Place`]; iv and associated data are made inside.
pub struct SealInput {
    pub data_key: bool,
    pub ec_hash: [u8; 32],
    pub plaintext: Plaintext,
}

/// What is opened in the token (suite 0001): a whole envelope, and SHA-256 of the canonical encryption context.
pub struct OpenInput {
    pub envelope: Vec<u8>,
    pub ec_hash: [u8; 32],
}

/// What a wrapped key must be for, by its verified tag: a blob of another key, version or environment is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    pub environment: EnvironmentId,
    pub key: KeyId,
    pub version: KeyVersion,
}

/// One typed call, which may be made twice. Bytes of a caller's choice are worked with a key by `Seal` alone, which makes header,
/// associated data and iv itself.
#[derive(Clone)]
pub enum Call {
    /// Message keys of one version, one for each input, in order.
    EnvelopeKeys {
        blob: Arc<Blob>,
        place: Place,
        inputs: Vec<EnvelopeInput>,
    },
    /// Envelopes of suite 0001 under one version, one for each input, in order.
    Seal {
        blob: Arc<Blob>,
        place: Place,
        inputs: Arc<[SealInput]>,
    },
    /// Envelopes of suite 0001 opened with one version, in order.
    Open {
        blob: Arc<Blob>,
        place: Place,
        inputs: Arc<[OpenInput]>,
    },
    /// A new version key of the type that `suite` wants: wrapped under the newest KEK, or an object of the token; checked in use.
    MakeEnvelopeKey {
        place: Place,
        suite: Suite,
        residency: Residency,
        created_ms: u64,
    },
    /// What the token reports of the unwrapped version now; recomputes its KCV.
    Attributes { blob: Arc<Blob>, place: Place },
    /// Whether the token unwraps this version to the key it was: its KCV is recomputed. Leaves the handle cache as it is.
    Check { blob: Arc<Blob>, place: Place },
    /// What the token reports of the KEK.
    MasterKeyAttributes,
    /// Random bytes of the token, at most 4,096.
    Random { length: usize },
    /// First 32 bytes of the SVC key's answer for a service subkey.
    Subkey(SubkeyLabel),
    /// Remove the object of a destroyed version from the token; done, if there is none.
    Remove { blob: Arc<Blob> },
    /// Forget the unwrapped handle of this blob (SHA-256): its state changed.
    Evict { blob: [u8; 32] },
    /// Known answer of CANARY: is this the token, and does it work?
    Probe,
}

/// Which service subkey (`docs/formats.md`, "Service subkeys").
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SubkeyLabel {
    Row,
    Cred,
    Page,
    Hedge,
    Redact { log_origin: Arc<str> },
}

/// The answer to the call of the same name.
pub enum Answer {
    EnvelopeKeys(Vec<MessageKeys>),
    /// Whole envelopes.
    Sealed(Vec<Vec<u8>>),
    /// `None`: that one does not open, whatever is wrong with it.
    Opened(Vec<Option<Plaintext>>),
    MadeEnvelopeKey(Box<MadeKey>),
    /// The token holds an object of this key and version already: nothing was made.
    Occupied,
    Attributes(TokenAttributes),
    Random(Zeroizing<Vec<u8>>),
    Subkey(SubkeyBytes),
    Done,
}

static_assertions::assert_not_impl_any!(Answer: std::fmt::Debug, Clone, PartialEq);

/// A version key as it was made.
pub struct MadeKey {
    pub blob: Blob,
    pub at_birth: TokenAttributes,
    /// Suite 0001: how this token makes ivs.
    pub iv_source: Option<IvSource>,
}

/// A call with what the queue must know.
pub struct Job {
    pub call: Call,
    pub lane: Lane,
    pub deadline: Instant,
    pub reply: oneshot::Sender<Result<Answer, TokenError>>,
}

/// Which token answers, and how it does.
#[derive(Debug, Clone)]
pub struct HostStatus {
    pub serial: Arc<str>,
    pub model: String,
    pub software_token: bool,
    /// Why it does not serve, and the next step; `None` while it serves.
    pub fault: Option<Arc<str>>,
    pub breaker: BreakerState,
    pub worker_epoch: u64,
    pub session_threads: usize,
    pub cached_handles: u64,
}

impl HostStatus {
    /// Of a token without a host. `name`: its serial number if it was seen before, else how the configuration chooses it.
    pub(super) fn absent(name: Arc<str>, why: Arc<str>) -> Self {
        Self {
            serial: name,
            model: String::new(),
            software_token: false,
            fault: Some(why),
            breaker: BreakerState::Open,
            worker_epoch: 0,
            session_threads: 0,
            cached_handles: 0,
        }
    }

    /// Calls are answered. Those that come while no worker is ready wait, as long as their deadline lets them.
    pub fn is_serving(&self) -> bool {
        self.fault.is_none() && self.breaker == BreakerState::Closed
    }
}

/// Hosts one token's module.
pub trait Host: Send + Sync + 'static {
    /// Queues the job, or answers it at once with an error; never blocks.
    fn submit(&self, job: Job);

    fn status(&self) -> HostStatus;

    /// Whether a call would be worked now. Cheap: asked before each call where there are several tokens.
    fn serves(&self) -> bool;

    /// Uses of each key since the last time. Of a worker that was killed, the last fraction of a second is missing.
    fn take_uses(&self) -> KeyUses;

    /// Names the run of the module that answers now; in records.
    fn worker_epoch(&self) -> u64;

    /// Latches the token (E13) for a wrong answer that only its user could notice; the first word stands.
    fn distrust(&self, why: &str) -> TokenError;

    /// Stops taking work, finishes what is queued, joins every thread, finalises the module.
    fn stop(&self);
}

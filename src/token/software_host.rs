//! The token in software, for the unit tests of what stands above the token: counts its calls, and can be told to fail.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use keyreeve_envelope::{Plaintext, prf_commit::MessageKeys};
use zeroize::Zeroizing;

use super::{
    Answer, BreakerState, Call, Host, Job, TokenError,
    host::{HostStatus, Place},
    software_token::{self, RootKeys, SoftwareToken},
};
use crate::{
    clock::{ManualClock, Timestamp},
    model::{Blob, KeyId, KeyVersion, TokenAttributes, cka_id},
};

const NOW: i64 = 1_700_000_000_000;

/// The root keys are those of the blob vectors.
pub(crate) struct SoftwareHost {
    serial: Arc<str>,
    token: SoftwareToken,
    calls: Mutex<HashMap<&'static str, u64>>,
    evicted: Mutex<Vec<[u8; 32]>>,
    envelope_inputs: AtomicU64,
    fault: Mutex<Option<TokenError>>,
    flip_answers: AtomicBool,
    latched: Mutex<Option<Arc<str>>>,
}

impl SoftwareHost {
    pub(crate) fn new() -> Arc<Self> {
        Self::named("software-1")
    }

    pub(crate) fn named(serial: &str) -> Arc<Self> {
        let root = RootKeys {
            kek: Zeroizing::new([0x4b; 32]),
            bind: Zeroizing::new([0xb1; 32]),
            service: Zeroizing::new([0x5c; 64]),
        };
        let clock = Arc::new(ManualClock::at(Timestamp::from_unix_ms(NOW)));
        Arc::new(Self {
            serial: serial.into(),
            token: SoftwareToken::new(root, clock),
            calls: Mutex::default(),
            evicted: Mutex::default(),
            envelope_inputs: AtomicU64::new(0),
            fault: Mutex::new(None),
            flip_answers: AtomicBool::new(false),
            latched: Mutex::default(),
        })
    }

    /// Fails every call with `fault`, or none.
    pub(crate) fn fail_with(&self, fault: Option<TokenError>) {
        *self.fault.lock().unwrap() = fault;
    }

    /// Makes every second answer for an envelope wrong in one bit, as a broken token would.
    pub(crate) fn flip_answers(&self) {
        self.flip_answers.store(true, Ordering::SeqCst);
    }

    pub(crate) fn calls(&self, name: &str) -> u64 {
        self.calls.lock().unwrap().get(name).copied().unwrap_or(0)
    }

    pub(crate) fn evicted(&self) -> Vec<[u8; 32]> {
        self.evicted.lock().unwrap().clone()
    }

    /// Objects of the token that stay.
    pub(crate) fn objects(&self) -> usize {
        self.token.objects().len()
    }

    /// Puts an object there that no row names.
    pub(crate) fn occupy(&self, key: KeyId, number: KeyVersion) {
        self.token.objects().insert(cka_id(key, number), Zeroizing::default());
    }

    /// Wraps `secret` as the version at `place`: 64 bytes of type 1, 32 of type 2.
    pub(crate) fn wrap(&self, place: Place, secret: &[u8]) -> Blob {
        self.token.wrap(place, secret).unwrap()
    }

    fn work(&self, call: Call) -> Result<Answer, TokenError> {
        *self.calls.lock().unwrap().entry(name_of(&call)).or_default() += 1;
        if let Some(fault) = self.fault.lock().unwrap().clone() {
            return Err(fault);
        }
        if let Call::Evict { blob } = &call {
            self.evicted.lock().unwrap().push(*blob);
        }
        Ok(match self.token.work(call)? {
            Answer::EnvelopeKeys(keys) => {
                Answer::EnvelopeKeys(keys.into_iter().map(|keys| self.perhaps_wrong(keys)).collect())
            }
            Answer::Opened(opened) => {
                let opened = opened.into_iter().map(|opened| self.perhaps_flipped(opened));
                Answer::Opened(opened.collect())
            }
            answer => answer,
        })
    }

    fn perhaps_wrong(&self, keys: MessageKeys) -> MessageKeys {
        let mut output = *keys.prf_output();
        if self.flips() {
            output[0] ^= 1;
        }
        MessageKeys::from_prf_output(&output)
    }

    fn perhaps_flipped(&self, opened: Option<Plaintext>) -> Option<Plaintext> {
        let flips = self.flips();
        let mut bytes = opened?.as_bytes().to_vec();
        if let (true, Some(byte)) = (flips, bytes.first_mut()) {
            *byte ^= 1;
        }
        Some(Plaintext::new(bytes))
    }

    /// Whether the next answer is to be wrong.
    fn flips(&self) -> bool {
        let count = self.envelope_inputs.fetch_add(1, Ordering::SeqCst);
        self.flip_answers.load(Ordering::SeqCst) && count % 2 == 1
    }
}

impl Host for SoftwareHost {
    fn submit(&self, job: Job) {
        let _ = job.reply.send(self.work(job.call));
    }

    fn status(&self) -> HostStatus {
        HostStatus {
            serial: Arc::clone(&self.serial),
            model: "test double".to_owned(),
            software_token: true,
            fault: self.latched.lock().unwrap().clone(),
            breaker: BreakerState::Closed,
            worker_epoch: 1,
            session_threads: 1,
            cached_handles: 0,
        }
    }

    fn serves(&self) -> bool {
        self.latched.lock().unwrap().is_none()
    }

    fn take_uses(&self) -> crate::token::KeyUses {
        crate::token::KeyUses::default()
    }

    fn worker_epoch(&self) -> u64 {
        1
    }

    fn distrust(&self, why: &str) -> TokenError {
        let why: Arc<str> = why.into();
        self.latched.lock().unwrap().get_or_insert_with(|| why.clone());
        TokenError::WrongAnswer(why)
    }

    fn stop(&self) {}
}

/// As a token reports a wrapped version key when it is made, before it is wrapped.
pub(crate) fn at_birth() -> TokenAttributes {
    software_token::at_birth(NOW)
}

fn name_of(call: &Call) -> &'static str {
    match call {
        Call::EnvelopeKeys { .. } => "EnvelopeKeys",
        Call::Seal { .. } => "Seal",
        Call::Open { .. } => "Open",
        Call::MakeEnvelopeKey { .. } => "MakeEnvelopeKey",
        Call::Attributes { .. } => "Attributes",
        Call::Check { .. } => "Check",
        Call::MasterKeyAttributes => "MasterKeyAttributes",
        Call::Random { .. } => "Random",
        Call::Subkey(_) => "Subkey",
        Call::Remove { .. } => "Remove",
        Call::Evict { .. } => "Evict",
        Call::Probe => "Probe",
        #[allow(unreachable_patterns, reason = "as in `work`")]
        _ => "other",
    }
}

//! One session, one thread: takes work from the queue, calls the token, answers.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use keyreeve_envelope::{
    blob::KeyType,
    prf_commit::{MessageKeys, kdf_input},
};
use keyreeve_pkcs11::{CallError, Function, ReturnCode, Session};
use zeroize::Zeroizing;

use super::{
    TokenError,
    handles::{self, UnwrappedKey},
    host::{Answer, Call, EnvelopeInput, Place},
    meters::{CacheMeters, SessionMeters},
    queue::Waiting as _,
    recovery::Fault,
    thread_host::Shared,
    work::Work,
};
use crate::model::{Blob, Residency};

/// Random bytes that one call may ask for.
const MAX_RANDOM: usize = 4_096;
/// Expected queue depth is read this often, not with each job.
const DEPTH_EVERY: u32 = 64;

pub(super) struct SessionThread {
    pub shared: Arc<Shared>,
    /// `None` after a failed call, until there is room for another one.
    pub session: Option<Session>,
    pub cache: CacheMeters,
    /// Of the call under way.
    deadline: Instant,
    meters: SessionMeters,
    index: usize,
    served: u32,
}

impl SessionThread {
    pub fn new(shared: Arc<Shared>, session: Session, index: usize) -> Self {
        Self {
            cache: shared.meters.cache(),
            meters: shared.meters.session(index.to_string()),
            shared,
            session: Some(session),
            deadline: Instant::now(),
            index,
            served: 0,
        }
    }

    pub fn run(mut self) {
        while let Some(work) = self.shared.queue.next() {
            self.serve(work);
        }
    }

    fn serve(&mut self, work: Work) {
        let began = Instant::now();
        if work.is_abandoned() {
            return;
        }
        if self.shared.queue.is_too_late(&work, work.deadline(), began) {
            self.shared.meters.expired.increment(1);
            return work.answer_error(TokenError::Expired);
        }
        if let Some(fault) = self.shared.fault_text() {
            return work.answer_error(TokenError::Unavailable(fault));
        }
        self.meters.queue_wait.record((began - work.queued()).as_secs_f64());
        let (kind, items) = (work.kind(), work.items());
        match work {
            Work::Whole(job, _) => {
                let answer = self.call(&job.call, job.deadline);
                let _ = job.reply.send(answer);
            }
            Work::Part { batch, index } => {
                match self
                    .until(batch.deadline)
                    .envelope_keys(&batch.blob, batch.place, batch.inputs_of(index))
                {
                    Ok(keys) => batch.finish_part(index, keys),
                    Err(error) => batch.fail(error),
                }
            }
        }
        let took = began.elapsed();
        self.meters.token_time.record(took.as_secs_f64());
        self.shared.queue.costs.learn(kind, items, took, began + took);
        self.served = self.served.wrapping_add(1);
        if self.served % DEPTH_EVERY == 1 {
            self.shared.meters.queue_depth.set(self.shared.queue.items() as f64);
        }
    }

    /// Does one call, and tries again after a fault that can be cured while there is time. Errors: `Expired`, if there is none.
    pub fn call(&mut self, call: &Call, deadline: Instant) -> Result<Answer, TokenError> {
        self.until(deadline);
        match call {
            Call::EnvelopeKeys { blob, place, inputs } => {
                self.envelope_keys(blob, *place, inputs).map(Answer::EnvelopeKeys)
            }
            Call::Seal { blob, place, inputs } => self.seal(blob, *place, inputs).map(Answer::Sealed),
            Call::Open { blob, place, inputs } => self.open(blob, *place, inputs).map(Answer::Opened),
            Call::MakeEnvelopeKey {
                place,
                suite,
                residency: Residency::TokenResident,
                ..
            } => self
                .recovering(|thread| thread.make_resident(*place, *suite))
                .map(|made| made.map_or(Answer::Occupied, |made| Answer::MadeEnvelopeKey(Box::new(made)))),
            Call::MakeEnvelopeKey {
                place,
                suite,
                created_ms,
                ..
            } => self
                .recovering(|thread| thread.make(*place, *suite, *created_ms))
                .map(|made| Answer::MadeEnvelopeKey(Box::new(made))),
            Call::Attributes { blob, place } => self
                .recovering(|thread| thread.attributes(blob, *place))
                .map(Answer::Attributes),
            Call::Check { blob, place } => self
                .recovering(|thread| thread.check(blob, *place))
                .map(|()| Answer::Done),
            Call::MasterKeyAttributes => self
                .recovering(|thread| {
                    let kek = thread.shared.roots().newest_held().kek;
                    Ok(thread.read_attributes(kek)?)
                })
                .map(Answer::Attributes),
            Call::Random { length } => self.random(*length).map(Answer::Random),
            Call::Subkey(label) => self.recovering(|thread| thread.subkey(label)).map(Answer::Subkey),
            Call::Remove { blob } => self.recovering(|thread| thread.remove(blob)).map(|()| Answer::Done),
            Call::Evict { blob } => {
                if self.session.is_none() {
                    // Without one the handle is forgotten, and stays in the token until the keeper closes.
                    let _ = self.reopen();
                }
                if let Some(key) = self.shared.handles.remove(blob) {
                    self.let_go(key);
                }
                Ok(Answer::Done)
            }
            Call::Probe => self.recovering(SessionThread::ask_canary).map(|()| Answer::Done),
        }
    }

    fn until(&mut self, deadline: Instant) -> &mut Self {
        self.deadline = deadline;
        self
    }

    /// Whether nobody waits for the call under way any more.
    pub fn is_late(&self) -> bool {
        self.deadline <= Instant::now()
    }

    /// The hot path: two PKCS#11 calls for each input, once the key is in the cache.
    fn envelope_keys(
        &mut self,
        blob: &Blob,
        place: Place,
        inputs: &[EnvelopeInput],
    ) -> Result<Vec<MessageKeys>, TokenError> {
        self.recovering(|thread| {
            let key = thread.unwrapped_as(KeyType::EnvelopePrf, blob, place)?;
            let keys = inputs.iter().map(|input| thread.message_keys(&key, input)).collect();
            thread.let_go(key);
            keys
        })
    }

    fn message_keys(&self, key: &UnwrappedKey, input: &EnvelopeInput) -> Result<MessageKeys, Fault> {
        // The header says which key and version it belongs to: no other key may work it.
        if input.header[8..24] != *key.place.key.as_bytes()
            || input.header[24..28] != key.place.version.number().to_be_bytes()
        {
            return Err(Fault::Answer(TokenError::Refused(
                "an envelope header of another key or version".into(),
            )));
        }
        let [.., a, b, c, d] = input.header;
        let body_length = u32::from_be_bytes([a, b, c, d]);
        self.charge(key, usize::try_from(body_length).unwrap_or(usize::MAX))?;
        let message = kdf_input(&input.header, &input.salt, &input.ec_hash);
        let keys =
            self.timed(|session| MessageKeys::fill_with(|out| session.hmac_sha512_into(key.handle, &message, out)))?;
        Ok(keys)
    }

    /// Counts a use of `key` for so many bytes. Errors: `KeyCeiling`.
    pub fn charge(&self, key: &UnwrappedKey, bytes: usize) -> Result<(), Fault> {
        let charged = self.shared.usage.charge(&key.meter, bytes as u64);
        charged.map_err(Fault::Answer)
    }

    fn random(&mut self, length: usize) -> Result<Zeroizing<Vec<u8>>, TokenError> {
        if length > MAX_RANDOM {
            return Err(TokenError::Refused("more random bytes than one call gives".into()));
        }
        self.recovering(|thread| {
            let mut bytes = Zeroizing::new(vec![0; length]);
            thread.timed(|session| session.random_into(&mut bytes))?;
            Ok(bytes)
        })
    }

    /// Runs a call on this thread's session. Without one, the error of a session that is gone.
    pub fn timed<T>(&self, call: impl FnOnce(&Session) -> Result<T, CallError>) -> Result<T, CallError> {
        let session = self.session()?;
        self.watched(|| call(session))
    }

    pub fn session(&self) -> Result<&Session, CallError> {
        self.session.as_ref().ok_or(CallError {
            function: Function::C_OpenSession,
            code: ReturnCode::SESSION_HANDLE_INVALID,
        })
    }

    /// Runs a call into the module, on whichever session, where the watchdog sees it.
    pub fn watched<T>(&self, call: impl FnOnce() -> T) -> T {
        self.watched_for(1, call)
    }

    /// The same for several calls, which together may take so many call deadlines.
    pub fn watched_for<T>(&self, deadlines: u32, calls: impl FnOnce() -> T) -> T {
        self.shared.watched(self.index, deadlines, || {
            let result = calls();
            if self.shared.config.insecure_test_call_delay_us > 0 {
                std::thread::sleep(Duration::from_micros(self.shared.config.insecure_test_call_delay_us));
            }
            result
        })
    }

    /// Lets a key go; destroys its handle if it left the cache meanwhile and nobody else works with it.
    pub fn let_go(&self, key: Arc<UnwrappedKey>) {
        if let Some(key) = handles::last(key)
            && key.era == self.shared.era()
        {
            // It may be gone already, by a logout.
            let _ = self.timed(|session| session.destroy(key.handle));
        }
    }
}

impl Drop for SessionThread {
    /// Closes the session where the watchdog sees it.
    fn drop(&mut self) {
        let session = self.session.take();
        self.watched(|| drop(session));
    }
}

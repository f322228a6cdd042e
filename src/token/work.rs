//! What the queue holds: a job, or a part of a batch. A batch is cut up so that it neither hogs a thread nor lacks one.

use std::{
    sync::{Arc, Mutex},
    time::Instant,
};

use keyreeve_envelope::prf_commit::MessageKeys;
use tokio::sync::oneshot;

use super::{
    Lane, TokenError,
    host::{Answer, Call, EnvelopeInput, Job, Place},
    meters::TokenMeters,
    queue::{Kind, Refused, Waiting},
    thread_host::lock,
};
use crate::model::Blob;

/// Items of a batch that one thread does in one go: about 0.2 ms on a software token.
const PART: usize = 32;

type Reply = oneshot::Sender<Result<Answer, TokenError>>;

pub(super) enum Work {
    Whole(Job, Instant),
    Part { batch: Arc<Batch>, index: usize },
}

/// A long list of message keys to make, shared by its parts.
pub(super) struct Batch {
    pub blob: Arc<Blob>,
    pub place: Place,
    inputs: Vec<EnvelopeInput>,
    pub lane: Lane,
    pub deadline: Instant,
    pub queued: Instant,
    state: Mutex<BatchState>,
}

struct BatchState {
    /// By part; joined when the last one is there.
    done: Vec<Vec<MessageKeys>>,
    missing: usize,
    /// Gone once answered: by the last part, or by the first that failed.
    reply: Option<Reply>,
}

impl Waiting for Work {
    fn lane(&self) -> &Lane {
        match self {
            Work::Whole(job, _) => &job.lane,
            Work::Part { batch, .. } => &batch.lane,
        }
    }

    fn kind(&self) -> Kind {
        match self {
            Work::Part { .. } => Kind::MessageKeys,
            Work::Whole(job, _) => match &job.call {
                Call::EnvelopeKeys { .. } => Kind::MessageKeys,
                Call::Seal { .. } | Call::Open { .. } => Kind::Message,
                Call::MakeEnvelopeKey { .. } => Kind::MakeKey,
                Call::Attributes { .. } | Call::Check { .. } | Call::Remove { .. } => Kind::Attributes,
                Call::Random { .. } => Kind::Random,
                Call::MasterKeyAttributes | Call::Subkey(_) | Call::Evict { .. } | Call::Probe => Kind::Other,
            },
        }
    }

    fn items(&self) -> usize {
        match self {
            Work::Whole(job, _) => match &job.call {
                Call::EnvelopeKeys { inputs, .. } => inputs.len().max(1),
                Call::Seal { inputs, .. } => inputs.len().max(1),
                Call::Open { inputs, .. } => inputs.len().max(1),
                // Making a key is about ten calls.
                Call::MakeEnvelopeKey { .. } => 10,
                _ => 1,
            },
            Work::Part { batch, index } => batch.inputs_of(*index).len(),
        }
    }
}

/// The job as the queue takes it: whole, or in parts.
pub(super) fn split(job: Job) -> Vec<Work> {
    let now = Instant::now();
    match job {
        Job {
            call: Call::EnvelopeKeys { blob, place, inputs },
            lane,
            deadline,
            reply,
        } if inputs.len() > PART => {
            let parts = inputs.len().div_ceil(PART);
            let batch = Arc::new(Batch {
                blob,
                place,
                inputs,
                lane,
                deadline,
                queued: now,
                state: Mutex::new(BatchState {
                    done: (0..parts).map(|_| Vec::new()).collect(),
                    missing: parts,
                    reply: Some(reply),
                }),
            });
            (0..parts)
                .map(|index| Work::Part {
                    batch: Arc::clone(&batch),
                    index,
                })
                .collect()
        }
        job => vec![Work::Whole(job, now)],
    }
}

/// Answers work that the queue does not keep.
pub(super) fn answer_refused(refused: Option<Refused<Work>>, meters: &TokenMeters) {
    if let Some(Refused { work, error }) = refused {
        meters.shed(work.len());
        for work in work {
            work.answer_error(error.clone());
        }
    }
}

impl Work {
    pub fn deadline(&self) -> Instant {
        match self {
            Work::Whole(job, _) => job.deadline,
            Work::Part { batch, .. } => batch.deadline,
        }
    }

    pub fn queued(&self) -> Instant {
        match self {
            Work::Whole(_, queued) => *queued,
            Work::Part { batch, .. } => batch.queued,
        }
    }

    /// Nobody waits for the answer any more.
    pub fn is_abandoned(&self) -> bool {
        match self {
            Work::Whole(job, _) => job.reply.is_closed(),
            Work::Part { batch, .. } => lock(&batch.state).reply.as_ref().is_none_or(Reply::is_closed),
        }
    }

    pub fn answer_error(self, error: TokenError) {
        match self {
            Work::Whole(job, _) => {
                let _ = job.reply.send(Err(error));
            }
            Work::Part { batch, .. } => batch.fail(error),
        }
    }
}

impl Batch {
    pub fn inputs_of(&self, index: usize) -> &[EnvelopeInput] {
        let from = index * PART;
        &self.inputs[from..(from + PART).min(self.inputs.len())]
    }

    pub fn finish_part(&self, index: usize, keys: Vec<MessageKeys>) {
        let mut state = lock(&self.state);
        state.done[index] = keys;
        state.missing -= 1;
        if state.missing == 0
            && let Some(reply) = state.reply.take()
        {
            let all = std::mem::take(&mut state.done).into_iter().flatten().collect();
            let _ = reply.send(Ok(Answer::EnvelopeKeys(all)));
        }
    }

    pub fn fail(&self, error: TokenError) {
        if let Some(reply) = lock(&self.state).reply.take() {
            let _ = reply.send(Err(error));
        }
    }
}

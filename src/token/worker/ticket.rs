//! A job on its way through workers: what waits, or is under way, and how many workers died under it.

use std::time::Instant;

use super::codec::{self, Outcome};
use crate::token::{
    Answer, Lane, TokenError,
    meters::TokenMeters,
    queue::{Kind, Refused, Waiting},
    work::Work,
};

/// A worker that dies under a call may have died of it: after the second one the call is not tried again.
const MAX_DEATHS: u8 = 2;

pub struct Ticket {
    work: Work,
    deaths: u8,
}

/// Answers tickets that the queue does not keep.
pub fn answer_refused(refused: Option<Refused<Ticket>>, meters: &TokenMeters) {
    if let Some(Refused { work, error }) = refused {
        meters.shed(work.len());
        for ticket in work {
            ticket.answer(Err(error.clone()));
        }
    }
}

impl Waiting for Ticket {
    fn lane(&self) -> &Lane {
        self.work.lane()
    }

    fn kind(&self) -> Kind {
        self.work.kind()
    }

    fn items(&self) -> usize {
        self.work.items()
    }
}

impl Ticket {
    pub fn new(work: Work) -> Self {
        Self { work, deaths: 0 }
    }

    pub fn put(&self, out: &mut Vec<u8>, id: u64) {
        let left = self.deadline().saturating_duration_since(Instant::now());
        match &self.work {
            Work::Whole(job, _) => codec::put_call(out, id, &job.call, left),
            Work::Part { batch, index } => {
                codec::put_part(out, id, &batch.blob, batch.place, batch.inputs_of(*index), left);
            }
        }
    }

    pub fn deadline(&self) -> Instant {
        self.work.deadline()
    }

    pub fn queued(&self) -> Instant {
        self.work.queued()
    }

    pub fn is_abandoned(&self) -> bool {
        self.work.is_abandoned()
    }

    pub fn answer(self, outcome: Outcome) {
        match (self.work, outcome) {
            (Work::Whole(job, _), outcome) => {
                let _ = job.reply.send(outcome);
            }
            (Work::Part { batch, index }, Ok(Answer::EnvelopeKeys(keys))) => batch.finish_part(index, keys),
            (Work::Part { batch, .. }, Ok(_)) => {
                batch.fail(TokenError::WrongAnswer("not message keys".into()));
            }
            (Work::Part { batch, .. }, Err(error)) => batch.fail(error),
        }
    }

    /// The worker died under it. `Some`: it may be tried with another one. Otherwise it is answered.
    pub fn bereaved(mut self, now: Instant) -> Option<Self> {
        self.deaths += 1;
        if self.deaths >= MAX_DEATHS {
            self.answer(Err(TokenError::Unavailable(
                "two workers of the token ended under this call: it is not tried again".into(),
            )));
            None
        } else if self.deadline() <= now {
            self.answer(Err(TokenError::Expired));
            None
        } else {
            Some(self)
        }
    }
}

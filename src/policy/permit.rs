//! The two types that hold the rule of the house.
//!
//! A [`Permit`] is made by the gate alone, holds a reserved place in the audit log, and is used up by completing it. A [`Recorded`] is made
//! by completing a permit alone, after the record is committed, and is the only thing answers are built from.

use std::{marker::PhantomData, sync::OnceLock};

use super::action::{Action, Changes};
use crate::{
    Error, Result,
    audit::{CommitError, Draft, Outcome, Slot, Verdict},
    identity::Caller,
    store::{Change, ChangeError},
};

/// Leave for one caller to do one action on one thing, once. Neither `Clone` nor `Default`; dropped unused it records `aborted`.
#[must_use = "a permit that is dropped is recorded as aborted"]
pub struct Permit<A: Action> {
    on: A::On,
    caller: Caller,
    /// `None` once completed.
    open: Option<Open>,
    /// The token that worked under this permit: serial, worker epoch.
    token: OnceLock<(std::sync::Arc<str>, u64)>,
    action: PhantomData<A>,
}

struct Open {
    slot: Slot,
    /// Exactly one: made where it will travel to the writer from, since a draft is large and a permit moves often.
    drafts: Vec<Draft>,
}

impl Open {
    fn draft(&mut self) -> &mut Draft {
        self.drafts.first_mut().expect("an open permit has its draft")
    }
}

impl<A: Action> Permit<A> {
    /// For the gate alone, once it has decided. `drafts`: the one of this permit.
    pub(in crate::policy) fn new(on: A::On, caller: Caller, slot: Slot, drafts: Vec<Draft>) -> Self {
        Self {
            on,
            caller,
            open: Some(Open { slot, drafts }),
            token: OnceLock::new(),
            action: PhantomData,
        }
    }

    /// What the permit is for.
    pub fn on(&self) -> &A::On {
        &self.on
    }

    pub fn caller(&self) -> &Caller {
        &self.caller
    }

    /// The token layer says here who worked; the first word stands.
    pub fn worked_by(&self, serial: &std::sync::Arc<str>, worker: u64) {
        let _ = self.token.set((serial.clone(), worker));
    }

    /// Records the result, waits for the commit, and only then lets the answer go. If the log fails, the answer is dropped and wiped.
    pub async fn complete<T: Outcome>(self, result: Result<T>) -> Result<Recorded<T>> {
        self.commit(result, None).await
    }

    /// The same, with a change of the store in the same transaction. A refused change turns the record into a refusal.
    pub async fn complete_with<T: Outcome>(self, result: Result<(T, Change)>) -> Result<Recorded<T>>
    where
        A: Changes,
    {
        match result {
            Ok((answer, change)) => self.commit(Ok(answer), Some(change)).await,
            Err(error) => self.commit(Err(error), None).await,
        }
    }

    async fn commit<T: Outcome>(mut self, result: Result<T>, change: Option<Change>) -> Result<Recorded<T>> {
        let Open { slot, mut drafts } = self.close(&result);
        let own = drafts.first().expect("an open permit has its draft");
        let object = own.object.clone();
        let further = result
            .as_ref()
            .map_or_else(|_| Vec::new(), |answer| answer.further(own));
        drafts.extend(further);
        let committed = slot.commit(drafts, change).await;
        released(committed, result, &object)
    }

    /// Takes the place in the log, with the finished draft.
    fn close<T: Outcome>(&mut self, result: &Result<T>) -> Open {
        let mut open = self
            .open
            .take()
            .expect("a permit is completed once: completing consumes it");
        let draft = open.draft();
        draft.token = self.token.take();
        finish(draft, &self.caller, result);
        open
    }
}

impl<A: Action> Drop for Permit<A> {
    fn drop(&mut self) {
        if let Some(mut open) = self.open.take() {
            let draft = open.draft();
            draft.token = self.token.take();
            draft.latency_us = elapsed_us(&self.caller);
            open.slot.abort(open.drafts);
        }
    }
}

/// Completes two permits with one result: both records in one commit, in the order given. The second's place is given back unused.
pub async fn complete_pair<A: Action, B: Action, T: Outcome>(
    mut first: Permit<A>,
    mut second: Permit<B>,
    result: Result<T>,
) -> Result<Recorded<T>> {
    let Open { slot, mut drafts } = first.close(&result);
    let other = second.close(&result);
    let object = drafts.first().map(|draft| draft.object.clone());
    drafts.extend(other.drafts);
    let committed = slot.commit(drafts, None).await;
    drop(other.slot);
    released(committed, result, object.as_deref().unwrap_or_default())
}

/// An answer whose record is committed. Only this converts to a message of the wire.
pub struct Recorded<T>(T);

impl<T> Recorded<T> {
    /// The answer itself. Named by `grpc/convert.rs` only (`tests/layout.rs`).
    pub fn release(self) -> T {
        self.0
    }
}

impl<T> AsRef<T> for Recorded<T> {
    fn as_ref(&self) -> &T {
        &self.0
    }
}

fn released<T>(committed: Result<(), CommitError>, result: Result<T>, object: &str) -> Result<Recorded<T>> {
    match committed {
        Ok(()) => result.map(Recorded),
        Err(CommitError::Refused(ChangeError::Exists(_))) => Err(Error::AlreadyExists(object.to_owned())),
        Err(CommitError::Refused(ChangeError::Stale(_))) => Err(Error::Conflict(object.to_owned())),
        Err(CommitError::Refused(ChangeError::RequestIdInUse)) => Err(Error::Conflict(object.to_owned())),
        Err(CommitError::Refused(ChangeError::Store(_)) | CommitError::Unwritable) => Err(Error::LogUnavailable),
    }
}

fn finish<T: Outcome>(draft: &mut Draft, caller: &Caller, result: &Result<T>) {
    match result {
        Ok(answer) => {
            draft.verdict = Verdict::Success;
            // The gate noted what was asked; the answer counts what was done.
            (draft.items, draft.bytes_in) = (0, 0);
            answer.describe(draft);
        }
        Err(error) => {
            draft.verdict = Verdict::Error;
            draft.code = error.reason();
            draft.detail = std::error::Error::source(error).map(ToString::to_string);
        }
    }
    draft.latency_us = elapsed_us(caller);
}

pub(in crate::policy) fn elapsed_us(caller: &Caller) -> u64 {
    u64::try_from(caller.facts().started.elapsed().as_micros()).unwrap_or(u64::MAX)
}

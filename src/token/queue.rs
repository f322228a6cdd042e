//! The bounded queue in front of the session threads or workers: the only admission control of the token (T10).
//!
//! Fair between lanes by the time their calls take in the token (`lanes.rs`, `cost.rs`), so that neither a batch nor a flood of one
//! caller holds up the others. Knows deadlines: what cannot be done in time is refused at once, with the time that the backlog takes;
//! what has expired costs no token work. Full, it makes room at the expense of the longest backlog, not of who comes.

mod cost;
mod lanes;

use std::{
    collections::BTreeMap,
    sync::{
        Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use cost::Pace;
pub use cost::{Costs, Kind};
use lanes::{Lanes, Piece};

use super::{Lane, TokenError};

/// Bounds of the delay after which a refused caller is asked to come again.
const RETRY_AFTER: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(5));

/// What waits in the queue: a job, or a part of one.
pub trait Waiting: Send {
    fn lane(&self) -> &Lane;
    fn kind(&self) -> Kind;
    /// Token calls it will take; at least 1.
    fn items(&self) -> usize;
}

pub struct Queue<W> {
    state: Mutex<State<W>>,
    arrived: Condvar,
    closing: Condvar,
    /// What calls cost; whoever works them tells it.
    pub costs: Costs,
    /// Nanoseconds of token time of what was taken and is worked before what waits here; whoever keeps such a store tells it.
    pub ahead: AtomicU64,
    pace: Pace,
    capacity: usize,
    threads: usize,
    /// By id of the environment.
    weights: BTreeMap<String, u32>,
}

struct State<W> {
    lanes: Lanes<W>,
    sleeping: usize,
    /// Threads woken that have not run yet: while one is on its way, no other is woken.
    waking: usize,
    closed: bool,
}

/// Work that the queue does not keep, each to be answered with the error: what was pushed, or what had to make room for it.
pub struct Refused<W> {
    pub work: Vec<W>,
    pub error: TokenError,
}

impl<W: Waiting> Queue<W> {
    /// `capacity`: items that may wait, of all lanes together. `threads`: pieces of work done at a time. `weights`: of environments,
    /// 1 for those not named.
    pub fn new(capacity: usize, threads: usize, weights: BTreeMap<String, u32>) -> Self {
        Self {
            state: Mutex::new(State {
                lanes: Lanes::new(),
                sleeping: 0,
                waking: 0,
                closed: false,
            }),
            arrived: Condvar::new(),
            closing: Condvar::new(),
            costs: Costs::new(),
            ahead: AtomicU64::new(0),
            pace: Pace::new(),
            capacity,
            threads: threads.max(1),
            weights,
        }
    }

    /// Takes `work` in, all or nothing. It is the work of one call: of one lane and kind.
    pub fn push(&self, work: Vec<W>, deadline: Instant) -> Option<Refused<W>> {
        let (lane, kind) = work.first().map(|work| (work.lane(), work.kind()))?;
        let (id, per_item) = (lane.id(), self.costs.of(kind));
        let items: usize = work.iter().map(Waiting::items).sum();
        let cost = per_item.saturating_mul(items as u64);
        let mut state = self.lock();
        if state.closed {
            let error = TokenError::Unavailable("the token is being stopped".into());
            return Some(Refused { work, error });
        }
        let backlog = state.lanes.backlog(id, cost, || lane.weight(&self.weights));
        let until_done = self.by_all_threads(backlog.until_done);
        // One lane gets at most three quarters, so that a flood leaves room for others.
        let too_much = backlog.items + items > self.capacity - self.capacity / 4 || items > self.capacity;
        if too_much || (state.lanes.cost() > 0 && self.is_late(kind, until_done, deadline)) {
            return Some(Refused {
                work,
                error: overloaded(until_done),
            });
        }
        let mut shed = Vec::new();
        while state.lanes.items() + items > self.capacity {
            match state.lanes.shed(backlog.items + items, backlog.weight) {
                Some(work) => shed.push(work),
                None => {
                    shed.extend(work);
                    return Some(self.refused(&state, shed));
                }
            }
        }
        let mut expected = Pace::expect((backlog.until_done - cost) / self.threads as u64);
        let pieces = work.into_iter().map(|work| {
            let items = work.items();
            Piece {
                work,
                items,
                cost: per_item.saturating_mul(items as u64),
                expected: expected.take(),
            }
        });
        state.lanes.push(id, backlog.weight, pieces);
        self.wake_one(&mut state);
        (!shed.is_empty()).then(|| self.refused(&state, shed))
    }

    /// The next work in turn; waits for it. `None` once the queue is closed and empty.
    pub fn next(&self) -> Option<W> {
        let mut state = self.lock();
        loop {
            if let Some(piece) = state.lanes.take() {
                if state.lanes.items() > 0 {
                    self.wake_one(&mut state);
                }
                drop(state);
                return Some(self.out(piece));
            }
            if state.closed {
                return None;
            }
            state.sleeping += 1;
            state = self.arrived.wait(state).unwrap_or_else(PoisonError::into_inner);
            state.sleeping -= 1;
            state.waking = state.waking.saturating_sub(1);
        }
    }

    /// The next work in turn, if there is any.
    pub fn try_next(&self) -> Option<W> {
        let piece = self.lock().lanes.take()?;
        Some(self.out(piece))
    }

    /// No more work comes in; what waits is still done.
    pub fn close(&self) {
        self.lock().closed = true;
        self.arrived.notify_all();
        self.closing.notify_all();
    }

    pub fn items(&self) -> usize {
        self.lock().lanes.items()
    }

    pub fn is_closed(&self) -> bool {
        self.lock().closed
    }

    /// Returns when the queue is closed, or after `at_most`.
    pub fn wait_closed(&self, at_most: Duration) {
        let state = self.lock();
        let _ = self
            .closing
            .wait_timeout_while(state, at_most, |state| !state.closed)
            .unwrap_or_else(PoisonError::into_inner);
    }

    fn out(&self, piece: Piece<W>) -> W {
        if let Some(expected) = &piece.expected {
            self.pace.learn(expected);
        }
        piece.work
    }

    /// Whether work that was taken cannot be done before its deadline any more: then it costs the token nothing.
    pub fn is_too_late(&self, work: &W, deadline: Instant, now: Instant) -> bool {
        let cost = self.costs.of(work.kind()).saturating_mul(work.items() as u64);
        let done = now + self.by_all_threads(0) + Duration::from_nanos(cost);
        deadline <= now || (done > deadline && self.costs.is_fresh(work.kind(), now))
    }

    /// By what is measured, and only by what was measured just now: otherwise a rate that was bad once would refuse for ever. An eighth
    /// of the time is left for the way back: an answer that is late is as good as none.
    fn is_late(&self, kind: Kind, until_done: Duration, deadline: Instant) -> bool {
        let now = Instant::now();
        now + until_done + until_done / 8 > deadline && self.costs.is_fresh(kind, now)
    }

    fn refused(&self, state: &State<W>, work: Vec<W>) -> Refused<W> {
        let error = overloaded(self.by_all_threads(state.lanes.cost()));
        Refused { work, error }
    }

    /// How long all threads together take for so many nanoseconds of token time, and what is ahead of it.
    fn by_all_threads(&self, cost: u64) -> Duration {
        self.pace
            .time((cost + self.ahead.load(Ordering::Relaxed)) / self.threads as u64)
    }

    fn wake_one(&self, state: &mut State<W>) {
        if state.waking == 0 && state.sleeping > 0 {
            state.waking = 1;
            self.arrived.notify_one();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State<W>> {
        // No code that can panic runs under the lock halfway through a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn overloaded(backlog: Duration) -> TokenError {
    TokenError::Overloaded {
        retry_after: backlog.clamp(RETRY_AFTER.0, RETRY_AFTER.1),
    }
}

#[cfg(test)]
mod tests;

//! One worker as the service sees it: its socket, and the calls under way in it.

use std::{
    collections::HashMap,
    io,
    sync::{
        Mutex,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{net::UnixStream, sync::Notify};
use zeroize::Zeroize as _;

use super::{
    codec,
    frame::{Frame, Frames, Malformed},
    pulse::Pulse,
    start::{self, News, Ready, Trouble},
    ticket::Ticket,
};
use crate::token::{
    queue::{Costs, Kind, Waiting as _},
    thread_host::lock,
};

pub struct Link {
    /// Names the worker in records.
    pub epoch: u64,
    pub pid: u32,
    pub ready: Ready,
    stream: UnixStream,
    state: Mutex<State>,
    handles: AtomicU64,
    /// Looks of the supervisor since anything was heard.
    silent_looks: AtomicU32,
    kill: Notify,
    /// Items in the worker at once at most.
    window: usize,
}

/// What the threads of a worker should find when they look: for each so many calls, or so much work where calls are short. Few, since
/// the worker does them in order of arrival; the queue before it is the fair one, and the one that knows deadlines.
const CALLS_AT_HAND: usize = 2;
const WORK_AT_HAND: u64 = 500_000; // nanoseconds

struct State {
    /// With what each is thought to cost.
    under_way: HashMap<u64, (Ticket, u64)>,
    /// Token calls of all that is under way, and their cost in nanoseconds.
    items: usize,
    cost: u64,
    next_id: u64,
    /// What the socket had no room for; the first `sent` bytes are gone.
    out: Vec<u8>,
    sent: usize,
    open: bool,
}

/// A call that was answered, and its time in the token.
pub struct Done {
    pub kind: Kind,
    pub items: usize,
    pub took: Duration,
}

/// How a worker ended.
#[derive(Debug)]
pub enum Death {
    /// It said why.
    Fault(Trouble),
    /// It said nothing any more, and was killed.
    Silent,
    /// Its socket closed.
    Gone,
    /// It sent what is not a frame, or reading failed.
    Broken(io::Error),
}

impl Link {
    pub fn new(stream: UnixStream, pid: u32, epoch: u64, ready: Ready) -> Self {
        let window = (ready.session_threads * 8).max(64);
        Self {
            epoch,
            pid,
            ready,
            stream,
            state: Mutex::new(State {
                under_way: HashMap::with_capacity(window),
                items: 0,
                cost: 0,
                next_id: 1,
                out: Vec::new(),
                sent: 0,
                open: true,
            }),
            handles: AtomicU64::new(0),
            silent_looks: AtomicU32::new(0),
            kill: Notify::new(),
            window,
        }
    }

    pub fn handles(&self) -> u64 {
        self.handles.load(Ordering::Relaxed)
    }

    pub fn is_idle(&self) -> bool {
        lock(&self.state).under_way.is_empty()
    }

    /// Sends what `next` gives, until it gives nothing or the worker has enough. Never blocks. Returns the cost of what is under way.
    pub fn send(&self, costs: &Costs, mut next: impl FnMut() -> Option<Ticket>) -> u64 {
        let mut state = lock(&self.state);
        let state = &mut *state;
        if !state.open {
            return 0;
        }
        let threads = self.ready.session_threads;
        while state.items < CALLS_AT_HAND * threads
            || (state.items < self.window && state.cost < WORK_AT_HAND * threads as u64)
        {
            let Some(ticket) = next() else { break };
            let id = state.next_id;
            state.next_id += 1;
            ticket.put(&mut state.out, id);
            let cost = costs.of(ticket.kind()).saturating_mul(ticket.items() as u64);
            state.items += ticket.items();
            state.cost += cost;
            state.under_way.insert(id, (ticket, cost));
        }
        while state.sent < state.out.len() {
            match self.stream.try_write(&state.out[state.sent..]) {
                Ok(written) => state.sent += written,
                // No room now: it goes with the next call or answer. Or the worker is gone: whoever reads its socket finds out.
                Err(_) => return state.cost,
            }
        }
        state.out[..].zeroize(); // plaintext to be sealed may be in it
        state.out.clear();
        state.sent = 0;
        state.cost
    }

    /// Reads answers until the worker ends. `done`: told of each call; `pulse`: of what else it counts; `more`: called after each piece that
    /// was read.
    pub async fn read(&self, mut frames: Frames, done: impl Fn(Done), pulse: impl Fn(Pulse), more: impl Fn()) -> Death {
        loop {
            match self.answer_all(&mut frames, &done, &pulse) {
                Ok(None) => {}
                Ok(Some(trouble)) => return Death::Fault(trouble),
                Err(malformed) => return Death::Broken(malformed.into()),
            }
            more();
            let readable = tokio::select! {
                readable = self.stream.readable() => readable,
                () = self.kill.notified() => return Death::Silent,
            };
            let read = readable.and_then(|()| frames.fill(|room| self.stream.try_read(room)));
            match read {
                Ok(0) => return Death::Gone,
                Ok(_) => self.silent_looks.store(0, Ordering::Relaxed),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Death::Gone,
                Err(error) => return Death::Broken(error),
            }
        }
    }

    /// Answers what has come; `Some` if the worker said that its token failed.
    fn answer_all(
        &self,
        frames: &mut Frames,
        done: &impl Fn(Done),
        pulse: &impl Fn(Pulse),
    ) -> Result<Option<Trouble>, Malformed> {
        while let Some(frame) = frames.next()? {
            match start::news(frame)? {
                None => done(self.answer(frame)?),
                Some(News::Handles(count)) => self.handles.store(count, Ordering::Relaxed),
                Some(News::Pulse(told)) => pulse(told),
                Some(News::Fault(trouble) | News::Failed(trouble)) => return Ok(Some(trouble)),
                Some(News::Ready(_)) => return Err(Malformed),
            }
        }
        Ok(None)
    }

    fn answer(&self, frame: Frame<'_>) -> Result<Done, Malformed> {
        let (outcome, took) = codec::outcome(frame)?;
        let ticket = {
            let mut state = lock(&self.state);
            let known = state.under_way.remove(&frame.id).ok_or(Malformed)?;
            state.items -= known.0.items();
            state.cost -= known.1;
            known.0
        };
        let (kind, items) = (ticket.kind(), ticket.items());
        ticket.answer(outcome);
        Ok(Done { kind, items, took })
    }

    /// Takes no more, and gives back what was under way.
    pub fn close(&self) -> Vec<Ticket> {
        let mut state = lock(&self.state);
        state.open = false;
        state.out.zeroize();
        state.under_way.drain().map(|(_, (ticket, _))| ticket).collect()
    }

    /// Whether nothing was heard for so many looks, this one included. Looks, not time: a service that was stopped itself blames nobody.
    pub fn is_silent(&self, for_looks: u32) -> bool {
        self.silent_looks.fetch_add(1, Ordering::Relaxed) >= for_looks
    }

    /// Whoever reads the socket kills the process.
    pub fn kill(&self) {
        self.kill.notify_one();
    }

    /// The worker finishes what it has and ends.
    pub fn finish(&self) {
        // Fails if the worker is gone already.
        let _ = rustix::net::shutdown(&self.stream, rustix::net::Shutdown::Write);
    }
}

//! The host whose module runs in worker processes: a queue before them, one at work, one ready.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use keyreeve_pkcs11::Class;
use tokio::{
    runtime::Handle,
    sync::{Notify, watch},
};

use super::{
    counters::Shown,
    link::{Done, Link},
    plan::Plan,
    pulse::Pulse,
    start::{Ready, Trouble},
    supervisor::Supervisor,
    ticket::{self, Ticket},
};
use crate::token::{
    KeyUses, Latch, OpenError, TokenConfig, TokenError,
    breaker::{Breaker, BreakerState},
    host::{Host, HostStatus, Job},
    meters::{SessionMeters, TokenMeters},
    queue::Queue,
    thread_host::lock,
    work,
};

/// What is executed as a worker: this program with the arguments that make it one.
#[derive(Debug, Clone)]
pub struct Program {
    pub path: PathBuf,
    pub arguments: Vec<OsString>,
}

/// How long a stop waits for calls under way, and then for the worker to close the module.
const STOP_WITHIN: Duration = Duration::from_secs(8);

/// Hosts one token in worker processes.
pub struct ProcessHost {
    shared: Arc<Shared>,
}

/// What the host, its supervisor and the readers of sockets share.
pub(super) struct Shared {
    pub queue: Queue<Ticket>,
    /// Gets the calls; none while one is being started.
    active: RwLock<Option<Arc<Link>>>,
    /// Ready to take over.
    pub standby: Mutex<Option<Arc<Link>>>,
    breaker: Mutex<Breaker>,
    about: Ready,
    latch: Latch,
    fault: watch::Sender<Option<Arc<str>>>,
    /// Why no worker could be started at the last attempt.
    pub cannot_start: Mutex<Option<Arc<str>>>,
    pub stopping: AtomicBool,
    pub stop: Notify,
    /// There is work for the active worker.
    pump_soon: Notify,
    /// The supervisor and all workers have ended.
    ended: AtomicBool,
    pub meters: TokenMeters,
    /// As the service sees the worker.
    worker_meters: SessionMeters,
    /// What workers count.
    counters: Shown,
    uses: Mutex<KeyUses>,
}

impl ProcessHost {
    /// Starts the first worker and waits until it is ready; the second one follows by itself. Not from within the runtime's threads.
    ///
    /// Errors: what the worker says of token and configuration; `Worker` if it does not start at all.
    pub fn start(
        program: Program,
        config: TokenConfig,
        data_directory: &Path,
        tombstones: &Path,
        runtime: &Handle,
    ) -> Result<Self, OpenError> {
        let queue = Queue::new(config.queue_items, config.threads(), config.weights.clone());
        let meters = TokenMeters::new(&config.place);
        let plan = Plan::new(program, config, data_directory, tombstones)?;
        let started = runtime.block_on(plan.start())?;
        let shared = Arc::new(Shared {
            queue,
            active: RwLock::new(None),
            standby: Mutex::new(None),
            breaker: Mutex::new(Breaker::closed(Instant::now())),
            latch: Latch::of(data_directory, &started.link.ready.serial),
            about: started.link.ready.clone(),
            fault: watch::Sender::new(None),
            cannot_start: Mutex::new(None),
            stopping: AtomicBool::new(false),
            stop: Notify::new(),
            pump_soon: Notify::new(),
            ended: AtomicBool::new(false),
            counters: Shown::new(&meters),
            worker_meters: meters.session("worker"),
            meters,
            uses: Mutex::default(),
        });
        runtime.spawn(Arc::clone(&shared).pump_at_turns());
        runtime.spawn(Supervisor::new(plan, Arc::clone(&shared)).run(started));
        Ok(Self { shared })
    }

    /// Turns to `Some(why)` once, when no worker can serve the token any more.
    pub fn fault(&self) -> watch::Receiver<Option<Arc<str>>> {
        self.shared.fault.subscribe()
    }

    /// Process ids of the worker that gets the calls and of the one that is ready to take over.
    pub fn workers(&self) -> (Option<u32>, Option<u32>) {
        let standby = lock(&self.shared.standby).as_ref().map(|link| link.pid);
        (self.shared.active().map(|link| link.pid), standby)
    }
}

impl Host for ProcessHost {
    fn submit(&self, job: Job) {
        let shared = &self.shared;
        if let Some(why) = shared.fault_text().or_else(|| shared.no_worker()) {
            let _ = job.reply.send(Err(TokenError::Unavailable(why)));
            return;
        }
        let deadline = job.deadline;
        let tickets = work::split(job).into_iter().map(Ticket::new).collect();
        ticket::answer_refused(shared.queue.push(tickets, deadline), &shared.meters);
        match shared.active() {
            // It waits for this call.
            Some(link) if link.is_idle() => shared.pump(),
            _ => shared.pump_soon.notify_one(),
        }
    }

    fn status(&self) -> HostStatus {
        let shared = &self.shared;
        let active = shared.active();
        HostStatus {
            serial: shared.about.serial.as_str().into(),
            model: shared.about.model.clone(),
            software_token: shared.about.software_token,
            fault: shared.fault_text().or_else(|| shared.no_worker()),
            breaker: lock(&shared.breaker).state(),
            worker_epoch: active.as_ref().map_or(0, |link| link.epoch),
            session_threads: shared.about.session_threads,
            cached_handles: active.as_ref().map_or(0, |link| link.handles()),
        }
    }

    fn serves(&self) -> bool {
        self.shared.fault.borrow().is_none() && self.shared.active().is_some()
    }

    fn take_uses(&self) -> KeyUses {
        std::mem::take(&mut *lock(&self.shared.uses))
    }

    fn worker_epoch(&self) -> u64 {
        self.shared.active().map_or(0, |link| link.epoch)
    }

    fn distrust(&self, why: &str) -> TokenError {
        let text = self.shared.fail(&Trouble::of_class(Class::WrongAnswer, why));
        TokenError::WrongAnswer(text)
    }

    fn stop(&self) {
        let shared = &self.shared;
        shared.queue.close();
        if shared.stopping.swap(true, Ordering::SeqCst) {
            return; // stopped before
        }
        let until = Instant::now() + STOP_WITHIN;
        let idle = || shared.queue.items() == 0 && shared.active().is_none_or(|link| link.is_idle());
        while !idle() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(1));
        }
        shared.stop.notify_one();
        while !shared.ended.load(Ordering::SeqCst) && Instant::now() < until + STOP_WITHIN {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Shared {
    pub fn active(&self) -> Option<Arc<Link>> {
        self.active.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn set_active(&self, link: Option<Arc<Link>>) {
        *self.active.write().unwrap_or_else(PoisonError::into_inner) = link;
        self.pump();
    }

    /// Changes the breaker, and returns its state.
    pub fn breaker(&self, change: impl FnOnce(&mut Breaker)) -> BreakerState {
        let mut breaker = lock(&self.breaker);
        let before = breaker.state();
        change(&mut breaker);
        let state = breaker.state();
        if state != before {
            tracing::warn!(
                serial = self.about.serial,
                breaker = state.name(),
                "the breaker changed"
            );
        }
        state
    }

    /// Gives a busy worker the calls of one turn of the runtime together: one write, and one wake-up, for all of them.
    async fn pump_at_turns(self: Arc<Self>) {
        while !self.ended.load(Ordering::SeqCst) {
            self.pump_soon.notified().await;
            tokio::task::yield_now().await;
            self.pump();
        }
    }

    pub fn end(&self) {
        self.ended.store(true, Ordering::SeqCst);
        self.pump_soon.notify_one();
    }

    /// Gives the active worker what it has room for.
    pub fn pump(&self) {
        let Some(link) = self.active() else { return };
        let now = Instant::now();
        let ahead = link.send(&self.queue.costs, || {
            loop {
                let ticket = self.queue.try_next()?;
                if ticket.is_abandoned() {
                    continue;
                }
                if self.queue.is_too_late(&ticket, ticket.deadline(), now) {
                    self.meters.expired.increment(1);
                    ticket.answer(Err(TokenError::Expired));
                    continue;
                }
                self.worker_meters
                    .queue_wait
                    .record((now - ticket.queued()).as_secs_f64());
                return Some(ticket);
            }
        });
        self.queue.ahead.store(ahead, Ordering::Relaxed);
    }

    /// Takes note of what a call cost.
    pub fn learn(&self, done: &Done) {
        self.worker_meters.token_time.record(done.took.as_secs_f64());
        self.queue.costs.learn(done.kind, done.items, done.took, Instant::now());
    }

    /// Adds what a worker counted.
    pub fn hear(&self, pulse: &Pulse) {
        self.counters.add(&pulse.counters);
        let mut uses = lock(&self.uses);
        for (key, of_key) in &pulse.of_keys {
            uses.add(*key, *of_key);
        }
        uses.of_others.add(pulse.of_others);
    }

    /// Tries again what was under way in a worker that died, where it may be.
    pub fn resend(&self, tickets: Vec<Ticket>) {
        let now = Instant::now();
        for ticket in tickets.into_iter().filter_map(|ticket| ticket.bereaved(now)) {
            let deadline = ticket.deadline();
            ticket::answer_refused(self.queue.push(vec![ticket], deadline), &self.meters);
        }
        self.pump();
    }

    pub fn fault_text(&self) -> Option<Arc<str>> {
        self.fault.borrow().clone()
    }

    /// Ends the service of this token. The first trouble is the one that is told; E9 and E13 are latched on disk, too.
    pub fn fail(&self, trouble: &Trouble) -> Arc<str> {
        let text: Arc<str> = format!("token {}: {}", self.about.serial, trouble.text).into();
        let first = self.fault.send_if_modified(|fault| {
            let first = fault.is_none();
            fault.get_or_insert_with(|| Arc::clone(&text));
            first
        });
        if first {
            self.breaker(Breaker::latch);
            let class = trouble.class.as_deref().unwrap_or("start");
            tracing::error!(
                serial = self.about.serial,
                class,
                "{}: the token is not served",
                trouble.text
            );
            if class == Class::WrongAnswer.name()
                && let Err(error) = self.latch.set(Class::WrongAnswer, &trouble.text, None)
            {
                tracing::error!(%error, path = %self.latch.path().display(), "the latch could not be written");
            }
        }
        text
    }

    /// Answers everything that waits.
    pub fn refuse_all(&self, why: &Arc<str>) {
        while let Some(ticket) = self.queue.try_next() {
            ticket.answer(Err(TokenError::Unavailable(Arc::clone(why))));
        }
    }

    /// Why a call need not wait for a worker: the last one could not be started.
    fn no_worker(&self) -> Option<Arc<str>> {
        match self.active() {
            Some(_) => None,
            None => lock(&self.cannot_start).clone(),
        }
    }
}

//! Starts workers, watches them, replaces those that end.
//!
//! One works, one is ready: a death costs the calls under way a resend, not a start. When none is ready the breaker opens, and the next
//! worker must pass its probes before it gets calls. Starts that fail are tried again with a growing delay; three deaths within a minute,
//! and what no other worker could cure (wrong PIN, wrong answer), end the service of the token.

use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use keyreeve_pkcs11::Class;
use tokio::{
    process::Child,
    sync::{mpsc, oneshot},
    time::MissedTickBehavior,
};

use super::{
    link::{Death, Link},
    plan::{Plan, Started},
    process_host::Shared,
    start::Trouble,
    ticket::Ticket,
};
use crate::token::{
    Answer, BreakerState, Call, Job, Lane, OpenError, TokenError,
    breaker::{Backoff, Breaker, Window},
    thread_host::lock,
    work,
};

const LOOK_EVERY: Duration = Duration::from_millis(10);
/// A worker that says nothing for three seconds, which is fifteen pulses, does not run.
const SILENT_LOOKS: u32 = 300;
/// Some tokens drop a session that was idle for 30 s.
const PROBE_EVERY: Duration = Duration::from_secs(10);
/// So many deaths in such a time end the service of the token.
const DEATHS: usize = 3;
const DEATHS_WITHIN: Duration = Duration::from_secs(60);
/// Time that a worker whose socket was closed has to close the module.
const CLOSE_WITHIN: Duration = Duration::from_secs(5);

/// Runs on the runtime until the host stops.
pub struct Supervisor {
    plan: Plan,
    shared: Arc<Shared>,
    deaths: Window,
    /// Of starts that failed while another worker serves; the next one not before that time.
    backoff: Backoff,
    start_after: Instant,
    ended: mpsc::UnboundedReceiver<(u64, Death)>,
    tell_end: mpsc::UnboundedSender<(u64, Death)>,
    /// The start under way.
    starting: Option<oneshot::Receiver<Result<Started, OpenError>>>,
    /// The worker by which a half-open breaker is tried.
    trial: Option<Trial>,
    /// Workers whose process is not gone yet.
    running: usize,
}

struct Trial {
    link: Arc<Link>,
    /// To the probe under way.
    answer: oneshot::Receiver<Result<Answer, TokenError>>,
}

impl Supervisor {
    pub fn new(plan: Plan, shared: Arc<Shared>) -> Self {
        let (tell_end, ended) = mpsc::unbounded_channel();
        Self {
            plan,
            shared,
            deaths: Window::new(DEATHS, DEATHS_WITHIN),
            backoff: Backoff::default(),
            start_after: Instant::now(),
            ended,
            tell_end,
            starting: None,
            trial: None,
            running: 0,
        }
    }

    pub async fn run(mut self, first: Started) {
        self.take_on(first);
        let mut look = tokio::time::interval(LOOK_EVERY);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut probe_at = Instant::now() + PROBE_EVERY;
        let shared = Arc::clone(&self.shared);
        loop {
            tokio::select! {
                Some((epoch, death)) = self.ended.recv() => self.bury(epoch, &death),
                started = arrival(&mut self.starting) => self.arrived(started),
                passed = outcome(&mut self.trial) => self.probed(passed),
                () = shared.stop.notified() => break,
                _ = look.tick() => {
                    self.look();
                    if Instant::now() >= probe_at {
                        probe_at = Instant::now() + PROBE_EVERY;
                        self.probe();
                    }
                }
            }
            if let Some(why) = shared.fault_text() {
                shared.refuse_all(&why);
            }
        }
        self.end().await;
    }

    /// Makes a ready worker the one that works, or the one that can.
    fn take_on(&mut self, started: Started) {
        let Started { link, frames, child } = started;
        self.running += 1;
        tracing::info!(serial = link.ready.serial, worker = link.epoch, "worker ready");
        let (shared, reader, tell_end) = (Arc::clone(&self.shared), Arc::clone(&link), self.tell_end.clone());
        tokio::spawn(async move {
            let death = reader
                .read(
                    frames,
                    |done| shared.learn(&done),
                    |pulse| shared.hear(&pulse),
                    || shared.pump(),
                )
                .await;
            see_out(child, &death).await;
            // The next worker first: what is handed back goes to it.
            let _ = tell_end.send((reader.epoch, death));
        });
        *lock(&self.shared.standby) = Some(link);
        self.find_work();
    }

    /// Gives the worker that is ready the calls, or the probes before them, if there is no other; else starts one that will be ready.
    fn find_work(&mut self) {
        if self.shared.fault_text().is_some() || self.shared.stopping.load(Ordering::SeqCst) {
            return;
        }
        let mut standby = lock(&self.shared.standby);
        if self.shared.active().is_none() {
            match self.shared.breaker(|breaker| breaker.look(Instant::now())) {
                BreakerState::Closed => self.shared.set_active(standby.take()),
                BreakerState::HalfOpen if self.trial.is_none() => {
                    self.trial = standby.take().map(|link| Trial {
                        answer: ask_canary(&self.shared, &link),
                        link,
                    });
                }
                BreakerState::HalfOpen => {}
                BreakerState::Open | BreakerState::Latched => return,
            }
        }
        if standby.is_none() {
            drop(standby);
            self.begin_start();
        }
    }

    /// A probe of the trial was answered; after the last one the worker gets the calls.
    fn probed(&mut self, passed: bool) {
        let Some(Trial { link, .. }) = self.trial.take() else {
            return;
        };
        if !passed {
            link.finish();
            self.shared
                .breaker(|breaker| breaker.failed(Class::Token, Instant::now(), jitter()));
            return;
        }
        if self.shared.breaker(Breaker::probe_passed) == BreakerState::HalfOpen {
            let answer = ask_canary(&self.shared, &link);
            self.trial = Some(Trial { link, answer });
            return;
        }
        *lock(&self.shared.cannot_start) = None;
        self.shared.set_active(Some(link));
        self.find_work();
    }

    fn bury(&mut self, epoch: u64, death: &Death) {
        self.running -= 1;
        let (dead, served) = self.replace(epoch);
        let tickets = dead.map_or_else(Vec::new, |link| link.close());
        if self.shared.stopping.load(Ordering::SeqCst) || self.shared.fault_text().is_some() {
            let why: Arc<str> = self
                .shared
                .fault_text()
                .unwrap_or_else(|| "the token is being stopped".into());
            answer_all(tickets, &why);
            return;
        }
        let (class, text) = described(death);
        self.shared.meters.failed(class);
        tracing::error!(
            class = class.name(),
            worker = epoch,
            "a worker of the token ended: {text}"
        );
        if let Death::Fault(trouble) = death
            && trouble.is_final
        {
            answer_all(tickets, &self.shared.fail(trouble));
            return;
        }
        if self.deaths.is_full_with(Instant::now()) {
            let text = format!("{DEATHS} workers ended within a minute, the last: {text}");
            answer_all(tickets, &self.shared.fail(&Trouble::of_class(Class::Crash, &text)));
            return;
        }
        if served && self.shared.active().is_none() {
            self.shared
                .breaker(|breaker| breaker.failed(class, Instant::now(), jitter()));
        }
        self.shared.resend(tickets);
        self.find_work();
    }

    /// Takes the worker of this epoch out; the one that is ready takes over. With it: whether it had the calls, or was to have them.
    fn replace(&mut self, epoch: u64) -> (Option<Arc<Link>>, bool) {
        if let Some(trial) = self.trial.take_if(|trial| trial.link.epoch == epoch) {
            return (Some(trial.link), true);
        }
        let mut standby = lock(&self.shared.standby);
        match self.shared.active().filter(|link| link.epoch == epoch) {
            Some(active) => {
                let next = standby.take();
                drop(standby);
                self.shared.set_active(next);
                (Some(active), true)
            }
            None => (standby.take_if(|link| link.epoch == epoch), false),
        }
    }

    fn begin_start(&mut self) {
        let too_early = self.shared.active().is_some() && Instant::now() < self.start_after;
        if self.starting.is_some() || too_early {
            return;
        }
        let (tell, started) = oneshot::channel();
        let plan = self.plan.clone();
        tokio::spawn(async move {
            let _ = tell.send(plan.start().await);
        });
        self.starting = Some(started);
    }

    fn arrived(&mut self, started: Result<Started, OpenError>) {
        self.starting = None;
        match started {
            Ok(started) => {
                self.backoff = Backoff::default();
                self.take_on(started);
            }
            Err(error) => {
                let text: Arc<str> = error.to_string().into();
                tracing::error!(detail = &*text, "a worker of the token did not start");
                if error.is_final() {
                    let trouble = Trouble {
                        text: text.to_string(),
                        class: None,
                        is_final: true,
                    };
                    self.shared.fail(&trouble);
                    return;
                }
                if self.shared.active().is_some() {
                    self.start_after = Instant::now() + self.backoff.next(jitter());
                    return;
                }
                self.shared.refuse_all(&text);
                *lock(&self.shared.cannot_start) = Some(text);
                // The next one, once it is half-open again.
                self.shared
                    .breaker(|breaker| breaker.failed(Class::Token, Instant::now(), jitter()));
            }
        }
    }

    fn look(&mut self) {
        // Calls that hang are the business of a worker's own watchdog, which knows when they began. This is for one that does not run.
        for link in self.links() {
            if link.is_silent(SILENT_LOOKS) {
                link.kill();
            }
        }
        self.shared.meters.queue_depth.set(self.shared.queue.items() as f64);
        self.find_work();
        self.shared.pump();
    }

    /// Workers that are ready, whatever for.
    fn links(&self) -> Vec<Arc<Link>> {
        let standby = lock(&self.shared.standby).clone();
        let trial = self.trial.as_ref().map(|trial| Arc::clone(&trial.link));
        self.shared.active().into_iter().chain(standby).chain(trial).collect()
    }

    /// Asks both for the known answer. What comes of it acts by itself: a wrong answer ends the worker.
    fn probe(&self) {
        for link in self.links() {
            drop(ask_canary(&self.shared, &link));
        }
    }

    /// Lets the workers close the module, and waits for them.
    async fn end(&mut self) {
        if let Some(starting) = self.starting.take()
            && let Ok(Ok(started)) = starting.await
        {
            self.take_on(started);
        }
        for link in self.links() {
            link.finish();
        }
        while self.running > 0 {
            let Some((epoch, death)) = self.ended.recv().await else {
                break;
            };
            self.bury(epoch, &death);
        }
        self.shared.set_active(None);
        self.shared.refuse_all(&"the token is being stopped".into());
        self.shared.end();
    }
}

/// Waits for a start that is under way.
async fn arrival(starting: &mut Option<oneshot::Receiver<Result<Started, OpenError>>>) -> Result<Started, OpenError> {
    match starting {
        Some(starting) => starting
            .await
            .unwrap_or_else(|_| Err(OpenError::Worker("the start was given up".to_owned()))),
        None => std::future::pending().await,
    }
}

/// Whether the probe of a trial passed.
async fn outcome(trial: &mut Option<Trial>) -> bool {
    match trial {
        Some(trial) => matches!((&mut trial.answer).await, Ok(Ok(_))),
        None => std::future::pending().await,
    }
}

/// Asks one worker for the known answer of CANARY: a session, a login and the token.
fn ask_canary(shared: &Shared, link: &Link) -> oneshot::Receiver<Result<Answer, TokenError>> {
    let (reply, answer) = oneshot::channel();
    let job = Job {
        call: Call::Probe,
        lane: Lane::OWN,
        deadline: Instant::now() + PROBE_EVERY,
        reply,
    };
    let mut tickets = work::split(job).into_iter().map(Ticket::new);
    link.send(&shared.queue.costs, || tickets.next());
    answer
}

/// From 0 to 1; without a generator the longest delay.
fn jitter() -> f64 {
    let mut random = [0; 4];
    match aws_lc_rs::rand::fill(&mut random) {
        Ok(()) => f64::from(u32::from_be_bytes(random)) / f64::from(u32::MAX),
        Err(_) => 1.0,
    }
}

/// Waits for the end of the process; kills it unless it closed its socket by itself, and then, too, after a while.
async fn see_out(mut child: Child, death: &Death) {
    if !matches!(death, Death::Gone | Death::Fault(_)) {
        let _ = child.start_kill();
    }
    if tokio::time::timeout(CLOSE_WITHIN, child.wait()).await.is_err() {
        let _ = child.start_kill();
        let _ = child.wait().await;
    }
}

fn answer_all(tickets: Vec<Ticket>, why: &Arc<str>) {
    for ticket in tickets {
        ticket.answer(Err(TokenError::Unavailable(Arc::clone(why))));
    }
}

/// The class of what opens the breaker, and the words for the log.
fn described(death: &Death) -> (Class, String) {
    match death {
        Death::Fault(trouble) => {
            let named = |class: &Class| Some(class.name()) == trouble.class.as_deref();
            let class = Class::ALL.into_iter().find(named).unwrap_or(Class::Token);
            (class, trouble.text.clone())
        }
        Death::Silent => (Class::Hang, "it said nothing any more, and was killed".to_owned()),
        Death::Gone => (Class::Crash, "its process is gone".to_owned()),
        Death::Broken(error) => (Class::Crash, error.to_string()),
    }
}

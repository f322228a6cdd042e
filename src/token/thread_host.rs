//! `isolation = "thread"`: the module in this process, one session per thread, one keeper session that is never closed.
//!
//! A fault that the thread form cannot cure (a hung call, a dead token, a wrong answer) latches the token here and is told to the
//! server through [`ThreadHost::fault`]; the server ends the process with that message, for its supervisor to restart.

use std::{
    path::Path,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use keyreeve_envelope::{KeyId, KeyVersion};
use keyreeve_pkcs11::{Access, CallError, Class, Module, ModuleError, Pin, Session, TokenInfo};
use tokio::sync::watch;

use crate::{
    clock::{Clock, SystemClock},
    model::IvSource,
};

use super::{
    KeyUses, TokenError,
    breaker::{Breaker, BreakerState},
    config::{PinSource, TokenConfig},
    handles::Handles,
    host::{Host, HostStatus, Job},
    iv, known_answer,
    latch::Latch,
    manifest::Manifest,
    meters::TokenMeters,
    open::{self, OpenError, OpenToken},
    pin,
    probe::{self, Probe},
    queue::Queue,
    report,
    root_keys::RootKeys,
    session_thread::SessionThread,
    usage::Usage,
    watchdog,
    work::{self, Work},
};

/// Call deadlines that closing the keeper, with all its keys, and the module may take.
const CLOSING_MAY_TAKE: u32 = 4;

/// Says whether a version was destroyed: its blob is never unwrapped again, restored backups included.
pub type Buried = Arc<dyn Fn(KeyId, KeyVersion) -> bool + Send + Sync>;

/// Hosts one token in threads of this process.
pub struct ThreadHost {
    shared: Arc<Shared>,
    /// `None` once it was stopped.
    threads: Mutex<Option<Vec<JoinHandle<()>>>>,
}

/// What the threads of one token share.
pub(super) struct Shared {
    pub config: TokenConfig,
    pub pin_source: PinSource,
    pub module: Arc<Module>,
    pub info: TokenInfo,
    pub serial: Arc<str>,
    pub manifest: Manifest,
    pub queue: Queue<Work>,
    pub handles: Handles,
    pub usage: Usage,
    pub meters: TokenMeters,
    /// Owns the login and every unwrapped key: a session object dies with the session that made it.
    pub keeper: Mutex<Option<Session>>,
    /// Whether there is one, for those who need not wait for it.
    pub has_keeper: AtomicBool,
    pub roots: RwLock<Arc<RootKeys>>,
    /// `None`: the token does not offer what suite 0001 needs.
    pub iv_source: Option<IvSource>,
    /// Names this run of the module in records: Unix seconds at its start.
    pub epoch: u64,
    breaker: Mutex<Breaker>,
    era: AtomicU64,
    pub latch: Latch,
    pub buried: Buried,
    /// Per thread, and last for the host's own: nanoseconds since `started` by which its present call must return; 0 while it is
    /// idle.
    calls: Box<[AtomicU64]>,
    started: Instant,
    fault: watch::Sender<Option<Arc<str>>>,
    /// Of the fault, once there is one.
    fault_class: OnceLock<Class>,
}

impl ThreadHost {
    /// Opens the token, holds it against its manifest, runs the known-answer tests, starts the threads.
    pub fn start(config: TokenConfig, data_directory: &Path, buried: Buried) -> Result<Self, OpenError> {
        let threads = config.threads();
        let host = Self::open(config, data_directory, None, buried)?;
        if let Err(error) = host.spawn_threads(threads) {
            host.stop();
            return Err(error);
        }
        Ok(host)
    }

    /// The same without the threads. `given`: the PIN, where another process read it.
    pub(super) fn open(
        config: TokenConfig,
        data_directory: &Path,
        given: Option<Pin>,
        buried: Buried,
    ) -> Result<Self, OpenError> {
        let manifest = Manifest::load(&config.manifest_source()?)?;
        let source = config.pin_source()?;
        let token = open::open(&config, data_directory, given)?;
        let (module, latch) = (Arc::clone(&token.module), token.latch.clone());
        let opened = Self::test(config, manifest, token, buried);
        if let Err(error) = &opened {
            open::latch_for(error, &latch, &source);
            open::finalise(&module);
        }
        opened
    }

    fn test(config: TokenConfig, manifest: Manifest, token: OpenToken, buried: Buried) -> Result<Self, OpenError> {
        for warning in &token.warnings {
            tracing::warn!(serial = %token.info.serial, "{warning}");
        }
        let roots = RootKeys::open(&token.session, &manifest, &token.info.serial)?;
        let offered = token.module.mechanisms(token.info.slot)?;
        let answers = known_answer::run(&token.session, token.info.vendor(), &offered)?;
        if let Some(wrong) = answers.iter().find(|answer| answer.must_stop()) {
            return Err(OpenError::KnownAnswer(wrong.to_string()));
        }
        if let Some(hole) = probe::run(&token.session)?.into_iter().find(Probe::must_refuse) {
            return Err(OpenError::SelfTest(format!(
                "this does not hold: {} ({})",
                hole.name, hole.consequence
            )));
        }
        let threads = config.threads();
        let iv_source = iv::source(&token.session, &offered);
        let shared = Arc::new(Shared {
            pin_source: config.pin_source()?,
            queue: Queue::new(config.queue_items, threads, config.weights.clone()),
            handles: Handles::new(config.cached_handles),
            usage: Usage::new(config.key_ceilings()),
            meters: TokenMeters::new(&config.place),
            serial: token.info.serial.as_str().into(),
            manifest,
            module: token.module,
            info: token.info,
            keeper: Mutex::new(Some(token.session)),
            has_keeper: AtomicBool::new(true),
            roots: RwLock::new(Arc::new(roots)),
            iv_source,
            epoch: u64::try_from(SystemClock.now().unix_ms() / 1000).unwrap_or(0),
            breaker: Mutex::new(Breaker::closed(Instant::now())),
            era: AtomicU64::new(1),
            latch: token.latch,
            buried,
            calls: (0..=threads).map(|_| AtomicU64::new(0)).collect(),
            started: Instant::now(),
            fault: watch::Sender::new(None),
            fault_class: OnceLock::new(),
            config,
        });
        Ok(Self {
            shared,
            threads: Mutex::new(Some(Vec::with_capacity(threads + 1))),
        })
    }

    /// Opens a session for each thread, and starts what `body` makes of it.
    pub(super) fn spawn_sessions<B: FnOnce() + Send + 'static>(
        &self,
        threads: usize,
        mut body: impl FnMut(SessionThread) -> B,
    ) -> Result<(), OpenError> {
        for index in 0..threads {
            let session = Session::open(&self.shared.module, self.shared.info.slot, Access::ReadWrite)?;
            let thread = SessionThread::new(Arc::clone(&self.shared), session, index);
            self.keep(spawn(format!("token-{index}"), body(thread))?);
        }
        Ok(())
    }

    fn spawn_threads(&self, threads: usize) -> Result<(), OpenError> {
        self.spawn_sessions(threads, |thread| move || thread.run())?;
        let watched = Arc::clone(&self.shared);
        self.keep(spawn("token-watchdog".into(), move || watchdog::run(&watched))?);
        Ok(())
    }

    fn keep(&self, thread: JoinHandle<()>) {
        lock(&self.threads).get_or_insert_default().push(thread);
    }

    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Waits until the threads have ended by themselves, then closes the module.
    pub(super) fn join_and_close(&self) {
        if let Some(threads) = lock(&self.threads).take() {
            self.shared.join_and_close(threads);
        }
    }

    /// Turns to `Some(why)` once, when the token cannot be served any more by this process. The server then ends it.
    pub fn fault(&self) -> watch::Receiver<Option<Arc<str>>> {
        self.shared.fault.subscribe()
    }
}

impl Host for ThreadHost {
    fn submit(&self, job: Job) {
        if let Some(fault) = self.shared.fault_text() {
            let _ = job.reply.send(Err(TokenError::Unavailable(fault)));
            return;
        }
        let deadline = job.deadline;
        work::answer_refused(self.shared.queue.push(work::split(job), deadline), &self.shared.meters);
    }

    fn status(&self) -> HostStatus {
        let shared = &self.shared;
        HostStatus {
            serial: Arc::clone(&shared.serial),
            model: shared.info.model.clone(),
            software_token: report::is_software_token(&shared.info),
            fault: shared.fault_text(),
            breaker: lock(&shared.breaker).state(),
            worker_epoch: shared.epoch,
            session_threads: shared.config.threads(),
            cached_handles: shared.handles.len() as u64,
        }
    }

    fn serves(&self) -> bool {
        self.shared.fault.borrow().is_none()
    }

    fn take_uses(&self) -> KeyUses {
        self.shared.usage.take()
    }

    fn worker_epoch(&self) -> u64 {
        self.shared.epoch
    }

    fn distrust(&self, why: &str) -> TokenError {
        self.shared.fail(Class::WrongAnswer, why)
    }

    fn stop(&self) {
        self.shared.queue.close();
        let Some(threads) = lock(&self.threads).take() else {
            return; // stopped before
        };
        let shared = Arc::clone(&self.shared);
        let closing = match spawn("token-close".into(), move || shared.join_and_close(threads)) {
            Ok(closing) => closing,
            Err(error) => return tracing::error!(%error, "the token is not closed"),
        };
        while !closing.is_finished() {
            if self.shared.is_hung() {
                // A thread is inside the module and may never come back: joining would hang, finalising would crash.
                tracing::error!(serial = %self.shared.serial, "a call into the module hangs: the token is not closed");
                return;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

impl Shared {
    pub fn roots(&self) -> Arc<RootKeys> {
        Arc::clone(&self.roots.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The present keeper's. What another keeper unwrapped is dead, and its handles may name other keys: whoever worked with one looks
    /// here before and after.
    pub fn era(&self) -> u64 {
        self.era.load(Ordering::SeqCst)
    }

    /// To be called before a keeper closes.
    pub fn end_era(&self) {
        self.has_keeper.store(false, Ordering::SeqCst);
        self.era.fetch_add(1, Ordering::SeqCst);
    }

    pub fn class_of(&self, error: &CallError) -> Class {
        error.class(self.info.vendor())
    }

    pub fn fault_text(&self) -> Option<Arc<str>> {
        self.fault.borrow().clone()
    }

    pub fn fault_class(&self) -> Option<Class> {
        self.fault_class.get().copied()
    }

    /// Counts a failure that was cured, once for all threads that it met. `true` if that is one too many.
    pub fn opens_with_another_failure(&self) -> bool {
        let mut breaker = lock(&self.breaker);
        breaker.failed(Class::Session, Instant::now(), 0.0);
        breaker.state() != BreakerState::Closed
    }

    /// Latches the token if a call into the module is longer under way than it may be (E11).
    pub fn fail_if_hung(&self) -> bool {
        let hung = self.is_hung();
        if hung {
            let limit = self.config.call_deadline_ms;
            let why = format!("a call into the PKCS#11 module did not return within {limit} ms");
            self.fail(Class::Hang, &why);
        }
        hung
    }

    /// Latches the token in memory, for E9 and E13 on disk, too.
    pub fn fail(&self, class: Class, why: &str) -> TokenError {
        if self.fault_class() != Some(class) {
            match class {
                Class::Pin => latch_on_disk(&self.latch, class, why, Some(pin::attempt(&self.pin_source))),
                Class::WrongAnswer => latch_on_disk(&self.latch, class, why, None),
                _ => {}
            }
        }
        self.latch(class, why)
    }

    /// Latches the token in memory. The first fault is the one that is told.
    pub fn latch(&self, class: Class, why: &str) -> TokenError {
        let text: Arc<str> = format!("token {}: {} ({})", self.serial, why, class.name()).into();
        let first = self.fault.send_if_modified(|fault| {
            let first = fault.is_none();
            if first {
                let _ = self.fault_class.set(class);
                *fault = Some(Arc::clone(&text));
            }
            first
        });
        if first {
            tracing::error!(serial = %self.serial, class = class.name(), "{why}: the token is latched");
            lock(&self.breaker).latch();
        }
        match class {
            Class::WrongAnswer => TokenError::WrongAnswer(text),
            _ => TokenError::Unavailable(text),
        }
    }

    /// Runs calls into the module where the watchdog sees them. `slot`: of the thread; `deadlines`: how many call deadlines they
    /// may take together.
    pub fn watched<T>(&self, slot: usize, deadlines: u32, calls: impl FnOnce() -> T) -> T {
        let limit = Duration::from_millis(self.config.call_deadline_ms) * deadlines;
        self.calls[slot].store(nanoseconds(self.started.elapsed() + limit), Ordering::Relaxed);
        let result = calls();
        self.calls[slot].store(0, Ordering::Relaxed);
        result
    }

    pub fn is_hung(&self) -> bool {
        let now = nanoseconds(self.started.elapsed());
        self.calls.iter().any(|until| {
            let until = until.load(Ordering::Relaxed);
            until != 0 && until < now
        })
    }

    fn join_and_close(&self, threads: Vec<JoinHandle<()>>) {
        for thread in threads {
            if thread.join().is_err() {
                tracing::error!(serial = %self.serial, "a token thread panicked");
            }
        }
        let keeper = lock(&self.keeper).take();
        let closed = self.watched(self.calls.len() - 1, CLOSING_MAY_TAKE, || {
            drop(keeper);
            self.module.finalize()
        });
        match closed {
            Ok(()) => tracing::info!(serial = %self.serial, "token closed"),
            Err(error @ ModuleError::SessionsOpen(_)) => tracing::warn!(%error, "module left as it is"),
            Err(error) => tracing::warn!(%error, "module not finalised"),
        }
    }
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// A lock whose holder panicked is still good: what it guards is changed in single steps.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(super) fn latch_on_disk(latch: &Latch, class: Class, why: &str, attempt: Option<String>) {
    if let Err(error) = latch.set(class, why, attempt) {
        tracing::error!(%error, path = %latch.path().display(), "the latch could not be written");
    }
}

fn spawn(name: String, body: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, OpenError> {
    std::thread::Builder::new()
        .name(name)
        .spawn(body)
        .map_err(OpenError::Thread)
}

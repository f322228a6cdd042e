//! `isolation = "thread"`: the module in this process, one session per thread, one keeper session that is never closed.
//!
//! A fault that the thread form cannot cure (a hung call, a dead token, a wrong answer) latches the token here and is told to the
//! server through [`ThreadHost::fault`]; the server ends the process with that message, for its supervisor to restart.

use std::{
    path::Path,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use keyreeve_envelope::{KeyId, KeyVersion};
use keyreeve_pkcs11::{Access, Class, Module, ModuleError, Pin, Session, TokenInfo};
use tokio::sync::watch;

use crate::{
    clock::{Clock, SystemClock},
    model::IvSource,
};

use super::{
    KeyUses, TokenError,
    config::{PinSource, TokenConfig},
    handles::Handles,
    host::{Host, HostStatus, Job},
    iv, known_answer,
    latch::Latch,
    manifest::Manifest,
    open::{self, OpenError, OpenToken},
    probe::{self, Probe},
    queue::Queue,
    report,
    root_keys::RootKeys,
    session_thread::SessionThread,
    usage::Usage,
    watchdog,
    work::{self, Work},
};

/// Says whether a version was destroyed: its blob is never unwrapped again, restored backups included.
pub type Buried = Arc<dyn Fn(KeyId, KeyVersion) -> bool + Send + Sync>;

/// Hosts one token in threads of this process.
pub struct ThreadHost {
    shared: Arc<Shared>,
    threads: Mutex<Vec<JoinHandle<()>>>,
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
    /// Owns the login and every unwrapped key: a session object dies with the session that made it.
    pub keeper: Mutex<Option<Session>>,
    pub roots: RwLock<Arc<RootKeys>>,
    /// `None`: the token does not offer what suite 0001 needs.
    pub iv_source: Option<IvSource>,
    /// Names this run of the module in records: Unix seconds at its start.
    pub epoch: u64,
    pub failures: AtomicU32,
    pub latch: Latch,
    pub buried: Buried,
    /// Per thread: nanoseconds since `started` at which its present call began; 0 while it is idle.
    pub calls: Box<[AtomicU64]>,
    pub started: Instant,
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
        let token = open::open(&config, data_directory, given)?;
        let module = Arc::clone(&token.module);
        let opened = Self::test(config, manifest, token, buried);
        if opened.is_err() {
            open::finalise(&module);
        }
        opened
    }

    fn test(config: TokenConfig, manifest: Manifest, token: OpenToken, buried: Buried) -> Result<Self, OpenError> {
        for warning in &token.warnings {
            tracing::warn!(serial = %token.info.serial, "{warning}");
        }
        let roots = match RootKeys::open(&token.session, &manifest, &token.info.serial) {
            Ok(roots) => roots,
            Err(error) => {
                if error.is_wrong_answer() {
                    latch_on_disk(&token.latch, Class::WrongAnswer, &error.to_string());
                }
                return Err(error.into());
            }
        };
        let offered = token.module.mechanisms(token.info.slot)?;
        if let Some(failed) = known_answer::run(&token.session, &offered)
            .into_iter()
            .find(|test| test.must_stop())
        {
            latch_on_disk(&token.latch, Class::WrongAnswer, &failed.to_string());
            return Err(OpenError::SelfTest(failed.to_string()));
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
            serial: token.info.serial.as_str().into(),
            manifest,
            module: token.module,
            info: token.info,
            keeper: Mutex::new(Some(token.session)),
            roots: RwLock::new(Arc::new(roots)),
            iv_source,
            epoch: u64::try_from(SystemClock.now().unix_ms() / 1000).unwrap_or(0),
            failures: AtomicU32::new(0),
            latch: token.latch,
            buried,
            calls: (0..threads).map(|_| AtomicU64::new(0)).collect(),
            started: Instant::now(),
            fault: watch::Sender::new(None),
            fault_class: OnceLock::new(),
            config,
        });
        Ok(Self {
            shared,
            threads: Mutex::new(Vec::with_capacity(threads + 1)),
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
            lock(&self.threads).push(spawn(format!("token-{index}"), body(thread))?);
        }
        Ok(())
    }

    fn spawn_threads(&self, threads: usize) -> Result<(), OpenError> {
        self.spawn_sessions(threads, |thread| move || thread.run())?;
        let watched = Arc::clone(&self.shared);
        lock(&self.threads).push(spawn("token-watchdog".into(), move || watchdog::run(&watched))?);
        Ok(())
    }

    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Waits until the threads have ended by themselves, then closes the module.
    pub(super) fn join_and_close(&self) {
        let threads: Vec<_> = lock(&self.threads).drain(..).collect();
        self.join(threads);
    }

    fn join(&self, threads: Vec<JoinHandle<()>>) {
        for thread in threads {
            if thread.join().is_err() {
                tracing::error!(serial = %self.shared.serial, "a token thread panicked");
            }
        }
        drop(lock(&self.shared.keeper).take());
        match self.shared.module.finalize() {
            Ok(()) => tracing::info!(serial = %self.shared.serial, "token closed"),
            Err(error @ ModuleError::SessionsOpen(_)) => tracing::warn!(%error, "module left as it is"),
            Err(error) => tracing::warn!(%error, "module not finalised"),
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
        work::answer_refused(self.shared.queue.push(work::split(job), deadline));
    }

    fn status(&self) -> HostStatus {
        let shared = &self.shared;
        HostStatus {
            serial: Arc::clone(&shared.serial),
            model: shared.info.model.clone(),
            software_token: report::is_software_token(&shared.info),
            fault: shared.fault_text(),
            worker_epoch: shared.epoch,
            session_threads: shared.calls.len(),
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
        let threads: Vec<_> = lock(&self.threads).drain(..).collect();
        if threads.is_empty() {
            return; // stopped before
        }
        while !threads.iter().all(JoinHandle::is_finished) {
            if self.shared.is_hung() {
                // A thread is inside the module and may never come back: joining would hang, finalising would crash.
                tracing::error!(serial = %self.shared.serial, "a call into the module hangs: the token is not closed");
                return;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        self.join(threads);
    }
}

impl Shared {
    pub fn roots(&self) -> Arc<RootKeys> {
        Arc::clone(&self.roots.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub fn fault_text(&self) -> Option<Arc<str>> {
        self.fault.borrow().clone()
    }

    pub fn fault_class(&self) -> Option<Class> {
        self.fault_class.get().copied()
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

    /// Latches the token: in memory always, on disk for E9 and E13. The first fault is the one that is told.
    pub fn fail(&self, class: Class, why: &str) -> TokenError {
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
            if matches!(class, Class::Pin | Class::WrongAnswer) {
                latch_on_disk(&self.latch, class, why);
            }
        }
        match class {
            Class::WrongAnswer => TokenError::WrongAnswer(text),
            _ => TokenError::Unavailable(text),
        }
    }

    /// The call deadline.
    pub fn call_deadline(&self) -> Duration {
        Duration::from_millis(self.config.call_deadline_ms)
    }

    /// Nanoseconds on the clock of `calls`; never 0.
    pub fn now_ns(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_nanos())
            .unwrap_or(u64::MAX)
            .max(1)
    }

    pub fn is_hung(&self) -> bool {
        let limit = u64::try_from(self.call_deadline().as_nanos()).unwrap_or(u64::MAX);
        let now = self.now_ns();
        self.calls.iter().any(|began| {
            let began = began.load(Ordering::Relaxed);
            began != 0 && now.saturating_sub(began) > limit
        })
    }
}

/// A lock whose holder panicked is still good: what it guards is changed in single steps.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn latch_on_disk(latch: &Latch, class: Class, why: &str) {
    if let Err(error) = latch.set(class, why, None) {
        tracing::error!(%error, path = %latch.path().display(), "the latch could not be written");
    }
}

fn spawn(name: String, body: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, OpenError> {
    std::thread::Builder::new()
        .name(name)
        .spawn(body)
        .map_err(OpenError::Thread)
}

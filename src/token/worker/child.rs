//! The worker process: opens the token it is told of, serves calls from its standard input, ends with it.
//!
//! It ends, too, when the token fails (the service starts another one) and when a call hangs: then without joining its threads,
//! one of which is inside the module for ever.

use std::{
    collections::HashSet,
    io,
    os::{fd::AsFd as _, unix::net::UnixStream},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use keyreeve_envelope::{KeyId, KeyVersion};
use keyreeve_pkcs11::exit_now;
use zeroize::Zeroize;

use super::{
    codec,
    counters::Counters,
    frame::Frames,
    inbox::{Inbox, Taken},
    pulse::{PULSE_EVERY, Pulse},
    sandbox::{Held, Sandbox},
    start::{self, News, Ready, Start, Trouble},
};
use crate::{
    store::listed_tombstones,
    token::{
        Buried, Host as _, OpenError, ThreadHost, TokenConfig,
        session_thread::SessionThread,
        thread_host::{Shared, lock},
    },
};

/// How often hung calls and a failed token are looked for.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Exit codes, for the log of who reads it.
const DONE: u8 = 0;
const FAILED: u8 = 1;
const FAULT: i32 = 3;

/// Serves until the service closes the socket. `stdin`: the socket. Returns the exit code.
pub fn run() -> u8 {
    match serve() {
        Ok(code) => code,
        Err(error) => {
            tracing::error!(
                error = &error as &(dyn std::error::Error + 'static),
                "the worker's socket failed"
            );
            FAILED
        }
    }
}

fn serve() -> io::Result<u8> {
    let mut stream = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    // A buffer of its own, wiped here: the PIN is in it. Nothing follows before the service has heard that this worker is ready.
    let (told, pin) = match Frames::new().read_one(&mut stream)? {
        Some(frame) => start::start(frame)?,
        None => return Ok(DONE),
    };
    let Start {
        token,
        data_directory,
        tombstones,
        epoch,
    } = told;
    // Counted here: in the sandbox the limits of the control group cannot be read.
    let threads = token.threads();
    let token = TokenConfig {
        session_threads: threads,
        ..token
    };
    let counters = Counters::install();
    let opened = shut_in(&token, &data_directory, &tombstones)
        .and_then(|()| ThreadHost::open(token, &data_directory, Some(pin), buried(tombstones)));
    let host = match opened {
        Ok(host) => host,
        Err(error) => {
            let inbox = Inbox::new(stream, threads);
            tell(&inbox, &News::Failed(trouble(&error)))?;
            return Ok(FAILED);
        }
    };
    tracing::info!(serial = %host.status().serial, worker = epoch, "worker started");
    let inbox = Arc::new(Inbox::new(stream, threads));
    let status = host.status();
    let ready = Ready {
        serial: status.serial.to_string(),
        model: status.model,
        software_token: status.software_token,
        session_threads: status.session_threads,
    };
    tell(&inbox, &News::Ready(ready))?;

    let ended = Arc::new(AtomicBool::new(false));
    let watch = Watch {
        shared: Arc::clone(host.shared()),
        inbox: Arc::clone(&inbox),
        counters,
        ended: Arc::clone(&ended),
    };
    let watching = std::thread::Builder::new()
        .name("token-watchdog".into())
        .spawn(move || watch.run())?;
    if let Err(error) = host.spawn_sessions(threads, |thread| {
        let inbox = Arc::clone(&inbox);
        move || work(thread, &inbox)
    }) {
        tell(&inbox, &News::Failed(trouble(&error)))?;
        exit_now(FAULT);
    }
    host.join_and_close();
    ended.store(true, Ordering::Relaxed);
    let _ = watching.join();
    Ok(DONE)
}

/// Enters the sandbox. From here on only the module's own code, and what it can reach, is loaded.
fn shut_in(token: &TokenConfig, data_directory: &Path, tombstones: &Path) -> Result<(), OpenError> {
    let held = Sandbox::prepare(token, data_directory, tombstones).and_then(|sandbox| sandbox.enter());
    match held {
        Ok(Held::Whole) => {}
        Ok(Held::Partly) => {
            tracing::info!("the kernel's Landlock is older: the module is held back from files, not in every way")
        }
        Ok(Held::CallsOnly) => {
            tracing::warn!(
                "the kernel has no Landlock: the module is not held back from files; `keyreeve doctor` shows what holds"
            );
        }
        Err(error) => return Err(OpenError::Worker(error.to_string())),
    }
    Ok(())
}

/// One session thread: takes calls, answers them together.
fn work(mut thread: SessionThread, inbox: &Inbox) {
    let (mut taken, mut out) = (Vec::new(), Vec::new());
    loop {
        match inbox.take(&mut taken) {
            Ok(true) => {}
            Ok(false) => return,
            Err(error) => {
                tracing::error!(
                    error = &error as &(dyn std::error::Error + 'static),
                    "the worker's socket failed"
                );
                exit_now(FAULT);
            }
        }
        for Taken { id, call, deadline } in taken.drain(..) {
            let began = Instant::now();
            let outcome = thread.call(&call, deadline);
            if thread.shared.fault_text().is_some() {
                // Not answered: the service hands it to a worker that can, or answers for all of them.
                break;
            }
            codec::put_outcome(&mut out, id, &outcome, began.elapsed());
        }
        // A failed write: the service is gone, and the next read says so.
        let _ = inbox.answer(&out, || thread.shared.handles.len() as u64);
        out.zeroize();
        out.clear();
    }
}

/// Ends the process for what its threads cannot cure, and tells the service what there is to tell.
struct Watch {
    shared: Arc<Shared>,
    inbox: Arc<Inbox>,
    counters: Counters,
    ended: Arc<AtomicBool>,
}

impl Watch {
    fn run(&self) {
        let mut pulse_at = Instant::now();
        while !self.ended.load(Ordering::Relaxed) {
            self.shared.fail_if_hung();
            if let Some((class, text)) = self.shared.fault_class().zip(self.shared.fault_text()) {
                let _ = tell(&self.inbox, &News::Fault(Trouble::of_class(class, &text)));
                exit_now(FAULT);
            }
            if Instant::now() >= pulse_at {
                pulse_at = Instant::now() + PULSE_EVERY;
                self.pulse();
            }
            std::thread::sleep(LOOK_EVERY);
        }
        self.pulse();
    }

    /// Fails when the service is gone: then the session threads find out, too.
    fn pulse(&self) {
        for pulse in Pulse::all(self.counters.increases(), self.shared.usage.take()) {
            let _ = tell(&self.inbox, &News::Pulse(pulse));
        }
    }
}

fn tell(inbox: &Inbox, news: &News) -> io::Result<()> {
    let mut out = Vec::new();
    start::put_news(&mut out, news);
    inbox.send(&out)
}

fn trouble(error: &OpenError) -> Trouble {
    Trouble {
        text: error.to_string(),
        class: None,
        is_final: error.is_final(),
    }
}

/// Whether the tombstone file lists a version. The file is read again when it has changed: it grows by a line for each destruction.
fn buried(path: PathBuf) -> Buried {
    let known = Mutex::new(Known::default());
    Arc::new(move |key, version| lock(&known).lists(&path, key, version))
}

#[derive(Default)]
struct Known {
    /// Length and time of the last write, as of the last reading.
    stamp: Option<(u64, SystemTime)>,
    listed: HashSet<(KeyId, KeyVersion)>,
}

impl Known {
    /// A file that cannot be read buries everything: better no answer than a destroyed key's.
    fn lists(&mut self, path: &Path, key: KeyId, version: KeyVersion) -> bool {
        let stamp = match std::fs::metadata(path) {
            Ok(file) => file.modified().ok().map(|modified| (file.len(), modified)),
            // No version was ever destroyed.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return false,
            Err(_) => return true,
        };
        if stamp.is_none() || stamp != self.stamp {
            match listed_tombstones(path) {
                Ok(listed) => (self.listed, self.stamp) = (listed, stamp),
                Err(error) => {
                    tracing::error!(error = &error as &(dyn std::error::Error + 'static), path = %path.display(), "the tombstones cannot be read");
                    return true;
                }
            }
        }
        self.listed.contains(&(key, version))
    }
}

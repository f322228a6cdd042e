//! What the tests share: a signer to whom faults happen, its controller, and signers in processes of their own.

#![allow(dead_code)] // each test file uses a part of it

use crate::support::{TestModule, open};
use keyreeve_faultmod::{Controller, Schedule, variable};
use keyreeve_pkcs11::{CallError, Mechanism, ObjectHandle, Session, presets};
use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

pub const PATIENCE: Duration = Duration::from_secs(20);

/// Sets a variable of the module, before the module is loaded.
pub fn set(name: &str, value: impl AsRef<OsStr>) {
    // SAFETY: the child process of a test runs that one test, on one thread, and nothing has started another yet.
    unsafe { std::env::set_var(name, value) };
}

/// A controller whose socket the module of this process, and of processes started from it, will connect to.
pub fn controller(test: &TestModule, schedule: Schedule) -> Controller {
    controller_at(test, "control", schedule)
}

/// The same at a socket of this name: one after another in one test.
pub fn controller_at(test: &TestModule, name: &str, schedule: Schedule) -> Controller {
    let path = test.directory.join(name);
    set(variable::CONTROL, &path);
    Controller::listen(&path, schedule).unwrap()
}

/// Waits for a condition, not a time.
pub fn until(condition: impl Fn() -> bool) {
    let started = Instant::now();
    while !condition() {
        assert!(started.elapsed() < PATIENCE, "it did not happen");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// The lines that this process's module, and those started from it, have written so far.
pub fn trace_to(test: &TestModule) -> PathBuf {
    let path = test.directory.join("trace.jsonl");
    set(variable::TRACE, &path);
    path
}

/// A session and an HMAC key in it; to sign is one C_SignInit and one C_Sign.
pub struct Signer {
    pub session: Session,
    pub key: ObjectHandle,
}

impl Signer {
    pub fn new(test: &TestModule) -> Signer {
        Signer::with(open(&test.load()))
    }

    pub fn with(session: Session) -> Signer {
        let key = session
            .generate_key(Mechanism::GENERIC_SECRET_KEY_GEN, &presets::version_key_at_birth())
            .unwrap();
        Signer { session, key }
    }

    pub fn sign(&self) -> Result<[u8; 64], CallError> {
        let mut out = [0; 64];
        self.session.hmac_sha512_into(self.key, b"what is signed", &mut out)?;
        Ok(out)
    }

    /// `ok`, or the return code.
    pub fn try_sign(&self) -> String {
        match self.sign() {
            Ok(_) => "ok".to_owned(),
            Err(error) => error.code.to_string(),
        }
    }
}

const WORKER: &str = "FAULTMOD_TEST_WORKER";

/// This test once more, in a process of its own, as a signer that takes orders. Its body must begin with [`work`].
pub struct Worker {
    child: Child,
    orders: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

/// In a worker's process: signs once for every line until there are no more, and returns true.
#[allow(clippy::print_stdout)]
pub fn work(test: &TestModule) -> bool {
    if std::env::var_os(WORKER).is_none() {
        return false;
    }
    let signer = Signer::new(test);
    println!("\nworker: ready");
    let signed: Vec<String> = std::io::stdin()
        .lines()
        .map_while(Result::ok)
        .map(|_| {
            let answer = signer.try_sign();
            println!("\nworker: {answer}");
            answer
        })
        .collect();
    assert!(!signed.is_empty(), "a worker without work");
    true
}

impl Worker {
    /// Returns when it is logged in: SoftHSM's C_Login hides the token from whoever starts meanwhile (`docs/tokens.md`).
    pub fn start() -> Worker {
        // The same arguments: the name of this test, which `support` gave to this process.
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(std::env::args().skip(1))
            .env(WORKER, "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut worker = Worker {
            orders: child.stdin.take(),
            answers: BufReader::new(child.stdout.take().unwrap()),
            child,
        };
        assert_eq!(worker.outcome().as_deref(), Some("ready"));
        worker
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn begin(&mut self) {
        writeln!(self.orders.as_ref().unwrap(), "sign").unwrap();
    }

    /// What came of it; `None` if the process ended first.
    pub fn outcome(&mut self) -> Option<String> {
        let mut lines = self.answers.by_ref().lines().map_while(Result::ok);
        lines.find_map(|line| line.strip_prefix("worker: ").map(str::to_owned))
    }

    pub fn sign(&mut self) -> Option<String> {
        self.begin();
        self.outcome()
    }

    pub fn kill(mut self) -> ExitStatus {
        self.child.kill().unwrap();
        self.child.wait().unwrap()
    }

    /// No more work; how it ended.
    pub fn end(mut self) -> ExitStatus {
        self.orders = None;
        self.child.wait().unwrap()
    }
}

/// A hung worker must not outlive a test that failed.
impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

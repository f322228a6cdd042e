//! A host on a throwaway token, and short ways to ask it.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use keyreeve::{
    model::{Blob, Residency},
    token::{
        Answer, Call, EnvelopeInput, Host, HostStatus, Isolation, Job, KeyUses, Lane, OpenError, ProcessHost, Program,
        ThreadHost, TokenConfig, TokenError, host::MadeKey, host::Place, init,
    },
};
use keyreeve_envelope::{
    EnvironmentId, KeyId, KeyVersion,
    header::{Header, Suite},
    prf_commit::{self, MessageKeys},
};
use keyreeve_faultmod::{Controller, Fault, Function, ReturnCode, Rule, Schedule, When};
use tokio::sync::oneshot;

use crate::support::{CONTROL, PIN, TestModule};

pub fn config(test: &TestModule) -> TokenConfig {
    let pin_file = test.directory.join("pin");
    if !pin_file.exists() {
        std::fs::write(&pin_file, format!("{PIN}\n")).unwrap();
    }
    TokenConfig {
        place: "home/1".into(),
        module: test.path.clone(),
        module_arguments: None,
        label: Some("first".into()),
        serial: None,
        slot: None,
        pin_file: Some(pin_file),
        pin_fd: None,
        pin_credential: None,
        environments: vec![],
        manifest: test.directory.join("manifest.json"),
        manifest_sha256: String::new(),
        group_id: None,
        custodians: vec![],
        quorum: None,
        isolation: keyreeve::token::Isolation::Thread,
        session_threads: 2,
        queue_items: 10_000,
        weights: Default::default(),
        key_operations_per_second: 0,
        network: false,
        module_reads: vec![],
        module_writes: vec![],
        key_bytes_per_day: 0,
        cached_handles: 4_096,
        call_deadline_ms: 2_000,
        insecure_test_call_delay_us: 0,
    }
}

/// The configuration of a token that `init` made ready.
pub fn initialised(test: &TestModule) -> TokenConfig {
    let mut config = config(test);
    config.manifest_sha256 = init(&config, &data(test)).unwrap().manifest_sha256;
    config
}

pub fn data(test: &TestModule) -> PathBuf {
    test.directory.clone()
}

pub fn start(test: &TestModule, config: TokenConfig) -> Result<ThreadHost, OpenError> {
    ThreadHost::start(config, &data(test), Arc::new(|_, _| false))
}

/// In which form the tests of this process serve their token.
pub static ISOLATION: std::sync::OnceLock<Isolation> = std::sync::OnceLock::new();

/// Steers the modules of this process and of its workers: for tests that run `steered through faultmod`.
pub fn controller(test: &TestModule) -> Controller {
    Controller::listen(&test.directory.join(CONTROL), Schedule::default()).unwrap()
}

/// A fault that strikes once, the next call of `function`.
pub fn once(function: Function, fault: Fault) -> Schedule {
    Schedule::new(1).rule(Rule::on(function, fault).times(1))
}

/// Every answer that a code may be: the call is not made, or made and its answer lost.
pub fn returned(code: ReturnCode, when: When) -> Fault {
    Fault::Return { code, when }
}

/// A host in the form of [`ISOLATION`], threads unless that says otherwise.
pub fn serve(test: &TestModule, config: TokenConfig) -> Result<TestHost, OpenError> {
    match ISOLATION.get() {
        Some(Isolation::Process) => workers(test, config).map(TestHost::Process),
        _ => start(test, config).map(TestHost::Thread),
    }
}

/// A host for which the version at `place` is destroyed.
pub fn bury(test: &TestModule, config: TokenConfig, place: Place) -> TestHost {
    let line = format!("{} {} 2026-01-01T00:00:00.000Z\n", place.key, place.version);
    std::fs::write(test.directory.join("tombstones"), line).unwrap();
    match ISOLATION.get() {
        Some(Isolation::Process) => serve(test, config).unwrap(),
        _ => {
            let buried = Arc::new(move |key, _| key == place.key);
            TestHost::Thread(ThreadHost::start(config, &data(test), buried).unwrap())
        }
    }
}

/// Worker processes for the token, and the runtime that supervises them.
pub fn workers(test: &TestModule, mut config: TokenConfig) -> Result<Workers, OpenError> {
    if config.module.to_string_lossy().contains("faultmod") {
        // It loads the real module, and is steered over a socket: to the sandbox it is a vendor's library of its own kind.
        let real = PathBuf::from(std::env::var_os("FAULTMOD_MODULE").unwrap());
        config.module_reads.push(real.parent().unwrap().to_owned());
        config.module_writes.push(test.directory.clone());
        config.network = true;
    }
    workers_of(program(), test, config)
}

fn program() -> Program {
    Program {
        path: env!("CARGO_BIN_EXE_keyreeve").into(),
        arguments: ["token-worker", "--log-level", "warn"].map(OsString::from).to_vec(),
    }
}

/// The same, of another program.
pub fn workers_of(program: Program, test: &TestModule, config: TokenConfig) -> Result<Workers, OpenError> {
    workers_at(program, &data(test), config)
}

/// Keyreeve's own, for a token that is no [`TestModule`].
pub fn workers_in(directory: &Path, config: TokenConfig) -> Result<Workers, OpenError> {
    workers_at(program(), directory, config)
}

fn workers_at(program: Program, directory: &Path, config: TokenConfig) -> Result<Workers, OpenError> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let tombstones = directory.join("tombstones");
    let host = ProcessHost::start(program, config, directory, &tombstones, runtime.handle())?;
    Ok(Workers { host, runtime })
}

pub struct Workers {
    pub host: ProcessHost,
    // Dropped after the host, which it supervises.
    #[expect(dead_code, reason = "it runs the supervisor")]
    runtime: tokio::runtime::Runtime,
}

/// A host of either form.
pub enum TestHost {
    Thread(ThreadHost),
    Process(Workers),
}

impl TestHost {
    /// The process whose module gets the next call.
    pub fn pid(&self) -> u32 {
        self.serving().expect("a worker serves")
    }

    /// The same, or `None` while none serves.
    pub fn serving(&self) -> Option<u32> {
        match self {
            Self::Thread(host) => host.serves().then(std::process::id),
            Self::Process(workers) => workers.host.workers().0,
        }
    }

    fn host(&self) -> &dyn Host {
        match self {
            Self::Thread(host) => host,
            Self::Process(workers) => &workers.host,
        }
    }
}

impl Host for TestHost {
    fn submit(&self, job: Job) {
        self.host().submit(job);
    }

    fn status(&self) -> HostStatus {
        self.host().status()
    }

    fn serves(&self) -> bool {
        self.host().serves()
    }

    fn take_uses(&self) -> KeyUses {
        self.host().take_uses()
    }

    fn worker_epoch(&self) -> u64 {
        self.host().worker_epoch()
    }

    fn distrust(&self, why: &str) -> TokenError {
        self.host().distrust(why)
    }

    fn stop(&self) {
        self.host().stop();
    }
}

pub fn place(number: u8) -> Place {
    Place {
        environment: EnvironmentId::from_bytes([0xaa; 16]),
        key: KeyId::from_bytes([number; 16]),
        version: KeyVersion::FIRST,
    }
}

pub fn ask(host: &dyn Host, call: Call) -> Result<Answer, TokenError> {
    submit(host, call, Lane::of(None, "a"), Duration::from_secs(30))
        .blocking_recv()
        .unwrap()
}

pub fn submit(
    host: &dyn Host,
    call: Call,
    lane: Lane,
    patience: Duration,
) -> oneshot::Receiver<Result<Answer, TokenError>> {
    let (reply, answer) = oneshot::channel();
    host.submit(Job {
        call,
        lane,
        deadline: Instant::now() + patience,
        reply,
    });
    answer
}

pub fn make(host: &dyn Host, place: Place) -> MadeKey {
    make_of(host, place, Suite::PrfCommit)
}

pub fn make_of(host: &dyn Host, place: Place, suite: Suite) -> MadeKey {
    make_in(host, place, suite, Residency::Wrapped).expect("wrapped keys are not in each other's way")
}

/// `None`: the token holds an object of this version.
pub fn make_in(host: &dyn Host, place: Place, suite: Suite, residency: Residency) -> Option<MadeKey> {
    let call = Call::MakeEnvelopeKey {
        place,
        suite,
        residency,
        created_ms: 1,
    };
    match ask(host, call) {
        Ok(Answer::MadeEnvelopeKey(made)) => Some(*made),
        Ok(Answer::Occupied) => None,
        Ok(_) => panic!("another answer"),
        Err(error) => panic!("{error}"),
    }
}

pub fn header(place: Place) -> Header {
    Header::new(Suite::PrfCommit, place.key, place.version, false, 5).unwrap()
}

pub fn input(place: Place) -> EnvelopeInput {
    EnvelopeInput {
        header: header(place).encode(),
        salt: [7; 32],
        ec_hash: [9; 32],
    }
}

pub fn keys_call(blob: &Arc<Blob>, place: Place, count: usize) -> Call {
    Call::EnvelopeKeys {
        blob: Arc::clone(blob),
        place,
        inputs: vec![input(place); count],
    }
}

pub fn keys(host: &dyn Host, blob: &Arc<Blob>, place: Place) -> Result<MessageKeys, TokenError> {
    match ask(host, keys_call(blob, place, 1))? {
        Answer::EnvelopeKeys(mut keys) => Ok(keys.remove(0)),
        _ => panic!("another answer"),
    }
}

/// Seals with one set of keys and opens with the other: they are the same keys, or this fails.
pub fn assert_same(one: &MessageKeys, two: &MessageKeys, place: Place) {
    let mut envelope = Vec::new();
    prf_commit::seal(
        one,
        &header(place),
        &[7; 32],
        &[3; 12],
        &[9; 32],
        b"hello",
        &mut envelope,
    )
    .unwrap();
    let parsed = prf_commit::Envelope::parse(&envelope).unwrap();
    let opened = prf_commit::open(two, &parsed, &[9; 32]).unwrap();
    assert_eq!(opened.as_bytes(), b"hello");
}

//! A host on a throwaway token, and short ways to ask it.

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use keyreeve::{
    model::Blob,
    token::{
        Answer, Call, EnvelopeInput, Host, Job, Lane, OpenError, ThreadHost, TokenConfig, TokenError, host::MadeKey,
        host::Place, init,
    },
};
use keyreeve_envelope::{
    EnvironmentId, KeyId, KeyVersion,
    header::{Header, Suite},
    prf_commit::{self, MessageKeys},
};
use tokio::sync::oneshot;

use crate::support::{PIN, TestModule};

pub fn config(test: &TestModule) -> TokenConfig {
    let pin_file = test.directory.join("pin");
    if !pin_file.exists() {
        std::fs::write(&pin_file, format!("{PIN}\n")).unwrap();
    }
    TokenConfig {
        module: test.path.clone(),
        label: Some("first".into()),
        serial: None,
        slot: None,
        pin_file: Some(pin_file),
        pin_fd: None,
        pin_credential: None,
        environments: vec![],
        manifest: test.directory.join("manifest.json"),
        manifest_sha256: String::new(),
        session_threads: 2,
        queue_items: 10_000,
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

pub fn place(number: u8) -> Place {
    Place {
        environment: EnvironmentId::from_bytes([0xaa; 16]),
        key: KeyId::from_bytes([number; 16]),
        version: KeyVersion::FIRST,
    }
}

pub fn ask(host: &dyn Host, call: Call) -> Result<Answer, TokenError> {
    submit(host, call, Lane(1), Duration::from_secs(30))
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
    match ask(host, Call::MakeEnvelopeKey { place, created_ms: 1 }) {
        Ok(Answer::MadeEnvelopeKey(made)) => *made,
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

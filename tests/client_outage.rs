//! The Rust client against the real service, under load: killed and started again, one of two nodes drained, a certificate rotated,
//! overload (A9, F1). `KEYREEVE_OUTAGE_S=10` makes the outage longer. The rules are those of `docs/clients.md`; what needs a scripted
//! answer is in `clients/rust/tests/`.

#![allow(clippy::unwrap_used)] // all of this file is a test

mod support;

use std::{
    fs,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use keyreeve_client::{
    CircuitState, Client, ClientConfig, ClientError, Code, EventName, KeyListener, KeyWatcher, Pipeline, v1,
};
use support::{ADMIN, Setup, TestServer, key_name, until};
use tokio::task::JoinSet;

const KEY: &str = "dev/shop/orders";
/// At once. Fewer than the retries that a client has in its budget: what hits all of them costs none.
const FEW: usize = 8;
/// At once. More than the retries of the budget: in an outage, none of them counts.
const MANY: usize = 64;

/// Calls of a client, as its events tell them.
#[derive(Clone, Default)]
struct Told(Arc<Mutex<Vec<ToldEvent>>>);

/// Name, reason, tries, wait.
type ToldEvent = (EventName, String, u32, Option<Duration>);

impl Told {
    fn of(&self, name: EventName) -> Vec<(String, u32, Option<Duration>)> {
        let told = self.0.lock().unwrap();
        let mine = told.iter().filter(|event| event.0 == name);
        mine.map(|(_, reason, tries, wait)| (reason.clone(), *tries, *wait))
            .collect()
    }
}

/// As a caller is configured: addresses, and three files in the first server's directory.
fn config(servers: &[&TestServer], told: &Told) -> ClientConfig {
    let addresses: Vec<String> = servers.iter().map(|server| server.listen.to_string()).collect();
    let tls = |name: &str| servers[0].path("tls").join(name);
    let told = told.0.clone();
    ClientConfig::new(
        addresses.join(","),
        tls("server-ca.pem"),
        tls("admin.pem"),
        tls("admin.key"),
    )
    .on_event(move |event| {
        let mut told = told.lock().unwrap();
        told.push((event.name, event.reason.to_owned(), event.tries, event.wait));
    })
}

fn encrypt(text: String) -> v1::EncryptRequest {
    v1::EncryptRequest {
        name: key_name(KEY),
        plaintext: text.into(),
        ..Default::default()
    }
}

fn decrypt(sealed: &v1::EncryptResponse) -> v1::DecryptRequest {
    v1::DecryptRequest {
        name: key_name(KEY),
        ciphertext: sealed.ciphertext.clone(),
        ..Default::default()
    }
}

/// Callers that work until they are told to stop; what failed, and how much was done.
struct Load {
    stop: Arc<AtomicBool>,
    done: Arc<AtomicUsize>,
    tasks: JoinSet<Vec<ClientError>>,
}

impl Load {
    /// `work`: one round of one caller, under a text of its own.
    fn start<F>(callers: usize, work: impl Fn(String) -> F + Clone + Send + 'static) -> Self
    where
        F: Future<Output = Result<(), ClientError>> + Send,
    {
        let (stop, done) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let mut tasks = JoinSet::new();
        for caller in 0..callers {
            let (stop, done, work) = (stop.clone(), done.clone(), work.clone());
            tasks.spawn(async move {
                let mut failed = Vec::new();
                for turn in 0.. {
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    match work(format!("{caller}-{turn}")).await {
                        Ok(()) => _ = done.fetch_add(1, Ordering::Relaxed),
                        Err(error) => failed.push(error),
                    }
                }
                failed
            });
        }
        Self { stop, done, tasks }
    }

    async fn gets_on(&self) {
        let target = self.done.load(Ordering::Relaxed) + 100;
        until("the load gets on", async || self.done.load(Ordering::Relaxed) >= target).await;
    }

    async fn end(self) -> Vec<ClientError> {
        self.stop.store(true, Ordering::Relaxed);
        self.tasks.join_all().await.into_iter().flatten().collect()
    }
}

async fn there_and_back(client: &Client, text: String) -> Result<(), ClientError> {
    let sealed = client.encrypt(encrypt(text.clone())).await?;
    let opened = client.decrypt(decrypt(&sealed)).await?;
    assert_eq!(opened.plaintext, text.as_bytes());
    Ok(())
}

async fn over_a_pipeline(pipeline: &Pipeline, text: String) -> Result<(), ClientError> {
    let sealed = pipeline.encrypt(encrypt(text.clone())).await?;
    let opened = pipeline.decrypt(decrypt(&sealed)).await?;
    assert_eq!(opened.plaintext, text.as_bytes());
    Ok(())
}

fn outage() -> Duration {
    let seconds = std::env::var("KEYREEVE_OUTAGE_S").map_or(3, |text| text.parse().unwrap());
    Duration::from_secs(seconds)
}

/// Changes, one after another, each asked for once.
async fn rotate(client: Client, times: usize) -> Vec<ClientError> {
    let mut failed = Vec::new();
    for _ in 0..times {
        let request = v1::RotateKeyRequest {
            name: key_name(KEY),
            ..Default::default()
        };
        failed.extend(client.rotate_key(request).await.err());
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    failed
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_call_that_may_be_tried_again_is_lost_while_the_service_is_killed_and_comes_back() {
    let mut server = TestServer::start().await;
    let told = Told::default();
    let client = Client::connect(config(&[&server], &told)).await.unwrap();
    server.admin().await.create_key(KEY).await.unwrap();
    let kept = client.encrypt(encrypt("kept".into())).await.unwrap();
    let (calls, stream) = (client.clone(), client.pipeline());
    let unary = Load::start(MANY, move |text| {
        let client = calls.clone();
        async move { there_and_back(&client, text).await }
    });
    let piped = Load::start(MANY, move |text| {
        let pipeline = stream.clone();
        async move { over_a_pipeline(&pipeline, text).await }
    });
    let changes = tokio::spawn(rotate(client.clone(), 20));
    unary.gets_on().await;
    piped.gets_on().await;
    server.kill();
    let killed = Instant::now();
    tokio::time::sleep(outage()).await;
    server.serve().await;
    let back = Instant::now();
    unary.gets_on().await;
    piped.gets_on().await;
    let (gone, found) = (back - killed, back.elapsed());
    assert!(found < Duration::from_secs(5), "{found:?}");

    let failed = [unary.end().await, piped.end().await, changes.await.unwrap()].concat();
    assert!(failed.is_empty(), "{} of them: {:?}", failed.len(), failed.first());
    let calls = told.of(EventName::Call);
    let most = calls.iter().map(|(_, tries, _)| *tries).max().unwrap();
    println!("gone for {gone:?}, {found:?} until 100 calls of each kind were through; at most {most} tries of a call");
    assert!(most > 5, "an outage of seconds is longer than four retries");
    assert!(told.of(EventName::BudgetExhausted).is_empty());
    // Nothing was done twice, nothing acknowledged is gone.
    let key = server.admin().await.key(KEY).await.unwrap();
    assert_eq!(key.primary_version, 21);
    let opened = client.decrypt(decrypt(&kept)).await.unwrap();
    assert_eq!(opened.plaintext, "kept".as_bytes());
    assert_eq!(client.endpoints()[0].circuit, CircuitState::Closed);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_an_outage_what_may_not_wait_for_its_end_fails_clearly() {
    let mut server = TestServer::start().await;
    let client = Client::connect(config(&[&server], &Told::default())).await.unwrap();
    server.admin().await.create_key(KEY).await.unwrap();
    client.encrypt(encrypt("before".into())).await.unwrap();
    let impatient = client.with_deadline(Duration::from_secs(1)).unwrap();
    let pipeline = impatient.pipeline();
    let (requests, sent) = tokio::sync::mpsc::channel(2);
    let mut answers = client
        .crypt(tokio_stream::wrappers::ReceiverStream::new(sent))
        .await
        .unwrap();
    let message = |tag| v1::CryptRequest {
        tag,
        request: Some(v1::crypt_request::Request::Encrypt(encrypt("in a stream".into()))),
    };
    requests.send(message(1)).await.unwrap();
    assert_eq!(answers.message().await.unwrap().unwrap().tag, 1);
    server.kill();
    let begun = Instant::now();

    let _ = requests.send(message(2)).await;
    let lost = ClientError::from(answers.message().await.err().unwrap());
    assert_eq!((lost.code, &*lost.reason), (Code::Unavailable, "UNREACHABLE"));
    let change = v1::RotateKeyRequest {
        name: key_name(KEY),
        ..Default::default()
    };
    let once = client.without_request_ids();
    let errors = [
        once.rotate_key(change).await.err().unwrap(),
        client.crypt(tokio_stream::pending()).await.err().unwrap(),
    ];
    assert!(
        begun.elapsed() < Duration::from_millis(500),
        "at once: {:?}",
        begun.elapsed()
    );
    for error in &errors {
        assert_eq!(
            (error.code, &*error.reason, error.tries),
            (Code::Unavailable, "UNREACHABLE", 1)
        );
        assert!(
            !error.request_id.is_empty() && error.next_step().contains("runs"),
            "{error:?}"
        );
    }

    let begun = Instant::now();
    let mut calls = JoinSet::new();
    for number in 0..MANY {
        let (client, pipeline) = (impatient.clone(), pipeline.clone());
        let text = number.to_string();
        calls.spawn(async move {
            [
                client.encrypt(encrypt(text.clone())).await.err().unwrap(),
                pipeline.encrypt(encrypt(text)).await.err().unwrap(),
            ]
        });
    }
    for error in calls.join_all().await.iter().flatten() {
        assert!(
            ["UNREACHABLE", "DEADLINE_EXCEEDED"].contains(&&*error.reason),
            "{error:?}"
        );
        assert!(error.tries >= 1 && !error.request_id.is_empty(), "{error:?}");
    }
    // One after another, a second each.
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_nodes_one_drains_under_load_and_no_call_fails() {
    let (mut one, mut two) = (Setup::default().init(), Setup::default().init());
    // Both trust the same callers, and the callers trust both.
    fs::copy(one.path("tls/clients.pem"), two.path("tls/clients.pem")).unwrap();
    let both = [&one.server_ca.pem, &two.server_ca.pem].map(String::as_str).concat();
    fs::write(one.path("tls/server-ca.pem"), both).unwrap();
    one.serve().await;
    two.serve().await;
    let admin = one.client_ca.client(ADMIN);
    for server in [&one, &two] {
        server.connect(&admin).await.unwrap().create_key(KEY).await.unwrap();
    }
    let told = Told::default();
    let client = Client::connect(config(&[&one, &two], &told)).await.unwrap();
    let calls = client.clone();
    // The nodes have different keys, so nothing is decrypted here.
    let unary = Load::start(FEW, move |text| {
        let client = calls.clone();
        async move { client.encrypt(encrypt(text)).await.map(drop) }
    });
    unary.gets_on().await;
    assert!(one.stop().await.success());
    unary.gets_on().await;
    unary.gets_on().await;
    let failed = unary.end().await;
    assert!(failed.is_empty(), "{failed:?}");
    assert_eq!(told.of(EventName::CircuitOpened).len(), 1);
    let tried = told.of(EventName::Retry);
    assert!(
        !tried.is_empty()
            && tried
                .iter()
                .all(|(reason, ..)| ["DRAINING", "UNREACHABLE"].contains(&&**reason))
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_is_rotated_under_load_and_no_call_fails() {
    let server = TestServer::start().await;
    server.admin().await.create_key(KEY).await.unwrap();
    let told = Told::default();
    let client = Client::connect(config(&[&server], &told)).await.unwrap();
    let (calls, stream, before) = (client.clone(), client.pipeline(), client.identity());
    let unary = Load::start(FEW, move |text| {
        let (client, pipeline) = (calls.clone(), stream.clone());
        async move {
            there_and_back(&client, text.clone()).await?;
            over_a_pipeline(&pipeline, text).await
        }
    });
    unary.gets_on().await;
    // Certificate and key are two files: between them, they do not fit.
    server.client_ca.client(ADMIN).write(&server.path("tls"), "admin");
    until("the new certificate is in use", async || client.identity() != before).await;
    unary.gets_on().await;
    let failed = unary.end().await;
    assert!(failed.is_empty(), "{failed:?}");
    assert_eq!(told.of(EventName::CertificateReloaded).len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn overload_is_obeyed() {
    let mut server = Setup::default()
        .with("server", "in_flight_per_caller", 4)
        .token_delay_us(20_000)
        .init();
    server.serve().await;
    server.admin().await.create_key(KEY).await.unwrap();
    let told = Told::default();
    let client = Client::connect(config(&[&server], &told)).await.unwrap();
    let mut calls = JoinSet::new();
    for number in 0..64_u32 {
        let client = client.clone();
        calls.spawn(async move { client.encrypt(encrypt(number.to_string())).await.map(drop) });
    }
    let outcomes = calls.join_all().await;
    for error in outcomes.iter().filter_map(|outcome| outcome.as_ref().err()) {
        assert_eq!((error.code, &*error.reason), (Code::ResourceExhausted, "OVERLOADED"));
        assert!(error.retry_after.is_some(), "{error:?}");
    }
    assert!(outcomes.iter().filter(|outcome| outcome.is_ok()).count() >= 4);
    let tried = told.of(EventName::Retry);
    // A burst of ten, and a tenth of the calls.
    assert!((1..=10 + 64 / 10).contains(&tried.len()), "{}", tried.len());
    let tries: u32 = told.of(EventName::Call).iter().map(|(_, tries, _)| tries).sum();
    assert_eq!(tries as usize, 64 + tried.len());
}

/// Versions that it was told of; 0: that it began.
#[derive(Default)]
struct Versions(Mutex<Vec<u32>>);

impl KeyListener for Versions {
    fn changed(&self, key: &v1::Key) {
        self.0.lock().unwrap().push(key.primary_version);
    }

    fn begun(&self, _: &[String]) {
        self.0.lock().unwrap().push(0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_tells_after_a_kill_what_happened_and_what_happens() {
    let mut server = TestServer::start().await;
    let admin = server.admin().await;
    admin.create_key(KEY).await.unwrap();
    let (told, versions) = (Told::default(), Arc::<Versions>::default());
    let client = Client::connect(config(&[&server], &told)).await.unwrap();
    let _watcher = KeyWatcher::start(&client, [key_name(KEY)], versions.clone());
    let has = |version| versions.0.lock().unwrap().contains(&version);
    // What happens before is not told.
    until("the watch has begun", async || has(0)).await;
    admin.rotate(KEY).await.unwrap();
    until("a version is told", async || has(2)).await;
    server.kill();
    until("the loss is told", async || told.of(EventName::WatchLost).len() == 1).await;
    server.serve().await;
    server.admin().await.rotate(KEY).await.unwrap();
    until("the next version is told", async || has(3)).await;
    assert_eq!(*versions.0.lock().unwrap(), [0, 2, 3], "it begins once");
}

//! What a token may do to a service under load, one thing after another for half a minute: a worker is killed, a call hangs, a PIN is
//! changed, the token is full, its directory is deleted (A1, A7, T10 to T13; the table of `docs/tokens.md`).

#![allow(clippy::unwrap_used)] // all of this file is a test

mod support;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use keyreeve_faultmod::{Controller, Fault, Function, Only, ReturnCode, Rule, Schedule, When};
use keyreeve_proto::v1 as proto;
use rustix::process::{Pid, Signal, kill_process};
use support::{Client, TestServer, ceremony::two_tokens, until};
use tonic::Code;

const CALLERS: usize = 4;
const KEY: &str = "dev/shop/orders";
/// Made before the load, and not used before the token is full: it is in no handle cache.
const UNUSED: &str = "dev/shop/unused";
/// Between two events.
const STEADY: Duration = Duration::from_secs(5);
/// Of a call into the module; it is waited for once, when one hangs.
const CALL_DEADLINE_MS: u64 = 500;

/// Two tokens of one group, whose module is steered, serving; where they have their objects.
async fn steered() -> (TestServer, Controller, [PathBuf; 2]) {
    let (mut server, places) = two_tokens();
    let (control, trace) = (server.path("control"), server.path("trace"));
    let controller = Controller::listen(&control, Schedule::default()).unwrap();
    let (here, real) = (server.directory.path(), server.token.module.parent().unwrap());
    let needs = format!(
        "network = true\nmodule_reads = [{real:?}]\nmodule_writes = [{here:?}]\ncall_deadline_ms = {CALL_DEADLINE_MS}\n"
    );
    server.setup.before_module = Some((keyreeve_faultmod::module_path().unwrap(), needs));
    server.write_config();
    let environment = [
        ("FAULTMOD_MODULE", server.token.module.clone()),
        ("FAULTMOD_CONTROL", control),
        ("FAULTMOD_TRACE", trace),
    ];
    server.serve_with(&environment).await;
    (server, controller, places)
}

/// What the callers saw.
#[derive(Default)]
struct Load {
    stop: AtomicBool,
    calls: AtomicU32,
    /// How many failed since the last look, by their code.
    failures: Mutex<BTreeMap<String, u32>>,
    sealed: Mutex<Vec<Vec<u8>>>,
}

impl Load {
    /// Encrypts and decrypts until told to stop.
    async fn run(&self, client: Client) {
        while !self.stop.load(Ordering::Relaxed) {
            let outcome = async {
                let sealed = client.encrypt(KEY, b"hello", &[]).await?;
                self.sealed.lock().unwrap().push(sealed.clone());
                client.decrypt(KEY, &sealed, &[]).await
            };
            match outcome.await {
                Ok(opened) => assert_eq!(opened, b"hello"),
                Err(fault) => {
                    *self
                        .failures
                        .lock()
                        .unwrap()
                        .entry(format!("{:?}", fault.code))
                        .or_default() += 1
                }
            }
            self.calls.fetch_add(2, Ordering::Relaxed);
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// A while in which nothing else happens. Returns the failures since the last look.
    async fn steady(&self) -> BTreeMap<String, u32> {
        let calls = self.calls.load(Ordering::Relaxed);
        tokio::time::sleep(STEADY).await;
        assert!(
            self.calls.load(Ordering::Relaxed) > calls + 100,
            "the callers stand still"
        );
        std::mem::take(&mut *self.failures.lock().unwrap())
    }
}

async fn tokens(client: &Client) -> Vec<proto::TokenStatus> {
    let status = client.system().get_status(proto::GetStatusRequest {}).await.unwrap();
    status.into_inner().tokens
}

async fn serving(client: &Client) -> usize {
    tokens(client).await.iter().filter(|token| token.serving).count()
}

/// The workers that get the calls now: one of each token.
async fn at_work(controller: &Controller) -> [u32; 2] {
    let signed = || -> BTreeMap<u32, u64> {
        let counted = |pid| Some(controller.counts(pid).ok()?.get(&Function::C_Sign)?.calls);
        let processes = controller.processes();
        let pids = processes.iter().map(|process| process.pid);
        pids.filter_map(|pid| Some((pid, counted(pid)?))).collect()
    };
    let before = signed();
    loop {
        tokio::time::sleep(Duration::from_millis(50)).await;
        let mut now = signed();
        now.retain(|pid, calls| *calls > before.get(pid).copied().unwrap_or(0) + 5);
        if let [one, another] = now.into_keys().collect::<Vec<_>>()[..] {
            return [one, another];
        }
    }
}

fn kill(worker: u32) {
    kill_process(Pid::from_raw(worker.cast_signed()).unwrap(), Signal::KILL).unwrap();
}

fn refused_pins(trace: &Path) -> usize {
    let lines = keyreeve_faultmod::read_trace(&fs::read_to_string(trace).unwrap()).unwrap();
    let refused = lines.iter().filter(|line| line.code == Some(ReturnCode::PIN_INCORRECT));
    refused.count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_tokens_do_in_half_a_minute_costs_callers_no_more_than_the_table_says() {
    let (server, controller, places) = steered().await;
    let client = server.admin().await;
    client.create_key(KEY).await.unwrap();
    client.create_key(UNUSED).await.unwrap();
    let none = BTreeMap::new();

    let load = Load::default();
    let events = async {
        assert_eq!(load.steady().await, none, "before anything happens");

        kill(at_work(&controller).await[0]);
        assert_eq!(load.steady().await, none, "a worker was killed");

        let [busy, _] = at_work(&controller).await;
        let hang = Rule::on(Function::C_Sign, Fault::Hang { when: When::Before });
        controller
            .set(Schedule::new(1).rule(hang.only(Only::Pid(busy)).times(1)))
            .unwrap();
        assert_eq!(load.steady().await, none, "a call into the module hung");
        controller.clear().unwrap();
        assert!(
            !controller.processes().iter().any(|process| process.pid == busy),
            "it was killed"
        );

        let (right, other) = (server.token.pin.clone(), "changed-31415");
        server.token.change_pin("two", &right, other);
        // Their successors, started for when they are needed, log in anew.
        at_work(&controller).await.into_iter().for_each(kill);
        assert_eq!(load.steady().await, none, "the PIN of one token was changed");
        let lost = tokens(&client).await.into_iter().find(|token| !token.serving).unwrap();
        assert!(lost.detail.contains("PIN"), "{}", lost.detail);
        assert_eq!(refused_pins(&server.path("trace")), 1, "a PIN is tried once");
        server.token.change_pin("two", other, &right);
        let reason = ["--serial", &lost.serial, "--reason", "the PIN is as it was", "--yes"];
        server.run_ok("tokens unlatch", &reason);
        until("it serves again", async || serving(&client).await == 2).await;

        let full = Fault::Return {
            code: ReturnCode::DEVICE_MEMORY,
            when: When::Before,
        };
        controller
            .set(Schedule::new(1).rule(Rule::on(Function::C_UnwrapKey, full)))
            .unwrap();
        let refused = client.encrypt(UNUSED, b"hello", &[]).await.unwrap_err();
        assert_eq!(refused.code, Code::ResourceExhausted);
        assert!(refused.retry_ms.is_some(), "when to come again");
        let failed = load.steady().await;
        let others: Vec<_> = failed.keys().filter(|code| *code != "ResourceExhausted").collect();
        assert!(others.is_empty(), "the tokens are full: {failed:?}");
        controller.clear().unwrap();
        client.encrypt(UNUSED, b"hello", &[]).await.unwrap();
        load.failures.lock().unwrap().clear();

        fs::remove_dir_all(&places[0]).unwrap();
        until("one token is lost", async || serving(&client).await == 1).await;
        assert_eq!(load.steady().await, none, "the directory of one token was deleted");
        load.stop.store(true, Ordering::Relaxed);
    };
    let callers = (0..CALLERS).map(|_| load.run(client.clone()));
    tokio::join!(events, futures_util::future::join_all(callers));

    let sealed = load.sealed.into_inner().unwrap();
    for envelope in sealed.iter().step_by(7) {
        assert_eq!(
            client.decrypt(KEY, envelope, &[]).await.unwrap(),
            b"hello",
            "what was acknowledged opens"
        );
    }
    assert_eq!(refused_pins(&server.path("trace")), 1);
    server.run_ok("audit verify", &[]);
}

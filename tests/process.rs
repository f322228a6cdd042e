//! The service as a process: how it ends, and what its ports say of it.

#![allow(clippy::unwrap_used)] // all of this file is a test

mod support;

use std::{fs, time::Duration};

use keyreeve_proto::v1::{self as proto, crypt_request::Request as Message, crypt_response::Response as Answer};
use rustix::process::{Signal, kill_process};
use support::{Fault, PATIENCE, Setup, TestServer, answer, fault, key_name, shared, with_id};
use tokio_stream::StreamExt as _;
use tonic::{Code, Status};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
    server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
};
use tonic_types::StatusExt as _;

const KEY: &str = "dev/shop/orders";

fn encrypt() -> proto::EncryptRequest {
    proto::EncryptRequest {
        name: key_name(KEY),
        plaintext: "hello".into(),
        ..Default::default()
    }
}

fn tagged(tag: u64) -> proto::CryptRequest {
    proto::CryptRequest {
        tag,
        request: Some(Message::Encrypt(encrypt())),
    }
}

fn reason(status: &Status) -> String {
    let details = status.get_error_details();
    details.error_info().map(|info| info.reason.clone()).unwrap_or_default()
}

/// What came instead of an answer. (Messages have no `Debug`, so `expect_err` cannot be used on them.)
#[track_caller]
fn refused<T>(result: Result<T, Status>) -> Status {
    match result {
        Ok(_) => panic!("it was answered"),
        Err(status) => status,
    }
}

async fn until(what: &str, mut true_: impl FnMut() -> bool) {
    let end = std::time::Instant::now() + PATIENCE;
    while !true_() {
        assert!(std::time::Instant::now() < end, "not seen: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Calls under way, a stream and a watch of health that nobody would end; then the signal. Longer than the test waits for a process
/// may a drain take here: what does not end by itself, fails.
async fn drains(signal: Signal) {
    let mut server = Setup::default()
        .with("server", "drain_s", 3_600)
        .token_delay_us(300_000)
        .init();
    server.serve().await;
    let client = server.admin().await;
    client.create_key(KEY).await.unwrap();

    let mut health = HealthClient::new(client.channel());
    let watch = health.watch(HealthCheckRequest::default()).await.unwrap();
    let mut watch = watch.into_inner();
    assert_eq!(watch.message().await.unwrap().unwrap().status, 1, "SERVING");
    let (send, messages) = tokio::sync::mpsc::channel(4);
    send.send(tagged(1)).await.unwrap();
    let messages = tokio_stream::wrappers::ReceiverStream::new(messages);
    let mut stream = client.crypto().crypt(messages).await.unwrap().into_inner();
    let first = stream.message().await.unwrap().unwrap();
    assert!(matches!(first.response, Some(Answer::Encrypt(_))));
    let calls: Vec<_> = (0..4)
        .map(|_| {
            let mut crypto = client.crypto();
            tokio::spawn(async move { crypto.encrypt(with_id(encrypt(), "under-way")).await.map(drop) })
        })
        .collect();
    until("four calls under way", || {
        let metrics = server.http("/metrics").unwrap();
        metrics.contains("keyreeve_rpc_under_way{method=\"keyreeve.v1.CryptoService/Encrypt\"} 4")
    })
    .await;

    kill_process(server.pid(), signal).unwrap();
    for call in calls {
        call.await.unwrap().expect("a call under way is finished");
    }
    let ended = refused(stream.message().await);
    assert_eq!((ended.code(), &*reason(&ended)), (Code::Unavailable, "DRAINING"));
    assert!(ended.get_error_details().retry_info().is_some());
    assert_eq!(watch.message().await.unwrap().unwrap().status, 2, "NOT_SERVING");
    let ended = refused(watch.message().await);
    assert_eq!((ended.code(), &*reason(&ended)), (Code::Unavailable, "DRAINING"));
    drop((client, send));
    let status = server.wait().await;
    assert!(status.success(), "{status}: {}", server.output());
    let said = server.output();
    assert!(
        said.contains("token closed"),
        "threads joined, module finalised: {said}"
    );
    assert_eq!(server.records_of("under-way").len(), 4);
    assert_eq!(server.records().last().unwrap().operation(), "StopLog");
    server.verifies();
}

#[tokio::test]
async fn sigterm_finishes_what_is_under_way_ends_streams_and_exits_with_0() {
    drains(Signal::TERM).await;
}

#[tokio::test]
async fn sigint_does_the_same() {
    drains(Signal::INT).await;
}

#[tokio::test]
async fn a_signal_during_the_start_ends_the_process_without_a_crash() {
    let mut server = Setup::default().token_delay_us(300_000).init();
    for wait_ms in [0, 20, 60, 150, 400] {
        server.spawn(&[]);
        tokio::time::sleep(Duration::from_millis(wait_ms)).await;
        kill_process(server.pid(), Signal::TERM).unwrap();
        let status = server.wait().await;
        // Before the handlers are set, the signal itself ends the process; afterwards it ends as told.
        let killed = std::os::unix::process::ExitStatusExt::signal(&status) == Some(Signal::TERM.as_raw());
        assert!(
            status.success() || killed,
            "after {wait_ms} ms: {status}: {}",
            server.output()
        );
    }
    server.serve().await;
    assert!(server.stop().await.success());
    server.verifies();
}

#[tokio::test]
async fn a_token_that_is_lost_ends_the_process_with_1_and_says_why() {
    let mut server = TestServer::start().await;
    server.admin().await.create_key(KEY).await.unwrap();
    for object in objects(&server) {
        fs::remove_file(object).unwrap();
    }
    // The token is asked every 10 s whether it still answers.
    let status = server.wait().await;
    let said = server.output();
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(
        said.contains("the token failed") && said.contains("keyreeve doctor"),
        "{said}"
    );
    assert_eq!(server.records().last().unwrap().operation(), "StopLog");
}

fn objects(server: &TestServer) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    let mut waiting = vec![server.path("token")];
    while let Some(directory) = waiting.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                waiting.push(path);
            } else if path.extension().is_some_and(|extension| extension == "object") {
                found.push(path);
            }
        }
    }
    assert!(found.len() > 4, "the token's objects are files");
    found
}

#[tokio::test]
async fn trace_context_and_request_id_reach_the_record_and_the_id_comes_back() {
    const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let server = shared().await;
    let client = server.admin().await;
    client.create_key("dev/shop/traced").await.unwrap();
    let message = proto::EncryptRequest {
        name: key_name("dev/shop/traced"),
        ..encrypt()
    };
    let mut request = with_id(message, "traced-1");
    request.metadata_mut().insert("traceparent", TRACE.parse().unwrap());
    let answer = client.crypto().encrypt(request).await.ok().unwrap();
    assert_eq!(answer.metadata().get("x-request-id").unwrap(), "traced-1");
    let records = server.records_of("traced-1");
    assert_eq!(records.len(), 1);
    assert_eq!(records[0].json["trace"], TRACE);
}

async fn services(server: &TestServer) -> Result<Vec<String>, Status> {
    let request = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let mut client = ServerReflectionClient::new(server.admin().await.channel());
    let mut answers = client
        .server_reflection_info(tokio_stream::once(request))
        .await?
        .into_inner();
    let answer = answers.next().await.expect("an answer")?;
    let Some(MessageResponse::ListServicesResponse(list)) = answer.message_response else {
        panic!("another answer");
    };
    Ok(list.service.into_iter().map(|service| service.name).collect())
}

#[tokio::test]
async fn reflection_is_a_setting_and_off_unless_set() {
    let refused = refused(services(shared().await).await);
    assert_eq!(
        (refused.code(), &*reason(&refused)),
        (Code::Unimplemented, "UNIMPLEMENTED")
    );
    let mut server = Setup::default().with("security", "reflection", true).init();
    server.serve().await;
    let listed = services(&server).await.unwrap();
    assert!(listed.contains(&"keyreeve.v1.CryptoService".to_owned()), "{listed:?}");
}

#[tokio::test]
async fn health_is_on_the_main_port_for_who_has_a_certificate() {
    let mut health = HealthClient::new(shared().await.admin().await.channel());
    let service = "keyreeve.v1.CryptoService".to_owned();
    let state = health.check(HealthCheckRequest { service }).await.unwrap();
    assert_eq!(state.into_inner().status, 1, "SERVING");
    let service = "nobody.Knows".to_owned();
    let unknown: Fault = fault(answer(health.check(HealthCheckRequest { service }).await));
    assert_eq!(unknown.code, Code::NotFound);
}

#[tokio::test]
async fn every_figure_is_documented_with_its_kind_and_names_nobody() {
    let server = shared().await;
    let client = server.admin().await;
    client.create_key("dev/shop/measured").await.unwrap();
    client.encrypt("dev/shop/measured", b"hello", &[]).await.unwrap();
    let metrics = server.http("/metrics").unwrap();
    let documented = include_str!("../docs/metrics.md");
    let mut count = 0;
    for line in metrics.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
        let (name, kind) = line.split_once(' ').unwrap();
        assert!(
            documented.contains(&format!("| `{name}` | {kind} |")),
            "docs/metrics.md lacks: | `{name}` | {kind} |"
        );
        assert!(metrics.contains(&format!("# HELP {name} ")), "{name} has no HELP");
        count += 1;
    }
    let rows = documented
        .lines()
        .filter(|line| line.starts_with("| `keyreeve_"))
        .count();
    assert_eq!(
        rows, count,
        "docs/metrics.md lists a figure that does not exist, or one is missing"
    );
    for name in ["measured", "shop", "admin", "spiffe", "flows"] {
        assert!(!metrics.contains(name), "{name} is in a label");
    }
}

fn is_running(pid: i32) -> bool {
    // A process that has ended and that nobody has asked for yet is there as `Z`.
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

#[tokio::test]
async fn a_killed_worker_costs_no_caller_an_error_and_a_killed_server_leaves_no_worker_behind() {
    let mut server = Setup::default().with("token", "isolation", "\"process\"").init();
    server.serve().await;
    let client = server.admin().await;
    client.create_key(KEY).await.unwrap();
    until("two workers", || server.workers().len() == 2).await;

    let before = server.workers();
    kill_process(rustix::process::Pid::from_raw(before[0]).unwrap(), Signal::KILL).unwrap();
    for _ in 0..20 {
        client.crypto().encrypt(encrypt()).await.unwrap();
    }
    until("another worker", || {
        let now = server.workers();
        now.len() == 2 && now != before
    })
    .await;

    until("what workers count", || {
        let metrics = server.http("/metrics").unwrap();
        let value = |name: &str| {
            metrics
                .lines()
                .find_map(|line| line.strip_prefix(name)?.rsplit(' ').next()?.parse::<u64>().ok())
        };
        value("keyreeve_token_handle_cache_hits_total") >= Some(19)
            && value("keyreeve_token_handle_cache_misses_total") >= Some(1)
    })
    .await;

    let workers = server.workers();
    server.kill();
    until("no worker", || !workers.iter().any(|worker| is_running(*worker))).await;
}

#[tokio::test]
async fn a_latch_that_an_operator_opened_is_in_the_log_with_his_reason() {
    let mut server = Setup::default().init();
    let data = server.data();
    // Its exit code tells of the host, too, whose disk may be full.
    let known = server.run("doctor", &["-o", "json"]);
    let known: serde_json::Value = serde_json::from_slice(&known.stdout).unwrap();
    let serial = known["tokens"][0]["serial"].as_str().unwrap();
    let latch = keyreeve::token::Latch::of(&data, serial);
    latch
        .set(keyreeve_pkcs11::Class::WrongAnswer, "CANARY answers differently", None)
        .unwrap();
    server.spawn(&[]);
    assert!(!server.is_ready().await, "it is latched");
    let without_reason = server.run("tokens unlatch", &["--yes"]);
    assert!(support::text(&without_reason).contains("--reason"));
    assert!(latch.read().is_some());

    server.run_ok(
        "tokens unlatch",
        &["--yes", "--reason", "ticket 4711: firmware replaced"],
    );
    for _ in 0..2 {
        server.serve().await;
        assert!(server.stop().await.success());
    }
    let records = server.records();
    let mut opened = records.iter().filter(|record| record.operation() == "UnlatchToken");
    let record = opened.next().unwrap();
    for part in [
        "class=E13",
        "reason=ticket 4711: firmware replaced",
        "latched_for=CANARY answers differently",
        "by=",
    ] {
        assert!(record.object().contains(part), "{}", record.object());
    }
    assert!(opened.next().is_none(), "it is recorded once");
    assert_eq!(records[0].operation(), "StartLog");
    server.verifies();
}

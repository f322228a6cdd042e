//! Environments on token groups of their own: what is bound where, and what one group's loss means to the others (A1, A6).

#![allow(clippy::unwrap_used)] // all of this file is a test

mod support;

use std::{fs, path::PathBuf};

use keyreeve_proto::v1 as proto;
use rustix::process::{Pid, Signal, kill_process};
use support::{ADMIN, Setup, TestServer, answer, team_name, until};
use tonic::Code;

const DEV: &str = "dev/shop/orders";
const STAGING: &str = "staging/shop/orders";

/// `dev` and `prod` on one group, `staging` on another; nothing serves yet. Also: where the second token has its objects.
fn two_groups() -> (TestServer, PathBuf) {
    let server = Setup::default()
        .group("main", &["dev", "prod"], &["main-1"])
        .group("other", &["staging"], &["other-1"])
        .prepare();
    server.token.another("main-1");
    let other = server.token.another("other-1");
    server.init();
    (server, other)
}

async fn tokens(server: &TestServer) -> Vec<proto::TokenStatus> {
    let mut system = server.admin().await.system();
    let status = system.get_status(proto::GetStatusRequest {}).await.unwrap();
    status.into_inner().tokens
}

#[tokio::test]
async fn each_environment_is_served_by_its_own_group_in_processes_of_its_own() {
    let (mut server, _) = two_groups();
    server.serve().await;
    let client = server.admin().await;
    for key in [DEV, STAGING] {
        client.create_key(key).await.unwrap();
        let sealed = client.encrypt(key, b"hello", &[]).await.unwrap();
        assert_eq!(client.decrypt(key, &sealed, &[]).await.unwrap(), b"hello");
    }
    let tokens = tokens(&server).await;
    let groups: Vec<_> = tokens
        .iter()
        .map(|token| (token.group.as_str(), token.serving))
        .collect();
    assert_eq!(groups, [("main", true), ("other", true)]);
    assert_ne!(tokens[0].serial, tokens[1].serial);
    until("two workers for each token", async || server.workers().len() == 4).await;
}

#[tokio::test]
async fn a_key_is_out_of_reach_of_another_group_and_the_attempt_harms_nobody() {
    let (mut server, _) = two_groups();
    server.serve().await;
    let client = server.admin().await;
    client.create_key(DEV).await.unwrap();
    client.create_key(STAGING).await.unwrap();
    let sealed = client.encrypt(DEV, b"hello", &[]).await.unwrap();
    server.stop().await;

    // The configuration's slip: `dev` is bound to the other group.
    let (bound_before, bound_wrong) = (server.setup.groups.clone(), |server: &mut TestServer| {
        server.setup.groups[0].1 = vec!["prod"];
        server.setup.groups[1].1 = vec!["staging", "dev"];
    });
    bound_wrong(&mut server);
    server.write_config();
    server.serve().await;
    let client = server.admin().await;
    let refused = client.decrypt(DEV, &sealed, &[]).await.unwrap_err();
    assert_eq!(refused.code, Code::FailedPrecondition, "{refused:?}");
    assert_eq!(
        client.encrypt(DEV, b"x", &[]).await.unwrap_err().code,
        Code::FailedPrecondition
    );
    client.encrypt(STAGING, b"the other group works on", &[]).await.unwrap();
    assert!(
        tokens(&server).await.iter().all(|token| token.serving),
        "a wrong binding is no token's fault"
    );
    server.stop().await;

    server.setup.groups = bound_before;
    server.write_config();
    server.serve().await;
    assert_eq!(server.admin().await.decrypt(DEV, &sealed, &[]).await.unwrap(), b"hello");
}

#[tokio::test]
async fn the_loss_of_one_groups_token_leaves_the_others_served_and_it_comes_back_by_itself() {
    let (mut server, other) = two_groups();
    server.serve().await;
    let client = server.admin().await;
    client.create_key(DEV).await.unwrap();
    client.create_key(STAGING).await.unwrap();
    let sealed = client.encrypt(STAGING, b"hello", &[]).await.unwrap();

    let away = server.path("away"); // out of the directory in which the module looks for tokens
    fs::rename(&other, &away).unwrap();
    for worker in server.workers() {
        kill_process(Pid::from_raw(worker).unwrap(), Signal::KILL).unwrap();
    }
    until("the other group is lost", async || {
        client
            .encrypt(STAGING, b"x", &[])
            .await
            .is_err_and(|refused| refused.code == Code::Unavailable)
    })
    .await;
    until("the home group serves", async || {
        client.encrypt(DEV, b"x", &[]).await.is_ok()
    })
    .await;
    until("the status says so", async || {
        let mut tokens = tokens(&server).await.into_iter();
        let lost = tokens.find(|token| token.group == "other").unwrap();
        !lost.serving && !lost.detail.is_empty()
    })
    .await;

    fs::rename(&away, &other).unwrap();
    until("the other group is back", async || {
        client.decrypt(STAGING, &sealed, &[]).await.is_ok()
    })
    .await;
}

#[tokio::test]
async fn verify_asks_every_token_about_every_version_and_names_what_cannot_be_confirmed() {
    let (mut server, _) = two_groups();
    server.serve().await;
    let client = server.admin().await;
    client.create_key(DEV).await.unwrap();
    client.rotate(DEV).await.unwrap();
    client.create_key(STAGING).await.unwrap();
    let verify = async |team: &str| {
        let request = proto::VerifyKeysRequest {
            parent: team_name(team),
            ..Default::default()
        };
        answer(client.keys().verify_keys(request).await).unwrap()
    };
    let whole = verify("dev/shop").await;
    assert_eq!((whole.versions, whole.faults.len()), (2, 0));
    assert_eq!(verify("staging/shop").await.versions, 1);
    let record = server
        .records()
        .into_iter()
        .rfind(|record| record.operation() == "VerifyKeys")
        .unwrap();
    assert_eq!((record.number("items"), record.number("failed")), (1, 0));
    server.stop().await;

    // The keys of `dev` are another group's now, whose token does not hold their KEK.
    server.setup.groups[0].1 = vec!["prod"];
    server.setup.groups[1].1 = vec!["staging", "dev"];
    server.write_config();
    server.serve().await;
    let output = server.run_as(ADMIN, &["tokens", "verify", "-o", "json"]);
    assert_eq!(output.status.code(), Some(1));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (&report["versions"], report["faults"].as_array().unwrap().len()),
        (&3.into(), 2)
    );
    assert!(
        report["faults"][0]["problem"]
            .as_str()
            .unwrap()
            .contains("does not hold"),
        "{report}"
    );
}

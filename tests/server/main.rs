//! A whole node on a throwaway SoftHSM token: started, called over mutual TLS, stopped, started again.
#![allow(clippy::unwrap_used)] // a test stops at the first surprise

mod fixture;
#[path = "../../pkcs11/tests/support/mod.rs"]
mod support;

use std::sync::Arc;

use keyreeve::{clock::SystemClock, server::Server};
use keyreeve_proto::v1::{
    CreateKeyRequest, CreateTeamRequest, DecryptRequest, EncryptRequest, GetStatusRequest, KeyPurpose, WhoAmIRequest,
    crypto_service_client::CryptoServiceClient, key_service_client::KeyServiceClient,
    system_service_client::SystemServiceClient,
};

use fixture::{APP, Fixture, http};
use support::TestModule;

macro_rules! on_softhsm {
    ($($name:ident => $body:expr;)*) => {
        $(#[test] fn $name() {
            let test = support::test_name(concat!(module_path!()), stringify!($name));
            support::run(support::Kind::SoftHsm, &test, $body)
        })*
    };
}

on_softhsm! {
    a_node_serves_stops_cleanly_and_serves_again => serve_stop_serve;
    a_taken_port_leaves_nothing_running => taken_port;
    policies_that_do_not_compile_cost_no_login => bad_policies;
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(work)
}

fn serve_stop_serve(test: &TestModule) {
    let fixture = Fixture::new(test);
    block_on(async {
        let server = fixture.start().await;
        let channel = fixture.connect(&server).await;
        let me = SystemServiceClient::new(channel.clone())
            .who_am_i(WhoAmIRequest {})
            .await
            .unwrap();
        assert_eq!(me.into_inner().identity, APP);
        let ready = http(server.local_address(), "/readyz").await;
        assert!(ready.starts_with("HTTP/1.1 200"), "{ready}");

        let mut keys = KeyServiceClient::new(channel.clone());
        keys.create_environment(fixture::environment("dev")).await.unwrap();
        let team = CreateTeamRequest {
            parent: "envs/dev".into(),
            team_id: "shop".into(),
            ..CreateTeamRequest::default()
        };
        keys.create_team(team).await.unwrap();
        let key = CreateKeyRequest {
            parent: "envs/dev/teams/shop".into(),
            key_id: "orders".into(),
            purpose: KeyPurpose::EncryptDecrypt.into(),
            ..CreateKeyRequest::default()
        };
        keys.create_key(key).await.unwrap();
        let request = EncryptRequest {
            name: "envs/dev/teams/shop/keys/orders".into(),
            plaintext: "hello".into(),
            ..EncryptRequest::default()
        };
        let sealed = CryptoServiceClient::new(channel)
            .encrypt(request)
            .await
            .unwrap()
            .into_inner();

        let metrics = http(server.local_address(), "/metrics").await;
        let counted = r#"keyreeve_rpc_total{method="keyreeve.v1.CryptoService/Encrypt",code="OK"} 1"#;
        assert!(metrics.contains(counted), "{metrics}");
        assert!(metrics.contains("keyreeve_build_info{version="), "{metrics}");
        server.stop().await;

        let server = fixture.start().await;
        let channel = fixture.connect(&server).await;
        let request = DecryptRequest {
            name: "envs/dev/teams/shop/keys/orders".into(),
            ciphertext: sealed.ciphertext,
            ..DecryptRequest::default()
        };
        let opened = CryptoServiceClient::new(channel.clone())
            .decrypt(request)
            .await
            .unwrap();
        assert_eq!(&*opened.into_inner().plaintext, b"hello");
        let status = SystemServiceClient::new(channel)
            .get_status(GetStatusRequest {})
            .await
            .unwrap()
            .into_inner();
        assert_eq!((status.environments, status.keys), (1, 1));
        let audit = status.audit.unwrap();
        assert!(audit.writable && audit.size >= 7, "{} records", audit.size);
        server.stop().await;
    });
}

fn taken_port(test: &TestModule) {
    let mut fixture = Fixture::new(test);
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    fixture.config.server.listen = taken.local_addr().unwrap();
    block_on(async {
        let error = Server::start(&fixture.config, Arc::new(SystemClock))
            .await
            .err()
            .unwrap();
        assert!(error.to_string().contains("cannot listen on"), "{error}");
        // Token, store and log were given back: they can be opened again in this process.
        drop(taken);
        fixture.start().await.stop().await;
    });
}

fn bad_policies(test: &TestModule) {
    let mut fixture = Fixture::new(test);
    std::fs::write(fixture.config.policy.directory.join("admin.cedar"), "permit everything").unwrap();
    // A wrong PIN would be latched if it were tried.
    let pin = fixture.config.groups[0].tokens[0].pin_file.take().unwrap();
    fixture.config.groups[0].tokens[0].pin_file = Some(pin.with_file_name("absent"));
    let error = block_on(Server::start(&fixture.config, Arc::new(SystemClock)))
        .err()
        .unwrap();
    assert!(error.to_string().contains("admin.cedar"), "{error}");
}

//! Connections to a live server: how many it takes, and what a reload of its TLS files does to new ones.

#![allow(clippy::unwrap_used)] // all of this file is a test

mod support;

use std::fs;
use std::net::TcpStream;

use keyreeve_proto::v1 as proto;
use support::ca::{Issued, TestCa};
use support::{ADMIN, Client, PATIENCE, SHOP, STAGING, Setup, TestServer, answer, until};

/// A server with these settings, serving.
async fn serving(setup: Setup) -> TestServer {
    let mut server = setup.init();
    server.serve().await;
    server
}

/// Whether a call comes back on this connection. A client certificate that is refused shows here first: in TLS 1.3 the client has
/// finished its handshake by then (RFC 8446, section 4.4.2.4).
async fn answers(client: &Client) -> bool {
    answer(client.system().who_am_i(proto::WhoAmIRequest {}).await).is_ok()
}

/// A connection on which a call came back, if the server takes another one.
async fn connected(server: &TestServer, certificate: &Issued) -> Option<Client> {
    let client = server.connect(certificate).await.ok()?;
    answers(&client).await.then_some(client)
}

fn refused(server: &TestServer, reason: &str) -> u64 {
    server.counter(&format!("keyreeve_connections_refused_total{{reason=\"{reason}\"}}"))
}

#[tokio::test]
async fn one_connection_above_the_ceiling_is_closed_and_a_place_given_back_is_taken_again() {
    let server = serving(Setup::default().with("server", "connections", 3)).await;
    let [admin, shop, staging] = [ADMIN, SHOP, STAGING].map(|path| server.client_ca.client(path));
    let first = connected(&server, &admin).await.unwrap();
    let second = connected(&server, &shop).await.unwrap();
    let third = connected(&server, &staging).await.unwrap();
    assert!(connected(&server, &admin).await.is_none());
    assert!(refused(&server, "connections") >= 1);
    for client in [&first, &second] {
        assert!(answers(client).await, "those who are connected stay");
    }
    drop(third);
    until("no place became free", async || {
        connected(&server, &admin).await.is_some()
    })
    .await;
}

#[tokio::test]
async fn a_caller_above_his_ceiling_is_refused_and_others_are_not() {
    let server = serving(Setup::default().with("server", "connections_per_caller", 2)).await;
    let (shop, admin) = (server.client_ca.client(SHOP), server.client_ca.client(ADMIN));
    let first = connected(&server, &shop).await.unwrap();
    let second = connected(&server, &shop).await.unwrap();
    assert!(connected(&server, &shop).await.is_none());
    // It is the caller that counts, not his certificate.
    assert!(connected(&server, &server.client_ca.client(SHOP)).await.is_none());
    assert!(refused(&server, "connections_of_caller") >= 2);
    assert!(connected(&server, &admin).await.is_some());
    assert!(answers(&first).await);
    drop(second);
    until("no place became free", async || {
        connected(&server, &shop).await.is_some()
    })
    .await;
}

#[tokio::test]
async fn handshakes_that_lead_nowhere_occupy_their_own_places_only() {
    // Longer than the test: the places become free because the callers go, not because of the clock.
    let timeout = 2 * PATIENCE.as_millis();
    let server = serving(Setup::default().with("server", "handshake_timeout_ms", timeout)).await;
    let shop = server.client_ca.client(SHOP);
    let before = connected(&server, &shop).await.unwrap();
    let silent: Vec<TcpStream> = (0..520).map(|_| TcpStream::connect(server.listen).unwrap()).collect();
    // 512 handshakes at once (`src/grpc/limits.rs`).
    until("the ceiling is not where it should be", async || {
        refused(&server, "handshakes") >= 8
    })
    .await;
    assert!(connected(&server, &shop).await.is_none());
    assert!(answers(&before).await, "who is connected does not notice");
    drop(silent);
    until("no place became free", async || {
        connected(&server, &shop).await.is_some()
    })
    .await;
}

#[tokio::test]
async fn a_handshake_that_does_not_go_on_is_cut() {
    let server = serving(Setup::default().with("server", "handshake_timeout_ms", 100)).await;
    let silent = TcpStream::connect(server.listen).unwrap();
    silent.set_read_timeout(Some(PATIENCE)).unwrap();
    let read = std::io::Read::read(&mut &silent, &mut [0]).unwrap();
    assert_eq!(read, 0, "the server closed it");
    until("it was not counted", async || {
        refused(&server, "handshake_timeout") == 1
    })
    .await;
}

#[tokio::test]
async fn a_new_certificate_is_shown_to_new_connections_after_sighup_and_old_ones_live_on() {
    let mut server = serving(Setup::default().with("tls", "reload_interval_s", 0)).await;
    let shop = server.client_ca.client(SHOP);
    let before = connected(&server, &shop).await.unwrap();
    let old_ca = std::mem::replace(&mut server.server_ca, TestCa::new("the next server CA"));
    server.server_ca.server().write(&server.path("tls"), "server");
    assert!(connected(&server, &shop).await.is_none(), "nobody has told it yet");
    server.hang_up();
    until("the new certificate is not shown", async || {
        connected(&server, &shop).await.is_some()
    })
    .await;
    assert!(Client::connect(server.listen, &old_ca, &shop).await.is_err());
    // Were it not the same connection, its handshake would fail as this one did.
    assert!(answers(&before).await);
}

#[tokio::test]
async fn callers_of_a_client_ca_that_was_removed_are_refused_without_a_restart() {
    // No signal: the file is looked at.
    let server = serving(Setup::default().with("tls", "reload_interval_s", 1)).await;
    let next_ca = TestCa::new("the next client CA");
    let (old, new) = (server.client_ca.client(SHOP), next_ca.client(SHOP));
    let write = |text: &str| fs::write(server.path("tls/clients.pem"), text).unwrap();
    assert!(connected(&server, &old).await.is_some());
    assert!(connected(&server, &new).await.is_none());
    write(&format!("{}{}", server.client_ca.pem, next_ca.pem));
    until("the new CA is not taken up", async || {
        connected(&server, &new).await.is_some()
    })
    .await;
    assert!(
        connected(&server, &old).await.is_some(),
        "both count while both are there"
    );
    write(&next_ca.pem);
    until("the old CA still counts", async || {
        connected(&server, &old).await.is_none()
    })
    .await;
    assert!(connected(&server, &new).await.is_some());
}

#[tokio::test]
async fn files_that_cannot_be_used_leave_those_before_in_force() {
    let server = serving(Setup::default().with("tls", "reload_interval_s", 0)).await;
    let shop = server.client_ca.client(SHOP);
    for name in ["tls/clients.pem", "tls/server.pem"] {
        let good = fs::read(server.path(name)).unwrap();
        let failures = server.counter("keyreeve_tls_reload_failures_total");
        fs::write(server.path(name), "not a certificate").unwrap();
        server.hang_up();
        until("the failure is not counted", async || {
            server.counter("keyreeve_tls_reload_failures_total") > failures
        })
        .await;
        assert!(connected(&server, &shop).await.is_some(), "{name}");
        fs::write(server.path(name), good).unwrap();
    }
}

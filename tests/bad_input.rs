//! Wrong configuration, token, disk and callers: each ends with a sentence that says what to do, and nothing is harmed.

#![allow(clippy::unwrap_used)] // all of this file is a test

mod support;

use std::fs;
use std::io::Read;
use std::net::TcpStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use support::ca::{Issued, TestCa};
use support::token::{SO_PIN, SOFTHSM, SPY};
use support::{ADMIN, PATIENCE, Setup, TestServer, text};

/// Starts a server that must not start; what it said.
async fn does_not_start(server: &mut TestServer) -> String {
    let before = server.output().len();
    server.spawn(&[]);
    assert!(!server.is_ready().await, "it started");
    server.output()[before..].to_owned()
}

#[tokio::test]
async fn an_unknown_option_is_refused_with_its_name_and_the_next_step() {
    for (section, option) in [
        ("server", "lisen"),
        ("token", "pin"),
        ("audit", "durabilty"),
        ("sevrer", "listen"),
    ] {
        let mut server = Setup::default().with(section, option, "\"x\"").prepare();
        let said = does_not_start(&mut server).await;
        let wrong = if section == "sevrer" { section } else { option };
        assert!(said.contains(wrong) && said.contains("keyreeve.example.toml"), "{said}");
        let checked = server.run("config check", &[]);
        assert_eq!(checked.status.code(), Some(1));
        assert!(text(&checked).contains(wrong));
    }
}

#[tokio::test]
async fn values_that_make_no_sense_are_refused() {
    for (section, option, value) in [
        ("server", "listen", "\"localhost\""),
        ("server", "drain_s", "\"soon\""),
        ("audit", "durability", "\"maybe\""),
        ("token", "slot", "3"), // beside the label
        ("server", "local", "\"0.0.0.0:0\""),
        ("token", "insecure_test_call_delay_us", "5"),
    ] {
        let mut server = Setup::default().with(section, option, value).prepare();
        let said = does_not_start(&mut server).await;
        assert!(said.contains(option) || said.contains(section), "{option}: {said}");
    }
}

#[tokio::test]
async fn a_module_that_is_missing_or_no_module_is_named() {
    let server = Setup::default().init();
    fs::write(server.path("not-a-module.so"), "text").unwrap();
    let not_a_module = server.path("not-a-module.so").display().to_string();
    for module in [
        "/no/such/module.so",
        &not_a_module,
        "/usr/lib/x86_64-linux-gnu/libc.so.6",
    ] {
        let said = starts_not_with(&server, "module", &format!("{module:?}")).await;
        assert!(said.contains(module), "{said}");
    }
    let said = starts_not_with(&server, "module", "\"libsofthsm2.so\"").await;
    assert!(said.contains("absolute"), "a module is not searched for: {said}");
}

#[tokio::test]
async fn a_label_that_no_token_has_is_named() {
    let server = Setup::default().init();
    let said = starts_not_with(&server, "label", "\"another\"").await;
    assert!(said.contains("another"), "{said}");
}

#[tokio::test]
async fn another_manifest_than_the_pinned_one_is_refused() {
    let server = Setup::default().init();
    let said = starts_not_with(&server, "manifest_sha256", &format!("{:?}", "ab".repeat(32))).await;
    assert!(said.contains("manifest"), "{said}");
}

#[tokio::test]
async fn a_second_init_changes_nothing() {
    let mut server = Setup::default().init();
    let manifest = fs::read(server.path("token.json")).unwrap();
    let again = server.init_command().output().unwrap();
    assert_eq!(again.status.code(), Some(1));
    assert_eq!(fs::read(server.path("token.json")).unwrap(), manifest);
    server.serve().await;
    server.admin().await.create_key("dev/shop/orders").await.unwrap();
}

#[tokio::test]
async fn an_empty_data_directory_is_not_taken_for_a_new_service() {
    // A disk that was not mounted: nothing is made in its place.
    let mut server = Setup::default().init();
    let aside = server.path("aside");
    fs::rename(server.data(), &aside).unwrap();
    fs::create_dir(server.data()).unwrap();
    let said = does_not_start(&mut server).await;
    assert!(said.contains("mounted") && said.contains("keyreeve restore"), "{said}");
    assert_eq!(fs::read_dir(server.data()).unwrap().count(), 0, "something was written");
    fs::remove_dir(server.data()).unwrap();
    fs::rename(aside, server.data()).unwrap();
    server.serve().await;
}

/// The server with one option of `[token]` set otherwise must not start.
async fn starts_not_with(server: &TestServer, option: &'static str, value: &str) -> String {
    let config = server.config();
    let text = fs::read_to_string(&config).unwrap();
    let changed: String = text
        .lines()
        .map(|line| match line.strip_prefix(&format!("{option} = ")) {
            Some(_) => format!("{option} = {value}\n"),
            None => format!("{line}\n"),
        })
        .collect();
    assert_ne!(changed, text, "{option} is in the file");
    fs::write(&config, changed).unwrap();
    let output = server.command("serve").output().unwrap();
    fs::write(&config, text).unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", support::text(&output));
    support::text(&output)
}

#[tokio::test]
async fn a_wrong_pin_is_tried_once_and_never_again_until_it_is_another() {
    let mut server = Setup::default().init();
    let calls = server.path("out/calls");
    // OpenSC's spy between service and token counts the logins.
    server.setup = server.setup.clone().with("token", "module", format!("{SPY:?}"));
    server.write_config();
    let spy = [
        ("PKCS11SPY", PathBuf::from(SOFTHSM)),
        ("PKCS11SPY_OUTPUT", calls.clone()),
    ];
    let logins = || {
        let text = String::from_utf8_lossy(&fs::read(&calls).unwrap()).into_owned();
        text.matches("C_Login").count()
    };
    support::write_private(&server.path("pin"), "not-the-pin-4711");
    for start in 0..4 {
        server.spawn(&spy);
        assert!(!server.is_ready().await, "it started with a wrong PIN");
        assert_eq!(logins(), 1, "start {start}: {}", server.output());
    }
    assert!(
        !server.output().contains("not-the-pin-4711"),
        "the PIN is in the output"
    );
    assert!(server.token.accepts(&server.token.pin), "the token is locked");
    // Another PIN is another attempt, and the right one opens the latch.
    support::write_private(&server.path("pin"), &server.token.pin);
    server.serve_with(&spy).await;
    assert_eq!(logins(), 2);
    server.admin().await.create_key("dev/shop/orders").await.unwrap();
    assert!(server.stop().await.success());
    server.serve_with(&spy).await;
    assert_eq!(logins(), 3);
    assert!(!SO_PIN.is_empty());
}

#[tokio::test]
async fn a_pin_file_that_is_missing_or_empty_costs_no_attempt() {
    let mut server = Setup::default().init();
    for text in [None, Some("")] {
        match text {
            None => fs::remove_file(server.path("pin")).unwrap(),
            Some(text) => support::write_private(&server.path("pin"), text),
        }
        let said = does_not_start(&mut server).await;
        assert!(said.contains("PIN"), "{said}");
    }
    support::write_private(&server.path("pin"), &server.token.pin.clone());
    server.serve().await;
}

#[tokio::test]
async fn two_servers_do_not_share_a_data_directory() {
    let mut server = Setup::default().init();
    server.serve().await;
    let config = fs::read_to_string(server.config()).unwrap();
    let [listen, local] = support::server::free_ports().map(|port| port.to_string());
    let other = config
        .replace(&server.listen.to_string(), &listen)
        .replace(&server.local.to_string(), &local);
    let file = server.path("other.toml");
    fs::write(&file, other).unwrap();
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_keyreeve"));
    command.env(server.token.environment.0, &server.token.environment.1);
    let output = command.arg("serve").arg("--config").arg(&file).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output).contains("another process"), "{}", text(&output));
    server.admin().await.create_key("dev/shop/orders").await.unwrap();
}

#[tokio::test]
async fn a_read_only_data_directory_is_named_and_not_changed() {
    let mut server = Setup::default().init();
    let command = support::disk::read_only(&server, &server.command("serve"));
    server.spawn_command(command);
    assert!(!server.is_ready().await, "it serves without a place to write");
    let said = server.output();
    assert!(said.contains("read-only") || said.contains("Read-only"), "{said}");
    // Writable again, it starts as if nothing had been.
    server.serve().await;
    server.admin().await.create_key("dev/shop/orders").await.unwrap();
    assert!(server.stop().await.success());
    server.verifies();
}

#[tokio::test]
async fn certificates_that_are_not_good_do_not_get_in() {
    let server = support::shared().await;
    let ca = &server.client_ca;
    let other_ca = TestCa::new("another CA");
    for (what, certificate) in [
        ("expired", ca.client_in(ADMIN, 2020, 2021)),
        ("not yet valid", ca.client_in(ADMIN, 2039, 2040)),
        ("of another CA", other_ca.client(ADMIN)),
        ("of another trust domain", ca.client_of_domain("elsewhere.test", ADMIN)),
        ("without a name", ca.nameless_client()),
        ("for servers only", ca.client_for_servers_only(ADMIN)),
        ("the server's own", server.server_ca.server()),
    ] {
        assert!(!gets_in(server, &certificate).await, "a certificate {what} got in");
    }
    assert!(gets_in(server, &ca.client(ADMIN)).await, "a good one gets in");
}

/// In TLS 1.3 a client learns only with its first read that its certificate was refused.
async fn gets_in(server: &TestServer, certificate: &Issued) -> bool {
    match server.connect(certificate).await {
        Err(_) => false,
        Ok(client) => {
            let answer = client.system().who_am_i(keyreeve_proto::v1::WhoAmIRequest {}).await;
            answer.is_ok()
        }
    }
}

#[tokio::test]
async fn no_certificate_and_old_tls_do_not_get_in() {
    use rustls::pki_types::ServerName;
    let server = support::shared().await;
    let config = support::client::tls(&server.server_ca, None);
    let stream = tokio::net::TcpStream::connect(server.listen).await.unwrap();
    let connector = tokio_rustls::TlsConnector::from(config);
    let connected = connector
        .connect(ServerName::try_from("localhost").unwrap(), stream)
        .await;
    if let Ok(mut stream) = connected {
        use tokio::io::AsyncReadExt;
        let read = tokio::time::timeout(PATIENCE, stream.read(&mut [0; 100])).await;
        assert!(
            !matches!(read, Ok(Ok(1..))),
            "a caller without a certificate was spoken to"
        );
    }

    let mut roots = rustls::RootCertStore::empty();
    roots.add(server.server_ca.certificate.clone()).unwrap();
    let old = rustls::ClientConfig::builder_with_provider(rustls::crypto::aws_lc_rs::default_provider().into())
        .with_protocol_versions(&[&rustls::version::TLS12])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let stream = tokio::net::TcpStream::connect(server.listen).await.unwrap();
    let connector = tokio_rustls::TlsConnector::from(std::sync::Arc::new(old));
    let connected = connector
        .connect(ServerName::try_from("localhost").unwrap(), stream)
        .await;
    assert!(connected.is_err(), "TLS 1.2 got in");
}

#[tokio::test]
async fn a_certificate_that_expires_on_a_live_connection_ends_its_calls() {
    // Whoever revokes a workload while it is connected expects the next call to fail, not the next connection.
    let setup = Setup::default();
    let mut server = setup.prepare();
    let revoked = server.path("tls/revoked");
    fs::write(&revoked, "").unwrap();
    server.setup = server
        .setup
        .clone()
        .with("tls", "revocations", format!("{:?}", revoked.display().to_string()));
    server.write_config();
    server.init();
    server.serve().await;
    let client = server.client(support::SHOP).await;
    let ask = async || client.system().who_am_i(keyreeve_proto::v1::WhoAmIRequest {}).await;
    ask().await.map(drop).unwrap();
    fs::write(&revoked, format!("{}\n", support::ca::spiffe(support::SHOP))).unwrap();
    rustix::process::kill_process(server.pid(), rustix::process::Signal::HUP).unwrap();
    let end = Instant::now() + PATIENCE;
    loop {
        match ask().await {
            Err(status) => {
                assert_eq!(status.code(), tonic::Code::Unauthenticated, "{status:?}");
                break;
            }
            Ok(_) => assert!(Instant::now() < end, "a revoked caller is still served"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(
        gets_in(&server, &server.client_ca.client(ADMIN)).await,
        "others are not touched"
    );
}

#[tokio::test]
async fn a_slow_handshake_is_cut_and_keeps_nobody_waiting() {
    let mut server = Setup::default().with("server", "handshake_timeout_ms", 700).init();
    server.serve().await;
    let started = Instant::now();
    let silent: Vec<TcpStream> = (0..50).map(|_| TcpStream::connect(server.listen).unwrap()).collect();
    let mut dripping = TcpStream::connect(server.listen).unwrap();
    std::io::Write::write_all(&mut dripping, &[0x16, 0x03, 0x01]).unwrap();
    assert!(
        gets_in(&server, &server.client_ca.client(ADMIN)).await,
        "a good caller waits for slow ones"
    );
    for mut stream in silent.into_iter().chain([dripping]) {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut rest = Vec::new();
        // The server ends it: an orderly end, an alert before it, or a reset. Only our own patience would be an error.
        if let Err(error) = stream.read_to_end(&mut rest) {
            assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
        }
    }
    let took = started.elapsed();
    assert!(took >= Duration::from_millis(700), "they were cut early: {took:?}");
    assert!(took < Duration::from_secs(20), "they were cut late: {took:?}");
}

#[tokio::test]
async fn noise_on_the_port_harms_nobody() {
    let server = support::shared().await;
    for noise in [
        &b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"[..],
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        &[0xff; 20_000],
    ] {
        let mut stream = TcpStream::connect(server.listen).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let _ = std::io::Write::write_all(&mut stream, noise);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        assert!(
            answer.len() < 100,
            "it answered: {:?}",
            String::from_utf8_lossy(&answer)
        );
    }
    assert!(gets_in(server, &server.client_ca.client(ADMIN)).await);
}

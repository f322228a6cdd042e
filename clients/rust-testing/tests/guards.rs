//! Where the double does not start, and how it says what it is.
#![allow(clippy::unwrap_used)] // all of this file is a test

use std::{
    net::{IpAddr, SocketAddr, UdpSocket},
    process::{Command, Output, Stdio},
};

use keyreeve_client::{Client, v1};
use keyreeve_testing::{NotHere, Service, Settings, StartError};
use tokio::net::{TcpListener, TcpSocket};

const PROGRAM: &str = env!("CARGO_BIN_EXE_keyreeve-double");

/// Starts the program, which ends because its standard input does.
fn run(variables: &[(&str, &str)]) -> Output {
    let mut command = Command::new(PROGRAM);
    command.env_remove("KEYREEVE_ENV").stdin(Stdio::null());
    command.envs(variables.iter().copied()).output().unwrap()
}

#[test]
fn it_does_not_start_where_a_variable_says_production() {
    for name in ["APP_ENV", "KEYREEVE_ENV"] {
        let ended = run(&[(name, "Production")]);
        let said = String::from_utf8(ended.stderr).unwrap();
        assert!(!ended.status.success() && ended.stdout.is_empty(), "{name}");
        assert!(said.contains(name) && said.contains("KEYREEVE_ENV=test"), "{said}");
    }
    assert!(
        run(&[("APP_ENV", "production"), ("KEYREEVE_ENV", "test")])
            .status
            .success()
    );
}

#[test]
fn it_says_what_it_is_once_and_where_to_find_it() {
    let ended = run(&[]);
    assert!(ended.status.success());
    let warned = String::from_utf8(ended.stderr).unwrap();
    assert_eq!(warned.matches("for tests only").count(), 1, "{warned}");
    let said = String::from_utf8(ended.stdout).unwrap();
    let names: Vec<_> = said
        .lines()
        .filter_map(|line| line.split_once('='))
        .map(|(name, _)| name)
        .collect();
    assert_eq!(names, ["KEYREEVE_ADDR", "KEYREEVE_CA", "KEYREEVE_CERT", "KEYREEVE_KEY"]);
    assert!(said.starts_with("KEYREEVE_ADDR=https://127.0.0.1:"), "{said}");
}

#[tokio::test]
async fn it_listens_on_loopback_only() {
    let anywhere = "0.0.0.0:0".parse().unwrap();
    let outcome = Service::builder().address(anywhere).start().await;
    assert!(matches!(outcome, Err(StartError::NotHere(NotHere::NotLoopback(_)))));
    let six = Service::builder()
        .address("[::1]:0".parse().unwrap())
        .start()
        .await
        .unwrap();
    assert!(six.address().is_ipv6());
    six.client().await.unwrap();
}

/// A connection to loopback whose other end has another address of this host, as one that was passed on would have.
#[tokio::test]
async fn it_answers_nobody_from_elsewhere() {
    let Some(elsewhere) = other_address() else {
        println!("NOTE: not tested: this host has no address but loopback");
        return;
    };
    let double = Service::start().await.unwrap();
    let local = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let settings = Settings {
        address: local.local_addr().unwrap(),
        ..double.settings("admin")
    };
    tokio::spawn(pass_on(local, elsewhere, double.address()));
    let client = Client::connect(settings.config()).await.unwrap();
    let refused = client.who_am_i(v1::WhoAmIRequest::default()).await.err().unwrap();
    assert_eq!(refused.reason, "UNAUTHENTICATED");
    assert!(refused.to_string().contains("its own host only"), "{refused}");
    assert!(double.calls().is_empty());
}

/// Of this host, towards others; nothing is sent.
fn other_address() -> Option<IpAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("192.0.2.1:9").ok()?;
    let address = socket.local_addr().ok()?.ip();
    (!address.is_loopback()).then_some(address)
}

async fn pass_on(local: TcpListener, from: IpAddr, to: SocketAddr) {
    while let Ok((mut client, _)) = local.accept().await {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind((from, 0).into()).unwrap();
        let mut double = socket.connect(to).await.unwrap();
        tokio::spawn(async move { tokio::io::copy_bidirectional(&mut client, &mut double).await });
    }
}

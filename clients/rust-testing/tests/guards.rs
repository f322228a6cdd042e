//! Where the double does not start, and how it says what it is.
#![allow(clippy::unwrap_used)] // all of this file is a test

use std::process::{Command, Output, Stdio};

use keyreeve_testing::{NotHere, Service, StartError};

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

//! Where the double does not start, and whom it does not answer: it must not be taken for the service.
//!
//! The rules are those of the Python double (`clients/python/src/keyreeve/testing/guard.py`).

use std::{
    io::Write as _,
    net::SocketAddr,
    sync::atomic::{AtomicBool, Ordering},
};

const OURS: &str = "KEYREEVE_ENV";
/// What frameworks and platforms call it. `KEYREEVE_ENV`, if it is set, says it alone.
const OTHERS: [&str; 5] = ["APP_ENV", "ENVIRONMENT", "ENV", "DJANGO_ENV", "FLASK_ENV"];
const PRODUCTION: [&str; 3] = ["production", "prod", "live"];

const WARNING: &str = "keyreeve-testing: an in-memory double of Keyreeve serves in this process: for tests only, nothing it seals is protected\n";

/// The double refuses to start.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotHere {
    #[error(
        "{name}={value}: the test double of Keyreeve does not start in production. Where this is a test all the same, set {OURS}=test"
    )]
    Production { name: &'static str, value: String },
    #[error("`{0}` is not loopback: the test double of Keyreeve is for this host only; write 127.0.0.1:0")]
    NotLoopback(SocketAddr),
}

/// Errors: what `variable` gives for one of the names says production.
pub fn refuse_production(variable: impl Fn(&str) -> Option<String>) -> Result<(), NotHere> {
    let ours = variable(OURS).is_some_and(|value| !value.is_empty());
    let names: &[&'static str] = if ours { &[OURS] } else { &OTHERS };
    for name in names.iter().copied() {
        let value = variable(name).unwrap_or_default();
        if PRODUCTION.contains(&value.trim().to_lowercase().as_str()) {
            return Err(NotHere::Production { name, value });
        }
    }
    Ok(())
}

pub fn loopback(address: SocketAddr) -> Result<SocketAddr, NotHere> {
    match address.ip().is_loopback() {
        true => Ok(address),
        false => Err(NotHere::NotLoopback(address)),
    }
}

/// `peer`: address and port. None is no loopback address.
pub fn is_loopback_peer(peer: Option<&str>) -> bool {
    let address = peer.and_then(|peer| peer.parse::<SocketAddr>().ok());
    address.is_some_and(|address| address.ip().is_loopback())
}

/// One line on standard error, once in a process.
pub fn warn_once() {
    static WARNED: AtomicBool = AtomicBool::new(false);
    if !WARNED.swap(true, Ordering::SeqCst) {
        // Nobody to tell where standard error is closed.
        let _ = std::io::stderr().write_all(WARNING.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(variables: &[(&str, &str)]) -> Option<&'static str> {
        let found = |name: &str| {
            let pair = variables.iter().find(|(known, _)| *known == name);
            pair.map(|(_, value)| (*value).to_owned())
        };
        match refuse_production(found) {
            Err(NotHere::Production { name, .. }) => Some(name),
            _ => None,
        }
    }

    #[test]
    fn it_does_not_start_where_a_variable_says_production_however_it_is_written() {
        for name in [OURS].iter().chain(&OTHERS) {
            for value in ["production", "PROD", " Live "] {
                assert_eq!(refused(&[(name, value)]), Some(*name), "{name}={value}");
            }
            for value in ["", "test", "preprod"] {
                assert_eq!(refused(&[(name, value)]), None, "{name}={value}");
            }
        }
        assert_eq!(refused(&[]), None);
    }

    #[test]
    fn our_own_variable_says_it_alone() {
        assert_eq!(refused(&[(OURS, "test"), ("APP_ENV", "production")]), None);
        assert_eq!(refused(&[(OURS, "production"), ("APP_ENV", "test")]), Some(OURS));
        assert_eq!(refused(&[(OURS, ""), ("APP_ENV", "production")]), Some("APP_ENV"));
    }

    #[test]
    fn only_loopback_addresses_are_listened_on() {
        for good in ["127.0.0.1:0", "127.8.9.1:7443", "[::1]:0"] {
            assert!(loopback(good.parse().unwrap()).is_ok(), "{good}");
        }
        for bad in ["0.0.0.0:0", "192.0.2.1:7443", "[::]:0", "[2001:db8::1]:0"] {
            assert!(loopback(bad.parse().unwrap()).is_err(), "{bad}");
        }
    }

    #[test]
    fn only_loopback_peers_are_answered() {
        assert!(is_loopback_peer(Some("127.0.0.1:4711")) && is_loopback_peer(Some("[::1]:4711")));
        for stranger in [
            None,
            Some("192.0.2.1:4711"),
            Some("[::ffff:192.0.2.1]:1"),
            Some("somebody"),
        ] {
            assert!(!is_loopback_peer(stranger), "{stranger:?}");
        }
    }
}

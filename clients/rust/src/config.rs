//! Where the service is, whom to trust, and who we are.

use std::{env, path::PathBuf, sync::Arc, time::Duration};

use crate::{CertificateFiles, CertificateSource, ClientError, Event, Events};

/// How long a call may take, unless the configuration says otherwise: longer than a service takes to start again.
const DEFAULT_DEADLINE: Duration = Duration::from_secs(30);
/// The service allows no call more.
const LONGEST_DEADLINE: Duration = Duration::from_secs(60);
/// TCP connection and TLS handshake together.
const DEFAULT_CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// What a client needs to know. Made by one of its functions; fields can be set afterwards.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ClientConfig {
    /// `https://host:port`, or `host:port`; nodes of one service. Each host must be in its server's certificate.
    pub endpoints: Vec<String>,
    /// Who we are, and whom to trust.
    pub certificates: Arc<dyn CertificateSource>,
    /// Of every call with all its retries, sent to the service, which obeys it too; 30 s, at most 60 s. So long may the service be gone without a
    /// call that can be repeated being lost, once it has answered.
    pub deadline: Duration,
    /// TCP connection and TLS handshake together.
    pub connect_timeout: Duration,
    /// Hedging: if a call that changes nothing has no answer after this time, a second request is sent to another endpoint, and the first
    /// answer counts. `None`, as it is by default: never. Sensible: the time within which 95 of 100 calls are answered.
    pub hedge_after: Option<Duration>,
    /// Who is told what happens.
    pub events: Events,
}

impl ClientConfig {
    /// With certificates of files, which are taken up again when they change. `addresses`: one, or several with commas between them.
    pub fn new(
        addresses: impl AsRef<str>,
        ca: impl Into<PathBuf>,
        certificate: impl Into<PathBuf>,
        key: impl Into<PathBuf>,
    ) -> Self {
        let files = CertificateFiles {
            ca: ca.into(),
            certificate: certificate.into(),
            key: key.into(),
        };
        Self::with_certificates(addresses, Arc::new(files))
    }

    /// With certificates of another source.
    pub fn with_certificates(addresses: impl AsRef<str>, certificates: Arc<dyn CertificateSource>) -> Self {
        let addresses = addresses.as_ref().split(',').map(str::trim);
        Self {
            endpoints: addresses.map(str::to_owned).collect(),
            certificates,
            deadline: DEFAULT_DEADLINE,
            connect_timeout: DEFAULT_CONNECT_TIMEOUT,
            hedge_after: None,
            events: Events::default(),
        }
    }

    /// From `KEYREEVE_ADDR` (one address, or several with commas between them), `KEYREEVE_CA`, `KEYREEVE_CERT` and `KEYREEVE_KEY`.
    pub fn from_env() -> Result<Self, ClientError> {
        Ok(Self::new(
            variable("KEYREEVE_ADDR")?,
            variable("KEYREEVE_CA")?,
            variable("KEYREEVE_CERT")?,
            variable("KEYREEVE_KEY")?,
        ))
    }

    /// Tells `listener` what happens. It runs where the event happens, so it must be quick.
    #[must_use]
    pub fn on_event(mut self, listener: impl Fn(&Event<'_>) + Send + Sync + 'static) -> Self {
        self.events = Events::new(listener);
        self
    }
}

/// A deadline that the service would take, too. Errors: `CONFIGURATION`.
pub(crate) fn checked_deadline(deadline: Duration) -> Result<Duration, ClientError> {
    match deadline.is_zero() || deadline > LONGEST_DEADLINE {
        true => Err(ClientError::configuration(format!(
            "a deadline of {deadline:?} is not possible: more than 0, at most {LONGEST_DEADLINE:?}"
        ))),
        false => Ok(deadline),
    }
}

fn variable(name: &str) -> Result<String, ClientError> {
    env::var(name).map_err(|_| {
        ClientError::configuration(format!(
            "{name} is not set: export KEYREEVE_ADDR, KEYREEVE_CA, KEYREEVE_CERT and KEYREEVE_KEY (`keyreeve dev` prints all four)"
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_may_name_several_endpoints() {
        let config = ClientConfig::new("https://one:7443, two:7443", "ca", "certificate", "key");
        assert_eq!(config.endpoints, ["https://one:7443", "two:7443"]);
        assert_eq!(config.deadline, Duration::from_secs(30), "rule 1");
    }

    #[test]
    fn rule_1_a_deadline_that_the_service_would_not_take_is_refused() {
        for deadline in [Duration::from_nanos(1), LONGEST_DEADLINE] {
            assert_eq!(checked_deadline(deadline).expect("it is possible"), deadline);
        }
        for deadline in [
            Duration::ZERO,
            LONGEST_DEADLINE + Duration::from_nanos(1),
            Duration::MAX,
        ] {
            let error = checked_deadline(deadline).expect_err("it is refused");
            assert_eq!(error.reason, "CONFIGURATION");
            assert!(error.message.contains("at most 60s"), "{error}");
        }
    }
}

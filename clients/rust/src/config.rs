//! Where the service is, whom to trust, and who we are.

use std::{env, path::PathBuf, time::Duration};

use crate::ClientError;

/// How long a call may take, unless the configuration says otherwise.
const DEFAULT_DEADLINE: Duration = Duration::from_secs(10);
/// TCP connection and TLS handshake together.
const DEFAULT_CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// What a connection needs. Paths, never keys: a key is read when it connects, and is not kept here.
#[derive(Debug, Clone)]
pub struct ClientConfig {
    /// `https://host:port`, or `host:port`. The host must be in the server's certificate.
    pub address: String,
    /// PEM file of the authorities that may have signed the server's certificate.
    pub ca: PathBuf,
    /// PEM file of the client certificate, leaf first. Its SPIFFE ID is who the service takes the caller for.
    pub certificate: PathBuf,
    /// PEM file of the private key of `certificate`.
    pub key: PathBuf,
    /// Of every call, sent to the service, which obeys it too.
    pub deadline: Duration,
    /// TCP connection and TLS handshake together.
    pub connect_timeout: Duration,
}

impl ClientConfig {
    pub fn new(
        address: impl Into<String>,
        ca: impl Into<PathBuf>,
        certificate: impl Into<PathBuf>,
        key: impl Into<PathBuf>,
    ) -> Self {
        Self {
            address: address.into(),
            ca: ca.into(),
            certificate: certificate.into(),
            key: key.into(),
            deadline: DEFAULT_DEADLINE,
            connect_timeout: DEFAULT_CONNECT_TIMEOUT,
        }
    }

    /// From `KEYREEVE_ADDR`, `KEYREEVE_CA`, `KEYREEVE_CERT` and `KEYREEVE_KEY`.
    pub fn from_env() -> Result<Self, ClientError> {
        Ok(Self::new(
            variable("KEYREEVE_ADDR")?,
            variable("KEYREEVE_CA")?,
            variable("KEYREEVE_CERT")?,
            variable("KEYREEVE_KEY")?,
        ))
    }
}

fn variable(name: &str) -> Result<String, ClientError> {
    env::var(name).map_err(|_| {
        ClientError::configuration(format!(
            "{name} is not set: export KEYREEVE_ADDR, KEYREEVE_CA, KEYREEVE_CERT and KEYREEVE_KEY (`keyreeve dev` prints all four)"
        ))
    })
}

//! The sections of the file. Units are in the names; defaults are what `keyreeve.example.toml` shows.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use serde::Deserialize;

pub use crate::audit::Durability;

/// `[server]`: addresses, names, limits.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ServerConfig {
    /// gRPC over mutual TLS.
    pub listen: SocketAddr,
    /// Plain and local: `/livez`, `/readyz`, `/metrics`, gRPC health.
    pub local: SocketAddr,
    /// Name of this node in records and the status; empty: the host's name.
    pub node: String,
    pub cluster: String,
    /// Threads of the runtime; 0: one per core.
    pub worker_threads: usize,
    pub connections: usize,
    pub connections_per_caller: usize,
    pub in_flight_per_caller: usize,
    pub streams_per_connection: u32,
    pub handshake_timeout_ms: u64,
    /// Of a call that names none.
    pub default_deadline_ms: u64,
    /// A longer one is cut to this.
    pub max_deadline_ms: u64,
    /// Connections end by GOAWAY after 90 to 100 % of this.
    pub max_connection_age_s: u64,
    pub keepalive_interval_s: u64,
    pub keepalive_timeout_s: u64,
    /// How long calls in flight may take to finish after SIGTERM.
    pub drain_s: u64,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            listen: (Ipv4Addr::LOCALHOST, 7443).into(),
            local: (Ipv4Addr::LOCALHOST, 7480).into(),
            node: String::new(),
            cluster: "keyreeve".to_owned(),
            worker_threads: 0,
            connections: 4_096,
            connections_per_caller: 256,
            in_flight_per_caller: 1_024,
            streams_per_connection: 256,
            handshake_timeout_ms: 5_000,
            default_deadline_ms: 10_000,
            max_deadline_ms: 60_000,
            max_connection_age_s: 3_600,
            keepalive_interval_s: 30,
            keepalive_timeout_s: 10,
            drain_s: 25,
        }
    }
}

/// Whether `name` may stand in `<cluster>/audit/<node>/<epoch>`: no separator of it, nothing a terminal or a file system takes amiss.
fn names_a_log(name: &str) -> bool {
    let may_follow = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
    let first = name.as_bytes().first().is_some_and(u8::is_ascii_alphanumeric);
    first && name.len() <= 64 && name.bytes().all(may_follow)
}

impl ServerConfig {
    pub(super) fn check(&self) -> Result<(), String> {
        let least: [(&str, u64); 10] = [
            ("connections", self.connections as u64),
            ("connections_per_caller", self.connections_per_caller as u64),
            ("in_flight_per_caller", self.in_flight_per_caller as u64),
            ("streams_per_connection", self.streams_per_connection.into()),
            ("handshake_timeout_ms", self.handshake_timeout_ms),
            ("default_deadline_ms", self.default_deadline_ms),
            ("max_deadline_ms", self.max_deadline_ms),
            ("max_connection_age_s", self.max_connection_age_s),
            ("keepalive_interval_s", self.keepalive_interval_s),
            ("keepalive_timeout_s", self.keepalive_timeout_s),
        ];
        for (name, value) in least {
            if value == 0 {
                return Err(format!("[server] {name} must be at least 1"));
            }
        }
        if self.default_deadline_ms > self.max_deadline_ms {
            return Err("[server] default_deadline_ms is longer than max_deadline_ms: lower the first".to_owned());
        }
        // Security design, section 6b: connections end after at most 1 h, so that a revoked certificate cannot outlive it.
        if self.max_connection_age_s > 3_600 {
            return Err("[server] max_connection_age_s may be at most 3600".to_owned());
        }
        for (name, value) in [("cluster", &self.cluster), ("node", &self.node_name())] {
            if !names_a_log(value) {
                return Err(format!(
                    "[server] {name}: `{}` cannot be part of the log's name: set 1 to 64 letters, digits, `.`, `-` and `_`, the first a \
                     letter or digit",
                    value.escape_default()
                ));
            }
        }
        Ok(())
    }

    /// The node's name: as set, or the host's.
    pub fn node_name(&self) -> String {
        if !self.node.is_empty() {
            return self.node.clone();
        }
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        if host.is_empty() { "node".to_owned() } else { host }
    }

    pub fn drain(&self) -> Duration {
        Duration::from_secs(self.drain_s)
    }
}

/// `[tls]`: the service's certificate, and who signs its callers'. All are read again when they change.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsConfig {
    /// PEM: leaf first, then intermediates.
    pub certificate: PathBuf,
    /// PEM: PKCS#8, SEC1 or PKCS#1.
    pub key: PathBuf,
    /// Trust domain of the callers' SPIFFE IDs → PEM file of the CAs that may sign for it.
    pub client_ca: BTreeMap<String, PathBuf>,
    /// Certificates and workloads that are refused although their CA vouches for them; one per line.
    #[serde(default)]
    pub revocations: Option<PathBuf>,
    /// How often the files are looked at; 0: only on SIGHUP.
    #[serde(default = "reload_interval_s")]
    pub reload_interval_s: u64,
}

fn reload_interval_s() -> u64 {
    5
}

impl TlsConfig {
    pub(super) fn check(&self) -> Result<(), String> {
        if self.client_ca.is_empty() {
            return Err(
                "[tls.client_ca] is empty, so nobody could connect: name a trust domain and its CA file".to_owned(),
            );
        }
        Ok(())
    }
}

/// `[store]`: where the rows are.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StoreConfig {
    pub data_dir: PathBuf,
    /// Ids of destroyed versions. Default: beside `data_dir`, named like it with `.tombstones` behind.
    pub tombstones: Option<PathBuf>,
}

impl Default for StoreConfig {
    fn default() -> Self {
        Self {
            data_dir: "/var/lib/keyreeve".into(),
            tombstones: None,
        }
    }
}

/// `[audit]`: the log.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AuditConfig {
    pub durability: Durability,
    /// Default: `audit` under `data_dir`.
    pub directory: Option<PathBuf>,
    /// Size of one preallocated segment file.
    pub segment_mib: u64,
    /// The home group: its keys protect the store and sign for the log. Empty: the only group there is.
    pub token_group: String,
}

impl Default for AuditConfig {
    fn default() -> Self {
        Self {
            durability: Durability::Fsync,
            directory: None,
            segment_mib: 64,
            token_group: String::new(),
        }
    }
}

impl AuditConfig {
    pub(super) fn check(&self) -> Result<(), String> {
        if !(1..=4_096).contains(&self.segment_mib) {
            return Err("[audit] segment_mib must be 1 to 4096".to_owned());
        }
        Ok(())
    }
}

/// `[policy]`: the Cedar policies.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PolicyConfig {
    pub directory: PathBuf,
}

impl Default for PolicyConfig {
    fn default() -> Self {
        Self {
            directory: "/etc/keyreeve/policy".into(),
        }
    }
}

/// `[log]`: what the service says of itself on standard error. Not the audit log.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LogConfig {
    pub format: LogFormat,
    /// `error`, `warn`, `info`, `debug` or `trace`, for all or by module: `info,keyreeve::token=debug`.
    pub level: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    Json,
    Text,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self {
            format: LogFormat::Json,
            level: "info".to_owned(),
        }
    }
}

impl LogConfig {
    pub(super) fn check(&self) -> Result<(), String> {
        tracing_subscriber::EnvFilter::try_new(&self.level)
            .map(|_| ())
            .map_err(|error| format!("[log] level = \"{}\": {error}", self.level))
    }
}

/// `[metrics]`: figures for Prometheus on the local port.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MetricsConfig {
    pub enabled: bool,
}

impl Default for MetricsConfig {
    fn default() -> Self {
        Self { enabled: true }
    }
}

/// `[security]`: what protects the process, and what may be loosened. Everything that weakens safety is called `insecure_*`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SecurityConfig {
    pub lock_memory: LockMemory,
    /// gRPC reflection: lets any authenticated caller list the API.
    pub reflection: bool,
    pub insecure_local_anywhere: bool,
    pub insecure_test_settings: bool,
}

/// Whether memory is kept from being swapped out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LockMemory {
    /// No start without it.
    Require,
    /// A warning without it.
    Try,
    Off,
}

impl Default for SecurityConfig {
    fn default() -> Self {
        Self {
            lock_memory: LockMemory::Require,
            reflection: false,
            insecure_local_anywhere: false,
            insecure_test_settings: false,
        }
    }
}

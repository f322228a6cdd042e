//! What a node is without its ports: token, store, log, gate, and what can be done through them. `init` uses it as it is.

use std::{
    fs::DirBuilder,
    os::unix::fs::DirBuilderExt as _,
    path::Path,
    sync::{Arc, OnceLock},
    time::Duration,
};

use tokio::sync::watch;

use super::ServerError;
use crate::{
    audit::{self, AuditError, Opening, RedactKey, WriterHandle},
    clock::Clock,
    config::{Config, Durability, LogFormat},
    grpc::health::Readiness,
    keys::Keys,
    model::EnvironmentName,
    operations::{AuditStatus, Operations, Settings},
    policy::{Gate, Policies},
    store::{self, Directory, RowKey},
    token::{
        Buried, Host, Isolation, OpenError, ProcessHost, Program, Root, ThreadHost, Token, Tokens, host::SubkeyLabel,
    },
};

/// Name of the one token group of this release.
pub const TOKEN_GROUP: &str = "home";

/// Places in the audit writer's queue: calls that may be under way at once, over all callers.
const LOG_QUEUE: usize = 16_384;
/// Keys kept in memory.
const CACHED_KEYS: u64 = 100_000;
/// How long the token's threads may take to end before the process leaves them behind.
const TOKEN_STOP: Duration = Duration::from_secs(10);

/// Everything but the ports.
pub struct Node {
    pub gate: Gate,
    pub keys: Arc<Keys>,
    pub operations: Arc<Operations>,
    pub directory: Directory,
    pub policies: Arc<Policies>,
    token: Arc<Token>,
    host: StopHost,
    fault: Fault,
    writer: WriterHandle,
    origin: String,
    durability: audit::Durability,
}

/// Turns to the reason once the token cannot be served any more by this process.
pub type Fault = watch::Receiver<Option<Arc<str>>>;

impl Node {
    /// Opens all, in the order token → subkeys → store → log → gate. Errors leave nothing running.
    pub async fn open(config: &Config, clock: Arc<dyn Clock>) -> Result<Self, ServerError> {
        store::restore::check_complete(&config.store.data_dir)?;
        Self::open_log(config, clock, None).await
    }

    /// The same on a restored store: its log goes on in a new epoch, whose first record gives the reason.
    pub async fn open_restored(config: &Config, clock: Arc<dyn Clock>, reason: &str) -> Result<Self, ServerError> {
        let reason = reason.to_owned();
        Self::open_log(config, clock, Some(Opening { reason })).await
    }

    async fn open_log(config: &Config, clock: Arc<dyn Clock>, opening: Option<Opening>) -> Result<Self, ServerError> {
        // Policies first: a slip there should cost no login.
        let environments = environments(config)?;
        let policies = Policies::load(config.policy.directory.clone())?;

        let known_destroyed = Arc::new(OnceLock::new());
        let (host, fault) = open_token(config, &known_destroyed).await?;
        let root = Root::new(host.0.clone());
        root.probe().await?;
        let row = RowKey::new(root.subkey(SubkeyLabel::Row).await?);
        let hedge = root.subkey(SubkeyLabel::Hedge).await?;
        let page = root.subkey(SubkeyLabel::Page).await?;

        let log_directory = config.audit_directory();
        make_directory(&log_directory)?;
        let (directory, committer) = store::open(store::Options {
            directory: config.store.data_dir.clone(),
            tombstone_file: config.tombstone_file(),
            row_key: row,
            clock: clock.clone(),
            cached_keys: CACHED_KEYS,
        })
        .await?;
        let _ = known_destroyed.set(directory.clone());

        let newest = audit::epochs(&log_directory).map_err(AuditError::from)?.last().copied();
        let epoch = match opening {
            None => newest.unwrap_or(1),
            Some(_) => newest.unwrap_or(0) + 1,
        };
        let origin = audit::origin(&config.server.cluster, &config.server.node_name(), epoch);
        let redact = SubkeyLabel::Redact {
            log_origin: origin.as_str().into(),
        };
        let redact = RedactKey::new(&root.subkey(redact).await?);
        let options = log_options(config, epoch, opening);
        let durability = options.durability;
        let (log, writer) = audit::start(options, committer, redact, clock.clone()).await?;

        let gate = Gate::new(log, directory.clone(), policies.clone(), clock.clone());
        let token = Arc::new(Token::new(
            TOKEN_GROUP,
            host.0.clone(),
            clock.clone(),
            directory.clone(),
        ));
        let tokens = Arc::new(Tokens::single(token.clone(), environments));
        Ok(Self {
            gate,
            keys: Arc::new(Keys::new(tokens.clone(), directory.clone(), clock, &page)),
            operations: Arc::new(Operations::new(tokens, &hedge, Settings::default())),
            directory,
            policies,
            token,
            host,
            fault,
            writer,
            origin,
            durability,
        })
    }

    /// Ready means: the token serves, the log takes work.
    pub fn readiness(&self) -> Readiness {
        let (token, log) = (self.token.clone(), self.writer.watch());
        Readiness::new()
            .needs("token", move || token.status().fault.is_none())
            .needs("audit", move || log.borrow().accepts())
    }

    /// Reads the state of the log.
    pub fn read_audit(&self) -> impl Fn() -> AuditStatus + Send + Sync + use<> {
        let (log, durability) = (self.origin.clone(), self.durability.as_str());
        let (health, records) = (self.writer.watch(), self.writer.records());
        move || AuditStatus {
            log: log.clone(),
            size: records(),
            durability,
            writable: health.borrow().accepts(),
        }
    }

    /// Turns to `Some` once the token is lost to this process.
    pub fn fault(&self) -> Fault {
        self.fault.clone()
    }

    pub fn log_health(&self) -> watch::Receiver<audit::Health> {
        self.writer.watch()
    }

    /// Closes the token, records the stop, ends the writer. To be called once nothing is under way.
    pub async fn close(self) {
        self.host.stop().await;
        if let Err(error) = self.writer.stop().await {
            let error: &(dyn std::error::Error + 'static) = &error;
            tracing::error!(error, "the log did not stop cleanly");
        }
    }
}

/// Stops the token's host, also when a start fails halfway: the module crashes a process that ends under its threads.
struct StopHost(Arc<dyn Host>);

impl StopHost {
    async fn stop(&self) {
        let host = self.0.clone();
        let stopped = tokio::task::spawn_blocking(move || host.stop());
        if tokio::time::timeout(TOKEN_STOP, stopped).await.is_err() {
            tracing::error!("the token's threads do not end: leaving them behind");
        }
    }
}

impl Drop for StopHost {
    /// Stopping twice does nothing.
    fn drop(&mut self) {
        self.0.stop();
    }
}

/// `store`: set once it is open, which it cannot be before the token gives its key; until then nothing is unwrapped.
async fn open_token(config: &Config, store: &Arc<OnceLock<Directory>>) -> Result<(StopHost, Fault), ServerError> {
    let (token, data_dir) = (config.token.clone(), config.store.data_dir.clone());
    let buried: Buried = {
        let store = store.clone();
        Arc::new(move |key, version| store.get().is_some_and(|store| store.is_destroyed(key, version)))
    };
    let worker = worker_program(config).map_err(ServerError::Runtime)?;
    let (tombstones, runtime) = (config.tombstone_file(), tokio::runtime::Handle::current());
    let opened = tokio::task::spawn_blocking(move || match token.isolation {
        Isolation::Thread => {
            let host = ThreadHost::start(token, &data_dir, buried)?;
            let fault = host.fault();
            Ok::<_, OpenError>((StopHost(Arc::new(host)), fault))
        }
        Isolation::Process => {
            let host = ProcessHost::start(worker, token, &data_dir, &tombstones, &runtime)?;
            let fault = host.fault();
            Ok((StopHost(Arc::new(host)), fault))
        }
    });
    let opened = opened
        .await
        .map_err(|panicked| ServerError::Runtime(std::io::Error::other(panicked)))?;
    Ok(opened?)
}

/// This program, as a worker that logs as the server does.
fn worker_program(config: &Config) -> std::io::Result<Program> {
    let format = match config.log.format {
        LogFormat::Json => "json",
        LogFormat::Text => "text",
    };
    Ok(Program {
        path: std::env::current_exe()?,
        arguments: ["token-worker", "--log-level", &config.log.level, "--log-format", format]
            .map(Into::into)
            .to_vec(),
    })
}

fn environments(config: &Config) -> Result<Vec<EnvironmentName>, ServerError> {
    let parse = |name: &String| {
        name.parse().map_err(|source| ServerError::Environment {
            name: name.clone(),
            source,
        })
    };
    config.token.environments.iter().map(parse).collect()
}

fn make_directory(path: &Path) -> Result<(), ServerError> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|source| {
        AuditError::Directory {
            path: path.to_owned(),
            source,
        }
        .into()
    })
}

fn log_options(config: &Config, epoch: u64, opening: Option<Opening>) -> audit::Options {
    audit::Options {
        directory: config.audit_directory(),
        cluster: config.server.cluster.clone(),
        node: config.server.node_name(),
        epoch,
        opening,
        durability: match config.audit.durability {
            Durability::Fsync => audit::Durability::Fsync,
            Durability::Written => audit::Durability::Written,
        },
        segment_bytes: config.audit.segment_mib << 20,
        queue: LOG_QUEUE,
        disk: audit::DiskGuard::default(),
    }
}

//! What a node is without its ports: token, store, log, gate, and what can be done through them. `init` uses it as it is.

use std::{
    fs::DirBuilder,
    os::unix::fs::DirBuilderExt as _,
    path::Path,
    sync::{Arc, OnceLock},
};

use tokio::sync::watch;

use super::{
    InsecureDouble, ServerError,
    meanwhile::Meanwhile,
    tokens::{Fault, Groups},
};
use crate::{
    audit::{self, AuditError, Opening, RedactKey, WriterHandle},
    clock::Clock,
    config::{Config, Durability},
    grpc::health::Readiness,
    keys::Keys,
    operations::{AuditStatus, Operations, Settings, Uses},
    policy::{Gate, Policies},
    store::{self, Directory, RowKey},
    token::{Members, Root, Token, Tokens, host::SubkeyLabel},
};

/// Places in the audit writer's queue: calls that may be under way at once, over all callers.
const LOG_QUEUE: usize = 16_384;
/// Keys kept in memory.
const CACHED_KEYS: u64 = 100_000;

/// Everything but the ports.
pub struct Node {
    pub gate: Gate,
    pub keys: Arc<Keys>,
    pub operations: Arc<Operations>,
    pub directory: Directory,
    pub policies: Arc<Policies>,
    /// The home group.
    home: Arc<Members>,
    groups: Groups,
    writer: WriterHandle,
    origin: String,
    durability: audit::Durability,
}

impl Node {
    /// Opens all, in the order token → subkeys → store → log → gate. Errors leave nothing running.
    pub async fn open(config: &Config, clock: Arc<dyn Clock>) -> Result<Self, ServerError> {
        store::restore::check_complete(&config.store.data_dir)?;
        Self::open_log(config, clock, None, None).await
    }

    /// The same on a token in memory: see [`InsecureDouble`].
    pub(super) async fn open_double(
        config: &Config,
        clock: Arc<dyn Clock>,
        double: &InsecureDouble,
    ) -> Result<Self, ServerError> {
        Self::open_log(config, clock, None, Some(double)).await
    }

    /// The same on a restored store: its log goes on in a new epoch, whose first record gives the reason.
    pub async fn open_restored(config: &Config, clock: Arc<dyn Clock>, reason: &str) -> Result<Self, ServerError> {
        let reason = reason.to_owned();
        Self::open_log(config, clock, Some(Opening { reason }), None).await
    }

    async fn open_log(
        config: &Config,
        clock: Arc<dyn Clock>,
        opening: Option<Opening>,
        double: Option<&InsecureDouble>,
    ) -> Result<Self, ServerError> {
        // Policies first: a slip there should cost no login.
        let policies = Policies::load(config.policy.directory.clone())?;

        let known_destroyed = Arc::new(OnceLock::new());
        let groups = match double {
            None => Groups::open(config, &known_destroyed).await?,
            Some(double) => Groups::alone(config, double.host.clone())?,
        };
        let home = groups.home(config);
        let root = Root::new(home.clone());
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
        let data_directory = &config.store.data_dir;
        let failed = |source| AuditError::Directory {
            path: data_directory.clone(),
            source,
        };
        let meanwhile = Meanwhile::find(data_directory).map_err(failed)?;
        let options = audit::Options {
            meanwhile: meanwhile.records(),
            ..log_options(config, epoch, opening)
        };
        let durability = options.durability;
        let (log, writer) = audit::start(options, committer, redact, clock.clone()).await?;
        meanwhile.recorded().map_err(failed)?;

        let gate = Gate::new(log, directory.clone(), policies.clone(), clock.clone());
        let bound = groups.list.iter().map(|group| {
            let token = Token::new(&group.name, group.members.clone(), clock.clone(), directory.clone());
            (Arc::new(token), group.environments.clone())
        });
        let tokens = Arc::new(Tokens::new(bound));
        let uses = Uses::new(gate.clone(), directory.clone(), epoch);
        let keys = Keys::new(tokens.clone(), directory.clone(), clock, &page, epoch);
        let keys = match double {
            None => keys,
            Some(double) => keys.with_key_ids(double.key_ids),
        };
        Ok(Self {
            gate,
            keys: Arc::new(keys),
            operations: Arc::new(Operations::new(tokens, &hedge, uses, Settings::default())),
            directory,
            policies,
            home,
            groups,
            writer,
            origin,
            durability,
        })
    }

    /// Ready means: the token serves, the log takes work.
    pub fn readiness(&self) -> Readiness {
        let (home, log) = (self.home.clone(), self.writer.watch());
        Readiness::new()
            .needs("token", move || home.serves())
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

    /// See [`Groups::measure`].
    pub fn measure_tokens(&self) -> impl Future<Output = ()> + Send + use<> {
        self.groups.measure()
    }

    /// Where the loss of the only token ends the process: tells of it.
    pub fn lone_fault(&self) -> Option<Fault> {
        self.groups.lone_fault()
    }

    pub fn log_health(&self) -> watch::Receiver<audit::Health> {
        self.writer.watch()
    }

    /// Closes the token, records the stop, ends the writer. To be called once nothing is under way.
    pub async fn close(self) {
        self.groups.close().await;
        if let Err(error) = self.writer.stop().await {
            let error: &(dyn std::error::Error + 'static) = &error;
            tracing::error!(error, "the log did not stop cleanly");
        }
    }
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
        meanwhile: Vec::new(),
        durability: match config.audit.durability {
            Durability::Fsync => audit::Durability::Fsync,
            Durability::Written => audit::Durability::Written,
        },
        segment_bytes: config.audit.segment_mib << 20,
        queue: LOG_QUEUE,
        disk: audit::DiskGuard::default(),
    }
}

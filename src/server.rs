//! A node: what is started in which order, what ends it, and how it stops.
//!
//! Start: files first (TLS, policies), so that a slip there costs no login; then token → subkeys → store → audit writer → gate →
//! operations → ports. Stop: not ready, GOAWAY, calls under way, token (threads joined, module finalised), the log's stop record.

mod destroy_due;
mod double;
mod meanwhile;
mod node;
mod notify;
mod signals;
mod tokens;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use metrics_exporter_prometheus::PrometheusHandle;
use tokio::{
    sync::{Notify, watch},
    task::{JoinHandle, JoinSet},
};

use crate::{
    audit::{self, AuditError},
    clock::{Clock, SystemClock},
    config::{Config, ServerConfig},
    grpc::{
        About, CryptoService, Dispatch, EventService, Front, KeyService, Services, SystemService,
        health::{self, Local, Readiness},
        listener::Listener,
        tls::{Tls, TlsError},
    },
    hardening::{self, HardeningError, Locked},
    model::InvalidName,
    policy::InvalidPolicies,
    store::StoreError,
    telemetry,
    token::{OpenError, TokenError, exit_now},
};
pub use destroy_due::destroy_due;
pub use double::InsecureDouble;
pub use node::Node;
use notify::Manager;
use signals::Signals;
pub use tokens::Fault;

/// Why a node does not start, or ended by itself. Printed with its causes; says what to do next.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    #[error(transparent)]
    Hardening(#[from] HardeningError),
    #[error("the runtime cannot be started")]
    Runtime(#[source] std::io::Error),
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error(transparent)]
    Policies(#[from] InvalidPolicies),
    #[error("the environments of a token group: `{name}` is not the name of an environment")]
    Environment {
        name: String,
        #[source]
        source: InvalidName,
    },
    #[error("the token cannot be used: `keyreeve doctor` tells more")]
    Token(#[from] OpenError),
    #[error("the token does not give its service keys: `keyreeve doctor` tells more")]
    Subkey(#[from] TokenError),
    #[error("the store cannot be opened")]
    Store(#[from] StoreError),
    #[error("the audit log cannot be opened")]
    Audit(#[from] AuditError),
    #[error("cannot listen on {address}: is another server running, or is the address of another machine?")]
    Listen {
        address: SocketAddr,
        #[source]
        source: std::io::Error,
    },
    /// Ends the process so that its supervisor starts it again.
    #[error("the token failed: {0}; the process ends, to be started again; `keyreeve doctor` tells whether it can")]
    TokenFailed(Arc<str>),
    #[error("the audit log can no longer be written; the process ends, to be started again")]
    LogFailed,
}

/// How long a start may go on after a signal to stop.
const START_STOP: Duration = Duration::from_secs(10);

/// Serves until SIGTERM or SIGINT, then drains. For the process as a whole: hardens it, and starts its log and its runtime.
///
/// `ready` is told the address of gRPC once calls are taken.
pub fn run(config: &Config, ready: impl FnOnce(SocketAddr)) -> Result<(), ServerError> {
    // Before the runtime: what is set here is inherited by its threads, and memory is locked before it holds anything.
    let locked = hardening::apply(config.security.lock_memory)?;
    telemetry::start_log(&config.log);
    telemetry::catch_panics();
    if locked == Locked::No {
        tracing::warn!(
            setting = "lock_memory",
            "memory is not locked: it may be swapped to disk; raise LimitMEMLOCK, or switch swap off"
        );
    }
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    if config.server.worker_threads > 0 {
        builder.worker_threads(config.server.worker_threads);
    }
    let runtime = builder.enable_all().build().map_err(ServerError::Runtime)?;
    let result = runtime.block_on(until_told(config, ready));
    runtime.shutdown_timeout(Duration::from_secs(1));
    if matches!(result, Err(ServerError::TokenFailed(_))) {
        // A thread may be inside the module for ever, and the module's exit handlers would crash on it. The log has said why.
        exit_now(1);
    }
    result
}

async fn until_told(config: &Config, ready: impl FnOnce(SocketAddr)) -> Result<(), ServerError> {
    let manager = Manager::from_environment();
    let mut signals = Signals::listen().map_err(ServerError::Runtime)?;
    let mut hangup = signals::hangup().map_err(ServerError::Runtime)?;
    let mut start = std::pin::pin!(Server::start(config, Arc::new(SystemClock)));
    let server = tokio::select! {
        started = start.as_mut() => started?,
        signal = signals.terminate() => {
            tracing::info!(signal, "told to stop while starting");
            // Not dropped halfway: a login would go on in its thread, and the module's exit handlers crash a process that ends under it.
            return match tokio::time::timeout(START_STOP, start).await {
                Ok(Ok(server)) => {
                    server.stop().await;
                    Ok(())
                }
                Ok(Err(error)) => Err(error),
                Err(_) => Err(ServerError::TokenFailed("it does not answer while it is opened".into())),
            };
        }
    };
    manager.ready();
    ready(server.address());
    let mut end = server.end();
    let outcome = loop {
        tokio::select! {
            signal = signals.terminate() => {
                tracing::info!(signal, "told to stop: draining");
                break Ok(());
            }
            _ = hangup.recv() => server.reload(),
            why = end.wait() => break Err(why),
            never = manager.keep_alive() => match never {},
        }
    };
    if let Err(error) = &outcome {
        let error: &(dyn std::error::Error + 'static) = error;
        tracing::error!(error, "the service ends");
    }
    manager.stopping();
    server.stop().await;
    outcome
}

/// A node that serves.
pub struct Server {
    node: Node,
    address: SocketAddr,
    local_address: SocketAddr,
    readiness: Arc<Readiness>,
    hangup: Arc<Notify>,
    stop: watch::Sender<bool>,
    stop_local: watch::Sender<bool>,
    serving: JoinHandle<bool>,
    /// Ends with the server.
    background: JoinSet<()>,
}

/// Follows what ends a node although nobody told it to.
pub struct End {
    fault: Option<Fault>,
    log: watch::Receiver<audit::Health>,
}

impl End {
    /// Waits until the token or the log is lost for good.
    pub async fn wait(&mut self) -> ServerError {
        let (fault, log) = (&mut self.fault, &mut self.log);
        let token_lost = async {
            match fault {
                Some(fault) => fault
                    .wait_for(Option::is_some)
                    .await
                    .map(|why| why.clone().unwrap_or_default()),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            Ok(why) = token_lost => ServerError::TokenFailed(why),
            Ok(_) = log.wait_for(|health| *health == audit::Health::Unwritable) => ServerError::LogFailed,
            else => std::future::pending().await,
        }
    }
}

impl Server {
    /// Starts everything; returns once both ports are open. Errors leave nothing running.
    pub async fn start(config: &Config, clock: Arc<dyn Clock>) -> Result<Self, ServerError> {
        // Before anything makes a metric: one made earlier goes nowhere.
        let metrics = match config.metrics.enabled {
            true => telemetry::start_metrics(),
            false => None,
        };
        // Before the token: a slip in these files should cost no login.
        let tls = Tls::load(&config.tls)?;
        let node = Node::open(config, clock.clone()).await?;
        Self::open(config, clock, node, tls, metrics, |services| services).await
    }

    /// `front`: puts something before the services, or nothing.
    async fn open<D: Dispatch>(
        config: &Config,
        clock: Arc<dyn Clock>,
        node: Node,
        tls: Arc<Tls>,
        metrics: Option<PrometheusHandle>,
        front: impl FnOnce(Services) -> D,
    ) -> Result<Self, ServerError> {
        match Self::open_ports(config, clock, node, tls, metrics, front).await {
            Ok(server) => Ok(server),
            Err((node, error)) => {
                node.close().await;
                Err(error)
            }
        }
    }

    async fn open_ports<D: Dispatch>(
        config: &Config,
        clock: Arc<dyn Clock>,
        node: Node,
        tls: Arc<Tls>,
        metrics: Option<PrometheusHandle>,
        front: impl FnOnce(Services) -> D,
    ) -> Result<Self, (Node, ServerError)> {
        let readiness = Arc::new(node.readiness());
        let (reporter, health_service) = health::service().await;
        let about = About {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            node: config.server.node_name(),
            started: clock.now(),
        };
        let services = Services::new(
            CryptoService::new(node.gate.clone(), node.operations.clone()),
            KeyService::new(node.gate.clone(), node.keys.clone()),
            EventService::new(node.gate.clone(), node.keys.clone()),
            SystemService::new(
                node.gate.clone(),
                node.operations.clone(),
                node.directory.clone(),
                about,
                Arc::new(node.read_audit()),
            ),
            health_service.clone(),
            config.security.reflection,
        );
        let revocations = tls.revocations().clone();
        let front = Front::new(
            front(services),
            Services::DESCRIPTORS,
            &config.server,
            revocations,
            clock,
        );
        let health_routes = tonic::service::Routes::new(health_service);
        let opened = async {
            let ServerConfig { listen, local, .. } = config.server;
            let failed = |address| move |source| ServerError::Listen { address, source };
            let listener = Listener::bind(&config.server, tls.clone(), front)
                .await
                .map_err(failed(listen))?;
            let address = listener.address().map_err(failed(listen))?;
            let port = Local::bind(local, readiness.clone(), metrics.clone(), health_routes)
                .await
                .map_err(failed(local))?;
            let local_address = port.address().map_err(failed(local))?;
            Ok((listener, address, port, local_address))
        };
        let (listener, address, local, local_address) = match opened.await {
            Ok(ports) => ports,
            Err(error) => return Err((node, error)),
        };

        let (stop, stopped) = watch::channel(false);
        let (stop_local, local_stopped) = watch::channel(false);
        let hangup = Arc::new(Notify::new());
        let mut background = JoinSet::new();
        background.spawn(local.serve(local_stopped));
        background.spawn(health::follow(readiness.clone(), reporter));
        let told = hangup.clone();
        background.spawn(tls.watch(async move || told.notified().await));
        if let Some(metrics) = metrics {
            background.spawn(node.measure_tokens());
            background.spawn(health::fold(metrics));
        }
        background.spawn(destroy_due::run(node.keys.clone(), node.gate.clone()));
        let serving = tokio::spawn(listener.serve(stopped));
        tracing::info!(
            address = %address,
            local = %local_address,
            node = config.server.node_name(),
            version = env!("CARGO_PKG_VERSION"),
            "serving"
        );
        Ok(Self {
            node,
            address,
            local_address,
            readiness,
            hangup,
            stop,
            stop_local,
            serving,
            background,
        })
    }

    /// Where gRPC is served.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where health and metrics are served.
    pub fn local_address(&self) -> SocketAddr {
        self.local_address
    }

    /// What is behind the ports.
    pub fn node(&self) -> &Node {
        &self.node
    }

    pub fn end(&self) -> End {
        End {
            fault: self.node.lone_fault(),
            log: self.node.log_health(),
        }
    }

    /// Takes up TLS files and policies as they are now; what cannot be used stays as it was.
    pub fn reload(&self) {
        self.hangup.notify_one();
        match self.node.policies.reload() {
            Ok(_) => tracing::info!(policy = &*self.node.policies.hash(), "took up the policies again"),
            Err(error) => {
                let error: &(dyn std::error::Error + 'static) = &error;
                tracing::error!(
                    error,
                    "the policies changed and cannot be used: those before stay in force"
                );
            }
        }
    }

    /// Drains, stops the token, records the stop. Takes at most the drain limit and some seconds.
    pub async fn stop(mut self) {
        self.readiness.drain();
        let _ = self.stop.send(true);
        match (&mut self.serving).await {
            Ok(true) => {}
            Ok(false) | Err(_) => tracing::warn!("calls were cut at the drain limit: they are recorded as aborted"),
        }
        // The local port stays, so that probes see "not ready" to the end; the jobs hold the gate, and end before the log does.
        self.node.close().await;
        let _ = self.stop_local.send(true);
        self.background.shutdown().await;
        tracing::info!("stopped");
    }
}

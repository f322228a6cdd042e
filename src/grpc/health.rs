//! Whether the service works: its readiness, gRPC health, and the plain local port.
//!
//! Ready means that the token serves and the log is writable, and nobody is shutting down. Reasons are words of ours: never a
//! name, label or serial (`SECURITY.md`).

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    http::{StatusCode, header},
    response::IntoResponse,
    routing::get,
};
use metrics_exporter_prometheus::PrometheusHandle;
use serde_json::json;
use tokio::{net::TcpListener, sync::watch};
use tonic::service::Routes;
use tonic_health::{ServingStatus, pb::health_server::HealthServer, server::HealthReporter};

/// How often the state is looked at for those who watch it, and figures are folded together.
const INTERVAL: Duration = Duration::from_millis(250);

/// Names with a health of their own, beside "" for the whole server.
const SERVICES: [&str; 5] = [
    "",
    "keyreeve.v1.CryptoService",
    "keyreeve.v1.EventService",
    "keyreeve.v1.KeyService",
    "keyreeve.v1.SystemService",
];

/// Looks whether one part works.
type Check = Box<dyn Fn() -> bool + Send + Sync>;

/// Whether the service can do its work now.
#[derive(Default)]
pub struct Readiness {
    checks: Vec<(&'static str, Check)>,
    draining: AtomicBool,
}

impl Readiness {
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a part without which nothing works. `part` is shown: a word of ours, such as `token`.
    #[must_use]
    pub fn needs(mut self, part: &'static str, works: impl Fn() -> bool + Send + Sync + 'static) -> Self {
        self.checks.push((part, Box::new(works)));
        self
    }

    /// From now on not ready, so that nobody sends new work.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// The parts that do not work; empty: ready.
    pub fn missing(&self) -> Vec<&'static str> {
        let mut missing: Vec<_> = self
            .checks
            .iter()
            .filter(|(_, works)| !works())
            .map(|(part, _)| *part)
            .collect();
        if self.draining.load(Ordering::Relaxed) {
            missing.push("draining");
        }
        missing
    }
}

/// The gRPC health service; the reporter is kept true by [`follow`].
pub async fn service() -> (
    HealthReporter,
    HealthServer<impl tonic_health::pb::health_server::Health>,
) {
    let (reporter, service) = tonic_health::server::health_reporter();
    report(&reporter, false).await;
    (reporter, service)
}

/// Keeps gRPC health true to `readiness`, for ever.
pub async fn follow(readiness: Arc<Readiness>, reporter: HealthReporter) {
    let mut was = false;
    metrics::describe_gauge!("keyreeve_ready", "1 while the token serves and the log is writable");
    loop {
        let missing = readiness.missing();
        let ready = missing.is_empty();
        metrics::gauge!("keyreeve_ready").set(if ready { 1.0 } else { 0.0 });
        if ready != was {
            report(&reporter, ready).await;
            match ready {
                true => tracing::info!("ready"),
                false => tracing::warn!(reason = missing.join(", "), "not ready"),
            }
            was = ready;
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

async fn report(reporter: &HealthReporter, ready: bool) {
    let status = match ready {
        true => ServingStatus::Serving,
        false => ServingStatus::NotServing,
    };
    for service in SERVICES {
        reporter.set_service_status(service, status).await;
    }
}

/// The local port: `/livez`, `/readyz`, `/metrics`, and gRPC health without TLS (h2c), for probes that speak none.
pub struct Local {
    listener: TcpListener,
    routes: Router,
}

impl Local {
    /// That `address` is a loopback address is checked with the configuration.
    pub async fn bind(
        address: SocketAddr,
        readiness: Arc<Readiness>,
        metrics: Option<PrometheusHandle>,
        health: Routes,
    ) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let mut routes = health
            .into_axum_router()
            .route("/livez", get(|| async { "ok\n" }))
            .route("/readyz", get(move || async move { readyz(&readiness) }));
        if let Some(metrics) = metrics {
            routes = routes.route("/metrics", get(move || async move { render(&metrics) }));
        }
        Ok(Self { listener, routes })
    }

    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until `stop` turns true: probes see "not ready" all through the drain.
    pub async fn serve(self, mut stop: watch::Receiver<bool>) {
        let served = axum::serve(self.listener, self.routes).into_future();
        tokio::select! {
            _ = served => {}
            () = super::listener::told(&mut stop) => {}
        }
    }
}

fn readyz(readiness: &Readiness) -> impl IntoResponse + use<> {
    let missing = readiness.missing();
    let status = match missing.is_empty() {
        true => StatusCode::OK,
        false => StatusCode::SERVICE_UNAVAILABLE,
    };
    let body = json!({ "ready": missing.is_empty(), "missing": missing }).to_string();
    (status, [(header::CONTENT_TYPE, "application/json")], body)
}

fn render(metrics: &PrometheusHandle) -> impl IntoResponse + use<> {
    (
        [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")],
        metrics.render(),
    )
}

/// Folds what histograms collected into their buckets, for ever: without it they grow while nobody scrapes.
pub async fn fold(metrics: PrometheusHandle) {
    loop {
        tokio::time::sleep(Duration::from_secs(5)).await;
        metrics.run_upkeep();
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    async fn ask(address: SocketAddr, path: &str) -> String {
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: local\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    async fn local(readiness: Arc<Readiness>) -> (SocketAddr, watch::Sender<bool>, HealthReporter) {
        let (reporter, service) = service().await;
        let recorder = crate::telemetry::recorder().unwrap();
        metrics::with_local_recorder(&recorder, || metrics::counter!("keyreeve_example_total").increment(3));
        let local = Local::bind(
            (std::net::Ipv4Addr::LOCALHOST, 0).into(),
            readiness,
            Some(recorder.handle()),
            Routes::new(service),
        )
        .await
        .unwrap();
        let address = local.address().unwrap();
        let (stop, stopped) = watch::channel(false);
        tokio::spawn(local.serve(stopped));
        (address, stop, reporter)
    }

    #[tokio::test]
    async fn readiness_follows_its_parts_and_says_which_is_missing() {
        let works = Arc::new(AtomicBool::new(true));
        let part = works.clone();
        let readiness = Arc::new(Readiness::new().needs("token", move || part.load(Ordering::Relaxed)));
        let (address, _stop, _reporter) = local(readiness.clone()).await;
        assert!(ask(address, "/readyz").await.starts_with("HTTP/1.1 200"));

        works.store(false, Ordering::Relaxed);
        let answer = ask(address, "/readyz").await;
        assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
        assert!(answer.contains(r#""missing":["token"]"#), "{answer}");
        assert!(
            ask(address, "/livez").await.starts_with("HTTP/1.1 200"),
            "alive though not ready"
        );

        works.store(true, Ordering::Relaxed);
        readiness.drain();
        assert!(ask(address, "/readyz").await.contains("draining"));
    }

    #[tokio::test]
    async fn metrics_are_rendered_for_prometheus() {
        let (address, _stop, _reporter) = local(Arc::new(Readiness::new())).await;
        let answer = ask(address, "/metrics").await;
        assert!(answer.contains("text/plain; version=0.0.4"), "{answer}");
        assert!(answer.contains("keyreeve_example_total 3"), "{answer}");
    }

    #[tokio::test]
    async fn plain_grpc_health_on_the_local_port_follows_readiness() {
        use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
        let readiness = Arc::new(Readiness::new());
        let (address, _stop, reporter) = local(readiness.clone()).await;
        let channel = tonic::transport::Endpoint::try_from(format!("http://{address}"))
            .unwrap()
            .connect()
            .await
            .unwrap();
        let mut client = HealthClient::new(channel);
        let request = HealthCheckRequest {
            service: "keyreeve.v1.CryptoService".to_owned(),
        };
        let mut states = client.watch(request).await.unwrap().into_inner();
        assert_eq!(states.message().await.unwrap().unwrap().status, 2, "NOT_SERVING");
        tokio::spawn(follow(readiness.clone(), reporter));
        assert_eq!(states.message().await.unwrap().unwrap().status, 1, "SERVING");
        readiness.drain();
        assert_eq!(states.message().await.unwrap().unwrap().status, 2, "NOT_SERVING");
    }
}

//! Real connections over loopback, with certificates of test authorities; the service behind them is a few lines.

use std::{
    path::Path,
    sync::atomic::{AtomicUsize, Ordering},
};

use data_encoding::BASE64;
use hyper::body::Incoming;
use keyreeve_proto::v1::{
    EncryptRequest, GetStatusRequest, GetStatusResponse, WhoAmIRequest, WhoAmIResponse,
    system_service_client::SystemServiceClient,
    system_service_server::{SystemService, SystemServiceServer},
};
use rcgen::ExtendedKeyUsagePurpose::ServerAuth;
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion, version};
use tokio::{io::AsyncReadExt as _, sync::Notify, task::JoinHandle};
use tokio_rustls::TlsConnector;
use tonic::{
    Code, Request, Response, Status,
    transport::{Channel, Endpoint},
};
use tonic_types::StatusExt as _;

use super::*;
use crate::{
    clock::{Clock, ManualClock, SystemClock, Timestamp},
    config::TlsConfig,
    grpc::{Answer, limits::MESSAGE_BYTES},
    identity::{
        Caller,
        test_ca::{Issued, Leaf, TestCa},
    },
};

const API: &str = "spiffe://acme.dev/ns/pay/sa/api";

/// `WhoAmI` answers at once; `GetStatus` waits to be let go, or panics if the request id says so.
#[derive(Default)]
struct Fake {
    entered: Notify,
    let_go: Notify,
    abandoned: AtomicUsize,
}

struct OnDrop<'a>(&'a AtomicUsize);

impl Drop for OnDrop<'_> {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[tonic::async_trait]
impl SystemService for Fake {
    async fn get_status(&self, request: Request<GetStatusRequest>) -> Result<Response<GetStatusResponse>, Status> {
        let caller = request.extensions().get::<Caller>().unwrap();
        assert!(&*caller.facts().request_id != "panic", "CANARY");
        let abandoned = OnDrop(&self.abandoned);
        self.entered.notify_one();
        self.let_go.notified().await;
        std::mem::forget(abandoned);
        Ok(Response::new(GetStatusResponse::default()))
    }

    async fn who_am_i(&self, request: Request<WhoAmIRequest>) -> Result<Response<WhoAmIResponse>, Status> {
        let caller = request.extensions().get::<Caller>().unwrap();
        Ok(Response::new(WhoAmIResponse {
            identity: caller.identity().actor.id.clone(),
            ..WhoAmIResponse::default()
        }))
    }
}

struct One(SystemServiceServer<Fake>);

impl Dispatch for One {
    fn call(&self, request: http::Request<Incoming>) -> Answer {
        tower::Service::call(&mut self.0.clone(), request)
    }
}

struct Server {
    address: SocketAddr,
    ca: TestCa,
    server_ca: TestCa,
    fake: Arc<Fake>,
    tls: Arc<Tls>,
    directory: tempfile::TempDir,
    stop: watch::Sender<bool>,
    task: JoinHandle<bool>,
}

impl Server {
    async fn start() -> Self {
        Self::with(|_| {}, Arc::new(SystemClock)).await
    }

    async fn with(change: impl FnOnce(&mut ServerConfig), clock: Arc<dyn Clock>) -> Self {
        let mut config = ServerConfig {
            listen: (std::net::Ipv4Addr::LOCALHOST, 0).into(),
            ..ServerConfig::default()
        };
        change(&mut config);
        let (ca, server_ca) = (TestCa::new("callers"), TestCa::new("servers"));
        let directory = tempfile::tempdir().unwrap();
        write_identity(directory.path(), &server_ca);
        std::fs::write(directory.path().join("ca.pem"), &ca.pem).unwrap();
        std::fs::write(directory.path().join("revoked"), "").unwrap();
        let tls = Tls::load(&TlsConfig {
            certificate: directory.path().join("server.pem"),
            key: directory.path().join("server.key"),
            client_ca: [("acme.dev".to_owned(), directory.path().join("ca.pem"))].into(),
            revocations: Some(directory.path().join("revoked")),
            reload_interval_s: 1,
        })
        .unwrap();
        let fake = Arc::new(Fake::default());
        let service = SystemServiceServer::from_arc(fake.clone());
        let front = Front::new(
            One(service),
            &[keyreeve_proto::DESCRIPTOR_SET],
            &config,
            tls.revocations().clone(),
            clock,
        );
        let listener = Listener::bind(&config, tls.clone(), front).await.unwrap();
        let address = listener.address().unwrap();
        let (stop, stopped) = watch::channel(false);
        let task = tokio::spawn(listener.serve(stopped));
        Self {
            address,
            ca,
            server_ca,
            fake,
            tls,
            directory,
            stop,
            task,
        }
    }

    fn client_config(&self, versions: &[&'static SupportedProtocolVersion], identity: Option<Issued>) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(self.server_ca.certificate.clone()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots);
        let mut config = match identity {
            Some(issued) => builder
                .with_client_auth_cert(vec![issued.certificate], issued.key)
                .unwrap(),
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        config
    }

    async fn connect_as(
        &self,
        identity: Option<Issued>,
    ) -> Result<SystemServiceClient<Channel>, tonic::transport::Error> {
        self.connect(self.client_config(&[&version::TLS13], identity)).await
    }

    async fn connect(&self, config: ClientConfig) -> Result<SystemServiceClient<Channel>, tonic::transport::Error> {
        Ok(SystemServiceClient::new(self.channel(config).await?))
    }

    async fn channel(&self, config: ClientConfig) -> Result<Channel, tonic::transport::Error> {
        let address = self.address;
        let connector = TlsConnector::from(Arc::new(config));
        Endpoint::from_static("http://localhost")
            .connect_with_connector(tower::service_fn(move |_| {
                let connector = connector.clone();
                async move {
                    let tcp = TcpStream::connect(address).await?;
                    let name = "localhost".try_into().unwrap();
                    Ok::<_, io::Error>(TokioIo::new(connector.connect(name, tcp).await?))
                }
            }))
            .await
    }

    /// A channel for calls that the generated client cannot make.
    async fn raw(&self) -> Channel {
        let config = self.client_config(&[&version::TLS13], Some(self.ca.issue(Leaf::of(API))));
        self.channel(config).await.unwrap()
    }

    async fn api(&self) -> SystemServiceClient<Channel> {
        self.connect_as(Some(self.ca.issue(Leaf::of(API)))).await.unwrap()
    }

    /// Whether a caller with this certificate gets an answer. TLS 1.3 tells a client of a refused certificate with the first read.
    async fn serves(&self, identity: Option<Issued>) -> bool {
        match self.connect_as(identity).await {
            Ok(mut client) => client.who_am_i(WhoAmIRequest {}).await.is_ok(),
            Err(_) => false,
        }
    }
}

fn write_identity(directory: &Path, ca: &TestCa) {
    let issued = ca.issue(Leaf::nameless().dns("localhost").purposes(&[ServerAuth]));
    let pem = |label: &str, der: &[u8]| {
        let lines: Vec<String> = BASE64
            .encode(der)
            .as_bytes()
            .chunks(64)
            .map(|line| String::from_utf8_lossy(line).into_owned())
            .collect();
        format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
    };
    std::fs::write(directory.join("server.pem"), pem("CERTIFICATE", &issued.certificate)).unwrap();
    std::fs::write(
        directory.join("server.key"),
        pem("PRIVATE KEY", issued.key.secret_der()),
    )
    .unwrap();
}

fn with<T>(message: T, name: &'static str, value: &str) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert(name, value.parse().unwrap());
    request
}

fn reason(status: &Status) -> String {
    let details = status.get_error_details();
    let info = details
        .error_info()
        .unwrap_or_else(|| panic!("no ErrorInfo in {status:?}"));
    assert_eq!(info.domain, "keyreeve.dev");
    assert!(!info.metadata["request_id"].is_empty());
    info.reason.clone()
}

#[tokio::test]
async fn a_good_certificate_is_served_and_the_request_id_comes_back() {
    let server = Server::start().await;
    let mut client = server.api().await;
    let answer = client
        .who_am_i(with(WhoAmIRequest {}, "x-request-id", "job-7"))
        .await
        .unwrap();
    assert_eq!(answer.metadata().get("x-request-id").unwrap(), "job-7");
    assert_eq!(answer.into_inner().identity, API);
    let answer = client.who_am_i(WhoAmIRequest {}).await.unwrap();
    assert_eq!(answer.metadata().get("x-request-id").unwrap().len(), 32);
}

#[tokio::test]
async fn no_certificate_or_one_that_does_not_fit_is_refused() {
    let server = Server::start().await;
    let other_ca = TestCa::new("strangers");
    assert!(
        server.serves(Some(server.ca.issue(Leaf::of(API)))).await,
        "the test itself"
    );
    assert!(!server.serves(None).await, "no certificate");
    assert!(!server.serves(Some(other_ca.issue(Leaf::of(API)))).await, "another CA");
    assert!(
        !server
            .serves(Some(server.ca.issue(Leaf::of(API).years(2020, 2021))))
            .await,
        "expired"
    );
    assert!(
        !server
            .serves(Some(server.ca.issue(Leaf::of(API).years(2039, 2040))))
            .await,
        "not yet valid"
    );
    let elsewhere = Leaf::of("spiffe://other.dev/ns/pay/sa/api");
    assert!(
        !server.serves(Some(server.ca.issue(elsewhere))).await,
        "another trust domain"
    );
    assert!(
        !server.serves(Some(server.ca.issue(Leaf::nameless().dns("api")))).await,
        "no SPIFFE ID"
    );
}

#[tokio::test]
async fn tls_1_2_is_refused() {
    let server = Server::start().await;
    let config = server.client_config(&[&version::TLS12], Some(server.ca.issue(Leaf::of(API))));
    assert!(server.connect(config).await.is_err());
}

#[tokio::test]
async fn no_session_is_given_to_resume() {
    let server = Server::start().await;
    let config = server.client_config(&[&version::TLS13], Some(server.ca.issue(Leaf::of(API))));
    let config = Arc::new(config);
    for _ in 0..2 {
        let tcp = TcpStream::connect(server.address).await.unwrap();
        let connector = TlsConnector::from(config.clone());
        let mut stream = connector.connect("localhost".try_into().unwrap(), tcp).await.unwrap();
        // The server's SETTINGS: what it would send of tickets has come with them.
        stream.read_u8().await.unwrap();
        let kind = stream.get_ref().1.handshake_kind().unwrap();
        assert_eq!(kind, rustls::HandshakeKind::Full);
    }
}

#[tokio::test]
async fn a_slow_handshake_is_cut() {
    let server = Server::with(|config| config.handshake_timeout_ms = 100, Arc::new(SystemClock)).await;
    let mut tcp = TcpStream::connect(server.address).await.unwrap();
    let read = timeout(Duration::from_secs(5), tcp.read(&mut [0; 16])).await;
    assert!(matches!(read.expect("the server closes"), Ok(0) | Err(_)));
}

#[tokio::test]
async fn one_connection_too_many_is_closed_and_leaves_the_others_alone() {
    let server = Server::with(|config| config.connections_per_caller = 1, Arc::new(SystemClock)).await;
    let mut first = server.api().await;
    first.who_am_i(WhoAmIRequest {}).await.unwrap();
    assert!(!server.serves(Some(server.ca.issue(Leaf::of(API)))).await);
    let other = server.ca.issue(Leaf::of("spiffe://acme.dev/ns/pay/sa/job"));
    assert!(server.serves(Some(other)).await, "another caller");
    first.who_am_i(WhoAmIRequest {}).await.unwrap();
}

#[tokio::test]
async fn the_total_of_connections_is_limited() {
    let server = Server::with(|config| config.connections = 1, Arc::new(SystemClock)).await;
    let _first = server.api().await;
    let other = server.ca.issue(Leaf::of("spiffe://acme.dev/ns/pay/sa/job"));
    assert!(!server.serves(Some(other)).await);
}

#[tokio::test]
async fn a_caller_with_too_many_calls_under_way_is_told_to_wait() {
    let server = Server::with(|config| config.in_flight_per_caller = 1, Arc::new(SystemClock)).await;
    let mut client = server.api().await;
    let mut slow = client.clone();
    let waiting = tokio::spawn(async move { slow.get_status(GetStatusRequest {}).await });
    server.fake.entered.notified().await;
    let status = client.who_am_i(WhoAmIRequest {}).await.err().unwrap();
    assert_eq!(
        (status.code(), &*reason(&status)),
        (Code::ResourceExhausted, "OVERLOADED")
    );
    assert!(status.get_error_details().retry_info().is_some());
    server.fake.let_go.notify_one();
    waiting.await.unwrap().unwrap();
    client.who_am_i(WhoAmIRequest {}).await.unwrap();
}

/// Sends a message of another type to `WhoAmI`.
async fn send<M: prost::Message + Default + 'static>(server: &Server, message: M) -> Status {
    let mut grpc = tonic::client::Grpc::new(server.raw().await);
    grpc.ready().await.unwrap();
    let codec = tonic_prost::ProstCodec::<M, WhoAmIResponse>::default();
    let path = http::uri::PathAndQuery::from_static("/keyreeve.v1.SystemService/WhoAmI");
    grpc.unary(Request::new(message), path, codec).await.err().unwrap()
}

#[tokio::test]
async fn an_oversized_message_is_refused_with_code_and_details() {
    let server = Server::start().await;
    let message = EncryptRequest {
        plaintext: vec![0; MESSAGE_BYTES + 1].into(),
        ..EncryptRequest::default()
    };
    let status = send(&server, message).await;
    assert_eq!(
        (status.code(), &*reason(&status)),
        (Code::ResourceExhausted, "MESSAGE_TOO_LARGE")
    );
}

#[tokio::test]
async fn bytes_that_are_no_message_are_the_callers_fault_and_said_so() {
    let server = Server::start().await;
    let mut channel = server.raw().await;
    // A frame of two bytes whose wire type, 7, does not exist.
    let frame: &[u8] = &[0, 0, 0, 0, 2, 0x0f, 0];
    let request = http::Request::post("http://localhost/keyreeve.v1.SystemService/WhoAmI")
        .header("content-type", "application/grpc")
        .body(tonic::body::Body::new(axum::body::Body::from(frame)))
        .unwrap();
    std::future::poll_fn(|context| {
        tower::Service::<http::Request<tonic::body::Body>>::poll_ready(&mut channel, context)
    })
    .await
    .unwrap();
    let response = tower::Service::call(&mut channel, request).await.unwrap();
    let status = Status::from_header_map(response.headers()).expect("trailers only");
    assert_eq!(
        (status.code(), &*reason(&status)),
        (Code::InvalidArgument, "MALFORMED_MESSAGE")
    );
}

#[tokio::test]
async fn oversized_headers_are_refused() {
    let server = Server::start().await;
    let mut client = server.api().await;
    let padding = "x".repeat(3_000);
    let mut request = Request::new(WhoAmIRequest {});
    for name in ["x-a", "x-b", "x-c"] {
        request.metadata_mut().insert(name, padding.parse().unwrap());
    }
    assert!(client.who_am_i(request).await.is_err());
    client.who_am_i(with(WhoAmIRequest {}, "x-a", &padding)).await.unwrap();
}

#[tokio::test]
async fn an_unknown_method_is_said_to_be_unknown() {
    let server = Server::start().await;
    let mut client = keyreeve_proto::v1::key_service_client::KeyServiceClient::new(server.raw().await);
    let status = client
        .get_key(keyreeve_proto::v1::GetKeyRequest::default())
        .await
        .err()
        .unwrap();
    assert_eq!(
        (status.code(), &*reason(&status)),
        (Code::Unimplemented, "UNIMPLEMENTED")
    );
    assert!(
        status.message().contains("`/keyreeve.v1.KeyService/GetKey`"),
        "{status}"
    );
}

#[tokio::test]
async fn a_bad_deadline_is_refused() {
    let server = Server::start().await;
    let mut client = server.api().await;
    let request = with(WhoAmIRequest {}, "grpc-timeout", "5x");
    let status = client.who_am_i(request).await.err().unwrap();
    assert_eq!(
        (status.code(), &*reason(&status)),
        (Code::InvalidArgument, "INVALID_ARGUMENT")
    );
}

// tonic's client also obeys the header it sends, and is usually first: so the limits here are the server's own.
#[tokio::test]
async fn a_passed_deadline_ends_the_work_and_has_code_and_details() {
    let short = |config: &mut ServerConfig| (config.default_deadline_ms, config.max_deadline_ms) = (30, 60);
    let server = Server::with(short, Arc::new(SystemClock)).await;
    let mut client = server.api().await;
    let (default, capped) = (
        Request::new(GetStatusRequest {}),
        with(GetStatusRequest {}, "grpc-timeout", "9H"),
    );
    for (request, abandoned) in [(default, 1), (capped, 2)] {
        let status = client.get_status(request).await.err().unwrap();
        assert_eq!(
            (status.code(), &*reason(&status)),
            (Code::DeadlineExceeded, "DEADLINE_EXCEEDED")
        );
        assert_eq!(
            server.fake.abandoned.load(Ordering::SeqCst),
            abandoned,
            "the work was dropped"
        );
    }
}

#[tokio::test]
async fn a_panic_is_internal_says_nothing_and_leaves_the_connection() {
    let server = Server::start().await;
    let mut client = server.api().await;
    let status = client
        .get_status(with(GetStatusRequest {}, "x-request-id", "panic"))
        .await
        .err()
        .unwrap();
    assert_eq!((status.code(), &*reason(&status)), (Code::Internal, "INTERNAL"));
    assert!(!format!("{status:?}").contains("CANARY"));
    client.who_am_i(WhoAmIRequest {}).await.unwrap();
}

#[tokio::test]
async fn a_certificate_that_expires_ends_a_live_connections_calls() {
    let clock = ManualClock::at(Timestamp::from_unix_ms(1_900_000_000_000));
    let server = Server::with(|_| {}, Arc::new(clock.clone())).await;
    let mut client = server.api().await;
    client.who_am_i(WhoAmIRequest {}).await.unwrap();
    clock.advance_ms(20 * 365 * 86_400_000);
    let status = client.who_am_i(WhoAmIRequest {}).await.err().unwrap();
    assert_eq!(
        (status.code(), &*reason(&status)),
        (Code::Unauthenticated, "UNAUTHENTICATED")
    );
}

#[tokio::test]
async fn revocations_reach_live_connections() {
    let server = Server::start().await;
    let mut client = server.api().await;
    std::fs::write(server.directory.path().join("revoked"), format!("{API}\n")).unwrap();
    server.tls.reload().unwrap();
    let status = client.who_am_i(WhoAmIRequest {}).await.err().unwrap();
    assert_eq!(status.code(), Code::Unauthenticated);
}

#[tokio::test]
async fn client_cas_and_certificate_are_taken_up_live_when_the_files_change() {
    let mut server = Server::start().await;
    let mut old = server.api().await;
    old.who_am_i(WhoAmIRequest {}).await.unwrap();
    let told = Arc::new(Notify::new());
    let hangup = told.clone();
    tokio::spawn(server.tls.clone().watch(async move || hangup.notified().await));

    let (next_ca, next_server_ca) = (TestCa::new("next callers"), TestCa::new("next servers"));
    let before = server.tls.current();
    write_identity(server.directory.path(), &next_server_ca);
    std::fs::write(server.directory.path().join("ca.pem"), &next_ca.pem).unwrap();
    told.notify_one();
    while Arc::ptr_eq(&before, &server.tls.current()) {
        tokio::task::yield_now().await;
    }
    server.server_ca = next_server_ca;
    assert!(server.serves(Some(next_ca.issue(Leaf::of(API)))).await, "the new CA");
    assert!(!server.serves(Some(server.ca.issue(Leaf::of(API)))).await, "the old CA");
    old.who_am_i(WhoAmIRequest {})
        .await
        .expect("a connection that stands is not cut");
}

#[tokio::test]
async fn a_bad_file_leaves_what_was_in_force() {
    let server = Server::start().await;
    std::fs::write(server.directory.path().join("server.key"), "not a key").unwrap();
    assert!(server.tls.reload().is_err());
    assert!(server.serves(Some(server.ca.issue(Leaf::of(API)))).await);
}

#[tokio::test]
async fn draining_finishes_calls_under_way_and_takes_no_new_connection() {
    let server = Server::start().await;
    let mut client = server.api().await;
    let waiting = tokio::spawn(async move { client.get_status(GetStatusRequest {}).await });
    server.fake.entered.notified().await;
    server.stop.send(true).unwrap();
    while TcpStream::connect(server.address).await.is_ok() {
        tokio::task::yield_now().await;
    }
    assert!(!server.task.is_finished());
    server.fake.let_go.notify_one();
    waiting.await.unwrap().expect("the call under way is answered");
    assert!(server.task.await.unwrap(), "drained");
}

#[tokio::test]
async fn draining_ends_at_its_limit() {
    let server = Server::with(|config| config.drain_s = 0, Arc::new(SystemClock)).await;
    let mut client = server.api().await;
    let waiting = tokio::spawn(async move { client.get_status(GetStatusRequest {}).await });
    server.fake.entered.notified().await;
    server.stop.send(true).unwrap();
    assert!(!server.task.await.unwrap(), "cut");
    assert!(waiting.await.unwrap().is_err());
    assert_eq!(server.fake.abandoned.load(Ordering::SeqCst), 1);
}

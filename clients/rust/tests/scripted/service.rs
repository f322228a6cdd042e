//! A service in this process that answers what the test says, over real TLS and HTTP/2, and remembers what it was asked.

use std::{
    collections::VecDeque,
    convert::Infallible,
    net::SocketAddr,
    sync::{Arc, Mutex, atomic::AtomicUsize, atomic::Ordering},
    time::{Duration, Instant},
};

use hyper_util::rt::{TokioExecutor, TokioIo};
use keyreeve_client::v1::{self, crypt_request, crypt_response};
use prost::Message;
use rustls::{RootCertStore, server::WebPkiClientVerifier, version::TLS13};
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_rustls::TlsAcceptor;
use tokio_stream::{Stream, StreamExt as _};
use tonic::{Code, Request, Response, Status, Streaming, body::Body, server::Grpc};
use tonic_prost::ProstCodec;
use tonic_types::{ErrorDetails, StatusExt as _};

use super::certificates::Authority;

/// What one request, or one message of a stream, is answered with.
#[derive(Debug, Clone)]
pub enum Reply {
    /// As a service in good health would.
    Good,
    Refuse(Status),
    /// Good, after that time.
    Late(Duration),
    /// Nothing, for ever.
    Silence,
    /// Good, but for a bit of the answer.
    Damaged,
}

/// One stream of changes: its messages, and how it ends; `None`: it does not.
pub struct Round(pub Vec<v1::WatchResponse>, pub Option<Status>);

/// A request that came.
#[derive(Debug, Clone)]
pub struct Seen {
    pub method: String,
    /// Header `x-request-id`.
    pub id: String,
    /// Header `grpc-timeout`.
    pub timeout: String,
    pub traceparent: Option<String>,
    pub at: Instant,
    /// Field `request_id` of a change; plaintexts of a batch, as their number.
    pub field: String,
    pub after: Option<u64>,
    /// SHA-256 does not matter: the certificate itself.
    pub certificate: Vec<u8>,
}

#[derive(Default)]
pub struct Script {
    replies: Mutex<VecDeque<Reply>>,
    always: Mutex<Option<Reply>>,
    rounds: Mutex<VecDeque<Round>>,
    seen: Mutex<Vec<Seen>>,
    /// That came on `Crypt` streams.
    messages: AtomicUsize,
    /// Ends every `Crypt` stream after so many messages.
    pub stream_ends_after: Mutex<Option<(usize, Status)>>,
}

pub struct Service {
    pub address: SocketAddr,
    pub script: Arc<Script>,
    authority: Arc<Authority>,
    task: JoinHandle<()>,
}

impl Service {
    pub async fn start(authority: &Arc<Authority>) -> Self {
        Self::start_at(authority, "127.0.0.1:0".parse().unwrap()).await
    }

    pub async fn start_at(authority: &Arc<Authority>, address: SocketAddr) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let (address, script) = (listener.local_addr().unwrap(), Arc::<Script>::default());
        let task = tokio::spawn(listen(listener, acceptor(authority), script.clone()));
        Self {
            address,
            script,
            authority: authority.clone(),
            task,
        }
    }

    /// As a configuration writes it.
    pub fn url(&self) -> String {
        format!("https://localhost:{}", self.address.port())
    }

    /// Gone at once, with all its connections.
    pub async fn kill(&mut self) {
        self.task.abort();
        let _ = (&mut self.task).await;
    }

    /// A new one at the same place.
    pub async fn again(&self) -> Self {
        Self::start_at(&self.authority, self.address).await
    }

    /// The next requests are answered so; those after them well.
    pub fn reply(&self, replies: impl IntoIterator<Item = Reply>) {
        self.script.replies.lock().unwrap().extend(replies);
    }

    pub fn always(&self, reply: Reply) {
        *self.script.always.lock().unwrap() = Some(reply);
    }

    pub fn rounds(&self, rounds: impl IntoIterator<Item = Round>) {
        self.script.rounds.lock().unwrap().extend(rounds);
    }

    /// That came on `Crypt` streams.
    pub fn messages(&self) -> usize {
        self.script.messages.load(Ordering::SeqCst)
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.script.seen.lock().unwrap().clone()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A status as the service makes it.
pub fn status(code: Code, reason: &str, retry_after: Option<Duration>) -> Status {
    let mut details = ErrorDetails::with_error_info(reason, "keyreeve.dev", []);
    details.set_retry_info(retry_after);
    Status::with_error_details(code, "said by a test", details)
}

pub fn overloaded(retry_after_ms: u64) -> Reply {
    let wait = Duration::from_millis(retry_after_ms);
    Reply::Refuse(status(Code::ResourceExhausted, "OVERLOADED", Some(wait)))
}

pub fn unavailable(reason: &str) -> Reply {
    Reply::Refuse(status(Code::Unavailable, reason, None))
}

fn acceptor(authority: &Authority) -> TlsAcceptor {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(authority.certificate.clone()).unwrap();
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone());
    let own = authority.leaf();
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])
        .unwrap()
        .with_client_cert_verifier(verifier.build().unwrap())
        .with_single_cert(vec![own.certificate], own.key)
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    TlsAcceptor::from(Arc::new(config))
}

async fn listen(listener: TcpListener, acceptor: TlsAcceptor, script: Arc<Script>) {
    // Dropped with this task, and all connections with it.
    let mut connections = tokio::task::JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let (acceptor, script) = (acceptor.clone(), script.clone());
        connections.spawn(async move {
            let Ok(stream) = acceptor.accept(stream).await else {
                return;
            };
            let certificates = stream.get_ref().1.peer_certificates();
            let certificate = certificates.map(|all| all[0].to_vec()).unwrap_or_default();
            let service = hyper::service::service_fn(move |request| {
                let (script, certificate) = (script.clone(), certificate.clone());
                async move { Ok::<_, Infallible>(script.answer(request, certificate).await) }
            });
            let http2 = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            let _ = http2.serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

impl Script {
    async fn answer(
        self: Arc<Self>,
        request: http::Request<hyper::body::Incoming>,
        certificate: Vec<u8>,
    ) -> http::Response<Body> {
        let header = |name: &str| Some(request.headers().get(name)?.to_str().ok()?.to_owned());
        let seen = Seen {
            method: request.uri().path().rsplit('/').next().unwrap_or_default().to_owned(),
            id: header("x-request-id").unwrap_or_default(),
            timeout: header("grpc-timeout").unwrap_or_default(),
            traceparent: header("traceparent"),
            at: Instant::now(),
            field: String::new(),
            after: None,
            certificate,
        };
        let request = request.map(Body::new);
        match seen.method.as_str() {
            "Encrypt" => self.unary(request, seen, |_| String::new(), encrypted).await,
            "BatchEncrypt" => {
                let count = |request: &v1::BatchEncryptRequest| request.items.len().to_string();
                self.unary(request, seen, count, batch_encrypted).await
            }
            "RotateKey" => {
                let id = |request: &v1::RotateKeyRequest| request.request_id.clone();
                self.unary(request, seen, id, |_, _| v1::RotateKeyResponse::default())
                    .await
            }
            "Crypt" => {
                self.remember(seen);
                let mut grpc = Grpc::new(ProstCodec::default());
                grpc.streaming(tower::service_fn(|request| self.clone().crypt(request)), request)
                    .await
            }
            "Watch" => {
                let mut grpc = Grpc::new(ProstCodec::default());
                let watch = |request| self.clone().watch(request, seen.clone());
                grpc.server_streaming(tower::service_fn(watch), request).await
            }
            other => panic!("no script for {other}"),
        }
    }

    async fn unary<Req, Res>(
        &self,
        request: http::Request<Body>,
        seen: Seen,
        field: impl Fn(&Req) -> String + Copy,
        good: impl Fn(Req, bool) -> Res + Copy,
    ) -> http::Response<Body>
    where
        Req: Message + Default + 'static,
        Res: Message + Default + 'static,
    {
        let handler = |request: Request<Req>| {
            let (seen, request) = (seen.clone(), request.into_inner());
            async move {
                self.remember(Seen {
                    field: field(&request),
                    ..seen
                });
                match self.next() {
                    Reply::Good => Ok(Response::new(good(request, false))),
                    Reply::Damaged => Ok(Response::new(good(request, true))),
                    Reply::Late(time) => {
                        tokio::time::sleep(time).await;
                        Ok(Response::new(good(request, false)))
                    }
                    Reply::Refuse(status) => Err(status),
                    Reply::Silence => std::future::pending().await,
                }
            }
        };
        let mut grpc = Grpc::new(ProstCodec::<Res, Req>::default());
        grpc.unary(tower::service_fn(handler), request).await
    }

    async fn crypt(
        self: Arc<Self>,
        request: Request<Streaming<v1::CryptRequest>>,
    ) -> Result<Response<impl Stream<Item = Result<v1::CryptResponse, Status>>>, Status> {
        let mut left = self.stream_ends_after.lock().unwrap().clone();
        let answers = request.into_inner().filter_map(move |message| {
            if let Some((count, status)) = &mut left {
                match count.checked_sub(1) {
                    Some(rest) => *count = rest,
                    None => return Some(Err(status.clone())),
                }
            }
            let message = message.ok()?;
            self.messages.fetch_add(1, Ordering::SeqCst);
            let Some(crypt_request::Request::Encrypt(request)) = message.request else {
                return None;
            };
            let response = match self.next() {
                Reply::Silence => return None,
                Reply::Refuse(status) => crypt_response::Response::Error(item(&status)),
                reply => crypt_response::Response::Encrypt(encrypted(request, matches!(reply, Reply::Damaged))),
            };
            Some(Ok(v1::CryptResponse {
                tag: message.tag,
                response: Some(response),
            }))
        });
        Ok(Response::new(answers))
    }

    async fn watch(
        self: Arc<Self>,
        request: Request<v1::WatchRequest>,
        seen: Seen,
    ) -> Result<Response<impl Stream<Item = Result<v1::WatchResponse, Status>>>, Status> {
        self.remember(Seen {
            after: request.into_inner().after.map(|position| position.sequence),
            ..seen
        });
        let round = self.rounds.lock().unwrap().pop_front();
        let Round(messages, end) = round.ok_or_else(|| status(Code::Unavailable, "DRAINING", None))?;
        let messages = tokio_stream::iter(messages.into_iter().map(Ok));
        let end: std::pin::Pin<Box<dyn Stream<Item = _> + Send>> = match end {
            Some(status) => Box::pin(tokio_stream::once(Err(status))),
            None => Box::pin(tokio_stream::pending()),
        };
        Ok(Response::new(messages.chain(end)))
    }

    fn next(&self) -> Reply {
        let next = self.replies.lock().unwrap().pop_front();
        next.or_else(|| self.always.lock().unwrap().clone())
            .unwrap_or(Reply::Good)
    }

    fn remember(&self, seen: Seen) {
        self.seen.lock().unwrap().push(seen);
    }
}

/// The plaintext is its own ciphertext.
fn encrypted(request: v1::EncryptRequest, damaged: bool) -> v1::EncryptResponse {
    assert_eq!(request.plaintext_crc32c, Some(crc32c::crc32c(&request.plaintext)));
    v1::EncryptResponse {
        ciphertext_crc32c: crc32c::crc32c(&request.plaintext) ^ u32::from(damaged),
        ciphertext: request.plaintext,
        key_version: 1,
    }
}

fn batch_encrypted(request: v1::BatchEncryptRequest, damaged: bool) -> v1::BatchEncryptResponse {
    use v1::batch_encrypt_response::{Result as Item, result::Result::Success};
    let items = request.items.into_iter().map(|item| {
        let request = v1::EncryptRequest {
            plaintext: item.plaintext,
            plaintext_crc32c: item.plaintext_crc32c,
            ..Default::default()
        };
        Item {
            result: Some(Success(encrypted(request, damaged))),
        }
    });
    v1::BatchEncryptResponse {
        results: items.collect(),
    }
}

fn item(status: &Status) -> v1::ItemError {
    let details = status.get_error_details();
    let wait = details
        .retry_info()
        .and_then(|info| info.retry_delay)
        .unwrap_or_default();
    v1::ItemError {
        code: status.code().into(),
        reason: details.error_info().map(|info| info.reason.clone()).unwrap_or_default(),
        message: status.message().to_owned(),
        retry_after_ms: u32::try_from(wait.as_millis()).unwrap(),
    }
}

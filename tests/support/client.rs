//! A caller: the generated client over mutual TLS, with as little between the test and the wire as can be.
//!
//! The flows do not go through `keyreeve-client` on purpose: it checks checksums, sets deadlines and refuses what is
//! malformed, and the flows must be able to send what a well-behaved client never would.

use std::net::SocketAddr;
use std::sync::Arc;

use hyper_util::rt::{TokioExecutor, TokioIo};
use keyreeve_proto::v1::{
    self as proto, ContextPair, crypto_service_client::CryptoServiceClient, key_service_client::KeyServiceClient,
    system_service_client::SystemServiceClient,
};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Response, Status};
use tonic_types::StatusExt;

use super::TestServer;
use super::ca::{Issued, TestCa};

/// One connection of one workload. Cheap to clone; clones share the connection.
#[derive(Clone)]
pub struct Client {
    channel: Channel,
}

/// How a call failed, as a program sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    pub code: Code,
    /// `ErrorInfo.reason`; empty where the status has none.
    pub reason: String,
    pub message: String,
    /// `RetryInfo.retry_delay` in milliseconds.
    pub retry_ms: Option<u64>,
    /// Names of the fields that `BadRequest` complains about.
    pub fields: Vec<String>,
}

pub type Outcome<T> = Result<T, Fault>;

impl Client {
    /// Connects, handshake included. Errors are those of TCP and TLS.
    pub async fn connect(to: SocketAddr, server_ca: &TestCa, as_: &Issued) -> std::io::Result<Self> {
        let config = tls(server_ca, Some(as_));
        // The first connection is made here, so that a refused handshake shows as what it is.
        let mut first = Some(handshake(to, config.clone()).await?);
        let connector = tower::service_fn(move |_: http::Uri| {
            let (first, config) = (first.take(), config.clone());
            async move {
                match first {
                    Some(stream) => Ok::<_, std::io::Error>(TokioIo::new(stream)),
                    None => Ok(TokioIo::new(handshake(to, config).await?)),
                }
            }
        });
        let endpoint = Endpoint::from_static("http://localhost");
        let channel = endpoint
            .connect_with_connector(connector)
            .await
            .map_err(std::io::Error::other)?;
        Ok(Self { channel })
    }

    /// For services beside ours.
    pub fn channel(&self) -> Channel {
        self.channel.clone()
    }

    pub fn crypto(&self) -> CryptoServiceClient<Channel> {
        CryptoServiceClient::new(self.channel.clone())
            .max_decoding_message_size(usize::MAX)
            .max_encoding_message_size(usize::MAX)
    }

    pub fn keys(&self) -> KeyServiceClient<Channel> {
        KeyServiceClient::new(self.channel.clone())
    }

    pub fn system(&self) -> SystemServiceClient<Channel> {
        SystemServiceClient::new(self.channel.clone())
    }

    /// `key`: `dev/shop/orders`.
    pub async fn encrypt(&self, key: &str, plaintext: &[u8], context: &[(&str, &str)]) -> Outcome<Vec<u8>> {
        let request = proto::EncryptRequest {
            name: key_name(key),
            plaintext: plaintext.to_vec().into(),
            encryption_context: pairs(context),
            ..Default::default()
        };
        Ok(answer(self.crypto().encrypt(request).await)?.ciphertext.to_vec())
    }

    pub async fn decrypt(&self, key: &str, ciphertext: &[u8], context: &[(&str, &str)]) -> Outcome<Vec<u8>> {
        let request = proto::DecryptRequest {
            name: key_name(key),
            ciphertext: ciphertext.to_vec().into(),
            encryption_context: pairs(context),
            ..Default::default()
        };
        Ok(answer(self.crypto().decrypt(request).await)?.plaintext.to_vec())
    }

    pub async fn unwrap_data_key(&self, key: &str, ciphertext: &[u8], context: &[(&str, &str)]) -> Outcome<Vec<u8>> {
        let request = proto::UnwrapDataKeyRequest {
            name: key_name(key),
            ciphertext: ciphertext.to_vec().into(),
            encryption_context: pairs(context),
            ..Default::default()
        };
        Ok(answer(self.crypto().unwrap_data_key(request).await)?.plaintext.to_vec())
    }

    /// The data key in clear, and its envelope.
    pub async fn data_key(&self, key: &str, context: &[(&str, &str)]) -> Outcome<(Vec<u8>, Vec<u8>)> {
        let request = proto::GenerateDataKeyRequest {
            name: key_name(key),
            encryption_context: pairs(context),
            ..Default::default()
        };
        let made = answer(self.crypto().generate_data_key(request).await)?;
        Ok((made.plaintext.to_vec(), made.ciphertext.to_vec()))
    }

    pub async fn rotate(&self, key: &str) -> Outcome<proto::Key> {
        let request = proto::RotateKeyRequest {
            name: key_name(key),
            ..Default::default()
        };
        answer(self.keys().rotate_key(request).await).map(|answer| answer.key.expect("a key"))
    }

    pub async fn create_key(&self, key: &str) -> Outcome<proto::Key> {
        self.create_key_of(key, proto::KeySuite::Unspecified).await
    }

    pub async fn create_key_of(&self, key: &str, suite: proto::KeySuite) -> Outcome<proto::Key> {
        self.create_key_in(key, suite, proto::KeyResidency::Unspecified).await
    }

    pub async fn create_key_in(
        &self,
        key: &str,
        suite: proto::KeySuite,
        residency: proto::KeyResidency,
    ) -> Outcome<proto::Key> {
        let (team, id) = key.rsplit_once('/').expect("env/team/key");
        let request = proto::CreateKeyRequest {
            parent: team_name(team),
            key_id: id.to_owned(),
            suite: suite.into(),
            residency: residency.into(),
            ..Default::default()
        };
        Ok(answer(self.keys().create_key(request).await)?.key.expect("a key"))
    }

    pub async fn rotate_key(&self, key: &str) -> Outcome<proto::Key> {
        let request = proto::RotateKeyRequest {
            name: key_name(key),
            ..Default::default()
        };
        Ok(answer(self.keys().rotate_key(request).await)?.key.expect("a key"))
    }

    pub async fn key(&self, key: &str) -> Outcome<proto::Key> {
        let request = proto::GetKeyRequest { name: key_name(key) };
        Ok(answer(self.keys().get_key(request).await)?.key.expect("a key"))
    }
}

impl TestServer {
    /// A caller whose own side obeys no deadline (tonic's channel does), so that what comes back is the service's word.
    pub async fn patient_crypto(&self, path: &str) -> CryptoServiceClient<impl Patient> {
        let config = tls(&self.server_ca, Some(&self.client_ca.client(path)));
        let stream = handshake(self.listen, config).await.unwrap();
        let (requests, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .unwrap();
        tokio::spawn(connection);
        let service =
            tower::service_fn(move |request: http::Request<tonic::body::Body>| requests.clone().send_request(request));
        CryptoServiceClient::with_origin(service, http::Uri::from_static("http://localhost"))
    }
}

/// What a generated client can send its calls through.
pub trait Patient:
    tower::Service<
        http::Request<tonic::body::Body>,
        Response = http::Response<hyper::body::Incoming>,
        Error = hyper::Error,
        Future: Send,
    >
{
}

impl<S> Patient for S where
    S: tower::Service<
            http::Request<tonic::body::Body>,
            Response = http::Response<hyper::body::Incoming>,
            Error = hyper::Error,
            Future: Send,
        >
{
}

/// What came back, or why not. (Messages have no `Debug`, so `unwrap_err` cannot be used on them.)
pub fn answer<T>(result: Result<Response<T>, Status>) -> Outcome<T> {
    result.map(Response::into_inner).map_err(|status| Fault::of(&status))
}

/// The fault that must come back.
#[track_caller]
pub fn fault<T>(result: Outcome<T>) -> Fault {
    match result {
        Ok(_) => panic!("the call succeeded"),
        Err(fault) => fault,
    }
}

/// A request that says under which id it is to be recorded.
pub fn with_id<T>(message: T, id: &str) -> Request<T> {
    let mut request = Request::new(message);
    request
        .metadata_mut()
        .insert("x-request-id", id.parse().expect("an id is ASCII"));
    request
}

impl Fault {
    pub fn of(status: &Status) -> Self {
        let details = status.get_error_details();
        Self {
            code: status.code(),
            reason: details.error_info().map_or(String::new(), |info| info.reason.clone()),
            message: status.message().to_owned(),
            retry_ms: details
                .retry_info()
                .and_then(|info| info.retry_delay)
                .map(|delay| u64::try_from(delay.as_millis()).expect("a delay is short")),
            fields: details.bad_request().map_or(Vec::new(), |bad| {
                bad.field_violations.iter().map(|field| field.field.clone()).collect()
            }),
        }
    }
}

/// `dev/shop/orders` → `envs/dev/teams/shop/keys/orders`
pub fn key_name(short: &str) -> String {
    let (team, key) = short.rsplit_once('/').expect("env/team/key");
    format!("{}/keys/{key}", team_name(team))
}

/// `dev/shop` → `envs/dev/teams/shop`
pub fn team_name(short: &str) -> String {
    let (environment, team) = short.split_once('/').expect("env/team");
    format!("envs/{environment}/teams/{team}")
}

pub fn pairs(context: &[(&str, &str)]) -> Vec<ContextPair> {
    let pair = |&(key, value): &(&str, &str)| ContextPair {
        key: key.to_owned(),
        value: value.to_owned(),
    };
    context.iter().map(pair).collect()
}

/// A client's TLS configuration; without `as_` it offers no certificate.
pub fn tls(server_ca: &TestCa, as_: Option<&Issued>) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(server_ca.certificate.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots);
    let mut config = match as_ {
        None => builder.with_no_client_auth(),
        Some(issued) => builder
            .with_client_auth_cert(vec![issued.certificate.clone()], issued.key())
            .unwrap(),
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    Arc::new(config)
}

async fn handshake(to: SocketAddr, config: Arc<ClientConfig>) -> std::io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(to).await?;
    stream.set_nodelay(true)?;
    let name = ServerName::try_from("localhost").expect("a name");
    TlsConnector::from(config).connect(name, stream).await
}

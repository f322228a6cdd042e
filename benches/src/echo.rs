//! The gRPC ceiling: `CryptoService` whose handlers answer with bytes of the right size and do nothing else, over the service's TLS settings.

use std::{
    io,
    net::SocketAddr,
    path::PathBuf,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use keyreeve_proto::v1::{crypto_service_server::*, *};
use rustls::{
    RootCertStore, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::{NoServerSessionStorage, WebPkiClientVerifier},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::server::TlsStream;
use tokio_stream::{Stream, StreamExt, wrappers::TcpListenerStream};
use tonic::{
    Request, Response, Status, Streaming,
    transport::{Server, server::Connected},
};

use crate::Failure;

#[derive(clap::Args)]
pub struct Options {
    #[arg(long)]
    certificate: PathBuf,
    #[arg(long)]
    key: PathBuf,
    #[arg(long)]
    client_ca: PathBuf,
}

/// Serves on a free port of loopback, prints `listening ADDRESS`, and ends with its standard input.
pub async fn run(options: Options) -> Result<(), Failure> {
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(tls(&options)?));
    let listener = tokio::net::TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await?;
    println!("listening https://{}", listener.local_addr()?);
    let connections = TcpListenerStream::new(listener).then(move |socket| {
        let acceptor = acceptor.clone();
        async move {
            let socket = socket?;
            socket.set_nodelay(true)?;
            acceptor.accept(socket).await.map(Connection)
        }
    });
    let serving = Server::builder()
        .add_service(CryptoServiceServer::new(Echo {
            data_key: vec![7; 156].into(),
        }))
        .serve_with_incoming(connections);
    tokio::select! {
        served = serving => Ok(served?),
        _ = tokio::task::spawn_blocking(|| std::io::copy(&mut std::io::stdin(), &mut std::io::sink())) => Ok(()),
    }
}

fn tls(options: &Options) -> Result<ServerConfig, Failure> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(&options.client_ca)? {
        roots.add(certificate?)?;
    }
    let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider.clone()).build()?;
    let chain = CertificateDer::pem_file_iter(&options.certificate)?.collect::<Result<Vec<_>, _>>()?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, PrivateKeyDer::from_pem_file(&options.key)?)?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

/// A TLS stream that tonic takes: it wants to know what a connection says of itself, which here is nothing.
struct Connection(TlsStream<TcpStream>);

impl Connected for Connection {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

struct Echo {
    data_key: Bytes,
}

/// An envelope's length more than its plaintext.
const OVERHEAD: usize = 124;

#[tonic::async_trait]
impl CryptoService for Echo {
    async fn encrypt(&self, request: Request<EncryptRequest>) -> Result<Response<EncryptResponse>, Status> {
        Ok(Response::new(encrypted(&request.into_inner())))
    }

    async fn decrypt(&self, request: Request<DecryptRequest>) -> Result<Response<DecryptResponse>, Status> {
        let ciphertext = request.into_inner().ciphertext;
        let plaintext = ciphertext.slice(..ciphertext.len().saturating_sub(OVERHEAD));
        Ok(Response::new(DecryptResponse {
            plaintext,
            key_version: 1,
            plaintext_crc32c: 0x0707_0707,
        }))
    }

    async fn generate_data_key(
        &self,
        _: Request<GenerateDataKeyRequest>,
    ) -> Result<Response<GenerateDataKeyResponse>, Status> {
        Ok(Response::new(GenerateDataKeyResponse {
            plaintext: self.data_key.slice(..32),
            ciphertext: self.data_key.clone(),
            key_version: 1,
            plaintext_crc32c: 0x0707_0707,
            ciphertext_crc32c: 0x0707_0707,
        }))
    }

    async fn re_encrypt(&self, _: Request<ReEncryptRequest>) -> Result<Response<ReEncryptResponse>, Status> {
        Err(not_measured())
    }

    async fn generate_data_key_without_plaintext(
        &self,
        _: Request<GenerateDataKeyWithoutPlaintextRequest>,
    ) -> Result<Response<GenerateDataKeyWithoutPlaintextResponse>, Status> {
        Err(not_measured())
    }

    async fn wrap_data_key(&self, _: Request<WrapDataKeyRequest>) -> Result<Response<WrapDataKeyResponse>, Status> {
        Err(not_measured())
    }

    async fn unwrap_data_key(
        &self,
        _: Request<UnwrapDataKeyRequest>,
    ) -> Result<Response<UnwrapDataKeyResponse>, Status> {
        Err(not_measured())
    }

    async fn generate_random(
        &self,
        _: Request<GenerateRandomRequest>,
    ) -> Result<Response<GenerateRandomResponse>, Status> {
        Err(not_measured())
    }

    async fn batch_encrypt(&self, _: Request<BatchEncryptRequest>) -> Result<Response<BatchEncryptResponse>, Status> {
        Err(not_measured())
    }

    async fn batch_decrypt(&self, _: Request<BatchDecryptRequest>) -> Result<Response<BatchDecryptResponse>, Status> {
        Err(not_measured())
    }

    async fn batch_generate_data_key(
        &self,
        _: Request<BatchGenerateDataKeyRequest>,
    ) -> Result<Response<BatchGenerateDataKeyResponse>, Status> {
        Err(not_measured())
    }

    async fn batch_unwrap_data_key(
        &self,
        _: Request<BatchUnwrapDataKeyRequest>,
    ) -> Result<Response<BatchUnwrapDataKeyResponse>, Status> {
        Err(not_measured())
    }

    type CryptStream = Pin<Box<dyn Stream<Item = Result<CryptResponse, Status>> + Send>>;

    async fn crypt(&self, requests: Request<Streaming<CryptRequest>>) -> Result<Response<Self::CryptStream>, Status> {
        let answers = requests.into_inner().map(|request| match request? {
            CryptRequest {
                tag,
                request: Some(crypt_request::Request::Encrypt(request)),
            } => Ok(CryptResponse {
                tag,
                response: Some(crypt_response::Response::Encrypt(encrypted(&request))),
            }),
            _ => Err(not_measured()),
        });
        Ok(Response::new(Box::pin(answers)))
    }
}

/// With a checksum that is right: the Python client, which is measured against this, checks it.
fn encrypted(request: &EncryptRequest) -> EncryptResponse {
    let ciphertext = vec![7; request.plaintext.len() + OVERHEAD];
    EncryptResponse {
        key_version: 1,
        ciphertext_crc32c: crc32c::crc32c(&ciphertext),
        ciphertext: ciphertext.into(),
    }
}

fn not_measured() -> Status {
    Status::unimplemented("the echo answers Encrypt, Decrypt and GenerateDataKey, on Crypt Encrypt only")
}

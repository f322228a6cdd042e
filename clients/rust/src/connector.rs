//! TLS 1.3 with client certificates, on rustls and aws-lc-rs. The server's name is verified as webpki does it: DNS name or IP address.

use std::{io, path::Path, sync::Arc, time::Duration};

use hyper_util::rt::TokioIo;
use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
    version::TLS13,
};
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tonic::transport::{Channel, Endpoint, Uri};

use crate::{ClientConfig, ClientError};

/// Connects, and checks that TLS can be set up, before it returns. The channel reconnects by itself when the connection ends.
/// The digest is that of the certificate that it shows.
pub(crate) async fn connect(config: &ClientConfig) -> Result<(Channel, [u8; 32]), ClientError> {
    let target = Target::parse(&config.address)?;
    let own = certificates(&config.certificate)?;
    let identity = own.first().map_or([0; 32], |leaf| sha256(leaf));
    let tls = TlsConnector::from(Arc::new(tls(config, own)?));
    let within = config.connect_timeout;
    // tonic must not add TLS of its own, so the transport's URI is http; the origin, which the service sees, is https.
    let endpoint = Endpoint::from_shared(format!("http://{}", target.authority))
        .map_err(|error| ClientError::configuration(format!("`{}` is not an address: {error}", config.address)))?
        .origin(target.origin)
        .user_agent(concat!("keyreeve-client/", env!("CARGO_PKG_VERSION")))
        .map_err(|error| ClientError::unreachable(&config.address, &error))?
        .tcp_nodelay(true)
        .http2_adaptive_window(true);
    let (authority, name) = (target.authority, target.server_name);
    let connector = tower::service_fn(move |_: Uri| {
        let (tls, authority, name) = (tls.clone(), authority.clone(), name.clone());
        async move { handshake(tls, &authority, name, within).await.map(TokioIo::new) }
    });
    let channel = endpoint
        .connect_with_connector(connector)
        .await
        .map_err(|error| ClientError::unreachable(&config.address, &error))?;
    Ok((channel, identity))
}

struct Target {
    authority: String,
    server_name: ServerName<'static>,
    origin: Uri,
}

impl Target {
    fn parse(address: &str) -> Result<Self, ClientError> {
        let wrong = |problem: &str| {
            ClientError::configuration(format!(
                "`{address}` is not an address: {problem}; write https://host:port"
            ))
        };
        let text = match address.split_once("://") {
            None => format!("https://{address}"),
            Some(("https", _)) => address.to_owned(),
            Some(_) => return Err(wrong("the service speaks TLS only")),
        };
        let uri: Uri = text.parse().map_err(|_| wrong("it cannot be parsed"))?;
        let authority = uri
            .authority()
            .ok_or_else(|| wrong("it has no host"))?
            .as_str()
            .to_owned();
        if uri.port_u16().is_none() {
            return Err(wrong("it has no port"));
        }
        let host = uri
            .host()
            .unwrap_or_default()
            .trim_start_matches('[')
            .trim_end_matches(']');
        let server_name =
            ServerName::try_from(host.to_owned()).map_err(|_| wrong("its host is no name and no IP address"))?;
        Ok(Self {
            authority,
            server_name,
            origin: uri,
        })
    }
}

async fn handshake(
    tls: TlsConnector,
    authority: &str,
    name: ServerName<'static>,
    within: Duration,
) -> io::Result<TlsStream<TcpStream>> {
    let connecting = async {
        let stream = TcpStream::connect(authority).await?;
        stream.set_nodelay(true)?;
        tls.connect(name, stream).await
    };
    timeout(within, connecting).await.map_err(|_| {
        io::Error::new(
            io::ErrorKind::TimedOut,
            format!("no connection within {} ms", within.as_millis()),
        )
    })?
}

fn tls(config: &ClientConfig, own: Vec<CertificateDer<'static>>) -> Result<rustls::ClientConfig, ClientError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(&config.ca)? {
        roots.add(certificate).map_err(|error| unusable(&config.ca, &error))?;
    }
    let key = PrivateKeyDer::from_pem_file(&config.key).map_err(|error| unusable(&config.key, &error))?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])
        .map_err(|error| ClientError::configuration(format!("TLS 1.3 cannot be set up: {error}")))?
        .with_root_certificates(roots)
        .with_client_auth_cert(own, key)
        .map_err(|error| unusable(&config.certificate, &error))?;
    tls.alpn_protocols = vec![b"h2".to_vec()];
    Ok(tls)
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes);
    digest.as_ref().try_into().expect("SHA-256 is 32 bytes")
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, ClientError> {
    let found = CertificateDer::pem_file_iter(file)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| unusable(file, &error))?;
    if found.is_empty() {
        return Err(unusable(file, &"no certificate in it"));
    }
    Ok(found)
}

fn unusable(file: &Path, problem: &dyn std::fmt::Display) -> ClientError {
    ClientError::configuration(format!("`{}` cannot be used: {problem}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_with_and_without_scheme_mean_the_same() {
        for address in ["https://localhost:7443", "localhost:7443"] {
            let target = Target::parse(address).expect("it is an address");
            assert_eq!(target.authority, "localhost:7443");
            assert_eq!(target.origin, "https://localhost:7443");
            assert_eq!(target.server_name, ServerName::try_from("localhost").expect("a name"));
        }
        let v6 = Target::parse("https://[::1]:7443").expect("it is an address");
        assert!(matches!(v6.server_name, ServerName::IpAddress(_)));
    }

    #[test]
    fn addresses_without_tls_or_port_are_refused() {
        for address in [
            "http://localhost:7443",
            "unix:///run/keyreeve",
            "localhost",
            "https://localhost",
            "https://:1",
            "",
        ] {
            let error = Target::parse(address).err().expect("it is refused");
            assert_eq!(error.reason, "CONFIGURATION", "{address}");
        }
    }
}

//! One connection to one address: TCP, TLS, HTTP/2. The server's name is verified as webpki does it: DNS name or IP address.

use std::{io, sync::Arc, time::Duration};

use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tonic::transport::{Channel, Endpoint, Uri};

use crate::ClientError;

/// A connection on which nothing comes for so long is asked whether it still is there (HTTP/2 PING), idle or not.
const PING_AFTER: Duration = Duration::from_secs(10);
/// Without an answer to that for so long it is lost, and so are its calls.
const PING_WITHIN: Duration = Duration::from_secs(5);

/// Connects, and checks that TLS can be set up, before it returns. The channel reconnects by itself when the connection ends.
pub(crate) async fn connect(
    target: &Target,
    tls: Arc<rustls::ClientConfig>,
    within: Duration,
) -> Result<Channel, ClientError> {
    let connecting = target.endpoint.connect_with_connector(connector(target, tls, within));
    connecting
        .await
        .map_err(|error| ClientError::unreachable(&target.address, &error))
}

/// A channel that connects with its first call.
pub(crate) fn lazy(target: &Target, tls: Arc<rustls::ClientConfig>, within: Duration) -> Channel {
    target
        .endpoint
        .connect_with_connector_lazy(connector(target, tls, within))
}

fn connector(
    target: &Target,
    tls: Arc<rustls::ClientConfig>,
    within: Duration,
) -> impl tower::Service<Uri, Response = TokioIo<TlsStream<TcpStream>>, Error = io::Error, Future: Send + Unpin>
+ Send
+ 'static {
    let tls = TlsConnector::from(tls);
    let (authority, name) = (target.authority.clone(), target.server_name.clone());
    tower::service_fn(move |_: Uri| {
        let (tls, authority, name) = (tls.clone(), authority.clone(), name.clone());
        Box::pin(async move { handshake(tls, &authority, name, within).await.map(TokioIo::new) })
    })
}

/// Where to connect to.
#[derive(Debug)]
pub(crate) struct Target {
    /// As configured.
    pub address: String,
    authority: String,
    server_name: ServerName<'static>,
    endpoint: Endpoint,
}

impl Target {
    pub fn parse(address: &str) -> Result<Self, ClientError> {
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
            address: address.to_owned(),
            endpoint: endpoint(&authority, uri).map_err(|error| wrong(&error.to_string()))?,
            authority,
            server_name,
        })
    }
}

/// tonic must not add TLS of its own, so the transport's URI is http; the origin, which the service sees, is https.
fn endpoint(authority: &str, origin: Uri) -> Result<Endpoint, tonic::transport::Error> {
    Ok(Endpoint::from_shared(format!("http://{authority}"))?
        .origin(origin)
        .user_agent(concat!("keyreeve-client/", env!("CARGO_PKG_VERSION")))?
        .tcp_nodelay(true)
        .http2_adaptive_window(true)
        .http2_keep_alive_interval(PING_AFTER)
        .keep_alive_timeout(PING_WITHIN)
        .keep_alive_while_idle(true))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_with_and_without_scheme_mean_the_same() {
        for address in ["https://localhost:7443", "localhost:7443"] {
            let target = Target::parse(address).expect("it is an address");
            assert_eq!(target.authority, "localhost:7443");
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
            let error = Target::parse(address).expect_err("it is refused");
            assert_eq!(error.reason, "CONFIGURATION", "{address}");
        }
    }
}

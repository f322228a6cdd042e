//! Our own accept loop: limits on handshakes and connections, TLS, HTTP/2, the age of a connection, draining.
//!
//! hyper is driven directly, not through tonic's server: its timer answers deadlines with a bare CANCELLED that no layer can reach,
//! ends all connections at the same age, and boxes each call twice.

mod gather;

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use hyper::{server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    task::JoinSet,
    time::timeout,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use self::gather::Gathering;
use super::{
    Dispatch, Front,
    layers::Connection,
    limits::{Callers, HANDSHAKES, HEADER_LIST_BYTES, Seat},
    tls::Tls,
};
use crate::{config::ServerConfig, identity::Peer};

/// Accepts until told to stop, then drains.
pub struct Listener<D> {
    listener: TcpListener,
    shared: Arc<Shared<D>>,
    connections: Arc<Semaphore>,
    handshakes: Arc<Semaphore>,
    drain: Duration,
}

struct Shared<D> {
    front: Front<D>,
    tls: Arc<Tls>,
    callers: Arc<Callers>,
    http2: http2::Builder<TokioExecutor>,
    handshake_timeout: Duration,
    max_age: Duration,
    grace: Duration,
}

/// How a connection ended before its first call; the label of `keyreeve_connections_refused_total`.
#[derive(Debug, Clone, Copy)]
enum Refused {
    TooMany,
    TooManyHandshakes,
    TooManyOfCaller,
    HandshakeTimeout,
    Handshake,
    Certificate,
}

impl Refused {
    const ALL: [Self; 6] = [
        Self::TooMany,
        Self::TooManyHandshakes,
        Self::TooManyOfCaller,
        Self::HandshakeTimeout,
        Self::Handshake,
        Self::Certificate,
    ];

    const fn reason(self) -> &'static str {
        match self {
            Self::TooMany => "connections",
            Self::TooManyHandshakes => "handshakes",
            Self::TooManyOfCaller => "connections_of_caller",
            Self::HandshakeTimeout => "handshake_timeout",
            Self::Handshake => "handshake",
            Self::Certificate => "certificate",
        }
    }
}

impl<D: Dispatch> Listener<D> {
    pub async fn bind(config: &ServerConfig, tls: Arc<Tls>, front: Front<D>) -> io::Result<Self> {
        let listener = TcpListener::bind(config.listen).await?;
        let mut http2 = http2::Builder::new(TokioExecutor::new());
        http2
            .timer(TokioTimer::new())
            .max_header_list_size(HEADER_LIST_BYTES)
            .max_concurrent_streams(config.streams_per_connection)
            .keep_alive_interval(Duration::from_secs(config.keepalive_interval_s))
            .keep_alive_timeout(Duration::from_secs(config.keepalive_timeout_s));
        metrics::describe_counter!(
            "keyreeve_connections_refused_total",
            "connections that ended before a call, by reason"
        );
        for refused in Refused::ALL {
            metrics::counter!("keyreeve_connections_refused_total", "reason" => refused.reason()).increment(0);
        }
        metrics::describe_gauge!("keyreeve_connections", "connections of authenticated callers");
        Ok(Self {
            listener,
            shared: Arc::new(Shared {
                front,
                tls,
                callers: Callers::new(config.connections_per_caller, config.in_flight_per_caller),
                http2,
                handshake_timeout: Duration::from_millis(config.handshake_timeout_ms),
                max_age: Duration::from_secs(config.max_connection_age_s),
                grace: config.drain(),
            }),
            connections: Arc::new(Semaphore::new(config.connections)),
            handshakes: Arc::new(Semaphore::new(HANDSHAKES)),
            drain: config.drain(),
        })
    }

    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until `stop` turns true; then closes the port, asks every connection to end (GOAWAY), and waits for calls under way.
    /// Returns whether all ended by themselves before the drain limit.
    pub async fn serve(self, mut stop: watch::Receiver<bool>) -> bool {
        let mut tasks = JoinSet::new();
        let stopped = stop.clone();
        loop {
            tokio::select! {
                () = told(&mut stop) => break,
                accepted = self.listener.accept() => match accepted {
                    Ok((stream, address)) => self.begin(&mut tasks, stream, address, stopped.clone()),
                    Err(error) => {
                        // Out of descriptors, most likely: the connections that end will give some back.
                        tracing::warn!(error = &error as &(dyn std::error::Error + 'static), "cannot accept a connection");
                        tokio::time::sleep(Duration::from_millis(50)).await;
                    }
                },
                Some(_ended) = tasks.join_next() => {}
            }
        }
        drop(self.listener);
        let drained = timeout(self.drain, async { while tasks.join_next().await.is_some() {} }).await;
        tasks.shutdown().await;
        drained.is_ok()
    }

    fn begin(&self, tasks: &mut JoinSet<()>, stream: TcpStream, address: SocketAddr, stop: watch::Receiver<bool>) {
        let Ok(connection) = self.connections.clone().try_acquire_owned() else {
            return refuse(Refused::TooMany, address);
        };
        let Ok(handshake) = self.handshakes.clone().try_acquire_owned() else {
            return refuse(Refused::TooManyHandshakes, address);
        };
        let shared = self.shared.clone();
        tasks.spawn(async move {
            match shared.shake_hands(stream, handshake).await {
                Ok((stream, peer, seat)) => shared.converse(stream, peer, seat, address, stop).await,
                Err(refused) => refuse(refused, address),
            }
            drop(connection);
        });
    }
}

impl<D: Dispatch> Shared<D> {
    async fn shake_hands(
        &self,
        stream: TcpStream,
        place: OwnedSemaphorePermit,
    ) -> Result<(TlsStream<TcpStream>, Peer, Seat), Refused> {
        // Answers are small and wait for nothing: Nagle's algorithm would only delay them. Fails on a socket that is gone already.
        let _ = stream.set_nodelay(true);
        let acceptor = TlsAcceptor::from(self.tls.current());
        let stream = match timeout(self.handshake_timeout, acceptor.accept(stream)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => {
                tracing::debug!(
                    error = &error as &(dyn std::error::Error + 'static),
                    "TLS handshake failed"
                );
                return Err(Refused::Handshake);
            }
            Err(_) => return Err(Refused::HandshakeTimeout),
        };
        drop(place);
        let peer = Peer::of(stream.get_ref().1).map_err(|_| Refused::Certificate)?;
        let seat = self
            .callers
            .connect(&peer.identity().actor.id)
            .ok_or(Refused::TooManyOfCaller)?;
        Ok((stream, peer, seat))
    }

    async fn converse(
        self: Arc<Self>,
        stream: TlsStream<TcpStream>,
        peer: Peer,
        seat: Seat,
        address: SocketAddr,
        mut stop: watch::Receiver<bool>,
    ) {
        let _open = Open::new();
        let (ends, ending) = watch::channel(false);
        let connection = Arc::new(Connection {
            peer,
            seat,
            address: address.to_string().into(),
            ending,
        });
        let service = service_fn(|request| {
            let (shared, connection) = (self.clone(), connection.clone());
            async move { Ok::<_, std::convert::Infallible>(shared.front.serve(&connection, request).await) }
        });
        let mut http = std::pin::pin!(
            self.http2
                .serve_connection(TokioIo::new(Gathering::new(stream)), service)
        );
        // `None`: asked to stop, and `serve` sets the limit. Otherwise old: a stream that never ends is cut after a while.
        let grace = tokio::select! {
            // What goes wrong here is the peer's, and he is gone.
            _ = http.as_mut() => return,
            () = told(&mut stop) => None,
            () = tokio::time::sleep(with_jitter(self.max_age)) => Some(self.grace),
        };
        // GOAWAY is for new calls only; open streams are told apart from it.
        http.as_mut().graceful_shutdown();
        let _ = ends.send(true);
        let _ = match grace {
            None => Ok(http.await),
            Some(grace) => timeout(grace, http).await,
        };
    }
}

/// A connection in `keyreeve_connections`, until dropped.
struct Open;

impl Open {
    fn new() -> Self {
        metrics::gauge!("keyreeve_connections").increment(1.0);
        Self
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        metrics::gauge!("keyreeve_connections").decrement(1.0);
    }
}

fn refuse(refused: Refused, address: SocketAddr) {
    metrics::counter!("keyreeve_connections_refused_total", "reason" => refused.reason()).increment(1);
    tracing::debug!(reason = refused.reason(), peer = %address, "connection refused");
}

/// Until `stop` turns true, or whoever could say so is gone.
pub(super) async fn told(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}

/// 90 to 100 % of `age`: connections that were made together do not come back together.
fn with_jitter(age: Duration) -> Duration {
    let drawn = uuid::Uuid::new_v4().as_bytes()[0];
    age.mul_f64(0.9 + 0.1 * f64::from(drawn) / 255.0)
}

#[cfg(test)]
mod tests;

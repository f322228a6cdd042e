//! What every call passes before and after its service, in this order:
//!
//! 1. figures: the call is counted, and counted out whatever becomes of it
//! 2. request id: the caller's or a new one; returned in the answer, and in each error
//! 3. content type; deadline (`grpc-timeout`, capped); the caller's ceiling of calls under way
//! 4. identity: the leaf of the connection is checked again, and makes the [`Caller`] that the service finds in the extensions
//! 5. the service, under the deadline; a panic becomes INTERNAL, and a bare answer of tonic gets its code and details
//!
//! One plain function instead of a stack of layers: this runs for every call, and its CPU time counts.

use std::{
    convert::Infallible,
    panic::AssertUnwindSafe,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use futures_util::FutureExt as _;
use http::{HeaderMap, Request, Response, StatusCode, header::CONTENT_TYPE};
use hyper::body::{Body as HttpBody, Frame, Incoming};
use tokio::sync::watch;
use tonic::{Code, Status, body::Body};
use tracing::Instrument as _;

use super::{
    headers::{self, RequestIds},
    limits::{InFlight, Seat},
    meters::{Meters, UnderWay},
    status,
    stream_life::{Ending, StreamLife, is_over},
};
use crate::{
    Error, Result,
    clock::Clock,
    config::ServerConfig,
    identity::{Caller, Peer, RequestFacts, Revocations},
};

/// What a service answers.
pub type Answer = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

/// Finds the service of a call, by its path.
pub trait Dispatch: Send + Sync + 'static {
    fn call(&self, request: Request<Incoming>) -> Answer;
}

impl Dispatch for tonic::service::Routes {
    fn call(&self, request: Request<Incoming>) -> Answer {
        Box::pin(tower::Service::call(&mut self.clone(), request))
    }
}

/// Stands before the services.
pub struct Front<D> {
    dispatch: D,
    meters: Meters,
    ids: RequestIds,
    revocations: Arc<Revocations>,
    clock: Arc<dyn Clock>,
    default_deadline: Duration,
    max_deadline: Duration,
    stream_deadline: Duration,
}

/// One connection, its handshake complete.
pub(super) struct Connection {
    pub peer: Peer,
    pub seat: Seat,
    pub address: Arc<str>,
    /// Turns true when the connection is to end.
    pub ending: watch::Receiver<bool>,
}

/// How long a stream that does not know how to end goes on, so that a watcher of health still hears that the node is not ready.
const LAST_WORDS: Duration = Duration::from_secs(1);

impl<D: Dispatch> Front<D> {
    /// `descriptors`: encoded descriptor sets of what `dispatch` serves.
    pub fn new(
        dispatch: D,
        descriptors: &[&[u8]],
        config: &ServerConfig,
        revocations: Arc<Revocations>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self {
            dispatch,
            meters: Meters::new(descriptors),
            ids: RequestIds::new(),
            revocations,
            clock,
            default_deadline: Duration::from_millis(config.default_deadline_ms),
            max_deadline: Duration::from_millis(config.max_deadline_ms),
            stream_deadline: Duration::from_secs(config.max_connection_age_s),
        }
    }

    pub(super) async fn serve(&self, connection: &Arc<Connection>, mut request: Request<Incoming>) -> Response<Body> {
        let started = Instant::now();
        let mut call = self.meters.of(request.uri().path()).begin(started);
        let (request_id, header) = self.ids.of(request.headers());
        if !is_grpc(request.headers()) {
            call.end(Code::Unknown);
            return not_grpc();
        }
        let streams = call.method().streams;
        let admitted = self.admit(connection, started, streams, request_id.clone(), &request);
        // Shown in the answer about an unknown method, which comes after the request is gone.
        let stranger = call.is_stranger().then(|| request.uri().path().to_owned());
        let (mut response, place) = match admitted {
            Ok((caller, place)) => {
                let deadline = caller.facts().deadline;
                let span = tracing::debug_span!(
                    "rpc",
                    request_id = &*request_id,
                    method = call.method().path,
                    trace = caller.facts().trace.as_deref(),
                    peer = &*connection.address,
                    caller = caller.identity().actor.id.as_str(),
                );
                request.extensions_mut().insert(caller);
                if streams {
                    request.extensions_mut().insert(self.life_of(connection));
                }
                let work = self.within(deadline, request).instrument(span);
                (status::REQUEST_ID.scope(request_id.clone(), work).await, Some(place))
            }
            Err(error) => {
                let status = status::REQUEST_ID.sync_scope(request_id.clone(), || Status::from(error));
                (status.into_http(), None)
            }
        };
        let headers = response.headers_mut();
        headers.insert(headers::REQUEST_ID, header);
        if streams && !headers.contains_key(Status::GRPC_STATUS) {
            let ending = (!ends_by_itself(&call.method().path)).then(|| {
                let ending = self.life_of(connection).ending();
                let ending = async {
                    ending.await;
                    tokio::time::sleep(LAST_WORDS).await;
                };
                Box::pin(ending) as Ending
            });
            return response.map(|body| {
                Body::new(Streamed {
                    body,
                    call,
                    request_id,
                    ending,
                    ended: false,
                    _place: place,
                })
            });
        }
        let path = stranger.as_deref().unwrap_or(&call.method().path);
        let code = status::dress(headers, &request_id, path);
        call.end(code);
        response
    }

    fn life_of(&self, connection: &Arc<Connection>) -> StreamLife {
        let (connection_, revocations, clock) = (connection.clone(), self.revocations.clone(), self.clock.clone());
        StreamLife::new(connection.ending.clone(), move || {
            Caller::check_peer(&connection_.peer, &revocations, &*clock)
        })
    }

    fn admit(
        &self,
        connection: &Connection,
        started: Instant,
        streams: bool,
        request_id: Arc<str>,
        request: &Request<Incoming>,
    ) -> Result<(Caller, InFlight)> {
        let timeout = match (headers::timeout(request.headers())?, streams) {
            (Some(timeout), false) => timeout.min(self.max_deadline),
            (None, false) => self.default_deadline,
            (named, true) => named.unwrap_or(self.stream_deadline).min(self.stream_deadline),
        };
        let place = connection.seat.begin().ok_or(Error::Overloaded {
            retry_after: Duration::from_millis(50),
        })?;
        let facts = RequestFacts {
            request_id,
            trace: headers::trace(request.headers()),
            peer: Some(connection.address.clone()),
            deadline: started + timeout,
            started,
        };
        let caller = Caller::from_peer(&connection.peer, facts, &self.revocations, &*self.clock)?;
        Ok((caller, place))
    }

    /// The service's answer, unless the deadline passes or it panics. What is dropped midway records itself as aborted.
    async fn within(&self, deadline: Instant, request: Request<Incoming>) -> Response<Body> {
        let work = AssertUnwindSafe(self.dispatch.call(request)).catch_unwind();
        match tokio::time::timeout_at(deadline.into(), work).await {
            Ok(Ok(Ok(response))) => response,
            Ok(Ok(Err(never))) => match never {},
            // The panic hook has said where.
            Ok(Err(_panic)) => Status::from(Error::internal(Panicked)).into_http(),
            Err(_elapsed) => Status::from(Error::DeadlineExceeded).into_http(),
        }
    }
}

#[derive(Debug, thiserror::Error)]
#[error("the service panicked while it worked on the call")]
struct Panicked;

/// gRPC over HTTP/2: anything else gets 415, as its specification says.
fn is_grpc(headers: &HeaderMap) -> bool {
    headers
        .get(CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"))
}

fn not_grpc() -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::UNSUPPORTED_MEDIA_TYPE;
    response
}

/// Our own streams answer what is under way before they end; of tonic's (health, reflection) nobody has told the end.
fn ends_by_itself(path: &str) -> bool {
    path.starts_with("/keyreeve.")
}

/// The body of a streaming call: holds the call's places until it ends, sees its trailers, and ends it when it must.
struct Streamed {
    body: Body,
    call: UnderWay,
    request_id: Arc<str>,
    /// Of a stream that does not end by itself.
    ending: Option<Ending>,
    ended: bool,
    _place: Option<InFlight>,
}

impl Streamed {
    /// The last frame: an error in trailers.
    fn end(&mut self, error: Error) -> Poll<Option<std::result::Result<Frame<bytes::Bytes>, Status>>> {
        self.ended = true;
        self.body = Body::empty();
        let status = status::REQUEST_ID.sync_scope(self.request_id.clone(), || Status::from(error));
        let mut trailers = HeaderMap::new();
        if status.add_header(&mut trailers).is_err() {
            return Poll::Ready(Some(Err(status)));
        }
        self.call.end(status.code());
        Poll::Ready(Some(Ok(Frame::trailers(trailers))))
    }
}

impl HttpBody for Streamed {
    type Data = bytes::Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<std::result::Result<Frame<Self::Data>, Status>>> {
        let this = &mut *self;
        if this.ended {
            return Poll::Ready(None);
        }
        if this.ending.is_some() && is_over(&mut this.ending, context) {
            return this.end(Error::Draining);
        }
        // A panic in here would take the connection with it, and every other call on it.
        let polled = std::panic::catch_unwind(AssertUnwindSafe(|| Pin::new(&mut this.body).poll_frame(context)));
        let Ok(polled) = polled else {
            return this.end(Error::internal(Panicked));
        };
        Poll::Ready(match ready!(polled) {
            Some(Ok(mut frame)) => {
                if let Some(trailers) = frame.trailers_mut() {
                    this.call.end(status::dress(trailers, &this.request_id, ""));
                }
                Some(Ok(frame))
            }
            other => other,
        })
    }

    fn is_end_stream(&self) -> bool {
        self.ended || self.body.is_end_stream()
    }

    fn size_hint(&self) -> hyper::body::SizeHint {
        self.body.size_hint()
    }
}

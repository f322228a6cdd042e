//! What each call passes before the service's own code: peers from elsewhere are refused, faults are met, records are made.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use keyreeve::{
    Error,
    grpc::{Answer, Dispatch, Services},
    identity::Caller,
};
use tonic::{Code, Status, body::Body};
use tonic_types::StatusExt as _;

use crate::{
    crypt_messages,
    faults::{Fault, Faults},
    guard,
    methods::{self, CRYPT},
    records::{Record, Records},
    refusals,
};

/// A message of gRPC: whether it is compressed, its length in four bytes, itself.
pub const MESSAGE_PREFIX: usize = 5;

/// Stands before the services of a double.
pub struct Front {
    services: Arc<Services>,
    watch: Watch,
}

/// What is looked up and noted for each call.
#[derive(Clone)]
pub struct Watch {
    pub faults: Faults,
    pub records: Arc<Records>,
}

/// Who calls, and until when.
#[derive(Clone)]
pub struct Asker {
    pub caller: String,
    pub request_id: String,
    pub deadline: Instant,
}

/// A call that is under way; recorded when it ends, or as it is dropped.
pub struct UnderWay {
    records: Arc<Records>,
    deadline: Instant,
    record: Record,
}

impl Front {
    pub fn new(services: Services, watch: Watch) -> Self {
        Self {
            services: Arc::new(services),
            watch,
        }
    }
}

impl Dispatch for Front {
    fn call(&self, request: Request<Incoming>) -> Answer {
        let (services, watch) = (self.services.clone(), self.watch.clone());
        let asker = request.extensions().get::<Caller>().and_then(Asker::of);
        let Some(asker) = asker else {
            return Box::pin(async {
                let error = Error::Unauthenticated("a test double answers its own host only");
                Ok(refused(error))
            });
        };
        match methods::of_path(request.uri().path()) {
            // Health and reflection, or nothing that there is.
            None => services.route(request),
            Some(method) if method.name == CRYPT => Box::pin(crypt_messages::carry(services, watch, asker, request)),
            Some(method) => Box::pin(async move {
                let (parts, body) = request.into_parts();
                let Ok(body) = body.collect().await else {
                    return Ok(refused(Error::Cancelled));
                };
                let body = body.to_bytes();
                let names = method.names_in(body.get(MESSAGE_PREFIX..).unwrap_or_default());
                let call = UnderWay::new(&watch, &asker, method.name, &names);
                let fault = watch.faults.take(method.name, &names);
                Ok(call
                    .answer(fault, &services, Request::from_parts(parts, Full::new(body)))
                    .await)
            }),
        }
    }
}

impl Asker {
    /// `None`: from elsewhere.
    fn of(caller: &Caller) -> Option<Self> {
        let facts = caller.facts();
        guard::is_loopback_peer(facts.peer.as_deref()).then(|| Self {
            caller: caller.identity().actor.id.clone(),
            request_id: facts.request_id.to_string(),
            deadline: facts.deadline,
        })
    }
}

impl UnderWay {
    pub fn new(watch: &Watch, asker: &Asker, method: &'static str, names: &[String]) -> Self {
        Self {
            records: watch.records.clone(),
            deadline: asker.deadline,
            record: Record {
                method,
                name: names.first().cloned().unwrap_or_default(),
                caller: asker.caller.clone(),
                reason: String::new(),
                request_id: asker.request_id.clone(),
            },
        }
    }

    /// The error that a fault makes of this call.
    pub fn refusal(&self, reason: &str, retry_after: Duration) -> Error {
        refusals::error(reason, retry_after, self.record.method, &self.record.name)
    }

    pub fn end(mut self, reason: &str) {
        reason.clone_into(&mut self.record.reason);
    }

    async fn answer(self, fault: Option<Fault>, services: &Services, request: Request<Full<Bytes>>) -> Response<Body> {
        match fault {
            Some(Fault::Refuse { reason, retry_after }) => return self.refuse(reason, retry_after),
            // Not longer than the deadline: it is kept by whoever waits for this.
            Some(Fault::Slow(by)) => tokio::time::sleep(by).await,
            Some(Fault::LoseAnswer) | None => {}
        }
        let response = match services.route(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        };
        let reason = reason(response.headers());
        match fault {
            Some(Fault::LoseAnswer) if reason == OK => self.refuse("LOG_UNAVAILABLE", Duration::ZERO),
            _ => {
                self.end(&reason);
                response
            }
        }
    }

    fn refuse(self, reason: &str, retry_after: Duration) -> Response<Body> {
        let error = self.refusal(reason, retry_after);
        self.end(reason);
        refused(error)
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let mut record = self.record.clone();
        if record.reason.is_empty() {
            let late = Instant::now() >= self.deadline;
            record.reason = if late { "DEADLINE_EXCEEDED" } else { "CANCELLED" }.to_owned();
        }
        self.records.push(record);
    }
}

pub const OK: &str = "OK";

fn refused(error: Error) -> Response<Body> {
    Status::from(error).into_http()
}

/// The reason of an answer without a body; `OK` of one that has one.
fn reason(headers: &HeaderMap) -> String {
    let Some(status) = Status::from_header_map(headers).filter(|status| status.code() != Code::Ok) else {
        return OK.to_owned();
    };
    let details = status.get_error_details();
    match (details.error_info(), status.code()) {
        (Some(info), _) => info.reason.clone(),
        // The wire's own, which get their details behind us (`src/grpc/status.rs`).
        (None, Code::OutOfRange) => "MESSAGE_TOO_LARGE".to_owned(),
        (None, Code::Internal) => "MALFORMED_MESSAGE".to_owned(),
        (None, other) => format!("{other:?}").to_uppercase(),
    }
}

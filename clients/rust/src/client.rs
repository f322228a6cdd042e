//! A client, and how one call of it is made. The calls themselves are in `calls.rs`.

use std::sync::Arc;

use tokio::time::timeout_at;
use tonic::{Request, Response, Status, Streaming, transport::Channel};
use tracing::{Instrument as _, debug_span};

use crate::{
    ClientConfig, ClientError, EndpointHealth,
    budget::Budget,
    channels::{Channels, Lease},
    checksum::{Incoming, Outgoing},
    config::checked_deadline,
    connector::Target,
    endpoints::{Endpoints, Visit},
    hedge::{self, Outcome},
    options::CallOptions,
    repeatable::Repeatable,
    shared::Shared,
    tls::LiveTls,
    tries::Tries,
};

/// A client of one service, of one node or several. Cheap to clone; clones share connections, which carry many calls at once, circuits
/// and the budget of retries.
#[derive(Debug, Clone)]
pub struct Client {
    pub(crate) shared: Arc<Shared>,
    pub(crate) options: CallOptions,
}

impl Client {
    /// Connects to one endpoint at once, so that a wrong address or certificate shows here. Later connections are made by themselves.
    ///
    /// Errors: `CONFIGURATION`; `UNREACHABLE` if no endpoint can be reached.
    pub async fn connect(config: ClientConfig) -> Result<Self, ClientError> {
        let client = Self::new(config)?;
        let mut last = None;
        for _ in 0..client.shared.endpoints.count() {
            let connected = {
                let mut visit = client.shared.endpoints.choose(None, false);
                let connected = client.shared.channels.connect(visit.index).await;
                visit.connected(connected.as_ref().err());
                connected
            };
            match connected {
                Ok(()) => return Ok(client),
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(|| ClientError::configuration("there is no endpoint".into())))
    }

    /// Connects with the first call: for programs that start before the service does. To be called within a tokio runtime.
    ///
    /// Errors: `CONFIGURATION`.
    pub fn new(config: ClientConfig) -> Result<Self, ClientError> {
        let targets = config.endpoints.iter().map(|address| Target::parse(address));
        let targets = targets.collect::<Result<Vec<_>, _>>()?;
        if targets.is_empty() {
            return Err(ClientError::configuration("there is no endpoint: name one".into()));
        }
        let options = CallOptions::new(checked_deadline(config.deadline)?);
        let tls = LiveTls::new(config.certificates, config.events.clone())?;
        Ok(Self {
            shared: Arc::new(Shared {
                endpoints: Endpoints::new(config.endpoints, config.events.clone()),
                channels: Channels::new(targets, tls, config.connect_timeout),
                budget: Budget::new(),
                events: config.events,
                hedge_after: config.hedge_after,
            }),
            options,
        })
    }

    /// SHA-256 of the certificate that this client shows now: tells identities apart, and names none.
    pub fn identity(&self) -> [u8; 32] {
        self.shared.channels.identity()
    }

    /// What this client knows of its endpoints, in the order of its configuration.
    pub fn endpoints(&self) -> Vec<EndpointHealth> {
        self.shared.endpoints.health()
    }

    /// The channel to the endpoint in use, for generated stubs: no deadline, retry, checksum, error conversion.
    pub fn channel(&self) -> Channel {
        let visit = self.shared.endpoints.choose(None, false);
        self.shared.channels.lease(visit.index).channel
    }

    pub(crate) fn with(&self, change: impl FnOnce(&mut CallOptions)) -> Self {
        let mut client = self.clone();
        change(&mut client.options);
        client
    }

    /// One unary call: checksums, deadline on both sides, retries, the error's details.
    pub(crate) async fn unary<'a, Req, Res, F>(
        &'a self,
        method: &'static str,
        mut message: Req,
        call: impl Fn(Channel, Request<Req>) -> F,
    ) -> Result<Res, ClientError>
    where
        Req: Outgoing + Repeatable + Clone,
        Res: Incoming,
        F: Future<Output = Result<Response<Res>, Status>>,
    {
        message.set_checksums();
        let repeatable = message.prepare(self.options.once);
        let hedge_after = self.shared.hedge_after.filter(|_| message.may_be_hedged());
        let mut tries = Tries::new(&self.shared, method, repeatable, &self.options);
        let span = debug_span!("keyreeve", method, request_id = tries.correlation.request_id());
        let calling = async {
            let (time, correlation) = (tries.time, tries.correlation.clone());
            let send = |mut visit: Visit<'a>| {
                let Lease { channel, generation } = self.shared.channels.lease(visit.index);
                let mut request = Request::new(message.clone());
                request.set_timeout(time.remaining());
                correlation.write(request.metadata_mut());
                let answering = timeout_at(time.deadline, call(channel, request));
                async move {
                    let answered = match answering.await {
                        Ok(answered) => answered.map_err(ClientError::from),
                        Err(_) => Err(time.out()),
                    };
                    visit.ended(answered.as_ref().err());
                    let checked = answered.and_then(|answer| {
                        answer.get_ref().check()?;
                        Ok(answer.into_inner())
                    });
                    Outcome {
                        result: checked,
                        index: visit.index,
                        generation,
                    }
                }
            };
            loop {
                let first = send(tries.visit());
                let outcome = match hedge_after {
                    Some(after) => hedge::race(first, after, || tries.hedge().map(&send)).await,
                    None => first.await,
                };
                match outcome.result {
                    Ok(answer) => {
                        tries.succeeded();
                        return Ok(answer);
                    }
                    Err(error) => tries.failed_at(outcome.index, error, outcome.generation).await?,
                }
            }
        };
        calling.instrument(span).await
    }

    /// Begins a stream, once.
    pub(crate) async fn stream<Req, Res, F>(
        &self,
        mut request: Request<Req>,
        call: impl FnOnce(Channel, Request<Req>) -> F,
    ) -> Result<Streaming<Res>, ClientError>
    where
        F: Future<Output = Result<Response<Streaming<Res>>, Status>>,
    {
        let correlation = self.options.correlation();
        correlation.write(request.metadata_mut());
        let mut visit = self.shared.endpoints.choose(None, false);
        let channel = self.shared.channels.lease(visit.index).channel;
        let begun = call(channel, request).await.map_err(ClientError::from);
        visit.ended(begun.as_ref().err());
        begun.map(Response::into_inner).map_err(|error| ClientError {
            request_id: correlation.request_id().to_owned(),
            tries: 1,
            ..error
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::v1;

    /// Compiles only while the future of a call can move between threads.
    #[test]
    fn calls_can_be_spawned() {
        fn spawnable(_: impl Future + Send + 'static) {}
        let _ = |client: Client| spawnable(async move { client.encrypt(v1::EncryptRequest::default()).await.is_ok() });
        let _ = |config: ClientConfig| spawnable(Client::connect(config));
        let requests = tokio_stream::empty::<v1::CryptRequest>();
        let _ = |client: Client| spawnable(async move { client.crypt(requests).await.is_ok() });
    }
}

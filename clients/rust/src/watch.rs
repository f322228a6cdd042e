//! Changes of keys, told for as long as somebody wants to know (docs/clients.md, row "`Watch` stream").

use std::{sync::Arc, time::Duration};

use tokio::{
    task::JoinSet,
    time::{Instant, timeout},
};
use tonic::{Code, Request, Streaming, transport::Channel};

use crate::{
    Client, ClientError,
    channels::Lease,
    endpoints::Visit,
    error::POSITION_UNKNOWN,
    events::{Event, EventName},
    retry,
    v1::{self, event_service_client::EventServiceClient},
};

const METHOD: &str = "Watch";
/// Keys of one stream, at most: the service's limit.
const KEYS_EACH: usize = 256;
/// From a request to the first message, which comes at once.
const BEGIN_WITHIN: Duration = Duration::from_secs(10);
/// A stream that is lost sooner counts as one that did not begin: the waits go on growing. As long as the longest of them.
const LASTING: Duration = Duration::from_secs(2);

/// Who wants to know of keys: a cache of data keys, of key states, of names. Called one message after another for each set of 256 keys;
/// must be quick.
pub trait KeyListener: Send + Sync + 'static {
    /// The watch of these keys has begun, or has begun anew since the service was restored from a backup: what is known of them from
    /// before may be wrong, so forget it. From now on nothing is missed.
    fn begun(&self, names: &[String]);

    /// A key was rotated, or has other states or labels; `key` is what it is now. May be told again after a lost connection.
    fn changed(&self, key: &v1::Key);

    /// Nothing of these keys is heard at the moment; it is tried again for ever. What is known may grow old.
    fn lost(&self, _names: &[String], _error: &ClientError) {}

    /// The watch goes on: what was missed since [`Self::lost`] is being told now.
    fn restored(&self, _names: &[String]) {}

    /// The watch of these keys is over: the service refuses it, as for want of a right.
    fn refused(&self, _names: &[String], _error: &ClientError) {}
}

/// Keeps streams of changes open until it is dropped.
#[derive(Debug)]
pub struct KeyWatcher {
    streams: JoinSet<ClientError>,
}

impl KeyWatcher {
    /// Watches keys, named in full; to be called within a tokio runtime. What happens before it has begun is not told.
    pub fn start(client: &Client, names: impl IntoIterator<Item = String>, listener: Arc<dyn KeyListener>) -> Self {
        let names: Vec<String> = names.into_iter().collect();
        let mut streams = JoinSet::new();
        for names in names.chunks(KEYS_EACH) {
            let watching = Watching {
                client: client.clone(),
                names: names.to_vec(),
                listener: listener.clone(),
                position: None,
                since: None,
                lost: false,
                failures: 0,
                certificate_tried: false,
                avoid: None,
            };
            streams.spawn(watching.run());
        }
        Self { streams }
    }

    /// Waits until a set of keys is refused, and why; `None`: none is watched any more.
    pub async fn refused(&mut self) -> Option<ClientError> {
        match self.streams.join_next().await? {
            Ok(error) => Some(error),
            Err(_) => Some(ClientError::closed("the watcher")),
        }
    }
}

/// One set of keys.
struct Watching {
    client: Client,
    names: Vec<String>,
    listener: Arc<dyn KeyListener>,
    /// Of the last message; everything up to there was told.
    position: Option<v1::Position>,
    /// When the stream began, if it did.
    since: Option<Instant>,
    /// The listener was told of a loss, and not yet that it goes on.
    lost: bool,
    /// Streams in a row that did not last.
    failures: u32,
    certificate_tried: bool,
    /// Where the last one was lost.
    avoid: Option<usize>,
}

impl Watching {
    /// Ends with a refusal.
    async fn run(mut self) -> ClientError {
        let shared = self.client.shared.clone();
        loop {
            let mut visit = shared.endpoints.choose(self.avoid, true);
            let Lease { channel, generation } = shared.channels.lease(visit.index);
            let error = self.stream(&mut visit, channel).await;
            visit.ended(Some(&error));
            if self.since.take().is_some_and(|since| since.elapsed() >= LASTING) {
                self.failures = 0;
            }
            self.failures = self.failures.saturating_add(1);
            if !std::mem::replace(&mut self.lost, true) {
                self.listener.lost(&self.names, &error);
                self.tell(EventName::WatchLost, &error.reason, None);
            }
            if !self.may_go_on(&error, generation) {
                self.listener.refused(&self.names, &error);
                return error;
            }
            self.again(&error, visit.index).await;
        }
    }

    /// Rule 2, without its limit of tries. A stream that does not begin in time is tried elsewhere; after a restore it begins anew.
    fn may_go_on(&mut self, error: &ClientError, generation: u64) -> bool {
        match error.code {
            Code::Unavailable | Code::DeadlineExceeded => true,
            Code::ResourceExhausted => error.retry_after.is_some(),
            Code::Unauthenticated if !self.certificate_tried => {
                self.certificate_tried = true;
                self.client.shared.channels.certificate_newer_than(generation)
            }
            _ => error.reason == POSITION_UNKNOWN && self.position.take().is_some(),
        }
    }

    /// One stream from its beginning to its end, and why it ended.
    async fn stream(&mut self, visit: &mut Visit<'_>, channel: Channel) -> ClientError {
        let mut request = Request::new(v1::WatchRequest {
            names: self.names.clone(),
            after: self.position.clone(),
        });
        self.client.options.correlation().write(request.metadata_mut());
        let mut service = EventServiceClient::new(channel);
        let beginning = async {
            let mut messages = service.watch(request).await?.into_inner();
            let first = next(&mut messages).await?;
            Ok::<_, ClientError>((messages, first))
        };
        let begun = match timeout(BEGIN_WITHIN, beginning).await {
            Ok(begun) => begun,
            Err(_) => Err(ClientError::deadline(BEGIN_WITHIN)),
        };
        let (mut messages, mut message) = match begun {
            Ok(begun) => begun,
            Err(error) => return error,
        };
        visit.ended(None);
        self.begun();
        loop {
            if let Some(key) = &message.key {
                self.listener.changed(key);
            }
            self.position = message.position;
            message = match next(&mut messages).await {
                Ok(message) => message,
                Err(error) => return error,
            };
        }
    }

    fn begun(&mut self) {
        self.since = Some(Instant::now());
        if std::mem::take(&mut self.lost) {
            self.listener.restored(&self.names);
        }
        if self.position.is_none() {
            self.listener.begun(&self.names);
        }
        self.certificate_tried = false;
        self.avoid = None;
    }

    /// Waits before the next stream; not, if there is an endpoint that may not have been tried yet.
    async fn again(&mut self, error: &ClientError, index: usize) {
        self.avoid = Some(index);
        let endpoints = &self.client.shared.endpoints;
        let untried = (self.failures as usize) < endpoints.count() && endpoints.another_is_closed(index);
        let wait = match error.code {
            Code::Unavailable if untried => Duration::ZERO,
            _ => retry::full_jitter(self.failures) + error.retry_after.unwrap_or_default(),
        };
        self.tell(EventName::Retry, &error.reason, Some(wait));
        tokio::time::sleep(wait).await;
    }

    fn tell(&self, name: EventName, reason: &str, wait: Option<Duration>) {
        self.client.shared.events.tell(&Event {
            method: METHOD,
            reason,
            tries: self.failures,
            wait,
            ..Event::new(name)
        });
    }
}

async fn next(messages: &mut Streaming<v1::WatchResponse>) -> Result<v1::WatchResponse, ClientError> {
    let message = messages.message().await?;
    message.ok_or_else(|| ClientError::ended("the stream of changes"))
}

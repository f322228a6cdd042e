//! The one task behind a pipeline: opens the stream, keeps it full, hands the answers out, and sends what was lost again.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, sleep, timeout},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request, Streaming};

use crate::{
    Client, ClientError,
    endpoints::Visit,
    error::DRAINING,
    events::{Event, EventName},
    retry::{self, Failure, Next},
    v1::{self, crypt_request, crypt_response, crypto_service_client::CryptoServiceClient},
};

const METHOD: &str = "Crypt";
/// The service works on so many messages of a stream at once.
const IN_FLIGHT: usize = 64;
const OPEN_WITHIN: Duration = Duration::from_secs(10);

/// One operation under way.
pub(crate) struct Job {
    pub request: crypt_request::Request,
    pub deadline: Instant,
    pub answer: oneshot::Sender<Answer>,
}

pub(crate) enum Answer {
    /// Of the service; an error among it.
    Of(crypt_response::Response),
    /// The stream was lost, and there will be no other one.
    Lost(ClientError),
}

/// Why there is no stream at the moment: what whoever waits for one is told when his time is over.
#[derive(Debug, Clone, Default)]
pub(crate) struct Loss(Arc<Mutex<Option<ClientError>>>);

impl Loss {
    pub fn error(&self) -> Option<ClientError> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, error: Option<ClientError>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = error;
    }
}

pub(crate) struct Driver {
    client: Client,
    jobs: mpsc::Receiver<Job>,
    loss: Loss,
    /// Sent and lost, refused by a node that drains, or waiting when a stream was lost: they go first.
    again: VecDeque<Job>,
    /// Sent and not answered, by tag.
    under_way: HashMap<u64, Job>,
    last_tag: u64,
    /// Streams in a row that were lost without an answer.
    failures: u32,
    /// Of these, all but those of an outage.
    counted: u32,
    avoid: Option<usize>,
    certificate_tried: bool,
}

impl Driver {
    pub fn new(client: Client, jobs: mpsc::Receiver<Job>, loss: Loss) -> Self {
        Self {
            client,
            jobs,
            loss,
            again: VecDeque::new(),
            under_way: HashMap::new(),
            last_tag: 0,
            failures: 0,
            counted: 0,
            avoid: None,
            certificate_tried: false,
        }
    }

    /// Ends when all pipelines are gone and everything is answered.
    pub async fn run(mut self) {
        loop {
            // A stream is opened for somebody, not for the sake of having one.
            self.forget_given_up();
            while self.again.is_empty() {
                self.start_over();
                match self.jobs.recv().await {
                    Some(job) => self.again.extend(Some(job).filter(|job| !job.answer.is_closed())),
                    None => return,
                }
            }
            let shared = self.client.shared.clone();
            let mut visit = shared.endpoints.choose(self.avoid, true);
            let lease = shared.channels.lease(visit.index);
            let ended = self.stream(&mut visit, lease.channel).await;
            let Err(error) = ended else { return };
            visit.ended(Some(&error));
            self.again.extend(self.under_way.drain().map(|(_, job)| job));
            self.lost(error, visit.index, lease.generation).await;
        }
    }

    /// One stream. `Ok`: nobody is left who could ask for anything.
    async fn stream(&mut self, visit: &mut Visit<'_>, channel: tonic::transport::Channel) -> Result<(), ClientError> {
        let (send, requests) = mpsc::channel(IN_FLIGHT);
        let mut request = Request::new(ReceiverStream::new(requests));
        self.client.options.correlation().write(request.metadata_mut());
        let mut service = CryptoServiceClient::new(channel);
        let opening = timeout(OPEN_WITHIN, service.crypt(request)).await;
        let mut answers = opening
            .map_err(|_| ClientError::not_begun("stream", OPEN_WITHIN))??
            .into_inner();
        visit.ended(None);
        self.loss.set(None);
        self.avoid = None;
        // Once the node has refused a message because it drains, nothing more is sent to it; what is under way is answered first.
        let mut draining = None;
        loop {
            while draining.is_none() && self.under_way.len() < IN_FLIGHT {
                match self.again.pop_front() {
                    Some(job) => self.send(&send, job).await,
                    None => break,
                }
            }
            if self.under_way.is_empty()
                && let Some(error) = draining
            {
                return Err(error);
            }
            let answer = tokio::select! {
                biased;
                answer = next(&mut answers) => answer?,
                job = self.jobs.recv(), if draining.is_none() && self.under_way.len() < IN_FLIGHT => match job {
                    Some(job) => {
                        self.send(&send, job).await;
                        continue;
                    }
                    None if self.under_way.is_empty() => return Ok(()),
                    None => next(&mut answers).await?,
                },
            };
            draining = self.answered(answer).or(draining);
        }
    }

    /// There is room for as many as may be under way, so this does not wait.
    async fn send(&mut self, stream: &mpsc::Sender<v1::CryptRequest>, job: Job) {
        if job.answer.is_closed() {
            return;
        }
        self.last_tag += 1;
        let message = v1::CryptRequest {
            tag: self.last_tag,
            request: Some(job.request.clone()),
        };
        self.under_way.insert(self.last_tag, job);
        // If the stream is broken, its answers say so.
        let _ = stream.send(message).await;
    }

    /// Hands an answer out. Returns the refusal of a node that drains: the message was not worked on, and the next stream takes it.
    fn answered(&mut self, answer: v1::CryptResponse) -> Option<ClientError> {
        let (Some(job), Some(response)) = (self.under_way.remove(&answer.tag), answer.response) else {
            return None;
        };
        match response {
            crypt_response::Response::Error(item) if item.reason == DRAINING => {
                self.again.push_back(job);
                Some(ClientError::of_item(item))
            }
            response => {
                (self.failures, self.counted) = (0, 0);
                self.certificate_tried = false;
                let _ = job.answer.send(Answer::Of(response));
                None
            }
        }
    }

    /// Waits before the next stream, or gives up what was lost with this one. A new stream is one retry, however many messages it takes over.
    async fn lost(&mut self, mut error: ClientError, index: usize, generation: u64) {
        while self.again.len() < IN_FLIGHT
            && let Ok(job) = self.jobs.try_recv()
        {
            self.again.push_back(job);
        }
        self.forget_given_up();
        if self.again.is_empty() {
            return;
        }
        let shared = self.client.shared.clone();
        let outage = retry::is_outage(&error, shared.endpoints.answered());
        self.failures += 1;
        self.counted += u32::from(!outage);
        error.tries = self.failures;
        self.loss.set(Some(error.clone()));
        let refused = error.code == Code::Unauthenticated && !self.certificate_tried;
        let changed = refused && shared.channels.certificate_newer_than(generation);
        self.certificate_tried |= changed;
        let last = self
            .again
            .iter()
            .map(|job| job.deadline)
            .max()
            .unwrap_or_else(Instant::now);
        let failure = Failure {
            error: &error,
            tries: self.failures,
            counted: self.counted,
            outage,
            remaining: last.saturating_duration_since(Instant::now()),
            another: shared.endpoints.another_is_closed(index),
            certificate_changed: changed,
        };
        // Overload is not escaped.
        self.avoid = Some(index).filter(|_| error.code == Code::Unavailable);
        match retry::next(&failure, &shared.budget) {
            Next::Wait(wait) => {
                self.tell(EventName::Retry, &error, Some(wait));
                sleep(wait).await;
            }
            Next::Elsewhere => self.tell(EventName::Retry, &error, Some(Duration::ZERO)),
            Next::NoBudget => {
                self.tell(EventName::BudgetExhausted, &error, None);
                self.give_up(error);
            }
            Next::End => self.give_up(error),
        }
    }

    fn give_up(&mut self, error: ClientError) {
        for job in self.again.drain(..) {
            let _ = job.answer.send(Answer::Lost(error.clone()));
        }
    }

    /// Who was hit by what was lost is served or gone: it does not count against whoever comes next.
    fn start_over(&mut self) {
        (self.failures, self.counted) = (0, 0);
        if self.jobs.is_empty() {
            self.loss.set(None);
        }
    }

    /// Their callers have gone, or met their deadline.
    fn forget_given_up(&mut self) {
        self.again.retain(|job| !job.answer.is_closed());
    }

    fn tell(&self, name: EventName, error: &ClientError, wait: Option<Duration>) {
        self.client.shared.events.tell(&Event {
            method: METHOD,
            reason: &error.reason,
            tries: self.failures,
            wait,
            ..Event::new(name)
        });
    }
}

async fn next(answers: &mut Streaming<v1::CryptResponse>) -> Result<v1::CryptResponse, ClientError> {
    let answer = answers.message().await?;
    answer.ok_or_else(|| ClientError::ended("the stream"))
}

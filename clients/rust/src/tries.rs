//! One call from its first try to its end: counts, asks the rules, and tells the events.

use std::time::Duration;

use tokio::time::{Instant, sleep};
use tonic::Code;

use crate::{
    ClientError,
    endpoints::Visit,
    events::{Event, EventName},
    options::{CallOptions, Correlation},
    retry::{self, Failure, Next},
    shared::Shared,
};

/// How long a call may take, over all tries and waits.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Time {
    allowed: Duration,
    pub deadline: Instant,
}

impl Time {
    /// What is left until the deadline.
    pub fn remaining(self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    pub fn out(self) -> ClientError {
        ClientError::deadline(self.allowed)
    }
}

pub(crate) struct Tries<'a> {
    shared: &'a Shared,
    method: &'static str,
    repeatable: bool,
    started: Instant,
    pub time: Time,
    pub correlation: Correlation,
    count: u32,
    /// Tries that failed, but for those of an outage.
    counted: u32,
    /// Where the last try went, if it went to an endpoint of its own.
    endpoint: Option<usize>,
    /// Where the last one failed, if the next one goes elsewhere if it can.
    avoid: Option<usize>,
    certificate_tried: bool,
    told: bool,
}

impl<'a> Tries<'a> {
    pub fn new(shared: &'a Shared, method: &'static str, repeatable: bool, options: &CallOptions) -> Self {
        shared.budget.call();
        let started = Instant::now();
        Self {
            shared,
            method,
            repeatable,
            started,
            time: Time {
                allowed: options.deadline,
                deadline: started + options.deadline,
            },
            correlation: options.correlation(),
            count: 0,
            counted: 0,
            endpoint: None,
            avoid: None,
            certificate_tried: false,
            told: false,
        }
    }

    /// The next try goes to an endpoint.
    pub fn visit(&mut self) -> Visit<'a> {
        self.count += 1;
        let visit = self.shared.endpoints.choose(self.avoid, self.repeatable);
        self.endpoint = Some(visit.index);
        visit
    }

    /// The next try goes over a stream that is there for many calls.
    pub fn ride(&mut self) {
        self.count += 1;
    }

    /// A second try beside the one that is under way, elsewhere, if there is an elsewhere and budget for it.
    pub fn hedge(&mut self) -> Option<Visit<'a>> {
        let visit = self.shared.endpoints.another(self.endpoint?)?;
        if !self.shared.budget.retry() {
            self.tell(EventName::BudgetExhausted, "", None);
            return None;
        }
        self.count += 1;
        self.endpoint = Some(visit.index);
        self.tell(EventName::Hedge, "", None);
        Some(visit)
    }

    pub fn succeeded(&mut self) {
        self.tell_end("OK");
    }

    /// As [`Tries::failed`], of a try at the endpoint of this index, which with a second one beside it need not be the last.
    pub async fn failed_at(&mut self, index: usize, error: ClientError, generation: u64) -> Result<(), ClientError> {
        self.endpoint = Some(index);
        self.failed(error, Some(generation)).await
    }

    /// The last try ended with `error`. Returns after the wait if there is to be another one. `generation`: of the certificate that it showed.
    /// Errors: how the call ended.
    pub async fn failed(&mut self, mut error: ClientError, generation: Option<u64>) -> Result<(), ClientError> {
        error.tries = self.count;
        let wait = match self.next(&error, generation) {
            Next::Wait(wait) => wait,
            Next::Elsewhere => Duration::ZERO,
            Next::NoBudget => {
                self.tell(EventName::BudgetExhausted, &error.reason, None);
                return Err(self.ended(error));
            }
            Next::End => return Err(self.ended(error)),
        };
        // Overload is not escaped.
        self.avoid = self.endpoint.filter(|_| error.code == Code::Unavailable);
        self.tell(EventName::Retry, &error.reason, Some(wait));
        if !wait.is_zero() {
            sleep(wait).await;
        }
        Ok(())
    }

    fn next(&mut self, error: &ClientError, generation: Option<u64>) -> Next {
        if !self.repeatable {
            return Next::End;
        }
        let refused = error.code == Code::Unauthenticated && !self.certificate_tried;
        let changed = refused && generation.is_some_and(|shown| self.shared.channels.certificate_newer_than(shown));
        self.certificate_tried |= changed;
        let outage = retry::is_outage(error, self.shared.endpoints.answered());
        self.counted += u32::from(!outage);
        let failure = Failure {
            error,
            tries: self.count,
            counted: self.counted,
            outage,
            remaining: self.time.remaining(),
            another: self
                .endpoint
                .is_some_and(|index| self.shared.endpoints.another_is_closed(index)),
            certificate_changed: changed,
        };
        retry::next(&failure, &self.shared.budget)
    }

    /// The call ends with `error`, without another try.
    pub fn ended(&mut self, mut error: ClientError) -> ClientError {
        if error.request_id.is_empty() {
            error.request_id = self.correlation.request_id().to_owned();
        }

        self.tell_end(&error.reason);
        error
    }

    fn tell_end(&mut self, reason: &str) {
        self.told = true;
        self.tell(EventName::Call, reason, None);
    }

    fn tell(&self, name: EventName, reason: &str, wait: Option<Duration>) {
        self.shared.events.tell(&Event {
            method: self.method,
            endpoint: self.endpoint.map_or("", |index| self.shared.endpoints.address(index)),
            reason,
            tries: self.count,
            wait,
            duration: Some(self.started.elapsed()),
            request_id: self.correlation.request_id(),
            ..Event::new(name)
        });
    }
}

/// The caller gave it up.
impl Drop for Tries<'_> {
    fn drop(&mut self) {
        if !self.told {
            self.tell_end("CANCELLED");
        }
    }
}

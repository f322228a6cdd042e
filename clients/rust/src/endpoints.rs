//! The endpoints of the service: which one a try goes to (docs/clients.md, rule 6), and what it told of it.

use std::sync::{
    Mutex, MutexGuard, PoisonError,
    atomic::{AtomicBool, Ordering},
};

use tokio::time::Instant;

use crate::{
    ClientError,
    circuit::{Circuit, CircuitState, Pass, Turn},
    error::{DEADLINE_EXCEEDED, TRANSPORT, UNREACHABLE},
    events::{Event, EventName, Events},
};

/// What a client knows of one endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct EndpointHealth {
    /// As configured.
    pub address: String,
    /// Whether calls go there.
    pub circuit: CircuitState,
}

#[derive(Debug)]
pub(crate) struct Endpoints {
    addresses: Vec<String>,
    state: Mutex<State>,
    /// One of them has answered.
    answered: AtomicBool,
    events: Events,
}

#[derive(Debug)]
struct State {
    circuits: Vec<Circuit>,
    /// Where the last call went that did not try something half open.
    last: usize,
}

/// One try at one endpoint. Must be told how it ended; dropped before that, it says nothing of the endpoint.
#[derive(Debug)]
pub(crate) struct Visit<'a> {
    endpoints: &'a Endpoints,
    pub index: usize,
    pass: Pass,
    ended: bool,
}

impl Endpoints {
    /// `addresses`: at least one.
    pub fn new(addresses: Vec<String>, events: Events) -> Self {
        let circuits = addresses.iter().map(|_| Circuit::default()).collect();
        Self {
            addresses,
            state: Mutex::new(State { circuits, last: 0 }),
            answered: AtomicBool::new(false),
            events,
        }
    }

    pub fn address(&self, index: usize) -> &str {
        &self.addresses[index]
    }

    pub fn count(&self) -> usize {
        self.addresses.len()
    }

    /// Where the next try goes. `rather_not`: where the last one of this call failed, so that others come first; `may_fail`: the call may be tried again, so it may be the one
    /// that tries what is half open.
    pub fn choose(&self, rather_not: Option<usize>, may_fail: bool) -> Visit<'_> {
        let now = Instant::now();
        let mut state = self.lock();
        let count = state.circuits.len();
        let mut in_turn: Vec<usize> = (0..count).map(|step| (state.last + step) % count).collect();
        in_turn.sort_by_key(|index| Some(*index) == rather_not);
        let closed = in_turn.iter().copied().find(|index| state.is_closed(*index));
        if may_fail {
            let failed = rather_not.filter(|_| count > 1);
            for index in in_turn.iter().copied().filter(|index| Some(*index) != failed) {
                if let Some(pass) = state.circuits[index].begin_trial(now) {
                    return self.visit(index, pass);
                }
            }
        }
        // If none is closed: the one whose time is nearest.
        let nearest = || {
            let time = |index: &usize| (Some(*index) == rather_not, state.circuits[*index].until());
            in_turn.iter().copied().min_by_key(time)
        };
        let index = closed.or_else(nearest).unwrap_or_default();
        state.last = index;
        self.visit(index, state.circuits[index].begin())
    }

    /// A try at another endpoint that is closed, beside the one at `index`, where calls still go.
    pub fn another(&self, index: usize) -> Option<Visit<'_>> {
        let state = self.lock();
        let count = state.circuits.len();
        let mut others = (1..count).map(|step| (index + step) % count);
        let other = others.find(|other| state.is_closed(*other))?;
        Some(self.visit(other, state.circuits[other].begin()))
    }

    /// Whether a try elsewhere than at `index` may begin at once.
    pub fn another_is_closed(&self, index: usize) -> bool {
        let state = self.lock();
        (0..state.circuits.len()).any(|other| other != index && state.is_closed(other))
    }

    /// Whether the service has ever answered (rule 2).
    pub fn answered(&self) -> bool {
        self.answered.load(Ordering::Relaxed)
    }

    pub fn health(&self) -> Vec<EndpointHealth> {
        let now = Instant::now();
        let state = self.lock();
        let both = self.addresses.iter().zip(&state.circuits);
        both.map(|(address, circuit)| EndpointHealth {
            address: address.clone(),
            circuit: circuit.state(now),
        })
        .collect()
    }

    fn visit(&self, index: usize, pass: Pass) -> Visit<'_> {
        Visit {
            endpoints: self,
            index,
            pass,
            ended: false,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn is_closed(&self, index: usize) -> bool {
        self.circuits[index].until().is_none()
    }
}

impl Visit<'_> {
    /// With an answer, or with `error`. A stream tells both: that it began, and how it ended.
    pub fn ended(&mut self, error: Option<&ClientError>) {
        if error.is_none_or(is_answer) {
            self.endpoints.answered.store(true, Ordering::Relaxed);
        }
        self.connected(error);
    }

    /// As [`Self::ended`], of a connection alone, which is no answer: it is there before the service has looked at the caller's certificate
    /// (TLS 1.3).
    pub fn connected(&mut self, error: Option<&ClientError>) {
        self.ended = true;
        let turn = self.endpoints.lock().circuits[self.index].ended(&mut self.pass, error, Instant::now());
        let name = match turn {
            Some(Turn::Opened) => EventName::CircuitOpened,
            Some(Turn::Closed) => EventName::CircuitClosed,
            None => return,
        };
        self.endpoints.events.tell(&Event {
            endpoint: self.endpoints.address(self.index),
            reason: error.map_or("", |error| &error.reason),
            ..Event::new(name)
        });
    }
}

/// Whether an error is the service's own. `DEADLINE_EXCEEDED` is made on both sides, so it is not taken for one.
fn is_answer(error: &ClientError) -> bool {
    ![UNREACHABLE, TRANSPORT, DEADLINE_EXCEEDED].contains(&error.reason.as_str())
}

impl Drop for Visit<'_> {
    fn drop(&mut self) {
        if !self.ended {
            self.endpoints.lock().circuits[self.index].given_up(self.pass);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tonic::Code;

    use super::*;
    use crate::error::testing::of;

    fn endpoints(count: usize) -> Endpoints {
        Endpoints::new(
            (1..=count).map(|n| format!("node-{n}:7443")).collect(),
            Events::default(),
        )
    }

    /// A try there fails: the trial, if it is time for one.
    fn lose(endpoints: &Endpoints, index: usize) {
        let pass = {
            let circuit = &mut endpoints.lock().circuits[index];
            circuit.begin_trial(Instant::now()).unwrap_or_else(|| circuit.begin())
        };
        endpoints
            .visit(index, pass)
            .ended(Some(&of(Code::Unavailable, UNREACHABLE)));
    }

    fn go(endpoints: &Endpoints) -> usize {
        let mut visit = endpoints.choose(None, true);
        visit.ended(None);
        visit.index
    }

    #[tokio::test(start_paused = true)]
    async fn rule_6_calls_stay_where_they_are_until_its_circuit_opens() {
        let endpoints = endpoints(3);
        assert_eq!([go(&endpoints), go(&endpoints)], [0, 0]);
        assert!(endpoints.another_is_closed(0));
        lose(&endpoints, 0);
        assert_eq!([go(&endpoints), go(&endpoints)], [1, 1]);
    }

    #[tokio::test(start_paused = true)]
    async fn rule_6_with_none_closed_a_call_goes_where_the_time_is_nearest() {
        let endpoints = endpoints(2);
        for _ in 0..12 {
            lose(&endpoints, 0);
            tokio::time::advance(Duration::from_secs(30)).await;
        }
        lose(&endpoints, 0);
        lose(&endpoints, 1);
        assert!(!endpoints.another_is_closed(0));
        let at = |index: usize| endpoints.lock().circuits[index].until();
        let nearest = if at(0) < at(1) { 0 } else { 1 };
        assert_eq!(endpoints.choose(None, false).index, nearest);
    }

    #[tokio::test(start_paused = true)]
    async fn rule_7_one_call_tries_what_is_half_open_and_no_call_that_could_not_be_tried_again() {
        let endpoints = endpoints(2);
        lose(&endpoints, 0);
        tokio::time::advance(Duration::from_millis(100)).await;
        assert_eq!(endpoints.choose(None, false).index, 1, "a change without `request_id`");
        let trial = endpoints.choose(None, true);
        assert_eq!(trial.index, 0);
        assert_eq!(go(&endpoints), 1, "the others go where it is closed");
        drop(trial);
        let mut trial = endpoints.choose(None, true);
        assert_eq!(trial.index, 0, "the first one was given up");
        trial.ended(None);
        assert_eq!(endpoints.health()[0].circuit, CircuitState::Closed);
    }

    #[tokio::test(start_paused = true)]
    async fn rule_3_a_retry_prefers_another_endpoint() {
        let endpoints = endpoints(2);
        assert_eq!(endpoints.choose(Some(0), true).index, 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_retry_goes_to_another_endpoint_first_even_if_none_is_closed_and_that_ones_time_is_farther() {
        let endpoints = endpoints(2);
        for _ in 0..9 {
            lose(&endpoints, 0);
            tokio::time::advance(Duration::from_secs(30)).await;
        }
        lose(&endpoints, 0);
        lose(&endpoints, 1);
        for (failed, next) in [(0, 1), (1, 0)] {
            assert_eq!(endpoints.choose(Some(failed), true).index, next);
        }
    }

    #[test]
    fn rule_2_an_answer_is_what_the_service_said_and_not_a_connection() {
        let answered = |tell: &dyn Fn(&mut Visit<'_>)| {
            let endpoints = endpoints(2);
            tell(&mut endpoints.choose(None, true));
            endpoints.answered()
        };
        assert!(answered(&|visit| visit.ended(None)));
        for (code, reason, is_one) in [
            (Code::PermissionDenied, "PERMISSION_DENIED", true),
            (Code::Unavailable, "DRAINING", true),
            (Code::Unavailable, UNREACHABLE, false),
            (Code::DeadlineExceeded, DEADLINE_EXCEEDED, false),
            (Code::PermissionDenied, TRANSPORT, false),
        ] {
            assert_eq!(
                answered(&|visit| visit.ended(Some(&of(code, reason)))),
                is_one,
                "{reason}"
            );
        }
        assert!(!answered(&|visit| visit.connected(None)));
    }

    #[tokio::test(start_paused = true)]
    async fn rule_7_a_call_does_not_try_again_at_once_where_it_has_just_failed() {
        let endpoints = endpoints(2);
        lose(&endpoints, 0);
        tokio::time::advance(Duration::from_millis(100)).await;
        assert_eq!(endpoints.choose(Some(0), true).index, 1);
        assert_eq!(endpoints.choose(None, true).index, 0, "another call does");
    }
}

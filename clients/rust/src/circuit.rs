//! What the tries at one endpoint have told of it (docs/clients.md, rule 7).

use std::time::Duration;

use tokio::time::Instant;
use tonic::Code;

use crate::{ClientError, error::DEADLINE_EXCEEDED, error::DRAINING, error::UNREACHABLE};

/// Failures in a row that open a circuit, where one alone says too little.
const IN_A_ROW: u32 = 3;
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// State of a circuit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CircuitState {
    /// Calls go there.
    Closed,
    /// One call may try.
    HalfOpen,
    /// Calls go there only if there is nothing better.
    Open,
}

/// What a failed or good try changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Turn {
    Opened,
    Closed,
}

#[derive(Debug, Default)]
pub(crate) struct Circuit {
    /// Failures since the last success.
    failures: u32,
    /// Times it was opened since it was last closed; and until when it is.
    opened: u32,
    until: Option<Instant>,
    /// One call is trying what is half open.
    trying: bool,
}

impl Circuit {
    pub fn state(&self, now: Instant) -> CircuitState {
        match self.until {
            None => CircuitState::Closed,
            Some(until) if now < until => CircuitState::Open,
            Some(_) => CircuitState::HalfOpen,
        }
    }

    /// When it may be tried; `None`: it is closed.
    pub fn until(&self) -> Option<Instant> {
        self.until
    }

    /// Whether this call may be the one that tries.
    pub fn begin_trial(&mut self, now: Instant) -> bool {
        let may = self.state(now) == CircuitState::HalfOpen && !self.trying;
        self.trying |= may;
        may
    }

    /// A try ended that tells nothing of the endpoint: its caller gave it up.
    pub fn given_up(&mut self) {
        self.trying = false;
    }

    /// A try ended with an answer, or with `error`.
    pub fn ended(&mut self, error: Option<&ClientError>, now: Instant) -> Option<Turn> {
        self.trying = false;
        match error {
            Some(error) if is_failure(error) => self.failed(error, now),
            _ => self.answered(),
        }
    }

    fn answered(&mut self) -> Option<Turn> {
        self.failures = 0;
        self.opened = 0;
        self.until.take().map(|_| Turn::Closed)
    }

    fn failed(&mut self, error: &ClientError, now: Instant) -> Option<Turn> {
        self.failures += 1;
        let at_once = matches!(error.reason.as_str(), UNREACHABLE | DRAINING) || self.opened > 0;
        if !at_once && self.failures < IN_A_ROW {
            return None;
        }
        let longest = FIRST_PAUSE.saturating_mul(1 << self.opened.min(16)).min(LONGEST_PAUSE);
        self.opened += 1;
        self.until = Some(now + longest.mul_f64(fastrand::f64()));
        (self.opened == 1).then_some(Turn::Opened)
    }
}

/// Whether an error speaks against the endpoint: whoever refuses, lives.
fn is_failure(error: &ClientError) -> bool {
    error.code == Code::Unavailable || error.reason == DEADLINE_EXCEEDED
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::testing::of;

    fn token_away() -> ClientError {
        of(Code::Unavailable, "TOKEN_UNAVAILABLE")
    }

    #[test]
    fn rule_7_a_lost_connection_opens_at_once_and_one_call_tries_again() {
        for reason in [UNREACHABLE, DRAINING] {
            let (mut circuit, now) = (Circuit::default(), Instant::now());
            let lost = of(Code::Unavailable, reason);
            assert_eq!(circuit.ended(Some(&lost), now), Some(Turn::Opened));
            let later = now + FIRST_PAUSE;
            assert_eq!(circuit.state(later), CircuitState::HalfOpen);
            assert!(
                circuit.begin_trial(later) && !circuit.begin_trial(later),
                "one call tries"
            );
            assert_eq!(circuit.ended(None, later), Some(Turn::Closed));
            assert_eq!(circuit.state(later), CircuitState::Closed);
        }
    }

    #[test]
    fn rule_7_three_failures_in_a_row_open_it_and_a_refusal_in_between_does_not_count() {
        let (mut circuit, now) = (Circuit::default(), Instant::now());
        let refused = of(Code::PermissionDenied, "PERMISSION_DENIED");
        for error in [
            token_away(),
            of(Code::DeadlineExceeded, DEADLINE_EXCEEDED),
            refused,
            token_away(),
            token_away(),
        ] {
            assert_eq!(circuit.ended(Some(&error), now), None);
            assert_eq!(circuit.state(now), CircuitState::Closed);
        }
        assert_eq!(circuit.ended(Some(&token_away()), now), Some(Turn::Opened));
    }

    #[test]
    fn rule_7_pauses_double_to_thirty_seconds_and_are_told_once() {
        let (mut circuit, mut now) = (Circuit::default(), Instant::now());
        let lost = of(Code::Unavailable, UNREACHABLE);
        for opened in 0..20_u32 {
            let turn = circuit.ended(Some(&lost), now);
            assert_eq!(turn.is_some(), opened == 0);
            let longest = Duration::from_millis(100 << opened.min(9)).min(LONGEST_PAUSE);
            let until = circuit.until().expect("it is open");
            assert!(until >= now && until - now <= longest, "pause {opened}");
            now = until;
        }
    }

    #[test]
    fn a_trial_that_was_given_up_leaves_the_next_call_to_try() {
        let (mut circuit, now) = (Circuit::default(), Instant::now());
        circuit.ended(Some(&of(Code::Unavailable, UNREACHABLE)), now);
        let later = now + FIRST_PAUSE;
        assert!(circuit.begin_trial(later));
        circuit.given_up();
        assert!(circuit.begin_trial(later));
    }
}

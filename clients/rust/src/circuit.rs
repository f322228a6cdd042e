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

/// What a try must know of the circuit that it began under.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pass {
    /// How often the circuit had been opened.
    openings: u64,
    /// It is the one call that tries what is half open.
    trial: bool,
}

#[derive(Debug, Default)]
pub(crate) struct Circuit {
    /// Failures since the last success.
    failures: u32,
    /// Until when it is open; `None`: it is closed.
    until: Option<Instant>,
    /// Trials that have failed since it was opened.
    trials: u32,
    /// One call is trying what is half open.
    trying: bool,
    /// How often it was opened.
    openings: u64,
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

    /// For a try that is no trial.
    pub fn begin(&self) -> Pass {
        Pass {
            openings: self.openings,
            trial: false,
        }
    }

    /// For the one that tries what is half open, if there is none yet.
    pub fn begin_trial(&mut self, now: Instant) -> Option<Pass> {
        let may = self.state(now) == CircuitState::HalfOpen && !self.trying;
        self.trying |= may;
        may.then(|| Pass {
            trial: true,
            ..self.begin()
        })
    }

    /// A try ended that tells nothing of the endpoint: its caller gave it up.
    pub fn given_up(&mut self, pass: Pass) {
        if pass.trial && pass.openings == self.openings {
            self.trying = false;
        }
    }

    /// A try ended with an answer, or with `error`. A try that began before the circuit was opened tells of the past, and changes nothing.
    pub fn ended(&mut self, pass: &mut Pass, error: Option<&ClientError>, now: Instant) -> Option<Turn> {
        if pass.openings != self.openings {
            return None;
        }
        let trial = std::mem::take(&mut pass.trial);
        self.trying &= !trial;
        match error {
            Some(error) if is_failure(error) => self.failed(trial, error, now),
            _ => self.answered(),
        }
    }

    fn answered(&mut self) -> Option<Turn> {
        self.failures = 0;
        self.until.take().map(|_| Turn::Closed)
    }

    fn failed(&mut self, trial: bool, error: &ClientError, now: Instant) -> Option<Turn> {
        if self.until.is_some() {
            // Whoever goes there for want of something better does not prolong it.
            if trial {
                self.trials += 1;
                self.pause(now);
            }
            return None;
        }
        self.failures += 1;
        if !matches!(error.reason.as_str(), UNREACHABLE | DRAINING) && self.failures < IN_A_ROW {
            return None;
        }
        (self.trials, self.trying) = (0, false);
        self.openings += 1;
        self.pause(now);
        Some(Turn::Opened)
    }

    fn pause(&mut self, now: Instant) {
        let longest = FIRST_PAUSE.saturating_mul(1 << self.trials.min(16)).min(LONGEST_PAUSE);
        self.until = Some(now + longest.mul_f64(fastrand::f64()));
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

    fn lost() -> ClientError {
        of(Code::Unavailable, UNREACHABLE)
    }

    /// A try that begins and ends now.
    fn tried(circuit: &mut Circuit, error: Option<&ClientError>, now: Instant) -> Option<Turn> {
        let mut pass = circuit.begin_trial(now).unwrap_or_else(|| circuit.begin());
        circuit.ended(&mut pass, error, now)
    }

    #[test]
    fn rule_7_a_lost_connection_opens_at_once_and_one_call_tries_again() {
        for reason in [UNREACHABLE, DRAINING] {
            let (mut circuit, now) = (Circuit::default(), Instant::now());
            let lost = of(Code::Unavailable, reason);
            assert_eq!(tried(&mut circuit, Some(&lost), now), Some(Turn::Opened));
            let later = now + FIRST_PAUSE;
            assert_eq!(circuit.state(later), CircuitState::HalfOpen);
            let mut trial = circuit.begin_trial(later).expect("one call tries");
            assert!(circuit.begin_trial(later).is_none(), "and no other one");
            assert_eq!(circuit.ended(&mut trial, None, later), Some(Turn::Closed));
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
            assert_eq!(tried(&mut circuit, Some(&error), now), None);
            assert_eq!(circuit.state(now), CircuitState::Closed);
        }
        assert_eq!(tried(&mut circuit, Some(&token_away()), now), Some(Turn::Opened));
    }

    #[test]
    fn rule_7_pauses_double_with_each_failed_trial_to_thirty_seconds_and_are_told_once() {
        let (mut circuit, mut now) = (Circuit::default(), Instant::now());
        for opened in 0..20_u32 {
            let turn = tried(&mut circuit, Some(&lost()), now);
            assert_eq!(turn.is_some(), opened == 0);
            let longest = Duration::from_millis(100 << opened.min(9)).min(LONGEST_PAUSE);
            let until = circuit.until().expect("it is open");
            assert!(until >= now && until - now <= longest, "pause {opened}");
            now = until;
        }
        assert_eq!(tried(&mut circuit, None, now), Some(Turn::Closed));
        tried(&mut circuit, Some(&lost()), now);
        assert!(
            circuit.until().expect("it is open") - now <= FIRST_PAUSE,
            "from the beginning"
        );
    }

    #[test]
    fn rule_7_of_many_calls_under_way_that_are_lost_at_once_the_first_opens_it_and_the_others_change_nothing() {
        let (mut circuit, now) = (Circuit::default(), Instant::now());
        let mut under_way = [(); 64].map(|()| circuit.begin());
        let turns = under_way.each_mut().map(|pass| circuit.ended(pass, Some(&lost()), now));
        assert_eq!(turns.iter().flatten().count(), 1);
        assert!(circuit.until().expect("it is open") - now <= FIRST_PAUSE);
        let mut trial = circuit.begin_trial(now + FIRST_PAUSE).expect("it is half open");
        // Calls that go there since no other endpoint is closed do not prolong it, either.
        let (until, mut pass) = (circuit.until(), circuit.begin());
        assert_eq!(circuit.ended(&mut pass, Some(&lost()), now + FIRST_PAUSE), None);
        assert_eq!(circuit.until(), until);
        assert!(
            circuit.begin_trial(now + FIRST_PAUSE).is_none(),
            "the trial is under way"
        );
        circuit.ended(&mut trial, Some(&lost()), now + FIRST_PAUSE);
        assert_ne!(circuit.until(), until);
    }

    #[test]
    fn what_began_before_it_was_opened_neither_opens_it_again_nor_closes_it() {
        let (mut circuit, now) = (Circuit::default(), Instant::now());
        let (mut early, mut late) = (circuit.begin(), circuit.begin());
        tried(&mut circuit, Some(&of(Code::Unavailable, DRAINING)), now);
        // A node that drains answers what is under way.
        assert_eq!(circuit.ended(&mut early, None, now), None);
        assert_ne!(circuit.state(now), CircuitState::Closed);
        assert_eq!(tried(&mut circuit, None, now + FIRST_PAUSE), Some(Turn::Closed));
        assert_eq!(circuit.ended(&mut late, Some(&lost()), now + FIRST_PAUSE), None);
        assert_eq!(circuit.state(now), CircuitState::Closed);
    }

    #[test]
    fn a_trial_that_was_given_up_leaves_the_next_call_to_try() {
        let (mut circuit, now) = (Circuit::default(), Instant::now());
        tried(&mut circuit, Some(&lost()), now);
        let later = now + FIRST_PAUSE;
        let trial = circuit.begin_trial(later).expect("it is half open");
        circuit.given_up(circuit.begin());
        assert!(circuit.begin_trial(later).is_none(), "another call was given up");
        circuit.given_up(trial);
        assert!(circuit.begin_trial(later).is_some());
    }
}

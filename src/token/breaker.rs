//! Whether a token is asked at all: closed, open, half-open, latched. Pure: time and jitter come from the caller.
//!
//! ```text
//!            5 cured failures in 10 s, or E6, E7, E11, E12           the delay has passed
//!   closed ──────────────────────────────────────────────▶ open ──────────────────────────▶ half-open
//!     ▲                                                      ▲        a failure                │ │
//!     │                                                      └─────────────────────────────────┘ │
//!     └──────────────────────────────────────────────────────────── 3 probes passed ─────────────┘
//!   any ── E9, E13 ──▶ latched, until an operator acts
//! ```
//!
//! With worker processes it says whether one may be tried when none serves. In the thread form what opens it latches the process.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use keyreeve_pkcs11::Class;

/// So many failures that were cured, in such a time, are a broken token after all.
const FAILURES: usize = 5;
const FAILURES_WITHIN: Duration = Duration::from_secs(10);
/// That a half-open one must see pass.
const PROBES: u32 = 3;
const FIRST_DELAY: Duration = Duration::from_millis(100);
const LAST_DELAY: Duration = Duration::from_secs(30);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BreakerState {
    Closed,
    HalfOpen,
    Open,
    Latched,
}

impl BreakerState {
    pub const ALL: [Self; 4] = [Self::Closed, Self::HalfOpen, Self::Open, Self::Latched];

    /// As status and `docs/metrics.md` say it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::HalfOpen => "half_open",
            Self::Open => "open",
            Self::Latched => "latched",
        }
    }
}

/// The breaker of one token.
pub struct Breaker {
    state: BreakerState,
    /// Of an open one.
    until: Instant,
    passed: u32,
    failures: Window,
    backoff: Backoff,
}

impl Breaker {
    /// Of a token that answered at its start.
    pub fn closed(now: Instant) -> Self {
        Self {
            state: BreakerState::Closed,
            until: now,
            passed: 0,
            failures: Window::new(FAILURES, FAILURES_WITHIN),
            backoff: Backoff::default(),
        }
    }

    pub fn state(&self) -> BreakerState {
        self.state
    }

    /// A failure of this class. `jitter`: from 0 to 1, evenly spread.
    pub fn failed(&mut self, class: Class, now: Instant, jitter: f64) {
        match class {
            Class::Pin | Class::WrongAnswer => self.state = BreakerState::Latched,
            Class::Token | Class::Library | Class::Hang | Class::Crash => self.open(now, jitter),
            Class::Session | Class::Login | Class::Handle => {
                if self.failures.is_full_with(now) {
                    self.open(now, jitter);
                }
            }
            // The caller's, or a matter of room: no number of them says that the token is broken.
            Class::Caller | Class::Ambiguous | Class::Capacity | Class::Policy => {}
        }
    }

    /// Makes an open one half-open once its time has come.
    pub fn look(&mut self, now: Instant) {
        if self.state == BreakerState::Open && now >= self.until {
            self.state = BreakerState::HalfOpen;
            self.passed = 0;
        }
    }

    /// A probe of a half-open one passed: the third closes it.
    pub fn probe_passed(&mut self) {
        if self.state == BreakerState::HalfOpen {
            self.passed += 1;
            if self.passed >= PROBES {
                self.state = BreakerState::Closed;
                self.backoff = Backoff::default();
                self.failures.clear();
            }
        }
    }

    pub fn latch(&mut self) {
        self.state = BreakerState::Latched;
    }

    fn open(&mut self, now: Instant, jitter: f64) {
        if self.state != BreakerState::Latched {
            self.state = BreakerState::Open;
            self.until = now + self.backoff.next(jitter);
        }
    }
}

/// Delays that double, each with full jitter: those who wait for one thing do not come back together.
pub struct Backoff(Duration);

impl Default for Backoff {
    fn default() -> Self {
        Self(FIRST_DELAY)
    }
}

impl Backoff {
    pub fn next(&mut self, jitter: f64) -> Duration {
        let delay = self.0.mul_f64(jitter.clamp(0.0, 1.0));
        self.0 = (self.0 * 2).min(LAST_DELAY);
        delay
    }
}

/// So many events within such a time.
pub struct Window {
    limit: usize,
    within: Duration,
    events: VecDeque<Instant>,
}

impl Window {
    pub fn new(limit: usize, within: Duration) -> Self {
        Self {
            limit,
            within,
            events: VecDeque::with_capacity(limit),
        }
    }

    /// Notes an event; `true` if it is the last one of `limit` that fell within the time.
    pub fn is_full_with(&mut self, now: Instant) -> bool {
        self.events.push_back(now);
        self.events
            .retain(|event| now.saturating_duration_since(*event) < self.within);
        self.events.len() >= self.limit
    }

    fn clear(&mut self) {
        self.events.clear();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{BreakerState::*, *};

    const SECOND: Duration = Duration::from_secs(1);

    fn half_open(now: Instant) -> Breaker {
        let mut breaker = Breaker::closed(now);
        breaker.failed(Class::Crash, now, 0.0);
        breaker.look(now);
        breaker
    }

    #[test]
    fn five_cured_failures_within_ten_seconds_open_it_and_four_do_not() {
        let now = Instant::now();
        let mut breaker = Breaker::closed(now);
        for second in [0, 3, 6, 9, 12, 15] {
            breaker.failed(Class::Session, now + SECOND * second, 1.0);
            assert_eq!(breaker.state(), Closed, "four of them in any 10 s");
        }
        breaker.failed(Class::Login, now + SECOND * 15, 1.0);
        assert_eq!(breaker.state(), Open);
    }

    #[test]
    fn it_closes_after_three_probes_and_opens_again_with_the_next_failure() {
        let now = Instant::now();
        let mut breaker = half_open(now);
        for state in [HalfOpen, HalfOpen, Closed] {
            breaker.probe_passed();
            assert_eq!(breaker.state(), state);
        }
        let mut breaker = half_open(now);
        breaker.probe_passed();
        breaker.failed(Class::Hang, now, 0.0);
        assert_eq!(breaker.state(), Open);
        breaker.look(now);
        breaker.probe_passed();
        breaker.probe_passed();
        assert_eq!(breaker.state(), HalfOpen, "probes before the failure do not count");
    }

    #[test]
    fn delays_double_from_a_tenth_of_a_second_to_thirty_and_begin_anew_once_it_closed() {
        let mut backoff = Backoff::default();
        let delays: Vec<_> = (0..10).map(|_| backoff.next(1.0).as_millis()).collect();
        assert_eq!(delays, [100, 200, 400, 800, 1600, 3200, 6400, 12800, 25600, 30000]);
        assert_eq!(Backoff::default().next(0.5).as_millis(), 50);

        let now = Instant::now();
        let mut breaker = half_open(now);
        for _ in 0..PROBES {
            breaker.probe_passed();
        }
        breaker.failed(Class::Crash, now, 1.0);
        breaker.look(now + FIRST_DELAY);
        assert_eq!(breaker.state(), HalfOpen);
    }

    #[derive(Debug, Clone, Copy)]
    enum Event {
        Failed(Class),
        Looked,
        Passed,
        Latched,
    }

    fn event() -> impl Strategy<Value = Event> {
        prop_oneof![
            6 => prop::sample::select(Class::ALL.to_vec()).prop_map(Event::Failed),
            6 => Just(Event::Looked),
            6 => Just(Event::Passed),
            1 => Just(Event::Latched),
        ]
    }

    proptest! {
        #[test]
        fn only_legal_transitions_happen(events in prop::collection::vec((event(), 0..40_000u64, 0.0..1.0f64), 1..200)) {
            let mut now = Instant::now();
            let mut breaker = Breaker::closed(now);
            let (mut opened, mut passed) = (now, 0);
            for (event, wait_ms, jitter) in events {
                now += Duration::from_millis(wait_ms);
                let before = breaker.state();
                match event {
                    Event::Failed(class) => breaker.failed(class, now, jitter),
                    Event::Looked => breaker.look(now),
                    Event::Passed => breaker.probe_passed(),
                    Event::Latched => breaker.latch(),
                }
                let after = breaker.state();
                let legal = match (before, after) {
                    (Latched, after) => after == Latched,
                    (_, Latched) => matches!(event, Event::Latched | Event::Failed(Class::Pin | Class::WrongAnswer)),
                    (Closed | HalfOpen, Open) => matches!(event, Event::Failed(_)),
                    (Open, HalfOpen) => matches!(event, Event::Looked),
                    (HalfOpen, Closed) => matches!(event, Event::Passed) && passed == PROBES - 1,
                    (before, after) => before == after,
                };
                prop_assert!(legal, "{before:?} to {after:?} by {event:?}");
                if after == Open && matches!(event, Event::Failed(_)) {
                    opened = now;
                }
                if before == Open && matches!(event, Event::Looked) && now >= opened + LAST_DELAY {
                    prop_assert_eq!(after, HalfOpen, "no delay is longer");
                }
                if let Event::Failed(Class::Caller | Class::Ambiguous | Class::Capacity | Class::Policy) = event {
                    prop_assert_eq!(before, after);
                }
                passed = match (after, event) {
                    (HalfOpen, Event::Passed) => passed + 1,
                    (HalfOpen, _) if before == HalfOpen => passed,
                    _ => 0,
                };
            }
        }
    }
}

//! What a call costs, in time of the token: measured, smoothed, for each kind of call. The queue is fair by it, and knows by it how
//! long its backlog takes.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::{Duration, Instant},
};

/// Calls that take about the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// One input of one key.
    MessageKeys,
    /// One message sealed or opened in the token.
    Message,
    MakeKey,
    Attributes,
    Random,
    Other,
}

/// What is believed before anything is measured, in nanoseconds an item: a software token.
const AT_FIRST: [u64; 6] = [10_000, 20_000, 50_000, 100_000, 5_000, 20_000];
/// The weight of one measurement is 1 in so many.
const SMOOTHING: i64 = 32;
/// One measurement counts for so many times what was believed at most: a thread that did not run is no slow token.
const OUTLIER: u64 = 8;
/// A measurement older than this says nothing against a deadline: work is tried again.
const STALE: u64 = Duration::from_secs(1).as_nanos() as u64;

pub struct Costs {
    started: Instant,
    kinds: [Cost; AT_FIRST.len()],
}

struct Cost {
    /// Of one item.
    nanos: AtomicU64,
    /// Time of the last measurement, in nanoseconds since `started`; 0 before the first one.
    seen: AtomicU64,
}

impl Costs {
    pub fn new() -> Self {
        Self {
            started: Instant::now(),
            kinds: AT_FIRST.map(|nanos| Cost {
                nanos: nanos.into(),
                seen: 0.into(),
            }),
        }
    }

    /// Nanoseconds of one item.
    pub fn of(&self, kind: Kind) -> u64 {
        self.kinds[kind as usize].nanos.load(Relaxed)
    }

    /// Learns that `items` of a kind took so long together, until `now`. Of two threads at once one may not be heard.
    pub fn learn(&self, kind: Kind, items: usize, took: Duration, now: Instant) {
        let cost = &self.kinds[kind as usize];
        let believed = cost.nanos.load(Relaxed);
        let measured = took.as_nanos() as u64 / items.max(1) as u64;
        let difference = measured.min(believed * OUTLIER) as i64 - believed as i64;
        // Rounded away from zero, so that small numbers move, too.
        let step = difference / SMOOTHING + difference.signum();
        cost.nanos.store((believed as i64 + step).max(1) as u64, Relaxed);
        cost.seen.store(self.since_start(now), Relaxed);
    }

    /// Whether the kind was measured a moment ago.
    pub fn is_fresh(&self, kind: Kind, now: Instant) -> bool {
        let seen = self.kinds[kind as usize].seen.load(Relaxed);
        seen > 0 && self.since_start(now).saturating_sub(seen) < STALE
    }

    fn since_start(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.started).as_nanos() as u64
    }
}

/// How much longer work waits than its cost says: sessions that are not refilled at once, threads that do not run.
pub struct Pace(AtomicU64);

/// Waits that are expected to be shorter say nothing.
const TELLING: u64 = Duration::from_millis(1).as_nanos() as u64;
/// Fixed point.
const ONE: u64 = 1_024;

/// What was expected when work came into the queue.
pub struct Expected {
    came: Instant,
    wait: Duration,
}

impl Pace {
    pub fn new() -> Self {
        Self(ONE.into())
    }

    /// The time that `nanos` of work takes.
    pub fn time(&self, nanos: u64) -> Duration {
        Duration::from_nanos(nanos.saturating_mul(self.0.load(Relaxed)) / ONE)
    }

    /// For work before which `nanos` of other work are done.
    pub fn expect(nanos: u64) -> Option<Expected> {
        (nanos >= TELLING).then(|| Expected {
            came: Instant::now(),
            wait: Duration::from_nanos(nanos),
        })
    }

    /// Learns how long work waited that comes out now.
    pub fn learn(&self, expected: &Expected) {
        self.learn_wait(expected.came.elapsed(), expected.wait);
    }

    fn learn_wait(&self, waited: Duration, expected: Duration) {
        let measured = ONE as f64 * waited.as_secs_f64() / expected.as_secs_f64();
        let believed = self.0.load(Relaxed) as i64;
        // Hardly ever better than expected, since then others gave up; and one pause of the host is not the pace.
        let measured = measured.clamp(ONE as f64 / 2.0, believed as f64 * 4.0) as i64;
        let difference = measured - believed;
        let step = difference / SMOOTHING + difference.signum();
        self.0
            .store((believed + step).clamp(ONE as i64 / 2, ONE as i64 * 16) as u64, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn learn(costs: &Costs, times: usize, took: Duration) {
        for _ in 0..times {
            costs.learn(Kind::MessageKeys, 2, took * 2, costs.started);
        }
    }

    #[test]
    fn a_slow_token_is_believed_after_a_few_dozen_calls_and_one_outlier_is_not() {
        let costs = Costs::new();
        learn(&costs, 1, Duration::from_secs(1));
        assert!(costs.of(Kind::MessageKeys) < 15_000);
        learn(&costs, 100, Duration::from_millis(1));
        assert!((800_000..=1_000_000).contains(&costs.of(Kind::MessageKeys)));
        learn(&costs, 1_000, Duration::from_nanos(7));
        assert_eq!(costs.of(Kind::MessageKeys), 7);
        assert_eq!(costs.of(Kind::MakeKey), 50_000, "each kind for itself");
    }

    #[test]
    fn waits_that_are_longer_than_expected_lengthen_what_is_expected() {
        let pace = Pace::new();
        assert_eq!(pace.time(1_000_000), Duration::from_millis(1));
        for _ in 0..300 {
            pace.learn_wait(Duration::from_millis(30), Duration::from_millis(10));
        }
        let three = pace.time(1_000_000);
        assert!((2_900..=3_000).contains(&three.as_micros()), "{three:?}");
        for _ in 0..300 {
            pace.learn_wait(Duration::ZERO, Duration::from_millis(10));
        }
        assert_eq!(pace.time(1_000_000), Duration::from_micros(500));
        assert!(Pace::expect(TELLING - 1).is_none() && Pace::expect(TELLING).is_some());
    }

    #[test]
    fn what_was_not_measured_for_a_second_is_not_held_against_anyone() {
        let costs = Costs::new();
        let now = costs.started + Duration::from_secs(1);
        assert!(!costs.is_fresh(Kind::Random, now));
        costs.learn(Kind::Random, 1, Duration::from_micros(5), now);
        assert!(costs.is_fresh(Kind::Random, now + Duration::from_millis(900)));
        assert!(!costs.is_fresh(Kind::Random, now + Duration::from_millis(1100)));
        assert!(!costs.is_fresh(Kind::MakeKey, now));
    }
}

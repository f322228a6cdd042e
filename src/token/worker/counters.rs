//! Counters of the session threads that run in a worker, as the service's metrics show them.
//!
//! The code that counts is the same in both forms. In a worker it counts into this table, whose increases go to the service with each
//! pulse; nothing outside the table can become a metric there, whatever a worker sends.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use keyreeve_pkcs11::Class;
use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};

use crate::token::{
    meters::{FAILURES, HITS, MISSES, TokenMeters},
    thread_host::lock,
};

const COUNT: usize = 2 + Class::ALL.len();

/// The worker's end.
#[derive(Clone)]
pub struct Counters {
    counts: Arc<[Arc<AtomicU64>]>,
    told: Arc<Mutex<[u64; COUNT]>>,
}

impl Counters {
    /// Makes it the recorder of this process.
    pub fn install() -> Self {
        let counters = Self {
            counts: (0..COUNT).map(|_| Arc::default()).collect(),
            told: Arc::new(Mutex::new([0; COUNT])),
        };
        if metrics::set_global_recorder(counters.clone()).is_err() {
            tracing::warn!("another recorder of metrics was there: the service will not see this worker's counters");
        }
        counters
    }

    /// How much each has grown since the last time.
    pub fn increases(&self) -> Vec<u64> {
        let mut told = lock(&self.told);
        let counts = self.counts.iter().map(|count| count.load(Relaxed));
        let grown = counts.zip(told.iter_mut()).map(|(count, told)| {
            let before = std::mem::replace(told, count);
            count - before
        });
        grown.collect()
    }
}

/// The service's end.
pub struct Shown(Vec<Counter>);

impl Shown {
    pub fn new(meters: &TokenMeters) -> Self {
        let cache = meters.cache();
        let mut counters = vec![cache.hits, cache.misses];
        counters.extend(Class::ALL.map(|class| meters.failures(class)));
        Self(counters)
    }

    pub fn add(&self, increases: &[u64]) {
        for (counter, increase) in self.0.iter().zip(increases) {
            counter.increment(*increase);
        }
    }
}

impl Recorder for Counters {
    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        let at = match key.name() {
            HITS => Some(0),
            MISSES => Some(1),
            FAILURES => {
                let class = key
                    .labels()
                    .find(|label| label.key() == "class")
                    .map(|label| label.value());
                let at = Class::ALL.iter().position(|known| Some(known.name()) == class);
                at.map(|at| at + 2)
            }
            _ => None,
        };
        at.map_or_else(Counter::noop, |at| Counter::from_arc(Arc::clone(&self.counts[at])))
    }

    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::noop()
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }

    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_session_threads_count_comes_out_in_the_same_place_once() {
        let counters = Counters {
            counts: (0..COUNT).map(|_| Arc::default()).collect(),
            told: Arc::new(Mutex::new([0; COUNT])),
        };
        metrics::with_local_recorder(&counters, || {
            metrics::counter!(MISSES).increment(3);
            metrics::counter!(FAILURES, "class" => Class::Session.name()).increment(2);
            metrics::counter!("keyreeve_of_no_interest_total").increment(9);
            metrics::counter!(FAILURES, "class" => "invented").increment(9);
        });
        let mut expected = vec![0; COUNT];
        expected[1] = 3;
        expected[2 + Class::ALL.iter().position(|class| *class == Class::Session).unwrap()] = 2;
        assert_eq!(counters.increases(), expected);
        assert_eq!(counters.increases(), vec![0; COUNT]);
    }
}

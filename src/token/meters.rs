//! Metrics of one session thread. Labels are its number and the class of a return code: bounded, no key or caller.

use keyreeve_pkcs11::Class;
use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};

pub(super) struct Meters {
    pub queue_depth: Gauge,
    pub queue_wait: Histogram,
    pub token_time: Histogram,
    pub expired: Counter,
    pub cache_hits: Counter,
    pub cache_misses: Counter,
}

impl Meters {
    /// Looked up once: a lookup costs more than what is measured. The recorder must be installed before.
    pub fn new(thread: usize) -> Self {
        describe();
        let session = thread.to_string();
        Self {
            queue_depth: gauge!("keyreeve_token_queue_items"),
            queue_wait: histogram!("keyreeve_token_queue_wait_seconds", "session" => session.clone()),
            token_time: histogram!("keyreeve_token_seconds", "session" => session),
            expired: counter!("keyreeve_token_expired_total"),
            cache_hits: counter!("keyreeve_token_handle_cache_hits_total"),
            cache_misses: counter!("keyreeve_token_handle_cache_misses_total"),
        }
    }

    /// Failed calls only, so a lookup each time does no harm.
    pub fn failed(class: Class) {
        counter!("keyreeve_token_failures_total", "class" => class.name()).increment(1);
    }
}

/// What the service sees of its worker: the same figures, under the session `worker`.
pub(super) struct WorkerMeters {
    pub queue_depth: Gauge,
    pub queue_wait: Histogram,
    pub token_time: Histogram,
    pub expired: Counter,
}

impl WorkerMeters {
    pub fn new() -> Self {
        describe();
        Self {
            queue_depth: gauge!("keyreeve_token_queue_items"),
            queue_wait: histogram!("keyreeve_token_queue_wait_seconds", "session" => "worker"),
            token_time: histogram!("keyreeve_token_seconds", "session" => "worker"),
            expired: counter!("keyreeve_token_expired_total"),
        }
    }

    /// A worker that ended.
    pub fn ended(class: Class) {
        Meters::failed(class);
    }
}

/// Work that the queue does not keep. Under a flood these are many, and still cheaper than any work.
pub(super) fn shed(pieces: usize) {
    counter!("keyreeve_token_shed_total").increment(pieces as u64);
}

fn describe() {
    metrics::describe_gauge!("keyreeve_token_queue_items", "items that wait for a session");
    metrics::describe_histogram!(
        "keyreeve_token_queue_wait_seconds",
        "time a job waited, by the session that took it"
    );
    metrics::describe_histogram!("keyreeve_token_seconds", "time of one job in the token, by session");
    metrics::describe_counter!(
        "keyreeve_token_shed_total",
        "jobs refused at once: no room in the queue, or no time to finish before their deadline"
    );
    metrics::describe_counter!(
        "keyreeve_token_expired_total",
        "jobs dropped because their deadline had passed"
    );
    metrics::describe_counter!(
        "keyreeve_token_handle_cache_hits_total",
        "jobs whose key was unwrapped already"
    );
    metrics::describe_counter!(
        "keyreeve_token_handle_cache_misses_total",
        "jobs whose key had to be unwrapped"
    );
    metrics::describe_counter!(
        "keyreeve_token_failures_total",
        "calls that failed, by class of the return code"
    );
    // From the start, so that the first failure is an increase and not the birth of a series.
    counter!("keyreeve_token_shed_total").increment(0);
    for class in Class::ALL {
        counter!("keyreeve_token_failures_total", "class" => class.name()).increment(0);
    }
}

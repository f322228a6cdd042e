//! Metrics of a token and of its sessions. Labels are the token's place in the configuration, a session's number and the class of a return
//! code: bounded, no key, no caller, nothing by which the token itself is known.

use keyreeve_pkcs11::Class;
use metrics::{Counter, Gauge, Histogram, SharedString, counter, gauge, histogram};

/// Failed calls into a token's module, by class.
pub(super) const FAILURES: &str = "keyreeve_token_failures_total";
pub(super) const HITS: &str = "keyreeve_token_handle_cache_hits_total";
pub(super) const MISSES: &str = "keyreeve_token_handle_cache_misses_total";

/// Of a token, whoever works its sessions. All are looked up once: a lookup costs more than what is measured. The recorder must be
/// installed before.
pub(super) struct TokenMeters {
    token: SharedString,
    pub queue_depth: Gauge,
    pub expired: Counter,
    shed: Counter,
}

/// Of one session thread; or of a worker, as the service sees it.
pub(super) struct SessionMeters {
    pub queue_wait: Histogram,
    pub token_time: Histogram,
}

/// Of one session thread's use of the handle cache.
pub(super) struct CacheMeters {
    pub hits: Counter,
    pub misses: Counter,
}

impl TokenMeters {
    /// `place`: of the token in the configuration, e.g. `home/1`.
    pub fn new(place: &str) -> Self {
        describe();
        let token = SharedString::from(place.to_owned());
        let meters = Self {
            queue_depth: gauge!("keyreeve_token_queue_items", "token" => token.clone()),
            expired: counter!("keyreeve_token_expired_total", "token" => token.clone()),
            shed: counter!("keyreeve_token_shed_total", "token" => token.clone()),
            token,
        };
        // From the start, so that the first one is an increase and not the birth of a series.
        meters.shed.increment(0);
        meters.expired.increment(0);
        for class in Class::ALL {
            meters.failures(class).increment(0);
        }
        meters
    }

    /// Failed calls only, so a lookup each time does no harm.
    pub fn failed(&self, class: Class) {
        self.failures(class).increment(1);
    }

    /// Work that the queue does not keep.
    pub fn shed(&self, pieces: usize) {
        self.shed.increment(pieces as u64);
    }

    pub fn failures(&self, class: Class) -> Counter {
        counter!(FAILURES, "class" => class.name(), "token" => self.token.clone())
    }

    pub fn session(&self, session: impl Into<SharedString>) -> SessionMeters {
        let session = session.into();
        let of = |name: &'static str| histogram!(name, "session" => session.clone(), "token" => self.token.clone());
        SessionMeters {
            queue_wait: of("keyreeve_token_queue_wait_seconds"),
            token_time: of("keyreeve_token_seconds"),
        }
    }

    pub fn cache(&self) -> CacheMeters {
        CacheMeters {
            hits: counter!(HITS, "token" => self.token.clone()),
            misses: counter!(MISSES, "token" => self.token.clone()),
        }
    }
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
    metrics::describe_counter!(HITS, "jobs whose key was unwrapped already");
    metrics::describe_counter!(MISSES, "jobs whose key had to be unwrapped");
    metrics::describe_counter!(FAILURES, "calls that failed, by class of the return code");
}

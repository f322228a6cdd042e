//! How many failures are too many.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

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
}

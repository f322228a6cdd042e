//! The clock of the double: the real one, moved by tests.

use std::{
    sync::atomic::{AtomicI64, Ordering},
    time::Duration,
};

use keyreeve::clock::{Clock, SystemClock, Timestamp};

/// Runs as the real one does, from wherever a test has moved it.
#[derive(Debug, Default)]
pub struct MovedClock {
    ahead_ms: AtomicI64,
}

impl MovedClock {
    pub fn advance(&self, by: Duration) {
        let by = i64::try_from(by.as_millis()).unwrap_or(i64::MAX);
        let moved = |ahead: i64| Some(ahead.saturating_add(by));
        let _ = self.ahead_ms.fetch_update(Ordering::SeqCst, Ordering::SeqCst, moved);
    }
}

impl Clock for MovedClock {
    fn now(&self) -> Timestamp {
        let now = SystemClock.now().unix_ms();
        Timestamp::from_unix_ms(now.saturating_add(self.ahead_ms.load(Ordering::SeqCst)))
    }
}

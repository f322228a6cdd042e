//! Whether the log takes work: what readiness shows, and what every reservation asks first.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use tokio::sync::watch;

/// The state of the log.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Health {
    #[default]
    Writable,
    /// Writes, but the disk fills up: act now.
    DiskLow,
    /// Refuses new work while there is still room to record that it does. Ends by itself once there is room.
    DiskFull,
    /// Stopped, or a write failed. Ends with a restart only.
    Unwritable,
}

impl Health {
    /// Whether new work may start.
    pub const fn accepts(self) -> bool {
        matches!(self, Self::Writable | Self::DiskLow)
    }
}

/// Shared between the writer, who sets it, and everyone who reserves.
#[derive(Debug, Clone, Default)]
pub(super) struct Guard(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    refuses: AtomicBool,
    /// Reservations refused since the writer last recorded their number.
    refused: AtomicU64,
    /// In the log, as far as committed.
    records: AtomicU64,
    health: watch::Sender<Health>,
}

impl Guard {
    /// Asked before a reservation; counts the refusals.
    pub fn accepts(&self) -> bool {
        let refuses = self.0.refuses.load(Ordering::Relaxed);
        if refuses {
            self.0.refused.fetch_add(1, Ordering::Relaxed);
        }
        !refuses
    }

    pub fn set(&self, health: Health) {
        self.0.refuses.store(!health.accepts(), Ordering::Relaxed);
        self.0.health.send_replace(health);
    }

    pub fn health(&self) -> Health {
        *self.0.health.borrow()
    }

    pub fn watch(&self) -> watch::Receiver<Health> {
        self.0.health.subscribe()
    }

    pub fn set_records(&self, records: u64) {
        self.0.records.store(records, Ordering::Relaxed);
    }

    pub fn records(&self) -> u64 {
        self.0.records.load(Ordering::Relaxed)
    }

    /// Refusals since the last call.
    pub fn take_refused(&self) -> u64 {
        self.0.refused.swap(0, Ordering::Relaxed)
    }
}

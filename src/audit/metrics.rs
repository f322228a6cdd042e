//! Figures of the writer. No label names anyone or anything.

use std::time::Duration;

use metrics::{Counter, Gauge, Histogram};

/// Handles looked up once: a look-up by name costs more than formatting a record.
pub(super) struct Figures {
    records: Counter,
    refused: Counter,
    batch: Histogram,
    seconds: Histogram,
    queue: Gauge,
    disk: Gauge,
}

impl Figures {
    pub fn new() -> Self {
        metrics::describe_counter!("keyreeve_audit_records_total", "records committed");
        metrics::describe_counter!(
            "keyreeve_audit_refused_total",
            "calls refused because the log's disk is full"
        );
        metrics::describe_histogram!("keyreeve_audit_commit_records", "records of one commit");
        metrics::describe_histogram!("keyreeve_audit_commit_seconds", "time of one commit");
        metrics::describe_gauge!("keyreeve_audit_queue_depth", "entries left waiting when a commit began");
        metrics::describe_gauge!("keyreeve_audit_disk_used_percent", "fill level of the log's disk");
        Self {
            records: metrics::counter!("keyreeve_audit_records_total"),
            refused: metrics::counter!("keyreeve_audit_refused_total"),
            batch: metrics::histogram!("keyreeve_audit_commit_records"),
            seconds: metrics::histogram!("keyreeve_audit_commit_seconds"),
            queue: metrics::gauge!("keyreeve_audit_queue_depth"),
            disk: metrics::gauge!("keyreeve_audit_disk_used_percent"),
        }
    }

    pub fn committed(&self, records: u64, took: Duration) {
        self.records.increment(records);
        #[allow(clippy::cast_precision_loss)] // a batch has at most some hundred records
        self.batch.record(records as f64);
        self.seconds.record(took);
    }

    pub fn refused(&self, calls: u64) {
        self.refused.increment(calls);
    }

    pub fn queue(&self, waiting: usize) {
        self.queue.set(u32::try_from(waiting).unwrap_or(u32::MAX));
    }

    pub fn disk(&self, percent: u8) {
        self.disk.set(percent);
    }
}

//! What was called and what became of it: for tests to look at. No payload, no context. The audit log proper has more.

use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
};

const MOST: usize = 100_000;

/// One call, or one message of the stream `Crypt`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// `Encrypt`.
    pub method: &'static str,
    /// Resource name that the request gives; empty if it gives none.
    pub name: String,
    /// SPIFFE ID.
    pub caller: String,
    /// `OK`, or the reason of the error.
    pub reason: String,
    pub request_id: String,
}

/// The newest 100,000.
#[derive(Debug, Default)]
pub struct Records(Mutex<VecDeque<Record>>);

impl Records {
    pub fn push(&self, record: Record) {
        let mut records = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if records.len() == MOST {
            records.pop_front();
        }
        records.push_back(record);
    }

    pub fn list(&self) -> Vec<Record> {
        let records = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        records.iter().cloned().collect()
    }
}

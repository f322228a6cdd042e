//! How many retries a client may add to the load (docs/clients.md, rule 4).

use std::sync::{Mutex, PoisonError};

/// In tenths of a token.
const FULL: u32 = 100;
const CALL: u32 = 1;
const RETRY: u32 = 10;

/// A bucket of ten tokens, full at first: a call puts a tenth in, a retry takes one out.
#[derive(Debug)]
pub(crate) struct Budget(Mutex<u32>);

impl Budget {
    pub fn new() -> Self {
        Self(Mutex::new(FULL))
    }

    /// A call begins.
    pub fn call(&self) {
        self.change(|tenths| *tenths = FULL.min(*tenths + CALL));
    }

    /// Whether a retry is left; it is taken out.
    pub fn retry(&self) -> bool {
        self.change(|tenths| match tenths.checked_sub(RETRY) {
            Some(rest) => {
                *tenths = rest;
                true
            }
            None => false,
        })
    }

    fn change<T>(&self, change: impl FnOnce(&mut u32) -> T) -> T {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rule_4_ten_retries_pass_and_then_one_for_ten_calls() {
        let budget = Budget::new();
        assert_eq!((0..20).filter(|_| budget.retry()).count(), 10);
        for _ in 0..9 {
            budget.call();
        }
        assert!(!budget.retry(), "nine calls do not pay for a retry");
        budget.call();
        assert!(budget.retry());
        assert!(!budget.retry());
    }

    #[test]
    fn rule_4_a_bucket_that_is_full_takes_nothing_more() {
        let budget = Budget::new();
        for _ in 0..1_000 {
            budget.call();
        }
        assert_eq!((0..20).filter(|_| budget.retry()).count(), 10);
    }
}

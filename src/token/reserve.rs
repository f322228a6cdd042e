//! Random bytes of the token, drawn ahead so that a data key does not cost a token call of its own.
//!
//! At most one block of 4 KiB. It is dropped, unused, when the host may have been stopped, suspended, cloned or restored
//! meanwhile: a clone that held the same block would make the same token bytes. Source: `docs/formats.md`, section 3.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use zeroize::{Zeroize, Zeroizing};

use crate::clock::Timestamp;

/// Bytes of a block.
pub(super) const BLOCK_LEN: usize = 4_096;

/// Wall and monotonic clock may disagree by so much over the life of a block. Slewing makes 5 ms of 10 s (500 ppm).
const MAX_JUMP_MS: u64 = 250;

/// A block is not kept longer, so that a process that was stopped and continued (both clocks run on) drops it, too.
const MAX_AGE: Duration = Duration::from_secs(10);

#[derive(Default)]
pub(super) struct Reserve {
    block: Mutex<Option<Block>>,
    refilling: tokio::sync::Mutex<()>,
}

struct Block {
    /// What is left; taken from the end.
    bytes: Zeroizing<Vec<u8>>,
    drawn_wall: Timestamp,
    drawn: Instant,
}

static_assertions::assert_not_impl_any!(Reserve: std::fmt::Debug, Clone);

impl Reserve {
    /// Moves `length` bytes to the end of `out`; `false` if there are not so many that are fresh.
    pub(super) fn take(&self, length: usize, wall: Timestamp, now: Instant, out: &mut Vec<u8>) -> bool {
        let mut held = self.lock();
        let Some(block) = held.as_mut() else { return false };
        if !block.is_fresh(wall, now) {
            *held = None;
            return false;
        }
        let Some(left) = block.bytes.len().checked_sub(length) else {
            return false;
        };
        out.extend_from_slice(&block.bytes[left..]);
        block.bytes[left..].zeroize();
        block.bytes.truncate(left);
        true
    }

    /// Keeps `bytes` in place of what is held.
    pub(super) fn put(&self, bytes: Zeroizing<Vec<u8>>, drawn_wall: Timestamp, drawn: Instant) {
        *self.lock() = Some(Block {
            bytes,
            drawn_wall,
            drawn,
        });
    }

    /// Whoever holds this draws the next block.
    pub(super) async fn refilling(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.refilling.lock().await
    }

    fn lock(&self) -> MutexGuard<'_, Option<Block>> {
        let mut held = self.block.lock().unwrap_or_else(|poisoned| {
            self.block.clear_poison();
            // Whoever panicked may have given bytes out without taking them away.
            let mut held = PoisonError::into_inner(poisoned);
            *held = None;
            held
        });
        if held.as_ref().is_some_and(|block| block.bytes.is_empty()) {
            *held = None;
        }
        held
    }
}

impl Block {
    fn is_fresh(&self, wall: Timestamp, now: Instant) -> bool {
        let age = now.saturating_duration_since(self.drawn);
        let wall_ms = wall.unix_ms() - self.drawn_wall.unix_ms();
        let jump = i64::try_from(age.as_millis()).map_or(u64::MAX, |ms| wall_ms.abs_diff(ms));
        age <= MAX_AGE && jump <= MAX_JUMP_MS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Timestamp = Timestamp::from_unix_ms(1_700_000_000_000);

    fn filled(at: Instant) -> Reserve {
        let reserve = Reserve::default();
        reserve.put(Zeroizing::new((0..64).collect()), START, at);
        reserve
    }

    fn after(ms: i64) -> Timestamp {
        Timestamp::from_unix_ms(START.unix_ms() + ms)
    }

    #[test]
    fn no_byte_is_given_twice() {
        let at = Instant::now();
        let reserve = filled(at);
        let mut given = Vec::new();
        while reserve.take(16, START, at, &mut given) {}
        assert_eq!(given.len(), 64);
        given.sort_unstable();
        given.dedup();
        assert_eq!(given.len(), 64);
    }

    #[test]
    fn a_block_that_is_too_short_gives_nothing() {
        let at = Instant::now();
        let mut given = Vec::new();
        assert!(!filled(at).take(65, START, at, &mut given));
        assert!(given.is_empty());
    }

    #[test]
    fn a_block_is_dropped_when_the_wall_clock_jumps_either_way() {
        let at = Instant::now();
        for (wall_ms, fresh) in [(0, true), (200, true), (-200, true), (3_000, false), (-3_000, false)] {
            let reserve = filled(at);
            let mut given = Vec::new();
            assert_eq!(reserve.take(16, after(wall_ms), at, &mut given), fresh, "{wall_ms} ms");
            assert_eq!(reserve.take(16, START, at, &mut given), fresh, "dropped for good");
        }
    }

    #[test]
    fn a_block_is_dropped_after_a_stop_that_both_clocks_saw() {
        let at = Instant::now();
        let mut given = Vec::new();
        assert!(filled(at).take(16, after(9_000), at + Duration::from_secs(9), &mut given));
        assert!(!filled(at).take(16, after(11_000), at + Duration::from_secs(11), &mut given));
    }
}

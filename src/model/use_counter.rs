//! How often a version of suite 0001 may seal: counted ahead, in blocks, over all nodes and tokens (`docs/formats.md`, suite 0001).
//!
//! With random 96-bit ivs the chance that two of n messages share one grows with n squared; at 2^32 it is 2^-33 (SP 800-38D, 8.3).

use std::ops::Range;

use super::{KeyId, KeyVersion};

/// Uses that are reserved at once. What a stopped node had left of a block is never used.
pub const USE_BLOCK: u64 = 1 << 16;
/// From here on the version should be rotated.
pub const ROTATE_AT: u64 = 1 << 31;
/// From here on it seals no more.
pub const MOST_USES: u64 = 1 << 32;

/// The counter of one version. Every use has a number below `reserved`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UseCounter {
    pub key: KeyId,
    pub number: KeyVersion,
    pub reserved: u64,
    /// The epoch of the audit log in which the version was made. A restore opens another, and takes the counter back with the store.
    pub log_epoch: u64,
    pub row_version: u64,
}

/// Why a version may not seal any more. The next step is the same: rotate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UsedUp {
    #[error("its 2^32 uses are used up")]
    Exhausted,
    #[error(
        "the store was restored from a backup since the version was made, and what it sealed after the backup is not counted"
    )]
    Restored,
}

impl UseCounter {
    /// Of a version that is being made.
    pub const fn new(key: KeyId, number: KeyVersion, log_epoch: u64) -> Self {
        Self {
            key,
            number,
            reserved: 0,
            log_epoch,
            row_version: 0,
        }
    }

    /// The numbers of the next block, and the counter that says so. `log_epoch`: the one in use.
    pub fn reserve(&self, log_epoch: u64) -> Result<(Range<u64>, Self), UsedUp> {
        if self.log_epoch != log_epoch {
            return Err(UsedUp::Restored);
        }
        let end = self.reserved.saturating_add(USE_BLOCK);
        if end > MOST_USES {
            return Err(UsedUp::Exhausted);
        }
        let after = Self {
            reserved: end,
            ..self.clone()
        };
        Ok((self.reserved..end, after))
    }

    /// Whether the version should be rotated soon.
    pub const fn is_high(&self) -> bool {
        self.reserved > ROTATE_AT
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counter(reserved: u64) -> UseCounter {
        UseCounter {
            reserved,
            ..UseCounter::new(KeyId::from_bytes([1; 16]), KeyVersion::FIRST, 1)
        }
    }

    #[test]
    fn blocks_follow_each_other_and_end_at_2_to_the_32() {
        let (first, after) = counter(0).reserve(1).unwrap();
        let (second, _) = after.reserve(1).unwrap();
        assert_eq!((first, second), (0..65_536, 65_536..131_072));
        let (last, after) = counter(MOST_USES - USE_BLOCK).reserve(1).unwrap();
        assert_eq!(last.end, MOST_USES);
        assert_eq!(after.reserve(1).unwrap_err(), UsedUp::Exhausted);
        // A counter that is no multiple of the block still never passes the end.
        assert_eq!(counter(MOST_USES - 1).reserve(1).unwrap_err(), UsedUp::Exhausted);
    }

    #[test]
    fn a_counter_of_another_epoch_of_the_log_gives_nothing() {
        assert_eq!(counter(0).reserve(2).unwrap_err(), UsedUp::Restored);
    }

    #[test]
    fn it_says_rotate_once_a_block_passes_2_to_the_31() {
        assert!(!counter(ROTATE_AT).is_high());
        assert!(counter(ROTATE_AT).reserve(1).unwrap().1.is_high());
    }
}

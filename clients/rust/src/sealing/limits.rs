//! How long, how often and for how much a data key may be kept in a client's memory (T25). Source: `docs/formats.md`, section 4.

use std::time::Duration;

use crate::ClientError;

/// No data key is kept longer than this, whatever is asked for.
pub const MAX_AGE: Duration = Duration::from_secs(3_600);

/// No data key seals or opens more messages than this.
pub const MAX_MESSAGES: u64 = 1 << 32;

/// The first limit that is reached counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheLimits {
    /// A data key seals messages for so long; at most an hour.
    pub seal_age: Duration,
    /// A data key opens messages for so long after it was unwrapped; at most an hour.
    pub open_age: Duration,
    /// Messages of one data key; at most 2^32.
    pub messages: u64,
    /// Bytes of plaintext of one data key. A message that passes the limit is ended; no further one begins.
    pub bytes: u64,
    /// Data keys in the cache; the one that was unused for longest goes first.
    pub entries: usize,
    /// Whether, and how far, messages are sealed while the service is not there. Not, by default.
    pub offline: Option<OfflineBudget>,
}

/// What may be sealed under kept data keys while the service cannot be reached: of all keys together, since it last answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OfflineBudget {
    /// A data key may be so old, instead of [`CacheLimits::seal_age`]; at most an hour.
    pub age: Duration,
    /// Messages.
    pub messages: u64,
    /// Bytes of plaintext. A message that passes the limit is ended; no further one begins.
    pub bytes: u64,
}

impl Default for CacheLimits {
    fn default() -> Self {
        Self {
            seal_age: Duration::from_secs(300),
            open_age: Duration::from_secs(60),
            messages: 1 << 20,
            bytes: 1 << 40,
            entries: 1_000,
            offline: None,
        }
    }
}

impl CacheLimits {
    /// Errors: beyond a hard limit.
    pub(super) fn checked(self) -> Result<Self, ClientError> {
        let ages = [
            Some(self.seal_age),
            Some(self.open_age),
            self.offline.as_ref().map(|offline| offline.age),
        ];
        if ages.into_iter().flatten().any(|age| age > MAX_AGE) {
            return Err(ClientError::configuration(
                "data keys may be kept for 3600 s at most".into(),
            ));
        }
        if self.messages > MAX_MESSAGES {
            return Err(ClientError::configuration(
                "a data key may seal 2^32 messages at most".into(),
            ));
        }
        Ok(self)
    }

    /// How long an entry of the seal side can be of use.
    pub(super) fn longest_seal_age(&self) -> Duration {
        let offline = self.offline.as_ref().map_or(Duration::ZERO, |offline| offline.age);
        self.seal_age.max(offline)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_those_of_the_specification() {
        let limits = CacheLimits::default();
        assert_eq!((limits.seal_age.as_secs(), limits.open_age.as_secs()), (300, 60));
        assert_eq!(
            (limits.messages, limits.bytes, limits.entries),
            (1 << 20, 1 << 40, 1_000)
        );
        assert!(limits.offline.is_none());
    }

    #[test]
    fn nothing_beyond_the_hard_limits_is_taken() {
        let with = |change: fn(&mut CacheLimits)| {
            let mut limits = CacheLimits::default();
            change(&mut limits);
            limits.checked().map_err(|error| error.reason)
        };
        assert!(with(|limits| limits.seal_age = MAX_AGE).is_ok());
        for change in [
            (|limits| limits.seal_age = MAX_AGE + Duration::from_secs(1)) as fn(&mut CacheLimits),
            |limits| limits.open_age = MAX_AGE + Duration::from_secs(1),
            |limits| limits.messages = MAX_MESSAGES + 1,
            |limits| {
                limits.offline = Some(OfflineBudget {
                    age: Duration::from_secs(3_601),
                    messages: 1,
                    bytes: 1,
                });
            },
        ] {
            assert_eq!(with(change), Err("CONFIGURATION".into()));
        }
    }
}

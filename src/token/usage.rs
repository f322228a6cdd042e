//! How often each key was worked, and how often it may be: counted beside the module, by the key that a blob's verified tag names,
//! not where the permit is given. Whoever controls the service meets these ceilings in the worker, and shows in its counts (T5).
//!
//! Not in scope: who may use a key at all (the gate). A worker that starts anew counts from nothing.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use keyreeve_envelope::KeyId;

use super::{TokenError, thread_host::lock};

/// Keys that are counted one by one until their counts are taken; what is used beyond them is counted together.
const KEYS: usize = 65_536;
const SECOND: u64 = 1_000_000_000;
const DAY: u64 = 86_400 * SECOND;
/// A day's volume is kept beside the number of the day, which has the upper 16 bits.
const VOLUME: u64 = (1 << 48) - 1;

/// Of each key, in one worker; 0 is none.
#[derive(Debug, Clone, Copy, Default)]
pub struct Ceilings {
    /// Message keys, with a second's worth at once after a pause.
    pub operations_per_second: u64,
    /// Bytes of envelope bodies, in each 24 hours since the worker started.
    pub bytes_per_day: u64,
}

/// Uses of one key: message keys made, and bytes of the envelope bodies they are for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Uses {
    pub operations: u64,
    pub bytes: u64,
}

/// Uses by key.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct KeyUses {
    pub of_keys: HashMap<KeyId, Uses>,
    /// Of keys beyond the first 65,536.
    pub of_others: Uses,
}

/// The meters of all keys that a token works.
pub struct Usage {
    ceilings: Ceilings,
    started: Instant,
    meters: Mutex<Meters>,
    /// Meters that have moved since the last look.
    moved: Mutex<Vec<Arc<Meter>>>,
    uses: Mutex<KeyUses>,
}

struct Meters {
    by_key: HashMap<KeyId, Arc<Meter>>,
    /// So many are looked through for idle ones.
    clean_at: usize,
}

/// The meter of one key. Its unwrapped versions share it.
pub struct Meter {
    key: KeyId,
    operations: AtomicU64,
    bytes: AtomicU64,
    /// When the next operation is due at the greatest rate, in nanoseconds since the start.
    due: AtomicU64,
    today: AtomicU64,
}

impl Uses {
    pub fn add(&mut self, other: Self) {
        self.operations += other.operations;
        self.bytes += other.bytes;
    }
}

impl KeyUses {
    pub fn add(&mut self, key: KeyId, uses: Uses) {
        let has_room = self.of_keys.len() < KEYS;
        match self.of_keys.get_mut(&key) {
            Some(known) => known.add(uses),
            None if has_room => drop(self.of_keys.insert(key, uses)),
            None => self.of_others.add(uses),
        }
    }
}

impl Usage {
    pub fn new(ceilings: Ceilings) -> Self {
        let meters = Meters {
            by_key: HashMap::new(),
            clean_at: KEYS,
        };
        Self {
            ceilings,
            started: Instant::now(),
            meters: Mutex::new(meters),
            moved: Mutex::default(),
            uses: Mutex::default(),
        }
    }

    /// The meter of a key that is being unwrapped.
    pub fn meter(&self, key: KeyId) -> Arc<Meter> {
        let mut meters = lock(&self.meters);
        if meters.by_key.len() >= meters.clean_at {
            self.gather();
            let now = self.now();
            meters
                .by_key
                .retain(|_, meter| Arc::strong_count(meter) > 1 || !meter.is_idle(now));
            meters.clean_at = KEYS.max(2 * meters.by_key.len());
        }
        let meter = meters.by_key.entry(key).or_insert_with(|| Meter::of(key));
        Arc::clone(meter)
    }

    /// Counts one use of a key, for a body of so many bytes. Errors: `KeyCeiling`; then nothing is counted.
    pub fn charge(&self, meter: &Arc<Meter>, bytes: u64) -> Result<(), TokenError> {
        let Ceilings {
            operations_per_second,
            bytes_per_day,
        } = self.ceilings;
        let refused = |wait| TokenError::KeyCeiling {
            retry_after: Duration::from_nanos(wait),
        };
        if let Some(interval) = SECOND.checked_div(operations_per_second) {
            meter.take_turn(interval, self.now()).map_err(refused)?;
        }
        if bytes_per_day > 0 {
            meter.take_bytes(bytes, bytes_per_day, self.now()).map_err(refused)?;
        }
        meter.bytes.fetch_add(bytes, Relaxed);
        if meter.operations.fetch_add(1, Relaxed) == 0 {
            lock(&self.moved).push(Arc::clone(meter));
        }
        Ok(())
    }

    /// The uses since the last time.
    pub fn take(&self) -> KeyUses {
        self.gather();
        std::mem::take(&mut *lock(&self.uses))
    }

    fn gather(&self) {
        let moved = std::mem::take(&mut *lock(&self.moved));
        let mut uses = lock(&self.uses);
        for meter in moved {
            // Operations first: who counts one more from here on puts the meter on the list again.
            let operations = meter.operations.swap(0, Relaxed);
            let bytes = meter.bytes.swap(0, Relaxed);
            uses.add(meter.key, Uses { operations, bytes });
        }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

impl Meter {
    fn of(key: KeyId) -> Arc<Self> {
        Arc::new(Self {
            key,
            operations: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            due: AtomicU64::new(0),
            today: AtomicU64::new(0),
        })
    }

    /// `Err`: nanoseconds to wait.
    fn take_turn(&self, interval: u64, now: u64) -> Result<(), u64> {
        let next = |due: u64| {
            let next = due.max(now) + interval;
            (next <= now + SECOND.max(interval)).then_some(next)
        };
        match self.due.fetch_update(Relaxed, Relaxed, next) {
            Ok(_) => Ok(()),
            Err(due) => Err((due + interval).saturating_sub(now + SECOND.max(interval))),
        }
    }

    /// `Err`: nanoseconds to wait, which is until tomorrow.
    fn take_bytes(&self, bytes: u64, most: u64, now: u64) -> Result<(), u64> {
        let day = now / DAY;
        let add = |today: u64| {
            let used = if today >> 48 == day { today & VOLUME } else { 0 };
            let used = used + bytes;
            (used <= most).then_some(day << 48 | used.min(VOLUME))
        };
        match self.today.fetch_update(Relaxed, Relaxed, add) {
            Ok(_) => Ok(()),
            Err(_) => Err((day + 1) * DAY - now),
        }
    }

    /// Whether a new meter would do as well.
    fn is_idle(&self, now: u64) -> bool {
        let today = self.today.load(Relaxed);
        self.operations.load(Relaxed) == 0
            && self.due.load(Relaxed) <= now
            && (today & VOLUME == 0 || today >> 48 != now / DAY)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: u32) -> KeyId {
        let mut id = [0; 16];
        id[..4].copy_from_slice(&number.to_be_bytes());
        KeyId::from_bytes(id)
    }

    fn usage(operations_per_second: u64, bytes_per_day: u64) -> Usage {
        Usage::new(Ceilings {
            operations_per_second,
            bytes_per_day,
        })
    }

    #[test]
    fn uses_are_counted_by_key_and_taken_once() {
        let usage = usage(0, 0);
        let (a, b) = (usage.meter(key(1)), usage.meter(key(2)));
        for _ in 0..3 {
            usage.charge(&a, 100).unwrap();
        }
        usage.charge(&b, 7).unwrap();
        // The same key, unwrapped again.
        usage.charge(&usage.meter(key(1)), 50).unwrap();
        let uses = |operations, bytes| Uses { operations, bytes };
        let taken = usage.take();
        assert_eq!(taken.of_keys, [(key(1), uses(4, 350)), (key(2), uses(1, 7))].into());
        assert_eq!(usage.take(), KeyUses::default());
        usage.charge(&a, 1).unwrap();
        assert_eq!(usage.take().of_keys, [(key(1), uses(1, 1))].into());
    }

    #[test]
    fn beyond_so_many_keys_uses_are_counted_together_and_none_is_lost() {
        let usage = usage(0, 0);
        for number in 0..KEYS as u32 * 2 + 10 {
            usage.charge(&usage.meter(key(number)), 2).unwrap();
        }
        let taken = usage.take();
        let one_by_one: u64 = taken.of_keys.values().map(|uses| uses.operations).sum();
        assert_eq!(taken.of_keys.len(), KEYS);
        assert_eq!(one_by_one + taken.of_others.operations, KEYS as u64 * 2 + 10);
        assert!(lock(&usage.meters).by_key.len() <= KEYS + 10, "idle meters go");
    }

    #[test]
    fn a_second_of_operations_may_come_at_once_and_then_one_at_a_time() {
        let meter = Meter::of(key(1));
        let (interval, start) = (SECOND / 10, 5 * SECOND);
        assert!((0..10).all(|_| meter.take_turn(interval, start).is_ok()));
        assert_eq!(meter.take_turn(interval, start), Err(interval));
        assert_eq!(meter.take_turn(interval, start + interval - 1), Err(1));
        assert_eq!(meter.take_turn(interval, start + interval), Ok(()));
        assert!(meter.take_turn(interval, start + interval).is_err());
        assert!(!meter.is_idle(start + interval) && meter.is_idle(start + 2 * SECOND));
    }

    #[test]
    fn a_volume_is_used_up_until_the_next_day() {
        let meter = Meter::of(key(1));
        let now = 3 * DAY + SECOND;
        assert_eq!(meter.take_bytes(600, 1_000, now), Ok(()));
        assert_eq!(meter.take_bytes(401, 1_000, now), Err(DAY - SECOND));
        assert_eq!(meter.take_bytes(400, 1_000, now), Ok(()));
        assert_eq!(meter.take_bytes(1_000, 1_000, now + DAY), Ok(()));
        assert!(!meter.is_idle(now + DAY) && meter.is_idle(now + 2 * DAY));
    }

    #[test]
    fn what_a_ceiling_refuses_is_not_counted_and_other_keys_go_on() {
        let usage = usage(0, 100);
        let (a, b) = (usage.meter(key(1)), usage.meter(key(2)));
        usage.charge(&a, 60).unwrap();
        let refused = usage.charge(&a, 60).unwrap_err();
        assert!(matches!(refused, TokenError::KeyCeiling { .. }), "{refused}");
        usage.charge(&b, 60).unwrap();
        assert_eq!(
            usage.take().of_keys[&key(1)],
            Uses {
                operations: 1,
                bytes: 60
            }
        );
    }
}

//! Data keys kept for further messages, off by default. One cache for each sealer and opener, in memory only; swept every second while
//! it holds something, so that a data key goes when its time is over, used or not.
//!
//! | side | by | holds |
//! |---|---|---|
//! | seal | (identity, key id) of each key, SHA-256(context) | data key, its envelopes |
//! | open | identity, SHA-256(wrapped bytes), SHA-256(context) | data key |

use std::{
    hash::Hash,
    process,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak, atomic::AtomicU64, atomic::Ordering},
    time::Duration,
};

use keyreeve_envelope::{
    Header, KeyId, KeyVersion,
    sealed::{DataKey, WrappedKey},
};

use tokio::task::AbortHandle;

use super::{
    CacheLimits,
    shelf::{Allowance, Entry, Moment, Shelf},
};
use crate::{ClientError, Event, EventName, Events};

/// How often an outage is looked at again, so that not every message waits for a deadline.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// Longest time between the end of an entry's time and its wiping.
const SWEEP: Duration = Duration::from_secs(1);

/// The keys of a sealer with the identities that use them, and the context.
pub(super) type SealPlace = (Vec<([u8; 32], KeyId)>, [u8; 32]);

/// Identity, wrapped bytes, context: digests all.
pub(super) type OpenPlace = ([u8; 32], [u8; 32], [u8; 32]);

/// A data key for one more message.
pub(super) struct SealedUse {
    pub data_key: DataKey,
    pub wrapped: Vec<WrappedKey>,
    /// Where the message counts its bytes.
    pub bytes: Vec<Arc<AtomicU64>>,
    pub offline: bool,
}

struct SealValue {
    data_key: DataKey,
    wrapped: Vec<WrappedKey>,
    versions: Vec<(KeyId, KeyVersion)>,
}

struct OpenValue {
    data_key: DataKey,
    version: (KeyId, KeyVersion),
}

pub(super) struct SealCache {
    limits: CacheLimits,
    kept: Arc<Kept<SealPlace, SealValue>>,
    outage: Mutex<Outage>,
}

/// Since the service last answered.
#[derive(Default)]
struct Outage {
    seen: Option<(Moment, ClientError)>,
    messages: u64,
    bytes: Arc<AtomicU64>,
}

impl SealCache {
    pub fn new(limits: CacheLimits, events: Events) -> Self {
        let longest = Allowance {
            age: limits.longest_seal_age(),
            messages: limits.messages,
            bytes: limits.bytes,
        };
        Self {
            kept: Kept::new(limits.entries, longest, events),
            limits,
            outage: Mutex::default(),
        }
    }

    /// A kept data key, if it is fresh.
    pub fn take(&self, place: &SealPlace) -> Option<SealedUse> {
        self.use_one(place, self.limits.seal_age, &Moment::now())
    }

    /// To be taken before the service is asked: see [`Self::keep`].
    pub fn evictions(&self) -> u64 {
        self.kept.evictions.load(Ordering::SeqCst)
    }

    /// Keeps what the service just made, and says that it answers. `asked`: [`Self::evictions`] of before; if keys were evicted meanwhile,
    /// it may be what they were evicted for, and serves its message alone.
    pub fn keep(
        &self,
        asked: u64,
        keys: Vec<([u8; 32], Header)>,
        context: [u8; 32],
        data_key: DataKey,
        wrapped: Vec<WrappedKey>,
    ) -> SealedUse {
        *lock(&self.outage) = Outage::default();
        let versions: Vec<_> = keys.iter().map(|(_, key)| (key.key_id(), key.key_version())).collect();
        // Of two versions of one key the newer is the primary one: what is under the older has had its time.
        let has_newer = |some: &[(KeyId, KeyVersion)], other: &[(KeyId, KeyVersion)]| {
            let is_newer =
                |(id, version): &(KeyId, KeyVersion)| other.iter().any(|(of, old)| of == id && version > old);
            some.iter().any(is_newer)
        };
        let place = (
            keys.iter().map(|(identity, key)| (*identity, key.key_id())).collect(),
            context,
        );
        let value = SealValue {
            data_key: data_key.duplicate(),
            wrapped: wrapped.clone(),
            versions: versions.clone(),
        };
        let bytes = self.kept.put(asked, |shelf| {
            if shelf.any(|held| has_newer(&held.versions, &versions)) {
                return None;
            }
            shelf.evict(|held| has_newer(&versions, &held.versions));
            Some((place, value))
        });
        SealedUse {
            data_key,
            wrapped,
            bytes: vec![bytes],
            offline: false,
        }
    }

    /// The error of an outage that was seen or asked about a moment ago, if messages may be sealed in one. `None`: the caller is the one
    /// who asks now. The others do not wait for his answer, which may take as long as the deadline.
    pub fn down(&self) -> Option<ClientError> {
        let mut outage = lock(&self.outage);
        let (seen, error) = outage.seen.as_mut()?;
        if seen.monotonic.elapsed() < ASK_AGAIN {
            return Some(error.clone());
        }
        *seen = Moment::now();
        None
    }

    /// A kept data key that is no longer fresh, if the service is not there and the budget allows it. After a refusal it is gone.
    pub fn take_offline(&self, place: &SealPlace, error: &ClientError) -> Option<SealedUse> {
        if !error.is_unavailable() {
            // Who refuses is there.
            *lock(&self.outage) = Outage::default();
            self.kept.change(|shelf| shelf.remove(place));
            return None;
        }
        let budget = self.limits.offline.as_ref()?;
        let now = Moment::now();
        let mut outage = lock(&self.outage);
        if outage
            .seen
            .as_ref()
            .is_none_or(|(seen, _)| seen.monotonic.elapsed() >= ASK_AGAIN)
        {
            outage.seen = Some((now, error.clone()));
        }
        if outage.messages >= budget.messages || outage.bytes.load(Ordering::Relaxed) >= budget.bytes {
            return None;
        }
        let mut kept = self.use_one(place, budget.age, &now)?;
        outage.messages += 1;
        kept.bytes.push(outage.bytes.clone());
        kept.offline = true;
        Some(kept)
    }

    pub fn evict(&self, condemned: impl Fn(KeyId, KeyVersion) -> bool) {
        let any = |value: &SealValue| value.versions.iter().any(|(id, version)| condemned(*id, *version));
        self.kept.evict(any);
    }

    fn use_one(&self, place: &SealPlace, age: Duration, now: &Moment) -> Option<SealedUse> {
        let allowance = Allowance {
            age,
            messages: self.limits.messages,
            bytes: self.limits.bytes,
        };
        self.kept.reuse(place, &allowance, now, |entry| SealedUse {
            data_key: entry.value.data_key.duplicate(),
            wrapped: entry.value.wrapped.clone(),
            bytes: vec![entry.bytes.clone()],
            offline: false,
        })
    }
}

pub(super) struct OpenCache {
    limits: CacheLimits,
    kept: Arc<Kept<OpenPlace, OpenValue>>,
}

impl OpenCache {
    pub fn new(limits: CacheLimits, events: Events) -> Self {
        let longest = Self::allowance(&limits);
        Self {
            kept: Kept::new(limits.entries, longest, events),
            limits,
        }
    }

    pub fn take(&self, place: &OpenPlace) -> Option<(DataKey, Arc<AtomicU64>)> {
        let allowance = Self::allowance(&self.limits);
        self.kept.reuse(place, &allowance, &Moment::now(), |entry| {
            (entry.value.data_key.duplicate(), entry.bytes.clone())
        })
    }

    /// As [`SealCache::evictions`].
    pub fn evictions(&self) -> u64 {
        self.kept.evictions.load(Ordering::SeqCst)
    }

    /// `asked`: as in [`SealCache::keep`].
    pub fn keep(&self, asked: u64, place: OpenPlace, key: &Header, data_key: &DataKey) -> Arc<AtomicU64> {
        let value = OpenValue {
            data_key: data_key.duplicate(),
            version: (key.key_id(), key.key_version()),
        };
        self.kept.put(asked, |_| Some((place, value)))
    }

    pub fn evict(&self, condemned: impl Fn(KeyId, KeyVersion) -> bool) {
        let its = |value: &OpenValue| condemned(value.version.0, value.version.1);
        self.kept.evict(its);
    }

    fn allowance(limits: &CacheLimits) -> Allowance {
        Allowance {
            age: limits.open_age,
            messages: limits.messages,
            bytes: limits.bytes,
        }
    }
}

/// A shelf that is swept.
struct Kept<K, V> {
    shelf: Mutex<Shelf<K, V>>,
    longest: Allowance,
    /// How often something was told that keys are evicted for; counted while the shelf is locked.
    evictions: AtomicU64,
    /// The task that sweeps it, or did until its runtime ended.
    sweeper: Mutex<Option<AbortHandle>>,
    events: Events,
}

impl<K: Hash + Eq + Clone + Send + 'static, V: Send + 'static> Kept<K, V> {
    fn new(entries: usize, longest: Allowance, events: Events) -> Arc<Self> {
        Arc::new(Self {
            shelf: Mutex::new(Shelf::new(entries, process::id())),
            longest,
            evictions: AtomicU64::new(0),
            sweeper: Mutex::default(),
            events,
        })
    }

    fn shelf(&self) -> Owned<'_, K, V> {
        let mut shelf = lock(&self.shelf);
        shelf.of(process::id());
        shelf
    }

    /// Changes the shelf, and tells of the keys that went. Nobody is told while it is locked: a callback may seal.
    fn change<T>(&self, change: impl FnOnce(&mut Shelf<K, V>) -> T) -> T {
        let mut shelf = self.shelf();
        let changed = change(&mut shelf);
        let gone = shelf.take_gone();
        drop(shelf);
        for _ in 0..gone {
            self.tell(EventName::DataKeyEvicted);
        }
        changed
    }

    fn tell(&self, name: EventName) {
        self.events.tell(&Event::new(name));
    }

    fn reuse<T>(&self, place: &K, allowance: &Allowance, now: &Moment, copy: impl FnOnce(&Entry<V>) -> T) -> Option<T> {
        let copied = self.shelf().take(place, allowance, now).map(copy);
        if copied.is_some() {
            self.tell(EventName::DataKeyReused);
        }
        copied
    }

    fn evict(&self, condemned: impl FnMut(&V) -> bool) {
        self.change(|shelf| {
            self.evictions.fetch_add(1, Ordering::SeqCst);
            shelf.evict(condemned);
        });
    }

    /// Puts in what `new` gives, unless something was evicted since `asked`. Returns where the message counts its bytes.
    fn put(self: &Arc<Self>, asked: u64, new: impl FnOnce(&mut Shelf<K, V>) -> Option<(K, V)>) -> Arc<AtomicU64> {
        let bytes = self.change(|shelf| {
            if self.evictions.load(Ordering::SeqCst) != asked {
                return None;
            }
            let (place, value) = new(shelf)?;
            shelf.put(place, value, &Moment::now())
        });
        let Some(bytes) = bytes else {
            return Arc::default();
        };
        self.tell(EventName::DataKeyCached);
        self.start_sweeping();
        bytes
    }

    /// Outside of a runtime nothing is swept but what is looked for; the calls to the service need one anyway.
    fn start_sweeping(self: &Arc<Self>) {
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return;
        };
        let mut sweeper = lock(&self.sweeper);
        if sweeper.as_ref().is_none_or(AbortHandle::is_finished) {
            *sweeper = Some(runtime.spawn(sweep(Arc::downgrade(self))).abort_handle());
        }
    }

    /// Whether something is left to sweep.
    fn sweep(&self) -> bool {
        // Locked first: what is put in from here on starts another sweeper, if this one finds nothing and goes.
        let mut sweeper = lock(&self.sweeper);
        let (left, gone) = {
            let mut shelf = self.shelf();
            let left = shelf.sweep(&self.longest, &Moment::now());
            (left > 0, shelf.take_gone())
        };
        if !left {
            *sweeper = None;
        }
        drop(sweeper);
        for _ in 0..gone {
            self.tell(EventName::DataKeyEvicted);
        }
        left
    }
}

type Owned<'a, K, V> = MutexGuard<'a, Shelf<K, V>>;

/// Ends when the shelf is empty or gone.
async fn sweep<K: Hash + Eq + Clone + Send + 'static, V: Send + 'static>(kept: Weak<Kept<K, V>>) {
    loop {
        tokio::time::sleep(SWEEP).await;
        let Some(kept) = kept.upgrade() else {
            return;
        };
        if !kept.sweep() {
            return;
        }
    }
}

/// What a panic left is whole: each change is one call of the map.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
#[path = "cache_tests.rs"]
mod tests;

//! Secrets kept for a while: an account of each use, and an end by age, number, bytes, room, fork or order. Knows no clock of its own.

use std::{
    collections::HashMap,
    hash::Hash,
    mem,
    sync::{Arc, atomic::AtomicU64, atomic::Ordering},
    time::{Duration, Instant, SystemTime},
};

/// A point in time on both clocks: the monotonic one stands still while a machine sleeps, the other can be set.
#[derive(Debug, Clone, Copy)]
pub(super) struct Moment {
    pub monotonic: Instant,
    pub wall: SystemTime,
}

impl Moment {
    pub fn now() -> Self {
        Self {
            monotonic: Instant::now(),
            wall: SystemTime::now(),
        }
    }

    /// The longer of what both clocks say.
    fn since(&self, earlier: &Self) -> Duration {
        let monotonic = self.monotonic.saturating_duration_since(earlier.monotonic);
        let wall = self.wall.duration_since(earlier.wall).unwrap_or_default();
        monotonic.max(wall)
    }
}

/// What one entry may be used for.
pub(super) struct Allowance {
    pub age: Duration,
    pub messages: u64,
    pub bytes: u64,
}

pub(super) struct Shelf<K, V> {
    entries: HashMap<K, Entry<V>>,
    most: usize,
    owner: u32,
    uses: u64,
    /// Entries that went and were not yet told of.
    gone: usize,
}

pub(super) struct Entry<V> {
    pub value: V,
    /// Counted by the messages themselves.
    pub bytes: Arc<AtomicU64>,
    born: Moment,
    messages: u64,
    used: u64,
}

impl<K: Hash + Eq + Clone, V> Shelf<K, V> {
    pub fn new(most: usize, owner: u32) -> Self {
        Self {
            entries: HashMap::new(),
            most,
            owner,
            uses: 0,
            gone: 0,
        }
    }

    /// To be called first: what a process inherited over fork is not its own, and is wiped.
    pub fn of(&mut self, process: u32) -> &mut Self {
        if self.owner != process {
            self.entries.clear();
            self.owner = process;
        }
        self
    }

    /// The entry, if it allows one more message, which is counted. One that no longer does is left: another allowance may be wider.
    pub fn take(&mut self, key: &K, allowance: &Allowance, now: &Moment) -> Option<&Entry<V>> {
        let entry = self.entries.get_mut(key)?;
        let usable = now.since(&entry.born) < allowance.age
            && entry.messages < allowance.messages
            && entry.bytes.load(Ordering::Relaxed) < allowance.bytes;
        if !usable {
            return None;
        }
        self.uses += 1;
        entry.messages += 1;
        entry.used = self.uses;
        Some(entry)
    }

    /// Puts an entry in for its first message. Makes room at the expense of the one that was unused for longest. Returns where the message
    /// counts its bytes; `None` if there is room for nothing.
    pub fn put(&mut self, key: K, value: V, now: &Moment) -> Option<Arc<AtomicU64>> {
        if self.most == 0 {
            return None;
        }
        self.uses += 1;
        self.remove(&key);
        while self.entries.len() >= self.most {
            let oldest = self.entries.iter().min_by_key(|(_, entry)| entry.used);
            let oldest = oldest.map(|(key, _)| key.clone()).expect("it is not empty");
            self.remove(&oldest);
        }
        let bytes = Arc::<AtomicU64>::default();
        let entry = Entry {
            value,
            bytes: bytes.clone(),
            born: *now,
            messages: 1,
            used: self.uses,
        };
        self.entries.insert(key, entry);
        Some(bytes)
    }

    pub fn any(&self, is_it: impl FnMut(&V) -> bool) -> bool {
        self.entries.values().map(|entry| &entry.value).any(is_it)
    }

    pub fn remove(&mut self, key: &K) {
        self.gone += usize::from(self.entries.remove(key).is_some());
    }

    pub fn evict(&mut self, mut condemned: impl FnMut(&V) -> bool) {
        self.retain(|entry| !condemned(&entry.value));
    }

    /// How many entries went since this was asked, for whatever reason but a fork.
    pub fn take_gone(&mut self) -> usize {
        mem::take(&mut self.gone)
    }

    /// Wipes what is older than `age`, or has no message left; the number of those that stay.
    pub fn sweep(&mut self, longest: &Allowance, now: &Moment) -> usize {
        self.retain(|entry| {
            now.since(&entry.born) < longest.age
                && entry.messages < longest.messages
                && entry.bytes.load(Ordering::Relaxed) < longest.bytes
        });
        self.entries.len()
    }

    fn retain(&mut self, mut stays: impl FnMut(&Entry<V>) -> bool) {
        let before = self.entries.len();
        self.entries.retain(|_, entry| stays(entry));
        self.gone += before - self.entries.len();
    }
}

//! Unwrapped version keys held in the token: least recently used first out, counted references.
//!
//! A handle that leaves the cache while a thread works with it is destroyed by the last one to let go.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use keyreeve_envelope::blob::KeyType;
use keyreeve_pkcs11::{ObjectHandle, presets::Life};

use super::{host::Place, usage::Meter};

/// A version key in the token.
pub struct UnwrappedKey {
    pub handle: ObjectHandle,
    /// Of the keeper that unwrapped it: the handle means nothing in another (`Shared::era`).
    pub era: u64,
    /// What its blob's verified tag binds it to.
    pub place: Place,
    /// What it may be worked for: message keys (1), sealing in the token (2).
    pub key_type: KeyType,
    /// An object of the token is forgotten, never destroyed, when it leaves the cache.
    pub life: Life,
    /// Of its key: what is worked with it is counted there.
    pub meter: Arc<Meter>,
}

pub struct Handles {
    state: Mutex<State>,
    capacity: usize,
}

struct State {
    by_blob: HashMap<[u8; 32], (Arc<UnwrappedKey>, u64)>,
    /// Time of last use, in uses, to the blob.
    by_age: BTreeMap<u64, [u8; 32]>,
    uses: u64,
    capacity: usize,
}

impl Handles {
    pub fn new(capacity: usize) -> Self {
        Self {
            state: Mutex::new(State {
                by_blob: HashMap::new(),
                by_age: BTreeMap::new(),
                uses: 0,
                capacity,
            }),
            capacity,
        }
    }

    pub fn find(&self, blob: &[u8; 32]) -> Option<Arc<UnwrappedKey>> {
        self.lock().touch(blob)
    }

    /// Adds a key. Returns what it pushed out; the caller lets each go with [`last`].
    pub fn insert(&self, blob: [u8; 32], key: Arc<UnwrappedKey>) -> Vec<Arc<UnwrappedKey>> {
        let mut state = self.lock();
        let mut out: Vec<_> = state.remove(&blob).into_iter().collect();
        // After a token had no room, one more with each key that it took again.
        state.capacity = (state.capacity + 1).min(self.capacity);
        state.uses += 1;
        let now = state.uses;
        state.by_blob.insert(blob, (key, now));
        state.by_age.insert(now, blob);
        out.extend(state.shrink());
        out
    }

    pub fn remove(&self, blob: &[u8; 32]) -> Option<Arc<UnwrappedKey>> {
        self.lock().remove(blob)
    }

    pub fn clear(&self) -> Vec<Arc<UnwrappedKey>> {
        let mut state = self.lock();
        state.by_age.clear();
        state.capacity = self.capacity;
        state.by_blob.drain().map(|(_, (key, _))| key).collect()
    }

    /// Halves what the cache may hold: the token has no room. Returns what must go.
    pub fn halve(&self) -> Vec<Arc<UnwrappedKey>> {
        let mut state = self.lock();
        state.capacity = (state.by_blob.len() / 2).max(1);
        state.shrink()
    }

    pub fn len(&self) -> usize {
        self.lock().by_blob.len()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The key to destroy, if `key` was the last reference to it and no object of the token.
pub fn last(key: Arc<UnwrappedKey>) -> Option<UnwrappedKey> {
    Arc::into_inner(key).filter(|key| key.life == Life::Session)
}

impl State {
    fn touch(&mut self, blob: &[u8; 32]) -> Option<Arc<UnwrappedKey>> {
        let (key, used) = self.by_blob.get_mut(blob)?;
        // The order matters only near the edge of the cache: below half of it nothing is moved.
        if self.by_age.len() * 2 > self.capacity && *used != self.uses {
            self.uses += 1;
            self.by_age.remove(used);
            *used = self.uses;
            self.by_age.insert(self.uses, *blob);
        }
        Some(Arc::clone(key))
    }

    fn remove(&mut self, blob: &[u8; 32]) -> Option<Arc<UnwrappedKey>> {
        let (key, used) = self.by_blob.remove(blob)?;
        self.by_age.remove(&used);
        Some(key)
    }

    fn shrink(&mut self) -> Vec<Arc<UnwrappedKey>> {
        let mut out = Vec::new();
        while self.by_blob.len() > self.capacity {
            let Some((_, blob)) = self.by_age.pop_first() else {
                break;
            };
            out.extend(self.by_blob.remove(&blob).map(|(key, _)| key));
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use keyreeve_envelope::{EnvironmentId, KeyId, KeyVersion};

    use super::*;
    use crate::token::usage::{Ceilings, Usage};

    fn key(number: u8) -> ([u8; 32], Arc<UnwrappedKey>) {
        let place = Place {
            environment: EnvironmentId::from_bytes([1; 16]),
            key: KeyId::from_bytes([number; 16]),
            version: KeyVersion::FIRST,
        };
        let handle = ObjectHandle(u64::from(number));
        let meter = Usage::new(Ceilings::default()).meter(place.key);
        let key = UnwrappedKey {
            handle,
            era: 1,
            place,
            key_type: KeyType::EnvelopePrf,
            life: Life::Session,
            meter,
        };
        ([number; 32], Arc::new(key))
    }

    fn filled(numbers: std::ops::RangeInclusive<u8>) -> Handles {
        let handles = Handles::new(4);
        for number in numbers {
            let (blob, key) = key(number);
            assert!(handles.insert(blob, key).is_empty());
        }
        handles
    }

    #[test]
    fn the_least_recently_used_key_goes_first() {
        let handles = filled(1..=4);
        assert!(handles.find(&[1; 32]).is_some());
        let (blob, five) = key(5);
        let out = handles.insert(blob, five);
        let out: Vec<_> = out.into_iter().filter_map(last).map(|key| key.handle).collect();
        assert_eq!(out, [ObjectHandle(2)]);
        assert!(handles.find(&[1; 32]).is_some() && handles.find(&[2; 32]).is_none());
    }

    #[test]
    fn a_key_in_use_is_destroyed_by_the_last_to_let_go_and_only_once() {
        let handles = filled(1..=1);
        let in_use = handles.find(&[1; 32]).unwrap();
        let evicted = handles.remove(&[1; 32]).unwrap();
        assert!(last(evicted).is_none());
        assert_eq!(last(in_use).map(|key| key.handle), Some(ObjectHandle(1)));
    }

    #[test]
    fn an_object_of_the_token_is_forgotten_and_never_destroyed() {
        let (_, key) = key(1);
        let key = Arc::into_inner(key).unwrap();
        let resident = UnwrappedKey {
            life: Life::Token,
            ..key
        };
        assert!(last(Arc::new(resident)).is_none());
    }

    #[test]
    fn halving_makes_room_which_grows_again_key_by_key_and_at_once_by_clearing() {
        let handles = filled(1..=4);
        assert_eq!(handles.halve().len(), 2);
        assert_eq!(handles.halve().len(), 1);
        for number in 5..=7 {
            let (blob, key) = key(number);
            assert!(handles.insert(blob, key).is_empty());
        }
        let (blob, eight) = key(8);
        assert_eq!(handles.insert(blob, eight).len(), 1, "no more than its capacity");
        assert_eq!(handles.halve().len(), 2);
        assert_eq!(handles.clear().len(), 2);
        for number in 1..=4 {
            let (blob, key) = key(number);
            assert!(handles.insert(blob, key).is_empty());
        }
        assert_eq!(handles.len(), 4);
    }
}

//! Limits of the wire, and who uses how much of them.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

/// One message, decoded. A request that is larger is refused before it is read in.
pub const MESSAGE_BYTES: usize = 4 << 20;
/// All headers of a request, as HTTP/2 counts them (RFC 9113, section 6.5.2).
pub const HEADER_LIST_BYTES: u32 = 8 << 10;
/// Handshakes under way at once: what callers without a certificate can occupy.
pub const HANDSHAKES: usize = 512;

/// What each caller uses, by SPIFFE ID.
pub struct Callers {
    connections_each: usize,
    in_flight_each: usize,
    loads: Mutex<HashMap<Arc<str>, Arc<Load>>>,
}

#[derive(Default)]
struct Load {
    connections: AtomicUsize,
    in_flight: AtomicUsize,
}

/// A connection's place under its caller's ceiling; given back when dropped.
pub struct Seat {
    callers: Arc<Callers>,
    caller: Arc<str>,
    load: Arc<Load>,
}

/// A call's place under its caller's ceiling; given back when dropped.
pub struct InFlight(Arc<Load>);

impl Callers {
    pub fn new(connections_each: usize, in_flight_each: usize) -> Arc<Self> {
        Arc::new(Self {
            connections_each,
            in_flight_each,
            loads: Mutex::default(),
        })
    }

    /// `None`: the caller has as many connections as he may.
    pub fn connect(self: &Arc<Self>, caller: &str) -> Option<Seat> {
        let mut loads = self.lock();
        let (caller, load) = match loads.get_key_value(caller) {
            Some((caller, load)) => (caller.clone(), load.clone()),
            None => {
                let entry: (Arc<str>, Arc<Load>) = (caller.into(), Arc::default());
                loads.insert(entry.0.clone(), entry.1.clone());
                entry
            }
        };
        // Under the lock, so that the last one out removes the entry of nobody else.
        if load.connections.load(Ordering::Relaxed) >= self.connections_each {
            return None;
        }
        load.connections.fetch_add(1, Ordering::Relaxed);
        Some(Seat {
            callers: self.clone(),
            caller,
            load,
        })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Arc<str>, Arc<Load>>> {
        // Nothing in here panics halfway; a poisoned lock would be another thread's panic between two statements above.
        self.loads.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seat {
    /// `None`: the caller has as many calls under way as he may.
    pub fn begin(&self) -> Option<InFlight> {
        let before = self.load.in_flight.fetch_add(1, Ordering::Relaxed);
        let place = InFlight(self.load.clone());
        (before < self.callers.in_flight_each).then_some(place)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut loads = self.callers.lock();
        if self.load.connections.fetch_sub(1, Ordering::Relaxed) == 1 {
            loads.remove(&self.caller);
        }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caller_gets_his_connections_and_no_more_and_others_are_not_touched() {
        let callers = Callers::new(2, 1);
        let first = callers.connect("a").unwrap();
        let _second = callers.connect("a").unwrap();
        assert!(callers.connect("a").is_none());
        assert!(callers.connect("b").is_some());
        drop(first);
        assert!(callers.connect("a").is_some());
    }

    #[test]
    fn calls_are_counted_over_all_connections_of_a_caller() {
        let callers = Callers::new(2, 2);
        let (first, second) = (callers.connect("a").unwrap(), callers.connect("a").unwrap());
        let one = first.begin().unwrap();
        let _two = second.begin().unwrap();
        assert!(first.begin().is_none() && second.begin().is_none());
        drop(one);
        assert!(second.begin().is_some());
    }

    #[test]
    fn a_caller_who_left_is_forgotten() {
        let callers = Callers::new(2, 2);
        drop(callers.connect("a"));
        assert!(callers.lock().is_empty());
    }
}

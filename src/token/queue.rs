//! The bounded queue in front of the session threads: the only admission control of the token.
//!
//! Fair between lanes (deficit round robin, weight = items), so that a batch of one caller does not hold up the others; knows
//! deadlines, so that what cannot be done in time is refused at once and what has expired costs no token work.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use super::{Lane, TokenError};

/// Items that a lane may have done in one turn before the next lane's turn.
const QUANTUM: i64 = 8;
/// Lanes remembered while empty, so that a steady caller's lane is not made anew for each job.
const IDLE_LANES: usize = 1024;

/// What waits in the queue: a job, or a part of one.
pub trait Waiting: Send {
    fn lane(&self) -> Lane;
    /// Token calls it will take; at least 1.
    fn items(&self) -> usize;
}

pub struct Queue<W> {
    state: Mutex<State<W>>,
    arrived: Condvar,
    closing: Condvar,
    capacity: usize,
    threads: usize,
}

struct State<W> {
    lanes: HashMap<Lane, LaneState<W>>,
    /// Lanes with work, in order of turn.
    turns: VecDeque<Lane>,
    items: usize,
    sleeping: usize,
    /// Threads woken that have not run yet: while one is on its way, no other is woken.
    waking: usize,
    /// Smoothed time of one item in the token.
    item_time: Duration,
    closed: bool,
}

struct LaneState<W> {
    work: VecDeque<W>,
    items: usize,
    credit: i64,
}

impl<W: Waiting> Queue<W> {
    pub fn new(capacity: usize, threads: usize) -> Self {
        Self {
            state: Mutex::new(State {
                lanes: HashMap::new(),
                turns: VecDeque::new(),
                items: 0,
                sleeping: 0,
                waking: 0,
                item_time: Duration::from_micros(10),
                closed: false,
            }),
            arrived: Condvar::new(),
            closing: Condvar::new(),
            capacity,
            threads,
        }
    }

    /// Takes `work` (all of one lane) in, all or nothing; gives it back with the reason if there is no room or no time.
    pub fn push(&self, work: Vec<W>, deadline: Instant) -> Result<(), (Vec<W>, TokenError)> {
        let items: usize = work.iter().map(Waiting::items).sum();
        let Some(lane) = work.first().map(Waiting::lane) else {
            return Ok(());
        };
        let mut state = self.lock();
        if let Err(error) = self.admit(&state, lane, items, deadline) {
            return Err((work, error));
        }
        let entry = state.lanes.entry(lane).or_insert_with(|| LaneState {
            work: VecDeque::new(),
            items: 0,
            credit: 0,
        });
        let was_empty = entry.work.is_empty();
        entry.items += items;
        entry.work.extend(work);
        if was_empty {
            state.turns.push_back(lane);
        }
        state.items += items;
        self.wake_one(&mut state);
        Ok(())
    }

    /// The next work in turn; waits for it. `None` once the queue is closed and empty.
    pub fn next(&self) -> Option<W> {
        let mut state = self.lock();
        loop {
            if let Some(work) = state.take() {
                if state.items > 0 {
                    self.wake_one(&mut state);
                }
                return Some(work);
            }
            if state.closed {
                return None;
            }
            state.sleeping += 1;
            state = self.arrived.wait(state).unwrap_or_else(PoisonError::into_inner);
            state.sleeping -= 1;
            state.waking = state.waking.saturating_sub(1);
        }
    }

    /// The next work in turn, if there is any.
    pub fn try_next(&self) -> Option<W> {
        self.lock().take()
    }

    /// Learns how long `items` took in the token.
    pub fn observe(&self, items: usize, took: Duration) {
        let items = u32::try_from(items.max(1)).unwrap_or(u32::MAX);
        let mut state = self.lock();
        state.item_time = (state.item_time * 15 + took / items) / 16;
    }

    /// No more work comes in; what waits is still done.
    pub fn close(&self) {
        self.lock().closed = true;
        self.arrived.notify_all();
        self.closing.notify_all();
    }

    pub fn items(&self) -> usize {
        self.lock().items
    }

    pub fn is_closed(&self) -> bool {
        self.lock().closed
    }

    /// Returns when the queue is closed, or after `at_most`.
    pub fn wait_closed(&self, at_most: Duration) {
        let state = self.lock();
        let _ = self
            .closing
            .wait_timeout_while(state, at_most, |state| !state.closed)
            .unwrap_or_else(PoisonError::into_inner);
    }

    fn admit(&self, state: &State<W>, lane: Lane, items: usize, deadline: Instant) -> Result<(), TokenError> {
        if state.closed {
            return Err(TokenError::Unavailable("the token is being stopped".into()));
        }
        let ahead = u32::try_from(state.items / self.threads.max(1)).unwrap_or(u32::MAX);
        let wait = state.item_time.saturating_mul(ahead);
        // One lane gets at most three quarters, so that a flood leaves room for others.
        let of_lane = state.lanes.get(&lane).map_or(0, |entry| entry.items);
        let full = state.items + items > self.capacity || of_lane + items > self.capacity - self.capacity / 4;
        let late = Instant::now() + wait > deadline;
        if full || (late && ahead > 0) {
            return Err(TokenError::Overloaded {
                retry_after: wait.clamp(Duration::from_millis(10), Duration::from_secs(5)),
            });
        }
        Ok(())
    }

    fn wake_one(&self, state: &mut State<W>) {
        if state.waking == 0 && state.sleeping > 0 {
            state.waking = 1;
            self.arrived.notify_one();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State<W>> {
        // No code that can panic runs under the lock halfway through a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<W: Waiting> State<W> {
    fn take(&mut self) -> Option<W> {
        loop {
            let lane = *self.turns.front()?;
            let alone = self.turns.len() == 1;
            let entry = self.lanes.get_mut(&lane).expect("a lane with a turn is known");
            if entry.credit <= 0 && !alone {
                // In debt for what it had done before: pays by waiting one turn.
                entry.credit += QUANTUM;
                self.turns.rotate_left(1);
                continue;
            }
            let work = entry.work.pop_front().expect("a lane with a turn has work");
            let items = work.items();
            entry.items -= items;
            entry.credit = (entry.credit - i64::try_from(items).unwrap_or(i64::MAX)).max(-1024);
            self.items -= items;
            if entry.work.is_empty() {
                entry.credit = entry.credit.max(0);
                self.turns.pop_front();
                self.forget_idle_lanes();
            } else if entry.credit <= 0 {
                self.turns.rotate_left(1);
            }
            return Some(work);
        }
    }

    fn forget_idle_lanes(&mut self) {
        if self.lanes.len() > self.turns.len() + IDLE_LANES {
            self.lanes.retain(|_, entry| !entry.work.is_empty());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[derive(Debug, PartialEq, Eq, Clone, Copy)]
    struct Item(u64, usize);

    impl Waiting for Item {
        fn lane(&self) -> Lane {
            Lane(self.0)
        }

        fn items(&self) -> usize {
            self.1
        }
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(5)
    }

    #[test]
    fn a_flood_of_one_lane_does_not_delay_another_by_more_than_a_turn() {
        let queue = Queue::new(10_000, 1);
        for _ in 0..1_000 {
            queue.push(vec![Item(1, 1)], soon()).unwrap();
        }
        queue.push(vec![Item(2, 1)], soon()).unwrap();
        let before = (0..).take_while(|_| queue.next().unwrap().0 == 1).count();
        assert!(before <= QUANTUM as usize + 1, "lane 2 waited for {before} items");
    }

    #[test]
    fn two_busy_lanes_share_by_items_not_by_jobs() {
        let queue = Queue::new(10_000, 1);
        for _ in 0..100 {
            queue.push(vec![Item(1, 32)], soon()).unwrap();
        }
        for _ in 0..1_000 {
            queue.push(vec![Item(2, 1)], soon()).unwrap();
        }
        let mut done = [0; 3];
        for _ in 0..300 {
            let item = queue.next().unwrap();
            done[item.0 as usize] += item.1;
        }
        let ratio = done[1] as f64 / done[2] as f64;
        assert!((0.6..1.7).contains(&ratio), "items done: {done:?}");
    }

    #[test]
    fn a_full_queue_and_a_full_lane_refuse_with_a_hint() {
        let queue = Queue::new(100, 1);
        queue.push(vec![Item(1, 75)], soon()).unwrap();
        let (_, error) = queue.push(vec![Item(1, 1)], soon()).unwrap_err();
        assert!(matches!(error, TokenError::Overloaded { .. }));
        queue.push(vec![Item(2, 25)], soon()).unwrap();
        assert!(queue.push(vec![Item(3, 1)], soon()).is_err());
    }

    #[test]
    fn work_that_would_miss_its_deadline_is_refused_at_once() {
        let queue = Queue::new(100_000, 1);
        queue.observe(1, Duration::from_secs(16));
        queue.push(vec![Item(1, 50)], soon()).unwrap();
        let (_, error) = queue.push(vec![Item(2, 1)], soon()).unwrap_err();
        assert!(matches!(error, TokenError::Overloaded { .. }), "{error}");
    }

    #[test]
    fn a_closed_queue_gives_out_what_it_holds_and_then_ends_every_thread() {
        let queue = Arc::new(Queue::new(100, 2));
        queue.push(vec![Item(1, 1)], soon()).unwrap();
        queue.close();
        assert!(queue.push(vec![Item(1, 1)], soon()).is_err());
        assert_eq!(queue.next(), Some(Item(1, 1)));
        let threads: Vec<_> = (0..2)
            .map(|_| {
                let queue = Arc::clone(&queue);
                std::thread::spawn(move || queue.next())
            })
            .collect();
        for thread in threads {
            assert_eq!(thread.join().unwrap(), None);
        }
    }
}

//! Weighted fair queueing between lanes, by cost. Self-clocked: the next is the work whose lane would finish it first, if each lane
//! had its weight's share of the token; the clock is the finish of what was taken last.
//!
//! So a lane that had nothing waiting starts at the clock, neither with a debt nor with a claim, and need not be remembered: lanes
//! exist while they have work. Taking and adding cost O(log lanes).
//! Source: S. J. Golestani, "A self-clocked fair queueing scheme for broadband applications", INFOCOM 1994.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap, VecDeque, binary_heap::PeekMut},
    hash::{BuildHasherDefault, Hasher},
};

use super::cost::Expected;

/// A lane that once had a long backlog does not keep room for it.
const KEEP: usize = 64;
/// Lanes by length of their backlog: class n holds those of 2^n and more.
const CLASSES: usize = usize::BITS as usize;

pub struct Lanes<W> {
    /// Slot of each lane.
    by_id: HashMap<u64, usize, BuildHasherDefault<AsItIs>>,
    slots: Vec<Slot<W>>,
    free: Vec<usize>,
    /// One entry for each lane: the finish of its next work, a number that settles ties in order of arrival, its slot.
    turns: BinaryHeap<Reverse<(u64, u64, usize)>>,
    classes: [Vec<usize>; CLASSES],
    /// The virtual time: nanoseconds of the token, divided by weight.
    clock: u64,
    arrivals: u64,
    items: usize,
    cost: u64,
    /// Of the lanes that have work.
    weight: u64,
}

struct Slot<W> {
    id: u64,
    weight: u32,
    work: VecDeque<Piece<W>>,
    items: usize,
    cost: u64,
    /// Where it is listed among lanes with such a backlog; none while it is empty.
    listed: Option<(usize, usize)>,
}

/// What waits, with what the fair share is counted by.
pub struct Piece<W> {
    pub work: W,
    pub items: usize,
    /// Nanoseconds in the token.
    pub cost: u64,
    /// Of the first piece of a longer backlog.
    pub expected: Option<Expected>,
}

/// What a lane has waiting already, and what that means for what joins it.
pub struct Backlog {
    pub items: usize,
    pub weight: u32,
    /// Nanoseconds of token time until the lane's work, with what joins it, is done.
    pub until_done: u64,
}

impl<W> Lanes<W> {
    pub fn new() -> Self {
        Self {
            by_id: HashMap::default(),
            slots: Vec::new(),
            free: Vec::new(),
            turns: BinaryHeap::new(),
            classes: [const { Vec::new() }; CLASSES],
            clock: 0,
            arrivals: 0,
            items: 0,
            cost: 0,
            weight: 0,
        }
    }

    pub fn items(&self) -> usize {
        self.items
    }

    /// Nanoseconds in the token of all that waits.
    pub fn cost(&self) -> u64 {
        self.cost
    }

    /// Lanes known: those with work, and those whose work was shed and whose turn has not come since.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    /// The backlog of a lane that work of `cost` would join. `weight`: of a lane that is not known yet.
    pub fn backlog(&self, lane: u64, cost: u64, weight: impl FnOnce() -> u32) -> Backlog {
        let (items, waiting, weight, others) = match self.by_id.get(&lane).map(|slot| &self.slots[*slot]) {
            Some(slot) if slot.items > 0 => (slot.items, slot.cost, slot.weight, self.weight - u64::from(slot.weight)),
            Some(slot) => (0, 0, slot.weight, self.weight),
            None => (0, 0, weight(), self.weight),
        };
        let own = waiting + cost;
        // Others have at most their share meanwhile, and at most what they have waiting.
        let meanwhile = own.saturating_mul(others) / u64::from(weight);
        Backlog {
            items,
            weight,
            until_done: own + meanwhile.min(self.cost - waiting),
        }
    }

    /// Adds work to the end of a lane, which has `weight` if it is not known yet.
    pub fn push(&mut self, lane: u64, weight: u32, work: impl Iterator<Item = Piece<W>>) {
        let known = self.by_id.get(&lane).copied();
        let at = known.unwrap_or_else(|| self.open(lane, weight));
        let slot = &mut self.slots[at];
        for piece in work {
            slot.items += piece.items;
            slot.cost += piece.cost;
            self.items += piece.items;
            self.cost += piece.cost;
            slot.work.push_back(piece);
        }
        if known.is_none() {
            let first = slot.work.front().map_or(0, |piece| piece.cost);
            let finish = self.clock + share(first, slot.weight);
            self.turns.push(Reverse((finish, self.arrivals, at)));
            self.arrivals += 1;
        }
        self.list(at);
    }

    /// The next work in turn.
    pub fn take(&mut self) -> Option<Piece<W>> {
        loop {
            let mut turn = self.turns.peek_mut()?;
            let Reverse((finish, _, at)) = *turn;
            self.clock = self.clock.max(finish);
            let slot = &mut self.slots[at];
            let taken = slot.work.pop_front();
            if let Some(piece) = &taken {
                slot.items -= piece.items;
                slot.cost -= piece.cost;
                self.items -= piece.items;
                self.cost -= piece.cost;
            }
            match slot.work.front() {
                Some(next) => {
                    let finish = finish + share(next.cost, slot.weight);
                    *turn = Reverse((finish, self.arrivals, at));
                    self.arrivals += 1;
                    drop(turn);
                    self.list(at);
                }
                None => {
                    PeekMut::pop(turn);
                    self.list(at);
                    self.close(at);
                }
            }
            // A lane whose work was shed has a turn and nothing to do with it.
            if taken.is_some() {
                return taken;
            }
        }
    }

    /// Takes the newest work from the lane that has most waiting by its weight, within a factor of two. `None` if no lane has clearly
    /// more than `items` by `weight`.
    pub fn shed(&mut self, items: usize, weight: u32) -> Option<W> {
        let class = (0..CLASSES).rev().find(|class| !self.classes[*class].is_empty())?;
        if class <= class_of(items, weight) {
            return None;
        }
        let at = *self.classes[class].last()?;
        let slot = &mut self.slots[at];
        let piece = slot.work.pop_back()?;
        slot.items -= piece.items;
        slot.cost -= piece.cost;
        self.items -= piece.items;
        self.cost -= piece.cost;
        self.list(at);
        Some(piece.work)
    }

    fn open(&mut self, lane: u64, weight: u32) -> usize {
        let at = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot {
                id: 0,
                weight: 1,
                work: VecDeque::new(),
                items: 0,
                cost: 0,
                listed: None,
            });
            self.slots.len() - 1
        });
        (self.slots[at].id, self.slots[at].weight) = (lane, weight.max(1));
        self.by_id.insert(lane, at);
        at
    }

    fn close(&mut self, at: usize) {
        let slot = &mut self.slots[at];
        self.by_id.remove(&slot.id);
        slot.work.shrink_to(KEEP);
        self.free.push(at);
    }

    /// Lists a lane where its backlog belongs, after a change.
    fn list(&mut self, at: usize) {
        let slot = &self.slots[at];
        let class = (slot.items > 0).then(|| class_of(slot.items, slot.weight));
        if class == slot.listed.map(|(class, _)| class) {
            return;
        }
        let weight = u64::from(slot.weight);
        match slot.listed {
            Some((class, place)) => {
                self.classes[class].swap_remove(place);
                if let Some(moved) = self.classes[class].get(place) {
                    self.slots[*moved].listed = Some((class, place));
                }
            }
            None => self.weight += weight,
        }
        match class {
            Some(class) => self.classes[class].push(at),
            None => self.weight -= weight,
        }
        self.slots[at].listed = class.map(|class| (class, self.classes[class].len() - 1));
    }
}

/// The ids of lanes are hashes already.
#[derive(Default)]
struct AsItIs(u64);

impl Hasher for AsItIs {
    fn write_u64(&mut self, id: u64) {
        self.0 = id;
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

fn share(cost: u64, weight: u32) -> u64 {
    (cost / u64::from(weight)).max(1)
}

fn class_of(items: usize, weight: u32) -> usize {
    items.div_ceil(weight.max(1) as usize).max(1).ilog2() as usize
}

#[cfg(test)]
mod tests;

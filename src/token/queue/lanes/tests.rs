use std::collections::HashMap;

use proptest::prelude::*;

use super::*;

/// Of one item, unless said otherwise.
const COST: u64 = 10_000;

fn piece(lane: u64, items: usize, cost: u64) -> Piece<(u64, u64)> {
    Piece {
        work: (lane, cost),
        items,
        cost,
        expected: None,
    }
}

fn take<W>(lanes: &mut Lanes<W>) -> Option<W> {
    lanes.take().map(|piece| piece.work)
}

fn push(lanes: &mut Lanes<(u64, u64)>, lane: u64, weight: u32, count: usize, cost: u64) {
    lanes.push(lane, weight, (0..count).map(|_| piece(lane, 1, cost)));
}

/// Takes until so much token time is spent; returns what each lane got of it.
fn spend(lanes: &mut Lanes<(u64, u64)>, time: u64) -> HashMap<u64, u64> {
    let (mut spent, mut got) = (0, HashMap::new());
    while spent < time {
        let (lane, cost) = take(lanes).expect("there is more");
        spent += cost;
        *got.entry(lane).or_default() += cost;
    }
    got
}

#[test]
fn lanes_share_time_not_calls() {
    let mut lanes = Lanes::new();
    push(&mut lanes, 1, 1, 1_000, 50 * COST);
    push(&mut lanes, 2, 1, 10_000, COST);
    let got = spend(&mut lanes, 10_000 * COST);
    assert!(got[&1].abs_diff(got[&2]) <= 50 * COST, "{got:?}");
}

#[test]
fn weights_hold() {
    let mut lanes = Lanes::new();
    for (lane, weight) in [(1, 1), (2, 4), (3, 1)] {
        push(&mut lanes, lane, weight, 10_000, COST);
    }
    let got = spend(&mut lanes, 6_000 * COST);
    for (lane, weight) in [(1, 1), (2, 4), (3, 1)] {
        assert!(got[&lane].abs_diff(weight * 1_000 * COST) <= 2 * COST, "{got:?}");
    }
}

#[test]
fn a_caller_with_one_call_at_a_time_gets_his_fair_share_beside_a_flood() {
    let mut lanes = Lanes::new();
    let (mut of_victim, mut of_flood) = (0, 0);
    push(&mut lanes, 2, 1, 1, COST);
    for _ in 0..10_000 {
        push(&mut lanes, 1, 1, 3, COST);
        match take(&mut lanes).unwrap() {
            (1, _) => of_flood += 1,
            _ => {
                of_victim += 1;
                push(&mut lanes, 2, 1, 1, COST);
            }
        }
    }
    assert!(of_victim * 100 >= of_flood * 99, "{of_victim} to {of_flood}");
}

#[test]
fn work_of_a_lane_is_done_in_order() {
    let mut lanes = Lanes::new();
    lanes.push(1, 1, (0..100).map(|number| piece(number, 1, COST)));
    assert!((0..100).all(|number| take(&mut lanes) == Some((number, COST))));
}

#[test]
fn room_is_made_by_the_newest_work_of_the_longest_backlog_by_weight() {
    let mut lanes = Lanes::new();
    lanes.push(1, 1, (0..100).map(|number| piece(number, 1, COST)));
    lanes.push(2, 8, (0..200).map(|_| piece(1_000, 1, COST)));
    assert_eq!(lanes.shed(1, 1), Some((99, COST)));
    assert_eq!(lanes.shed(100, 1), None, "nobody has clearly more");
    assert_eq!(lanes.items(), 299);
}

#[test]
fn a_lane_all_of_whose_work_was_shed_is_skipped_and_may_come_back() {
    let mut lanes = Lanes::new();
    lanes.push(1, 1, [piece(1, 32, COST)].into_iter());
    assert_eq!(lanes.shed(1, 1), Some((1, COST)));
    push(&mut lanes, 2, 1, 1, COST);
    push(&mut lanes, 1, 1, 1, COST);
    assert_eq!(
        (take(&mut lanes), take(&mut lanes), take(&mut lanes)),
        (Some((1, COST)), Some((2, COST)), None)
    );
    assert_eq!((lanes.len(), lanes.items(), lanes.weight), (0, 0, 0));
}

#[test]
fn idle_lanes_vanish() {
    let mut lanes = Lanes::new();
    for lane in 0..100_000 {
        push(&mut lanes, lane, 1, 1, COST);
        if lane >= 10 {
            lanes.take();
        }
    }
    assert_eq!((lanes.len(), lanes.slots.len()), (10, 11));
}

#[test]
fn the_time_until_done_is_that_of_the_fair_share() {
    let mut lanes = Lanes::new();
    push(&mut lanes, 1, 3, 1_000, COST);
    // Three for the flood, then one for the newcomer.
    assert_eq!(lanes.backlog(2, COST, || 1).until_done, 4 * COST);
    push(&mut lanes, 2, 1, 9, COST);
    assert_eq!(lanes.backlog(2, COST, || 1).until_done, 40 * COST);
    assert_eq!(
        lanes.backlog(1, COST, || 1).until_done,
        1_010 * COST,
        "others' backlog at most"
    );
}

#[derive(Debug, Clone)]
enum Step {
    Push { lane: u64, pieces: Vec<(usize, u64)> },
    Take,
    Shed { items: usize },
}

fn step() -> impl Strategy<Value = Step> {
    let pieces = prop::collection::vec((1..40_usize, 1..1_000_000_u64), 1..6);
    prop_oneof![
        3 => (0..12_u64, pieces).prop_map(|(lane, pieces)| Step::Push { lane, pieces }),
        4 => Just(Step::Take),
        1 => (1..40_usize).prop_map(|items| Step::Shed { items }),
    ]
}

fn weight(lane: u64) -> u32 {
    1 + (lane % 4) as u32
}

proptest! {
    #[test]
    fn what_is_pushed_comes_out_once_and_the_sums_are_those_of_what_waits(steps in prop::collection::vec(step(), 1..300)) {
        let (mut lanes, mut waiting, mut next) = (Lanes::new(), HashMap::new(), 0_u64);
        let came_out = |waiting: &mut HashMap<u64, (u64, usize, u64)>, work: Option<u64>| {
            work.is_none_or(|number| waiting.remove(&number).is_some())
        };
        for step in steps {
            match step {
                Step::Push { lane, pieces } => {
                    let pieces: Vec<_> = pieces.into_iter().map(|(items, cost)| {
                        next += 1;
                        waiting.insert(next, (lane, items, cost));
                        Piece { work: next, items, cost, expected: None }
                    }).collect();
                    lanes.push(lane, weight(lane), pieces.into_iter());
                }
                Step::Take => {
                    let taken = take(&mut lanes);
                    prop_assert_eq!(taken.is_none(), waiting.is_empty());
                    prop_assert!(came_out(&mut waiting, taken));
                }
                Step::Shed { items } => prop_assert!(came_out(&mut waiting, lanes.shed(items, 1))),
            }
            prop_assert_eq!(lanes.items(), waiting.values().map(|(_, items, _)| items).sum::<usize>());
            prop_assert_eq!(lanes.cost(), waiting.values().map(|(_, _, cost)| cost).sum::<u64>());
            let mut busy: Vec<u64> = waiting.values().map(|(lane, ..)| *lane).collect();
            busy.sort_unstable();
            busy.dedup();
            prop_assert_eq!(lanes.weight, busy.iter().map(|lane| u64::from(weight(*lane))).sum::<u64>());
            prop_assert_eq!(lanes.turns.len(), lanes.len());
        }
        while let Some(taken) = take(&mut lanes) {
            prop_assert!(came_out(&mut waiting, Some(taken)));
        }
        prop_assert!(waiting.is_empty());
        prop_assert_eq!(lanes.len(), 0);
    }

    #[test]
    fn two_lanes_that_always_have_work_never_differ_by_more_than_one_call_each(
        costs in prop::collection::vec((1..1_000_000_u64, 1..1_000_000_u64), 50..300),
        weights in (1..9_u32, 1..9_u32),
    ) {
        let mut lanes = Lanes::new();
        lanes.push(1, weights.0, costs.iter().map(|(cost, _)| piece(1, 1, *cost)));
        lanes.push(2, weights.1, costs.iter().map(|(_, cost)| piece(2, 1, *cost)));
        let (mut got, mut left) = ([0.0, 0.0], [costs.len(), costs.len()]);
        let most = 1_000_000.0 / f64::from(weights.0) + 1_000_000.0 / f64::from(weights.1);
        while left.iter().all(|left| *left > 0) {
            let (lane, cost) = take(&mut lanes).unwrap();
            let (at, weight) = if lane == 1 { (0, weights.0) } else { (1, weights.1) };
            got[at] += cost as f64 / f64::from(weight);
            left[at] -= 1;
            // Shares are whole nanoseconds: one may be lost with each call.
            prop_assert!((got[0] - got[1]).abs() <= most + costs.len() as f64, "{got:?}");
        }
    }

    #[test]
    fn nobody_starves(others in prop::collection::vec((1..9_u32, 1..100_000_u64), 1..40), own in (1..9_u32, 1..100_000_u64)) {
        let mut lanes = Lanes::new();
        for (lane, (weight, cost)) in others.iter().enumerate() {
            push(&mut lanes, lane as u64 + 1, *weight, 400_000 / *cost as usize + 2, *cost);
        }
        push(&mut lanes, 0, own.0, 1, own.1);
        // Each other lane gets its share meanwhile, and the call it had begun.
        let share = own.1 as f64 / f64::from(own.0);
        let most: f64 = others.iter().map(|(weight, cost)| share * f64::from(*weight) + 2.0 * *cost as f64 + 8.0).sum();
        let mut spent = 0.0;
        while let Some((lane, cost)) = take(&mut lanes) {
            if lane == 0 {
                break;
            }
            spent += cost as f64;
            prop_assert!(spent <= most, "spent {spent} of {most}");
        }
    }
}

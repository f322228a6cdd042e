use std::{
    collections::HashMap,
    sync::{Arc, atomic::AtomicUsize},
};

use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone)]
struct Item {
    lane: Lane,
    number: u64,
    items: usize,
}

impl Waiting for Item {
    fn lane(&self) -> &Lane {
        &self.lane
    }

    fn kind(&self) -> Kind {
        Kind::MessageKeys
    }

    fn items(&self) -> usize {
        self.items
    }
}

fn lane(number: u64) -> Lane {
    Lane::of(None, &format!("caller {number}"))
}

fn item(number: u64, items: usize) -> Vec<Item> {
    vec![Item {
        lane: lane(number),
        number,
        items,
    }]
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(5)
}

fn queue(capacity: usize) -> Queue<Item> {
    Queue::new(capacity, 1, BTreeMap::new())
}

/// One item takes a second, as was measured until a while after the test.
fn slow(capacity: usize) -> Queue<Item> {
    let (queue, until) = (queue(capacity), Instant::now() + Duration::from_secs(3_600));
    for _ in 0..1_000 {
        queue.costs.learn(Kind::MessageKeys, 1, Duration::from_secs(1), until);
    }
    queue
}

fn retry_after(refused: &Refused<Item>) -> Duration {
    match refused.error {
        TokenError::Overloaded { retry_after } => retry_after,
        _ => panic!("{}", refused.error),
    }
}

#[test]
fn a_flood_of_one_lane_does_not_delay_another() {
    let queue = queue(10_000);
    for _ in 0..1_000 {
        assert!(queue.push(item(1, 1), soon()).is_none());
    }
    queue.push(item(2, 1), soon());
    let before = (0..).take_while(|_| queue.next().unwrap().number == 1).count();
    assert!(before <= 2, "lane 2 waited for {before} items");
}

#[test]
fn the_services_own_work_waits_for_nobody() {
    let queue = queue(10_000);
    for number in 1..100 {
        queue.push(item(number, 32), soon());
    }
    let own = Item {
        lane: Lane::OWN,
        number: 0,
        items: 1,
    };
    queue.push(vec![own], soon());
    assert_eq!(queue.next().unwrap().number, 0);
}

#[test]
fn an_environments_weight_is_that_of_its_callers() {
    let queue = Queue::new(10_000, 1, [("prod".to_owned(), 4)].into());
    for (number, environment) in [(1, "dev"), (2, "prod")] {
        let environment = environment.parse().unwrap();
        let lane = Lane::of(Some(&environment), "a");
        let item = |_| Item {
            lane: lane.clone(),
            number,
            items: 1,
        };
        queue.push((0..1_000).map(item).collect(), soon());
    }
    let of_prod = (0..1_000).filter(|_| queue.next().unwrap().number == 2).count();
    assert!((798..=802).contains(&of_prod), "{of_prod} of 1,000");
}

#[test]
fn one_lane_cannot_fill_the_queue_and_is_told_when_to_come_again() {
    let queue = queue(100);
    assert!(queue.push(item(1, 75), soon()).is_none());
    let refused = queue.push(item(1, 1), soon()).unwrap();
    assert_eq!(refused.work[0].number, 1);
    assert_eq!(retry_after(&refused), RETRY_AFTER.0);
    assert!(queue.push(item(2, 25), soon()).is_none());
}

#[test]
fn a_full_queue_makes_room_at_the_expense_of_the_longest_backlog_not_of_who_comes() {
    let queue = queue(100);
    for _ in 0..75 {
        queue.push(item(1, 1), soon());
    }
    for _ in 0..25 {
        queue.push(item(2, 1), soon());
    }
    let refused = queue.push(item(3, 1), soon()).unwrap();
    assert_eq!(refused.work.iter().map(|item| item.number).collect::<Vec<_>>(), [1]);
    assert_eq!(queue.items(), 100);
    assert_eq!(
        queue.push(item(1, 1), soon()).unwrap().work[0].number,
        1,
        "no room for its own work"
    );
}

#[test]
fn among_equals_a_full_queue_refuses_who_comes() {
    let queue = queue(100);
    for number in 0..100 {
        queue.push(item(number, 1), soon());
    }
    assert_eq!(queue.push(item(100, 1), soon()).unwrap().work[0].number, 100);
}

#[test]
fn work_that_cannot_finish_before_its_deadline_is_refused_at_once_with_the_time_the_backlog_takes() {
    let queue = slow(100_000);
    let deadline = soon() + Duration::from_millis(500);
    for waiting in 0..4 {
        assert!(queue.push(item(1, 1), deadline).is_none(), "{waiting} are ahead");
    }
    queue.push(item(1, 1), deadline);
    let refused = queue.push(item(1, 1), deadline).unwrap();
    let delay = retry_after(&refused);
    assert!(
        (Duration::from_secs(4)..=Duration::from_secs(5)).contains(&delay),
        "{delay:?}"
    );
    assert!(
        queue.push(item(2, 1), deadline).is_none(),
        "another's turn comes before"
    );
}

#[test]
fn what_others_took_already_counts_as_waiting() {
    let queue = slow(100_000);
    assert!(queue.push(item(1, 1), soon()).is_none());
    queue.ahead.store(4_000_000_000, Ordering::Relaxed);
    let refused = queue.push(item(2, 1), soon()).unwrap();
    assert_eq!(retry_after(&refused), Duration::from_secs(5));
}

#[test]
fn work_whose_time_no_longer_suffices_is_too_late_when_its_turn_comes() {
    let (queue, now) = (slow(100), Instant::now());
    let late = |ms| queue.is_too_late(&item(1, 1)[0], now + Duration::from_millis(ms), now);
    assert!(late(0) && late(500) && !late(1_500));
    queue.ahead.store(1_000_000_000, Ordering::Relaxed);
    assert!(late(1_500) && !late(2_500));
}

#[test]
fn a_rate_measured_long_ago_refuses_nobody() {
    let queue = queue(100_000);
    let long_ago = Instant::now();
    for _ in 0..200 {
        queue.costs.learn(
            Kind::MessageKeys,
            1,
            Duration::from_secs(10),
            long_ago - Duration::from_secs(60),
        );
    }
    for _ in 0..10 {
        assert!(queue.push(item(1, 1), soon()).is_none());
    }
}

#[test]
fn a_closed_queue_gives_out_what_it_holds_and_then_ends_every_thread() {
    let queue = Arc::new(queue(100));
    queue.push(item(1, 1), soon());
    queue.close();
    assert!(queue.push(item(1, 1), soon()).is_some());
    assert_eq!(queue.next().unwrap().number, 1);
    let threads: Vec<_> = (0..2)
        .map(|_| {
            let queue = Arc::clone(&queue);
            std::thread::spawn(move || queue.next().is_none())
        })
        .collect();
    for thread in threads {
        assert!(thread.join().unwrap());
    }
}

#[test]
fn under_a_flood_from_all_sides_each_piece_of_work_is_served_or_refused_once() {
    const PUSHERS: u64 = 4;
    const EACH: u64 = 5_000;
    let queue = Arc::new(queue(64));
    let (served, refused) = (Arc::new(Mutex::new(HashMap::new())), Arc::new(AtomicUsize::new(0)));
    let takers: Vec<_> = (0..2)
        .map(|_| {
            let (queue, served) = (Arc::clone(&queue), Arc::clone(&served));
            std::thread::spawn(move || {
                while let Some(item) = queue.next() {
                    *served.lock().unwrap().entry(item.number).or_insert(0) += 1;
                }
            })
        })
        .collect();
    let pushers: Vec<_> = (0..PUSHERS)
        .map(|pusher| {
            let (queue, refused) = (Arc::clone(&queue), Arc::clone(&refused));
            std::thread::spawn(move || {
                for number in 0..EACH {
                    let item = Item {
                        lane: lane(pusher * number % 7),
                        number: pusher * EACH + number,
                        items: 1 + number as usize % 5,
                    };
                    let refused_now = queue.push(vec![item], soon()).map_or(0, |refused| refused.work.len());
                    refused.fetch_add(refused_now, std::sync::atomic::Ordering::Relaxed);
                }
            })
        })
        .collect();
    for pusher in pushers {
        pusher.join().unwrap();
    }
    queue.close();
    for taker in takers {
        taker.join().unwrap();
    }
    let served = served.lock().unwrap();
    assert!(served.values().all(|times| *times == 1));
    let refused = refused.load(std::sync::atomic::Ordering::Relaxed);
    assert_eq!(served.len() + refused, (PUSHERS * EACH) as usize);
}

proptest! {
    #[test]
    fn the_queue_never_holds_more_than_it_may_nor_one_lane_more_than_its_part(
        pushes in prop::collection::vec((0..6_u64, 1..40_usize), 1..200),
    ) {
        let queue = queue(100);
        let (mut held, mut of_lane) = (0, HashMap::<u64, usize>::new());
        for (number, items) in pushes {
            held += items;
            *of_lane.entry(number).or_default() += items;
            for item in queue.push(item(number, items), soon()).into_iter().flat_map(|refused| refused.work) {
                held -= item.items;
                *of_lane.get_mut(&item.number).unwrap() -= item.items;
            }
            prop_assert_eq!(queue.items(), held);
            prop_assert!(held <= 100);
            prop_assert!(of_lane.values().all(|items| *items <= 75));
        }
    }
}

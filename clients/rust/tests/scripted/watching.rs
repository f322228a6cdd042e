//! Changes of keys over streams that end.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use keyreeve_client::{ClientError, Code, EventName, KeyListener, KeyWatcher, v1};

use crate::{
    World,
    service::{Round, Service, status},
};

/// Writes down what it is told.
#[derive(Default)]
struct Notes(Mutex<Vec<String>>);

impl Notes {
    fn note(&self, text: String) {
        self.0.lock().unwrap().push(text);
    }

    fn all(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
}

impl KeyListener for Notes {
    fn changed(&self, key: &v1::Key) {
        self.note(format!("version {}", key.primary_version));
    }

    fn begun(&self, _: &[String]) {
        self.note("begun".into());
    }

    fn lost(&self, _: &[String], error: &ClientError) {
        self.note(format!("lost: {}", error.reason));
    }

    fn restored(&self, _: &[String]) {
        self.note("restored".into());
    }

    fn refused(&self, _: &[String], error: &ClientError) {
        self.note(format!("refused: {}", error.reason));
    }
}

/// A message at a place in the chain; `version`: of the key that it tells of.
fn at(sequence: u64, version: Option<u32>) -> v1::WatchResponse {
    v1::WatchResponse {
        position: Some(v1::Position {
            sequence,
            link: vec![0; 32].into(),
        }),
        key: version.map(|primary_version| v1::Key {
            primary_version,
            ..Default::default()
        }),
    }
}

fn draining() -> Option<tonic::Status> {
    Some(status(Code::Unavailable, "DRAINING", None))
}

async fn start(world: &World, service: &Service) -> (KeyWatcher, Arc<Notes>) {
    start_on(world, &[service]).await
}

async fn start_on(world: &World, services: &[&Service]) -> (KeyWatcher, Arc<Notes>) {
    let notes = Arc::<Notes>::default();
    let client = world.client(services).await;
    let names = ["envs/dev/teams/shop/keys/orders".to_owned()];
    (KeyWatcher::start(&client, names, notes.clone()), notes)
}

async fn until(mut holds: impl FnMut() -> bool) {
    let end = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while !holds() {
        assert!(std::time::Instant::now() < end, "not seen");
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}

fn positions(service: &Service) -> Vec<Option<u64>> {
    service.seen().iter().map(|seen| seen.after).collect()
}

#[tokio::test]
async fn a_stream_that_ends_goes_on_after_the_last_position() {
    let world = World::new();
    let service = world.service().await;
    service.rounds([
        Round(vec![at(7, None), at(8, Some(2))], draining()),
        Round(vec![at(8, None), at(9, Some(3))], None),
    ]);
    let (_watcher, notes) = start(&world, &service).await;
    until(|| notes.all().len() == 5).await;
    assert_eq!(
        notes.all(),
        ["begun", "version 2", "lost: DRAINING", "restored", "version 3"]
    );
    assert_eq!(positions(&service), [None, Some(8)]);
}

#[tokio::test]
async fn a_lost_watch_is_told_once_and_tried_until_the_service_is_back() {
    let world = World::new();
    let mut service = world.service().await;
    service.rounds([Round(vec![at(7, None), at(8, Some(2))], None)]);
    let (_watcher, notes) = start(&world, &service).await;
    until(|| notes.all().len() == 2).await;
    service.kill().await;
    // More tries than a call has.
    until(|| world.told(EventName::Retry).len() >= 6).await;
    assert_eq!(notes.all(), ["begun", "version 2", "lost: UNREACHABLE"]);
    assert_eq!(world.told(EventName::WatchLost).len(), 1);

    let service = service.again().await;
    service.rounds([Round(vec![at(8, None), at(9, Some(3))], None)]);
    until(|| notes.all().len() == 5).await;
    assert_eq!(notes.all()[3..], ["restored", "version 3"]);
    assert_eq!(positions(&service).last(), Some(&Some(8)));
}

/// As many as could be begun in the time of a test if none of them waited.
fn begin_and_end() -> impl Iterator<Item = Round> {
    let away = || Some(status(Code::Unavailable, "TOKEN_UNAVAILABLE", None));
    (0..10_000).map(move |_| Round(vec![at(7, None)], away()))
}

#[tokio::test]
async fn rule_3_streams_that_begin_and_end_at_once_are_begun_again_after_waits_that_grow() {
    let world = World::new();
    for count in [1, 2] {
        let services = [world.service().await, world.service().await];
        services.iter().for_each(|service| service.rounds(begin_and_end()));
        let services: Vec<&Service> = services.iter().take(count).collect();
        let (_watcher, notes) = start_on(&world, &services).await;
        tokio::time::sleep(Duration::from_millis(1_500)).await;
        let begun: usize = services.iter().map(|service| service.seen().len()).sum();
        // The waits of 8 streams in a row: 12 s at most, 6 s on the average.
        assert!((2..25).contains(&begun), "{begun} streams at {count} endpoints");
        assert_eq!(notes.all()[..2], ["begun", "lost: TOKEN_UNAVAILABLE"]);
    }
}

#[tokio::test]
async fn rule_3_after_a_stream_that_lasted_the_waits_are_short_again() {
    let world = World::new();
    let mut service = world.service().await;
    let short = (7..10).map(|sequence| Round(vec![at(sequence, None)], draining()));
    service.rounds(short.chain([Round(vec![at(10, Some(2))], None)]));
    let (_watcher, notes) = start(&world, &service).await;
    until(|| notes.all().contains(&"version 2".to_owned())).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    service.kill().await;
    until(|| world.told(EventName::Retry).len() >= 5).await;
    let tries = world.told(EventName::Retry).into_iter().map(|retry| retry.tries);
    assert_eq!(tries.take(5).collect::<Vec<_>>(), [1, 2, 3, 1, 2]);
}

#[tokio::test]
async fn after_a_restore_the_watch_begins_anew_and_says_so() {
    let world = World::new();
    let service = world.service().await;
    let unknown = || Some(status(Code::OutOfRange, "POSITION_UNKNOWN", None));
    service.rounds([
        Round(vec![at(7, None), at(8, Some(2))], draining()),
        Round(vec![], unknown()),
        Round(vec![at(3, None), at(4, Some(1))], None),
    ]);
    let (_watcher, notes) = start(&world, &service).await;
    until(|| notes.all().len() == 6).await;
    assert_eq!(
        notes.all(),
        ["begun", "version 2", "lost: DRAINING", "restored", "begun", "version 1"]
    );
    assert_eq!(positions(&service), [None, Some(8), None]);
}

#[tokio::test]
async fn a_refusal_ends_the_watch() {
    let world = World::new();
    let service = world.service().await;
    let denied = status(Code::PermissionDenied, "PERMISSION_DENIED", None);
    service.rounds([Round(vec![at(7, None)], Some(denied))]);
    let (mut watcher, notes) = start(&world, &service).await;
    assert_eq!(watcher.refused().await.unwrap().reason, "PERMISSION_DENIED");
    assert!(watcher.refused().await.is_none());
    assert_eq!(
        notes.all(),
        ["begun", "lost: PERMISSION_DENIED", "refused: PERMISSION_DENIED"]
    );
}

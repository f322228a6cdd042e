//! Changes of keys over streams that end.

use std::sync::{Arc, Mutex};

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
    let notes = Arc::<Notes>::default();
    let client = world.client(&[service]).await;
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

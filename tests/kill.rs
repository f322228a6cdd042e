//! `kill -9` under load, twenty times on one data directory: what was acknowledged is there, and in the log exactly once.

#![allow(clippy::unwrap_used)] // all of this file is a test

mod support;

use std::collections::HashSet;

use support::load::{self, Load};
use support::log::assert_chained;
use support::{Setup, TestServer};

const KILLS: usize = 20;

async fn twenty_kills(durability: &str) {
    let mut server = Setup::default().durability(durability).init();
    server.serve().await;
    load::prepare(&server).await;
    let mut all = Vec::new();
    for round in 0..KILLS {
        let load = Load::start(&server, &format!("kill-{round}"), 3).await;
        // Never at the same moment: in the middle of the first calls, or after many.
        load.acknowledged(1 + round * round).await;
        server.kill();
        let ledger = load.ledger().await;
        server.serve().await;
        if let Err(broken) = load::check(&server, &ledger).await {
            panic!("after kill {round}: {broken}");
        }
        all.extend(ledger);
    }
    // Later kills took nothing from earlier rounds.
    if let Err(broken) = load::check(&server, &all).await {
        panic!("at the end: {broken}");
    }
    assert!(all.len() > KILLS * KILLS, "only {} operations", all.len());
    assert!(server.stop().await.success());
    nothing_is_twice(&server);
    server.verifies();
}

/// Not even what was never acknowledged is in the log twice.
fn nothing_is_twice(server: &TestServer) {
    let records = server.records();
    assert_chained(&records);
    let mut seen = HashSet::new();
    for record in &records {
        if record.request().starts_with("kill-") {
            let place = (record.request(), record.operation());
            assert!(seen.insert(place), "{place:?} is in the log twice");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_to_twenty_kills_with_durability_written() {
    twenty_kills("written").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_to_twenty_kills_with_durability_fsync() {
    twenty_kills("fsync").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_check_sees_a_lost_record_and_a_lost_ciphertext() {
    let mut server = Setup::default().init();
    server.serve().await;
    load::prepare(&server).await;
    let load = Load::start(&server, "self-test", 1).await;
    load.acknowledged(40).await;
    server.kill();
    let ledger = load.ledger().await;
    server.serve().await;
    load::check(&server, &ledger).await.unwrap();
    let mut unrecorded = ledger.clone();
    unrecorded[3].id += "-never-called";
    assert!(
        load::check(&server, &unrecorded).await.is_err(),
        "a record that is missing"
    );
    let mut damaged = ledger.clone();
    let of = damaged.iter_mut().find_map(|promise| match &mut promise.result {
        load::Result::Message(_, sealed, _) => Some(sealed),
        _ => None,
    });
    of.unwrap()[40] ^= 1;
    assert!(
        load::check(&server, &damaged).await.is_err(),
        "a ciphertext that does not open"
    );
    let mut unmade = ledger;
    let key = unmade.iter_mut().find_map(|promise| match &mut promise.result {
        load::Result::Key(key, _) => Some(key),
        _ => None,
    });
    key.unwrap().push_str("-never-made");
    assert!(load::check(&server, &unmade).await.is_err(), "a key that is not there");
}

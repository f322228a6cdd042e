//! A disk that fills up under the service: what it acknowledges is recorded, what it cannot record it refuses, and when
//! there is room again it goes on.

#![allow(clippy::unwrap_used)] // all of this file is a test

mod support;

use std::fs;
use std::time::{Duration, Instant};

use support::disk::SmallDisk;
use support::load::{self, Acknowledged};
use support::{PATIENCE, Setup, TestServer};
use tonic::Code;

/// Waits for the service on the small disk, which may have ended and then needs another start.
async fn ready(server: &TestServer, disk: &mut SmallDisk, started: bool) {
    if !started {
        disk.order("start");
    }
    let end = Instant::now() + PATIENCE;
    while !server
        .http("/readyz")
        .is_some_and(|answer| answer.starts_with("HTTP/1.1 200"))
    {
        assert!(Instant::now() < end, "it is not ready: {}", server.output());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_loses_nothing_that_was_acknowledged_and_ends_when_there_is_room() {
    let mut server = Setup::default().durability("fsync").init();
    let mut disk = SmallDisk::around(&server, 16);
    ready(&server, &mut disk, false).await;
    load::prepare(&server).await;
    let mut ledger = load::calls_without_a_change(&server, "before", 20).await;

    disk.order("fill");
    ledger.extend(refused_in_the_end(&server).await);
    let answer = server.http("/readyz");
    assert!(
        !answer.is_some_and(|answer| answer.starts_with("HTTP/1.1 200")),
        "it says that it is ready"
    );

    disk.order("free");
    let alive = server.http("/livez").is_some();
    ready(&server, &mut disk, alive).await;
    ledger.extend(load::calls_without_a_change(&server, "after", 20).await);
    server
        .admin()
        .await
        .create_key("dev/shop/made-afterwards")
        .await
        .unwrap();
    disk.order("stop");
    disk.order("copy");
    drop(disk);

    // From here on the data is on the disk of the test, where the log can be read.
    fs::remove_dir_all(server.data()).unwrap();
    fs::rename(server.path("copied"), server.data()).unwrap();
    server.verifies();
    server.serve().await;
    load::check(&server, &ledger).await.unwrap();
    server.admin().await.key("dev/shop/made-afterwards").await.unwrap();
}

/// Works until both kinds of calls are refused; what was acknowledged meanwhile.
async fn refused_in_the_end(server: &TestServer) -> Vec<Acknowledged> {
    let mut acknowledged = Vec::new();
    let end = Instant::now() + PATIENCE;
    for turn in 0.. {
        assert!(Instant::now() < end, "a full disk refuses nothing");
        let Ok(client) = server.connect(&server.client_ca.client(support::ADMIN)).await else {
            return acknowledged; // it has ended itself, to be started again
        };
        let (call, change) = (
            load::work(&client, &format!("full-{turn}"), 0).await,
            client.create_key(&format!("dev/shop/full-{turn}")).await,
        );
        let mut refused = 0;
        match call {
            Ok(done) => acknowledged.push(done),
            Err(fault) => {
                assert_eq!(fault.code, Code::Unavailable, "{fault:?}");
                refused += 1;
            }
        }
        if let Err(fault) = change {
            assert!([Code::Unavailable, Code::Internal].contains(&fault.code), "{fault:?}");
            refused += 1;
        }
        if refused == 2 {
            return acknowledged;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    unreachable!("the loop ends by returning")
}

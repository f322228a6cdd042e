//! Power cuts under load with `durability = "fsync"`: what was acknowledged is there, although only what was synced is left.
//!
//! The service runs under the shim of `tests/power_cut/`, which keeps what a disk would hold. The last tests leave out a sync on
//! purpose: the same check must then find what was lost, or it proves nothing.

#![allow(clippy::unwrap_used)] // all of this file is a test

#[path = "support/power_cut.rs"]
mod power_cut;
mod support;

use power_cut::PowerCut;
use support::load::{self, Acknowledged, Load};
use support::log::assert_chained;
use support::{Setup, TestServer, text};

/// Load, a power cut in the middle of it, and what is left of the data directory. Returns what was acknowledged.
async fn load_and_cut(server: &mut TestServer, power: &PowerCut, name: &str, seed: Option<u64>) -> Vec<Acknowledged> {
    let load = Load::start(server, name, 2).await;
    load.acknowledged(150).await;
    server.kill();
    match seed {
        None => power.cut(),
        Some(seed) => power.cut_keeping_some(seed),
    };
    load.ledger().await
}

/// Starts the service on what is left, and checks every promise; what does not hold is the error.
async fn restart_and_check(server: &mut TestServer, power: &PowerCut, ledger: &[Acknowledged]) -> Result<(), String> {
    server.spawn(&power.environment());
    if !server.is_ready().await {
        return Err(format!("the server does not start: {}", server.output()));
    }
    load::check(server, ledger).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_to_power_cuts() {
    let mut server = Setup::default().durability("fsync").init();
    let power = PowerCut::over(&server.data());
    server.serve_with(&power.environment()).await;
    load::prepare(&server).await;
    let mut all = Vec::new();
    // First nothing survives that was not synced; then a part of it does, torn and out of order.
    for (round, seed) in [None, None, Some(1), Some(2), Some(3)].into_iter().enumerate() {
        let ledger = load_and_cut(&mut server, &power, &format!("cut-{round}"), seed).await;
        all.extend(ledger);
        if let Err(broken) = restart_and_check(&mut server, &power, &all).await {
            panic!("after cut {round}: {broken}");
        }
    }
    assert!(server.stop().await.success());
    assert_chained(&server.records());
    server.verifies();
}

#[tokio::test]
async fn what_init_made_survives_a_power_cut_at_once() {
    let server = Setup::default().durability("fsync").prepare();
    // Token, manifest, store and log: all that `init` writes. The empty token itself was there before.
    let power = PowerCut::over(server.directory.path());
    let mut server = server;
    let output = server.init_command().envs(power.environment()).output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    server.write_config();
    power.cut();
    server.write_config();
    server.serve().await;
    let admin = server.admin().await;
    admin.create_key("dev/shop/orders").await.unwrap();
    let sealed = admin.encrypt("dev/shop/orders", b"hello", &[]).await.unwrap();
    assert_eq!(admin.decrypt("dev/shop/orders", &sealed, &[]).await.unwrap(), b"hello");
    assert!(server.stop().await.success());
    server.verifies();
}

/// The same load and the same cut, with the syncs of these files left out: the check must say so.
async fn is_red_without_the_syncs_of(pattern: &str) {
    let mut server = Setup::default().durability("fsync").init();
    let power = PowerCut::over(&server.data()).ignoring_sync(pattern);
    server.serve_with(&power.environment()).await;
    load::prepare(&server).await;
    let load = Load::start(&server, "red", 2).await;
    load.acknowledged(150).await;
    server.kill();
    assert!(!power.ignored().is_empty(), "{pattern} meets no file that is synced");
    power.cut();
    let ledger = load.ledger().await;
    let checked = restart_and_check(&mut server, &power, &ledger).await;
    assert!(
        checked.is_err(),
        "no sync of {pattern} was done, and nothing was missed"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_test_turns_red_when_the_log_is_not_synced() {
    is_red_without_the_syncs_of("*.seg").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_test_turns_red_when_the_store_is_not_synced() {
    is_red_without_the_syncs_of("store.db*").await;
}

/// Records without a change are promised to survive a killed process only.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_test_turns_red_with_durability_written() {
    let mut server = Setup::default().durability("written").init();
    let power = PowerCut::over(&server.data());
    server.serve_with(&power.environment()).await;
    load::prepare(&server).await;
    // No change follows, so nothing syncs these calls on the side.
    let ledger = load::calls_without_a_change(&server, "written", 30).await;
    server.kill();
    power.cut();
    assert!(restart_and_check(&mut server, &power, &ledger).await.is_err());
}

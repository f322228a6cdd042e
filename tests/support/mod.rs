//! What the flows in `tests/` stand on: a token, certificates, a real server in a process of its own, a client.
//!
//! Nothing here knows the inside of the service: what a flow sees is what a caller, an operator or a thief of the disk sees.

#![allow(dead_code, unused_imports)] // each test file uses a part of it
#![allow(clippy::unwrap_used, clippy::print_stderr)] // all of this is a test

pub mod ca;
pub mod canary;
pub mod ceremony;
pub mod client;
pub mod disk;
pub mod load;
pub mod log;
pub mod server;
pub mod setup;
pub mod token;
pub mod world;

pub use client::{Client, Fault, Outcome, answer, fault, key_name, pairs, team_name, with_id};
pub use server::{PATIENCE, TestServer, text};
pub use setup::{ADMIN, SHOP, STAGING, STRANGER, Setup};
pub use world::shared;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// Waits until `holds`; nothing that must happen takes longer than [`PATIENCE`].
pub async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let end = std::time::Instant::now() + PATIENCE;
    while !holds().await {
        assert!(std::time::Instant::now() < end, "not seen: {what}");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

/// Writes a file that only its owner may read.
pub fn write_private(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

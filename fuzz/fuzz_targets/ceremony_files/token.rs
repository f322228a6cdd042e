//! The service's own parsers, file by file: to build the service for them would take twenty times as long.

#![allow(dead_code)] // of each file only the parser is used

#[path = "ceremony.rs"]
pub mod ceremony;
#[path = "../../../src/token/custodians.rs"]
pub mod custodians;
#[path = "../../../src/token/files.rs"]
mod files;
#[path = "../../../src/token/manifest.rs"]
pub mod manifest;
#[path = "../../../src/token/public_key.rs"]
mod public_key;

//! Keyreeve: HSM-backed key management and encryption over gRPC.
//!
//! The path of one request, and the modules it passes, top to bottom; arrows point downward only:
//!
//! ```text
//! cli      the command line: serve, dev, init, doctor …, and the client commands (through clients/rust)
//! grpc     the wire: parses a request, asks the gate for a permit, calls one operation, converts its recorded answer
//! operations, keys
//!          what can be done: each takes a `Permit` and returns a `Recorded` answer
//! token    groups of PKCS#11 tokens: session threads, handle cache, recovery; takes the permit as proof
//! policy   `Gate` → `Permit`: who may do what; completing a permit commits its record
//! identity who is calling
//! audit    the one writer of a node: the log, and every change of the store
//! store    rows that carry authority, MACed and chained; SQLite
//! model    names, ids, states: plain types without I/O
//! ```
//!
//! The rule of the house: **no permit, no operation; no record, no answer** (`policy::Permit`, `policy::Recorded`).
#![forbid(unsafe_code)]

// The token in software, which the unit tests include, is of the crate `keyreeve-testing` and names this one from outside.
#[cfg(test)]
extern crate self as keyreeve;

pub mod audit;
pub mod cli;
pub mod clock;
pub mod config;
pub mod error;
pub mod grpc;
pub mod hardening;
pub mod identity;
pub mod keys;
pub mod model;
pub mod operations;
pub mod policy;
pub mod server;
pub mod store;
pub mod telemetry;
pub mod token;

pub use error::{Error, Result};
/// The messages of the wire, for those who build on this library.
pub use keyreeve_proto as proto;

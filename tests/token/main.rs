//! The token layer on real tokens: one contract for SoftHSM and, where KEYREEVE_KRYOPTIC names it, Kryoptic.
#![allow(clippy::unwrap_used)] // a test stops at the first surprise

mod campaign;
mod ceremony;
mod consequence;
mod contract;
mod dice;
mod failures;
mod faults;
mod fixture;
mod group;
mod matrix;
mod probes;
mod recovery;
mod resident;
mod return_codes;
mod spy;
mod starts;
#[path = "../../pkcs11/tests/support/mod.rs"]
mod support;
mod sweep;
mod token_gcm;
mod trace;
mod transitions;
mod trial;
mod vectors;
mod workers;
mod workload;

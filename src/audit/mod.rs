//! The audit log: an operation that cannot be recorded does not happen.
//!
//! A permit reserves a [`Slot`] before it is decided; completing the permit sends its [`Draft`] through the slot and waits until the one
//! writer of the node has committed it. Formats: `docs/formats.md`, "Audit record, chain, checkpoint"; security design, section 6.

mod draft;
mod slot;

pub use draft::{Actor, Draft, Outcome, Verdict};
pub use slot::{Commit, CommitError, Entry, Log, Slot};

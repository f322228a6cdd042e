//! The audit log: an operation that cannot be recorded does not happen.
//!
//! A permit reserves a [`Slot`] before it is decided; completing the permit sends its [`Draft`] through the slot and waits until the one
//! writer of the node has committed it. Formats: `docs/formats.md`, section 8.

mod disk;
mod draft;
mod error;
#[cfg(test)]
mod fault_tests;
mod health;
mod json;
mod metrics;
mod reader;
mod record;
mod recover;
#[cfg(test)]
mod sample;
mod search;
mod segment;
mod slot;
mod start;
mod tail;
mod tree;
mod verify;
mod writer;
#[cfg(test)]
mod writer_tests;

pub use disk::DiskGuard;
pub use draft::{Actor, Draft, Outcome, Verdict};
pub use error::AuditError;
pub use health::Health;
pub use reader::{LogReader, ReadError, Stored, epoch_directory, epochs, tail};
pub use record::{
    Record, RecordActor, RecordChange, RecordDecision, RecordError, RecordKey, RecordToken, RedactKey, leaf,
};
pub use search::{Query, search};
pub use segment::SegmentFile;
pub use slot::{Commit, CommitError, Entry, Log, Slot};
pub use start::{Durability, Opening, Options, WriterHandle, origin, start};
pub use tree::Tree;
pub use verify::{Fault, Finding, Report, verify};
pub use writer::{CUT, EPOCH, REFUSE, START, STOP};

//! Groups of several tokens: how their tokens come to hold the same root keys, and who vouches for that.
//!
//! Each step is a function on an open token that reads files and writes one: nothing here decides to go on to the next step, since
//! people carry the files and compare what they read. Who may be trusted comes from the manifest, which custodians signed.
//! Source: docs/formats.md, section 7; docs/runbooks/ceremony.md.
//!
//! | step | file | where |
//! |---|---|---|
//! | any of them on a token | `at_hand.rs` | |
//! | a token joins | `enrol.rs`, with `transport_probe.rs` | the token's host |
//! | custodians say who is a group | `draft.rs`, `changes.rs` | anywhere; no token |
//! | keys of a new epoch | `epoch.rs` | a member's host, server stopped |
//! | a token takes them in | `import.rs` | each member's host |
//! | a group's keys for a token that comes later | `pass_on.rs` | the recovery token's host, offline |
//! | what all of them sign and read | `signed.rs`, `statements.rs`, `this_token.rs`, `transfer_keys.rs` | |
//! | a step that died, repeated | `unfinished.rs` | |
//! | no going back; what was done | `last_seen.rs`, `transcript.rs` | |

mod at_hand;
mod changes;
mod draft;
mod enrol;
mod epoch;
mod error;
mod import;
mod last_seen;
mod pass_on;
mod signed;
mod statements;
mod this_token;
pub mod transcript;
mod transfer_keys;
mod transport_probe;
mod unfinished;

pub use at_hand::TokenAtHand;
pub use changes::changes;
pub use draft::{DraftError, NextManifest};
pub use error::CeremonyError;
pub use last_seen::{LastSeen, LastSeenError, admit_manifest, check_manifest};
pub use signed::{Signed, SignedError, Statement};
pub use statements::{EnrolRequest, KeyReadBack, Receipt, Role, Transfer, WrappedKeys};
pub use transport_probe::{probe_pair, probe_transport};
pub use unfinished::{Left, Stated};

//! PKCS#11 tokens: groups, session threads, handle cache, recovery. Takes proof, not trust.
//!
//! [`Token`] is what operations see: every call takes the permit, and the key comes out of the permit, so that a permit for one key or
//! action cannot work another. There is no "HMAC these bytes" call. Under it, a [`Host`] runs typed calls on the module, in threads of
//! this process ([`ThreadHost`]) or in worker processes ([`ProcessHost`]).
//!
//! | file | what |
//! |---|---|
//! | `token.rs`, `root.rs`, `reserve.rs` | the two ways in: with a permit, and for the service's own work |
//! | `members.rs` | the tokens of a group: who gets a call, who takes over |
//! | `host.rs`, `thread_host.rs` | the seam, and its form in threads |
//! | `queue.rs`, `lane.rs`, `work.rs`, `session_thread.rs` | admission and turns, batches, the threads |
//! | `worker/` | the module in a process of its own |
//! | `version_keys.rs`, `resident.rs`, `handles.rs` | version keys made and unwrapped, or kept in the token; the handle cache |
//! | `usage.rs` | uses of each key, and their ceilings |
//! | `token_gcm.rs`, `iv.rs`, `counted_uses.rs` | suite 0001: sealing and opening in the token; who makes the ivs; uses counted before they are made |
//! | `recovery.rs`, `breaker.rs`, `watchdog.rs` | what a failure leads to |
//! | `latch.rs`, `unlatched.rs` | what of it survives a restart, and who ended that |
//! | `config.rs`, `pin.rs`, `open.rs`, `softhsm.rs` | from configuration to a logged-in token |
//! | `init.rs`, `root_keys.rs`, `audit_key.rs` | root keys: made, found, held against the manifest |
//! | `manifest.rs`, `manifest_source.rs`, `custodians.rs`, `custodian_key.rs` | which tokens are a group, and who vouches for that |
//! | `ceremony/` | groups of several tokens: how their tokens come to hold the same root keys |
//! | `public_key.rs`, `files.rs` | keys of those who sign; files read with a limit |
//! | `known_answer.rs`, `probe.rs`, `report.rs` | what a token can and enforces; `doctor` |

mod audit_key;
mod breaker;
pub mod ceremony;
mod config;
mod counted_uses;
mod custodian_key;
mod custodians;
mod error;
pub(crate) mod files;
mod handles;
pub mod host;
mod init;
mod iv;
mod known_answer;
mod lane;
mod latch;
mod manifest;
mod manifest_source;
mod members;
mod meters;
mod open;
mod pin;
pub mod probe;
mod public_key;
mod queue;
mod recovery;
mod report;
mod reserve;
mod resident;
mod root;
mod root_attributes;
mod root_keys;
mod session_thread;
mod softhsm;
#[cfg(test)]
pub(crate) mod software_host;
#[cfg(test)]
#[path = "../../clients/rust-testing/src/software_token.rs"]
mod software_token;
mod thread_host;
mod throwaway;
#[expect(clippy::module_inception, reason = "the type that everyone calls the token")]
mod token;
mod token_gcm;
pub mod unlatched;
mod usage;
mod version_keys;
mod watchdog;
mod work;
pub mod worker;

pub use breaker::BreakerState;
pub use config::{Isolation, PinSource, TokenConfig, TokenConfigError};
pub use counted_uses::{CountedUses, ReservedUses, reserve};
pub use custodian_key::{CustodianKey, CustodianKeyError};
pub use custodians::Signatures;
pub use error::TokenError;
pub use host::{Answer, Call, EnvelopeInput, Host, HostStatus, Job, OpenInput, SealInput};
pub use init::{Initialised, SINGLE_TOKEN_WARNING, init};
pub use keyreeve_pkcs11::exit_now;
pub use known_answer::{KnownAnswer, Outcome as KnownAnswerOutcome};
pub use lane::Lane;
pub use latch::{Latch, Latched};
pub use manifest::{Checks, Epoch, Manifest, Member, OaepHash};
pub use manifest_source::{ManifestError, ManifestSource, Trust};
pub use members::{Members, Seat};
pub use open::OpenError;
pub use public_key::PublicKey;
pub use report::{Failure, Report, examine};
pub use root::Root;
pub use thread_host::{Buried, ThreadHost};
pub use throwaway::make_throwaway;
pub use token::{Token, Tokens};
pub use usage::{KeyUses, Uses};
pub use worker::{ProcessHost, Program};

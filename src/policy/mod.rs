//! Who may do what: the [`Gate`] decides, and a [`Permit`] is its word. No permit, no operation; no record, no answer.
//!
//! `action.rs` is the table of actions; `schema.rs` makes the Cedar schema of it; `set.rs` holds one loaded set of policies and decides;
//! `policies.rs` holds the set in force; `gate.rs` turns a decision into a permit or a recorded refusal.

pub mod action;
mod context;
mod entities;
mod gate;
mod identities;
mod permit;
mod policies;
mod report;
mod resource;
mod schema;
mod set;

pub use action::{Action, Changes, ChecksKeys, MakesKey, UsesKey};
pub use context::Context;
pub use gate::Gate;
pub use permit::{Permit, Recorded, complete_pair};
pub use policies::{Policies, check};
pub use report::{Fault, InvalidPolicies, Report};
pub use resource::{Resource, System, View};
pub use schema::schema;

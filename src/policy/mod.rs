//! Who may do what: the [`Gate`] decides, and a [`Permit`] is its word. No permit, no operation; no record, no answer.

pub mod action;
mod permit;
mod resource;

pub use action::{Action, Changes, MakesKey, UsesKey};
pub use permit::{Permit, Recorded, complete_pair};
pub use resource::{Resource, System};

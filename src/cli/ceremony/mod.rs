//! `ceremony`: groups of several tokens, step by step. The steps at a token are `tokens enrol`, `tokens import` and two of these.
//!
//! No command goes on to the next step: people carry the files, compare what they read, and decide. Each command shows what it did, says
//! what comes next and where, and adds a line to the transcript. docs/runbooks/ceremony.md.

mod add;
mod desk;
mod enrol;
mod epoch;
mod import;
mod manifest;
mod record;
mod show;
mod sign;
mod transfers;

use clap::Subcommand;

pub use self::{enrol::Enrol, import::Import};
use super::{failure::Outcome, output::Format};

#[derive(Debug, Subcommand)]
pub enum Ceremony {
    /// Drafts the next manifest of a group from enrolment requests, removals and receipts
    Manifest(manifest::ManifestCommand),
    /// Shows a manifest and signs it with a custodian's key
    Sign(sign::Sign),
    /// Makes the keys of a new epoch, wrapped to every token of the group
    Epoch(epoch::EpochCommand),
    /// Wraps a group's keys for a new member or recovery token, with a recovery token, on an offline host
    Add(add::Add),
    /// Shows a file of a ceremony: manifest, request, transfer file or receipt
    Show(show::Show),
    /// Has the next start of the server record the transcript in the audit log
    Record(record::RecordCommand),
}

impl Ceremony {
    pub fn run(self, format: Format) -> Outcome {
        match self {
            Self::Manifest(command) => command.run(format),
            Self::Sign(command) => command.run(format),
            Self::Epoch(command) => command.run(format),
            Self::Add(command) => command.run(format),
            Self::Show(command) => command.run(format),
            Self::Record(command) => command.run(format),
        }
    }
}

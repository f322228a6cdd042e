//! What operators did on this node's files while it did not run, and what its log must say of it: opened latches, ceremonies.

use std::{
    io,
    path::{Path, PathBuf},
};

use crate::token::{
    Latch,
    ceremony::transcript::Mark,
    unlatched::{self, Unlatched},
};

/// A group of tokens was changed by a ceremony: the hash of its transcript.
const CEREMONY: &str = "RecordCeremony";
const UNLATCH: &str = "UnlatchToken";

/// Marks that are not recorded yet.
pub struct Meanwhile {
    latches: PathBuf,
    unlatched: Vec<Unlatched>,
    ceremony: Option<Mark>,
}

impl Meanwhile {
    pub fn find(data_directory: &Path) -> io::Result<Self> {
        let latches = Latch::directory(data_directory);
        Ok(Self {
            unlatched: unlatched::take(&latches)?,
            ceremony: Mark::find(data_directory)?,
            latches,
        })
    }

    /// Operation and object of a record each.
    pub fn records(&self) -> Vec<(&'static str, String)> {
        let unlatched = self.unlatched.iter().map(of_unlatched);
        let ceremony = self.ceremony.iter().map(|mark| (CEREMONY, mark.record()));
        unlatched.chain(ceremony).collect()
    }

    /// To be called once they are in the log: they are not told again.
    pub fn recorded(self) -> io::Result<()> {
        unlatched::recorded(&self.latches)?;
        self.ceremony.map_or(Ok(()), Mark::recorded)
    }
}

fn of_unlatched(unlatched: &Unlatched) -> (&'static str, String) {
    let Unlatched {
        serial,
        class,
        since,
        latched_for,
        by,
        reason,
        at,
    } = unlatched;
    let object = format!(
        "serial={serial} class={class} since={since} at={at} by={by} latched_for={latched_for} reason={reason}"
    );
    (UNLATCH, object)
}

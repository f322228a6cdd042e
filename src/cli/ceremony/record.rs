//! `ceremony record`: the transcript's hash goes into the audit log at the next start of the server.

use std::{fs::DirBuilder, os::unix::fs::DirBuilderExt as _, path::PathBuf};

use clap::Args;
use serde::Serialize;

use super::super::{
    config::ConfigFile,
    failure::{Failure, Outcome},
    output::{self, Format, Shown, Table},
};
use crate::token::ceremony::transcript;

#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  keyreeve ceremony record ceremony.jsonl

Verifies that the lines follow each other, and leaves a mark in the data directory: the next start records the hash. Keep the file itself
with the evidence.")]
pub struct RecordCommand {
    /// The transcript
    #[arg(value_name = "FILE")]
    transcript: PathBuf,
    #[command(flatten)]
    config: ConfigFile,
}

#[derive(Serialize)]
struct Done {
    transcript: PathBuf,
    sha256: String,
    steps: usize,
}

impl RecordCommand {
    pub fn run(self, format: Format) -> Outcome {
        let config = self.config.load()?;
        let read = |error| Failure::file("read", &self.transcript, &error);
        let hash = transcript::verify(&self.transcript).map_err(read)?;
        if hash.steps == 0 {
            return Err(Failure::failed(format!("`{}` has no steps", self.transcript.display())));
        }
        let data = &config.store.data_dir;
        // Before `init` there may be none, where no step was done on this host.
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(data)
            .and_then(|()| transcript::leave_mark(data, &hash))
            .map_err(|error| Failure::file("write into", data, &error))?;
        output::print(
            format,
            &Done {
                transcript: self.transcript,
                sha256: hash.sha256,
                steps: hash.steps,
            },
        )?;
        output::note("next: start the server: it records this; `keyreeve audit tail` shows `RecordCeremony`");
        Ok(())
    }
}

impl Shown for Done {
    fn table(&self) -> Table {
        let mut table = Table::facts();
        table
            .fact("transcript", self.transcript.display().to_string())
            .fact("sha256", &self.sha256)
            .fact("steps", self.steps.to_string());
        table
    }
}

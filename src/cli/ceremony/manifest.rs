//! `ceremony manifest`: the next manifest, drafted from what tokens stated.

use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;

use super::{
    super::{
        failure::{Failure, Outcome},
        output::{self, Format, Shown, Table},
    },
    desk::Transcript,
    show::facts_of_manifest,
};
use crate::token::{
    Manifest, Signatures,
    ceremony::{NextManifest, Signed, Statement},
};

#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  keyreeve ceremony manifest --enrol a.enrol --enrol b.enrol --enrol r.enrol --out manifest-1.json
  keyreeve ceremony manifest --previous manifest-1.json --receipt a-1.receipt --receipt b-1.receipt --out manifest-2.json
  keyreeve ceremony manifest --previous manifest-2.json --remove 0001 --out manifest-3.json

Anywhere; needs no token. Every request and receipt is verified against the key that must have signed it. A draft says nothing until a
quorum of custodians has signed it.")]
pub struct ManifestCommand {
    /// The manifest before; without it, a new group begins
    #[arg(long, value_name = "FILE")]
    previous: Option<PathBuf>,
    /// Enrolment request of a token that joins
    #[arg(long, value_name = "FILE")]
    enrol: Vec<PathBuf>,
    /// Serial of a token that goes
    #[arg(long, value_name = "SERIAL")]
    remove: Vec<String>,
    /// Receipt of the new epoch
    #[arg(long, value_name = "FILE")]
    receipt: Vec<PathBuf>,
    /// So many members must have the new epoch [default: 2, or all if there are fewer]
    #[arg(long, value_name = "NUMBER")]
    receipts_needed: Option<std::num::NonZeroUsize>,
    /// Where the manifest is written; without it, it is only shown
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    #[command(flatten)]
    transcript: Transcript,
}

#[derive(Serialize)]
struct Done {
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<PathBuf>,
    sha256: String,
    /// Serial, and SHA-256 of its enrolment request: what was written down at the token's console.
    requests: Vec<(String, String)>,
    manifest: Manifest,
}

impl ManifestCommand {
    pub fn run(self, format: Format) -> Outcome {
        if self.out.is_some() {
            self.transcript.ready()?;
        }
        let previous = self
            .previous
            .as_deref()
            .map(|file| super::show::read_manifest(file).map(|(_, manifest)| manifest));
        let next = NextManifest {
            previous: previous.transpose()?,
            enrol: read_all(&self.enrol)?,
            remove: self.remove,
            receipts: read_all(&self.receipt)?,
            receipts_needed: self.receipts_needed.map(std::num::NonZeroUsize::get),
        };
        let requests = next.enrol.iter();
        let requests = requests.map(|request| (request.said.token.serial.clone(), request.sha256()));
        let requests = requests.collect();
        let removes = !next.remove.is_empty();
        let manifest = next.draft().map_err(Failure::failed)?;
        let done = Done {
            file: self.out,
            sha256: manifest.sha256(),
            requests,
            manifest,
        };
        let Some(file) = &done.file else {
            return output::print(format, &done);
        };
        done.manifest
            .store(file)
            .map_err(|error| Failure::file("write", file, &error))?;
        let mut next = format!(
            "custodians compare it with what they wrote down at the tokens, then each signs: `keyreeve ceremony sign {}`",
            file.display()
        );
        if removes {
            next += "; the token that goes is zeroised or destroyed: docs/runbooks/replace-a-token.md";
        }
        self.transcript.end(format, "ceremony manifest", &done, &next)
    }
}

fn read_all<S: Statement>(files: &[PathBuf]) -> Result<Vec<Signed<S>>, Failure> {
    let read = |file: &PathBuf| Signed::read(file).map_err(Failure::failed);
    files.iter().map(read).collect()
}

/// Where a manifest's signatures are, for a note.
pub fn sidecar(file: &Path) -> String {
    Signatures::beside(file).display().to_string()
}

impl Shown for Done {
    fn table(&self) -> Table {
        let mut table = Table::facts();
        facts_of_manifest(&mut table, &self.manifest, &self.sha256);
        for (serial, sha256) in &self.requests {
            table.fact("request sha256", format!("{sha256} of {serial}"));
        }
        if let Some(file) = &self.file {
            table.fact("file", file.display().to_string());
        }
        table
    }
}

//! `ceremony sign`: a custodian reads a manifest and signs it.

use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;

use super::{
    super::{
        failure::{Failure, Outcome},
        output::{self, Format, Shown, Table},
    },
    desk::Transcript,
    manifest::sidecar,
    show::{facts_of_manifest, read_manifest},
};
use crate::token::{CustodianKey, Manifest, Signatures, ceremony::changes};

#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  keyreeve ceremony sign manifest-1.json
  keyreeve ceremony sign manifest-1.json --key custodian.key --sha256 8f3c…
  keyreeve ceremony sign manifest-2.json --previous manifest-1.json --key custodian.key --sha256 b04d…

Without --sha256 it only shows what would be signed. Compare each token that is added with what you wrote down at its console; then sign,
naming the SHA-256 that you mean. After the first manifest, name the one before, your own copy: what changes is told, and nothing else does.
A key is Ed25519 or P-256, PKCS#8 in PEM: openssl genpkey -algorithm ed25519 -out custodian.key
Its public half, for the configuration: openssl pkey -in custodian.key -pubout")]
pub struct Sign {
    /// The manifest; signatures are added to FILE.signatures
    #[arg(value_name = "FILE")]
    manifest: PathBuf,
    /// The manifest before, as you signed it: needed to sign any but the first
    #[arg(long, value_name = "FILE")]
    previous: Option<PathBuf>,
    /// The custodian's private key
    #[arg(long, value_name = "FILE", requires = "sha256")]
    key: Option<PathBuf>,
    /// SHA-256 of the manifest that is to be signed, as it was shown
    #[arg(long, value_name = "HEX", requires = "key")]
    sha256: Option<String>,
    #[command(flatten)]
    transcript: Transcript,
}

#[derive(Serialize)]
struct Read {
    sha256: String,
    /// Of the manifest before, if it was named.
    #[serde(skip_serializing_if = "Option::is_none")]
    changes: Option<Vec<String>>,
    manifest: Manifest,
}

#[derive(Serialize)]
struct Done {
    manifest: PathBuf,
    sha256: String,
    changes: Vec<String>,
    signed_by: String,
    /// The key has signed the manifest before, too.
    #[serde(skip_serializing_if = "Option::is_none")]
    signed_before: Option<bool>,
    signatures: usize,
}

impl Sign {
    pub fn run(self, format: Format) -> Outcome {
        let (bytes, manifest) = read_manifest(&self.manifest)?;
        let sha256 = manifest.sha256();
        let previous = self.previous(&manifest)?;
        let changes = previous.as_ref().map(|(_, previous)| changes(previous, &manifest));
        let (Some(key), Some(wanted)) = (&self.key, &self.sha256) else {
            let read = Read {
                sha256,
                changes,
                manifest,
            };
            output::print(format, &read)?;
            output::note("next: compare it, then sign: add --key FILE and --sha256 HEX");
            return Ok(());
        };
        if wanted.to_ascii_lowercase() != sha256 {
            return Err(Failure::failed(format!(
                "`{}` has SHA-256 {sha256}, not the one named: nothing was signed",
                self.manifest.display()
            )));
        }
        if manifest.seq > 1 && previous.is_none() {
            return Err(Failure::usage(
                "name the manifest before with --previous, your own copy: it tells what changes",
            ));
        }
        self.transcript.ready()?;
        let key = CustodianKey::read(key).map_err(Failure::failed)?;
        let signed_before = match (&self.previous, &previous) {
            (Some(file), Some((bytes, _))) => Some(signatures_of(file)?.are_by(key.public(), bytes)),
            _ => None,
        };
        let beside = Signatures::beside(&self.manifest);
        let mut signatures = signatures_of(&self.manifest)?;
        signatures.add(key.public(), &key.sign_manifest(&bytes).map_err(Failure::failed)?);
        signatures
            .write(&beside)
            .map_err(|error| Failure::file("write", &beside, &error))?;
        let done = Done {
            manifest: self.manifest.clone(),
            sha256,
            changes: changes.unwrap_or_default(),
            signed_by: key.public().fingerprint(),
            signed_before,
            signatures: signatures.signatures.len(),
        };
        let next = format!(
            "the next custodian signs; with a quorum, put the manifest and `{}` where `manifest` in [token] of every host says",
            sidecar(&self.manifest)
        );
        self.transcript.end(format, "ceremony sign", &done, &next)
    }
}

impl Sign {
    /// The manifest before and its bytes; it must be the one that this one follows.
    fn previous(&self, manifest: &Manifest) -> Result<Option<(Vec<u8>, Manifest)>, Failure> {
        let Some(file) = &self.previous else {
            return Ok(None);
        };
        let (bytes, previous) = read_manifest(file)?;
        if previous.sha256() != manifest.prev || previous.seq + 1 != manifest.seq {
            return Err(Failure::failed(format!(
                "`{}` does not follow `{}`: one of them is not what it should be; nothing was signed",
                self.manifest.display(),
                file.display()
            )));
        }
        Ok(Some((bytes, previous)))
    }
}

fn signatures_of(manifest: &Path) -> Result<Signatures, Failure> {
    let beside = Signatures::beside(manifest);
    Signatures::read(&beside).map_err(|error| Failure::file("read", &beside, &error))
}

fn facts_of_changes(table: &mut Table, changes: &[String]) {
    for change in changes {
        table.fact("change", change);
    }
}

impl Shown for Read {
    fn table(&self) -> Table {
        let mut table = Table::facts();
        facts_of_manifest(&mut table, &self.manifest, &self.sha256);
        facts_of_changes(&mut table, self.changes.as_deref().unwrap_or_default());
        table
    }
}

impl Shown for Done {
    fn table(&self) -> Table {
        let mut table = Table::facts();
        table
            .fact("manifest", self.manifest.display().to_string())
            .fact("sha256", &self.sha256)
            .fact("signed by key", &self.signed_by);
        if let Some(before) = self.signed_before {
            table.fact("signed the one before", output::yes_no(before));
        }
        facts_of_changes(&mut table, &self.changes);
        table.fact("signatures", self.signatures.to_string());
        table
    }
}

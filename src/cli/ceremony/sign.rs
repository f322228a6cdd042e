//! `ceremony sign`: a custodian reads a manifest and signs it.

use std::path::PathBuf;

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
use crate::token::{CustodianKey, Manifest, Signatures};

#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  keyreeve ceremony sign manifest-1.json
  keyreeve ceremony sign manifest-1.json --key custodian.key --sha256 8f3c…

Without --sha256 it only shows what would be signed. Compare each token with what you wrote down at its console; then sign, naming the
SHA-256 that you mean. A key is Ed25519 or P-256, PKCS#8 in PEM: openssl genpkey -algorithm ed25519 -out custodian.key
Its public half, for the configuration: openssl pkey -in custodian.key -pubout")]
pub struct Sign {
    /// The manifest; signatures are added to FILE.signatures
    #[arg(value_name = "FILE")]
    manifest: PathBuf,
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
    manifest: Manifest,
}

#[derive(Serialize)]
struct Done {
    manifest: PathBuf,
    sha256: String,
    signed_by: String,
    signatures: usize,
}

impl Sign {
    pub fn run(self, format: Format) -> Outcome {
        let (bytes, manifest) = read_manifest(&self.manifest)?;
        let sha256 = manifest.sha256();
        let (Some(key), Some(wanted)) = (&self.key, &self.sha256) else {
            output::print(format, &Read { sha256, manifest })?;
            output::note("next: compare it, then sign: add --key FILE and --sha256 HEX");
            return Ok(());
        };
        if wanted.to_ascii_lowercase() != sha256 {
            return Err(Failure::failed(format!(
                "`{}` has SHA-256 {sha256}, not the one named: nothing was signed",
                self.manifest.display()
            )));
        }
        self.transcript.ready()?;
        let key = CustodianKey::read(key).map_err(Failure::failed)?;
        let beside = Signatures::beside(&self.manifest);
        let mut signatures = Signatures::read(&beside).map_err(|error| Failure::file("read", &beside, &error))?;
        signatures.add(key.public(), &key.sign_manifest(&bytes).map_err(Failure::failed)?);
        signatures
            .write(&beside)
            .map_err(|error| Failure::file("write", &beside, &error))?;
        let done = Done {
            manifest: self.manifest.clone(),
            sha256,
            signed_by: key.public().fingerprint(),
            signatures: signatures.signatures.len(),
        };
        let next = format!(
            "the next custodian signs; with a quorum, put the manifest and `{}` where `manifest` in [token] of every host says",
            sidecar(&self.manifest)
        );
        self.transcript.end(format, "ceremony sign", &done, &next)
    }
}

impl Shown for Read {
    fn table(&self) -> Table {
        let mut table = Table::facts();
        facts_of_manifest(&mut table, &self.manifest, &self.sha256);
        table
    }
}

impl Shown for Done {
    fn table(&self) -> Table {
        let mut table = Table::facts();
        table
            .fact("manifest", self.manifest.display().to_string())
            .fact("sha256", &self.sha256)
            .fact("signed by key", &self.signed_by)
            .fact("signatures", self.signatures.to_string());
        table
    }
}

//! `ceremony show`: any file of a ceremony, decoded; and the words in which the other commands show theirs.

use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;

use super::super::{
    failure::{Failure, Outcome},
    files,
    output::{self, Format, Shown, Table},
};
use crate::token::{
    Manifest, Member,
    ceremony::{EnrolRequest, Receipt, Signed, Transfer},
};

#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  keyreeve ceremony show a.enrol

Verifies no signature: it shows what a file says. Hashes are what people compare.")]
pub struct Show {
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

#[derive(Serialize)]
#[serde(rename_all = "lowercase")]
enum Decoded {
    Manifest { sha256: String, manifest: Manifest },
    Enrolment { sha256: String, request: EnrolRequest },
    Transfer { sha256: String, transfer: Transfer },
    Receipt { sha256: String, receipt: Receipt },
}

impl Show {
    pub fn run(self, format: Format) -> Outcome {
        let bytes = files::read(Some(&self.file))?;
        let decoded = if let Ok(manifest) = Manifest::parse(&bytes) {
            Decoded::Manifest {
                sha256: manifest.sha256(),
                manifest,
            }
        } else if let Ok(file) = Signed::<EnrolRequest>::parse(&bytes) {
            Decoded::Enrolment {
                sha256: file.sha256(),
                request: file.said,
            }
        } else if let Ok(file) = Signed::<Transfer>::parse(&bytes) {
            Decoded::Transfer {
                sha256: file.sha256(),
                transfer: file.said,
            }
        } else if let Ok(file) = Signed::<Receipt>::parse(&bytes) {
            Decoded::Receipt {
                sha256: file.sha256(),
                receipt: file.said,
            }
        } else {
            return Err(Failure::failed(format!(
                "`{}` is no manifest, enrolment request, transfer file or receipt, or was changed",
                self.file.display()
            )));
        };
        output::print(format, &decoded)
    }
}

/// A manifest's exact bytes, and what they say. Not verified.
pub fn read_manifest(file: &Path) -> Result<(Vec<u8>, Manifest), Failure> {
    let bytes = files::read(Some(file))?;
    let manifest = Manifest::parse(&bytes)
        .map_err(|problem| Failure::failed(format!("`{}` is no manifest: {problem}", file.display())))?;
    if manifest.bytes() != bytes {
        return Err(Failure::failed(format!(
            "`{}` is not written as Keyreeve writes a manifest: it was changed by hand",
            file.display()
        )));
    }
    Ok((bytes, manifest))
}

pub fn facts_of_token(table: &mut Table, token: &Member) {
    table
        .fact("serial", &token.serial)
        .fact("model", format!("{} {}", token.model, token.firmware));
    if let Some(hash) = token.oaep_hash {
        table.fact("oaep", hash.as_str());
    }
    if let Some(key) = token.transport_key() {
        table
            .fact("transport sha256", token.transport_fingerprint().unwrap_or_default())
            .fact("transport modulus", data_encoding::HEXLOWER.encode(&key.modulus));
    }
    if let Some(key) = token.audit_key() {
        table.fact("audit sha256", key.fingerprint());
    }
    let holes = token.probes.iter().filter(|(_, outcome)| outcome != "holds");
    for (probe, _) in holes {
        table.fact("does not hold", probe);
    }
}

pub fn facts_of_manifest(table: &mut Table, manifest: &Manifest, sha256: &str) {
    table
        .fact("group", &manifest.group)
        .fact("seq", manifest.seq.to_string())
        .fact("previous", &manifest.prev);
    for (role, tokens) in [("member", &manifest.members), ("recovery", &manifest.recovery)] {
        for token in tokens {
            table.fact(role, format!("{} ({} {})", token.serial, token.model, token.firmware));
            if let Some(key) = token.audit_key() {
                table
                    .fact("  transport sha256", token.transport_fingerprint().unwrap_or_default())
                    .fact("  audit sha256", key.fingerprint());
            }
            if let Some(hash) = token.oaep_hash {
                table.fact("  oaep", hash.as_str());
            }
        }
    }
    for epoch in &manifest.epochs {
        table
            .fact("epoch", format!("{} (KEK {})", epoch.epoch, epoch.kek_id))
            .fact("  checks", checks(&epoch.check));
    }
    table.fact("sha256", sha256);
}

pub fn facts_of_receipt(table: &mut Table, receipt: &Receipt) {
    table
        .fact("serial", &receipt.serial)
        .fact("epoch", receipt.epoch.to_string())
        .fact("kek_id", &receipt.kek_id)
        .fact("checks", checks(&receipt.check));
    for key in &receipt.keys {
        let told = |name: &str, value: Option<bool>| match value {
            Some(true) => format!("{name}=1 "),
            Some(false) => format!("{name}=0 "),
            None => String::new(),
        };
        let text = [
            told("SENSITIVE", key.sensitive),
            told("EXTRACTABLE", key.extractable),
            told("MODIFIABLE", key.modifiable),
            told("COPYABLE", key.copyable),
        ]
        .concat();
        table.fact(&key.label, text.trim_end());
    }
}

fn checks(check: &crate::token::Checks) -> String {
    format!("{} {} {}", check.kek, check.bind, check.svc)
}

impl Shown for Decoded {
    fn table(&self) -> Table {
        let mut table = Table::facts();
        match self {
            Self::Manifest { sha256, manifest } => facts_of_manifest(&mut table, manifest, sha256),
            Self::Enrolment { sha256, request } => {
                table.fact("group", &request.group).fact("role", request.role.as_str());
                facts_of_token(&mut table, &request.token);
                table.fact("sha256", sha256);
            }
            Self::Transfer { sha256, transfer } => {
                table
                    .fact("group", &transfer.group)
                    .fact("epoch", transfer.epoch.to_string())
                    .fact("kek_id", &transfer.kek_id)
                    .fact("from", &transfer.from)
                    .fact("to", &transfer.to)
                    .fact("to transport sha256", &transfer.to_spki_sha256)
                    .fact("oaep", transfer.oaep_hash.as_str())
                    .fact("manifest", &transfer.manifest)
                    .fact("checks", checks(&transfer.check))
                    .fact("sha256", sha256);
            }
            Self::Receipt { sha256, receipt } => {
                facts_of_receipt(&mut table, receipt);
                table.fact("sha256", sha256);
            }
        }
        table
    }
}

//! `backup`: store, log and manifest of this host, copied while the server runs.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use clap::Args;
use data_encoding::HEXLOWER;
use serde::Serialize;

use super::{
    config::ConfigFile,
    failure::{Failure, Outcome, causes},
    output::{self, Format, Shown, Table},
    row_key::row_key,
};
use crate::{
    audit,
    clock::{Clock as _, SystemClock},
    config::Config,
    store::backup::{LOG, LogEntry, Snapshot, seal, snapshot},
    token::Signatures,
};

/// The log is copied again when the copy caught a record half written, or lacks one that the store's copy has.
const TRIES: u32 = 50;
const BETWEEN: Duration = Duration::from_millis(100);

#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  keyreeve backup /backup/keyreeve-2026-11-23

Logs into the token for the key that verifies the store. The backup holds wrapped keys only: without the token it opens nothing,
and the token is not in it. docs/runbooks/backup-and-restore.md")]
pub struct Backup {
    /// A new or empty directory
    #[arg(value_name = "DIRECTORY")]
    into: PathBuf,
    #[command(flatten)]
    config: ConfigFile,
}

#[derive(Serialize)]
struct Done {
    directory: PathBuf,
    changes: u64,
    log: String,
    records: u64,
    files: usize,
    bytes: u64,
}

impl Backup {
    pub async fn run(self, format: Format) -> Outcome {
        let config = self.config.load()?;
        let key = row_key(&config).await?;
        let tombstones = config.tombstone_file();
        let copied = snapshot(&config.store.data_dir, &tombstones, &key, &self.into)
            .await
            .map_err(causes)?;
        let report = copy_log(&config.audit_directory(), &self.into.join(LOG), &copied).await?;
        // Not secret, and needed to start with the restored store.
        for (manifest, name) in manifests(&config) {
            copy_manifest(manifest, &self.into.join(name))?;
        }
        let log = LogEntry {
            origin: report.log.unwrap_or_default(),
            size: report.records,
            root: HEXLOWER.encode(&report.root),
        };
        let sealed = seal(&self.into, copied, log, SystemClock.now()).map_err(causes)?;
        let done = Done {
            directory: self.into,
            changes: sealed.head.seq,
            log: sealed.log.origin,
            records: sealed.log.size,
            files: sealed.files.len(),
            bytes: sealed.files.iter().map(|file| file.size).sum(),
        };
        output::print(format, &done)
    }
}

/// The manifest of each token group, and its name in a backup.
pub(super) fn manifests(config: &Config) -> impl Iterator<Item = (&Path, String)> {
    config.groups.iter().map(|group| {
        let name = match group.name == config.home().name {
            true => "token.json".to_owned(),
            false => format!("token-{}.json", group.name),
        };
        (group.any().manifest.as_path(), name)
    })
}

/// Copies every epoch; of the newest, until the copy is whole and holds all that the store's copy speaks of.
async fn copy_log(from: &Path, into: &Path, copied: &Snapshot) -> Result<audit::Report, Failure> {
    let epochs = audit::epochs(from).map_err(causes)?;
    let Some((newest, older)) = epochs.split_last() else {
        return Err(Failure::failed(format!(
            "there is no log in `{}`: run `keyreeve init` first",
            from.display()
        )));
    };
    for epoch in older {
        copy_epoch(from, into, *epoch)?;
    }
    for _ in 0..TRIES {
        let copy = copy_epoch(from, into, *newest)?;
        let report = audit::verify(&copy).map_err(|error| Failure::file("read", &copy, &error))?;
        let through = copied.outbox_through.map_or(0, |last| last + 1);
        if report.finding.is_none() && report.records >= through {
            return Ok(report);
        }
        tokio::time::sleep(BETWEEN).await;
    }
    Err(Failure::failed(
        "the log cannot be copied whole: `keyreeve audit verify` tells whether it is damaged",
    ))
}

fn copy_epoch(from: &Path, into: &Path, epoch: u64) -> Result<PathBuf, Failure> {
    let (from, into) = (audit::epoch_directory(from, epoch), audit::epoch_directory(into, epoch));
    let copy = || {
        fs::create_dir_all(&into)?;
        for entry in fs::read_dir(&from)? {
            let entry = entry?;
            // Segments; not the lock, nor a segment that is only being prepared.
            let is_segment = entry.path().extension().is_some_and(|extension| extension == "seg");
            if is_segment {
                fs::copy(entry.path(), into.join(entry.file_name()))?;
            }
        }
        Ok(())
    };
    copy().map_err(|error| Failure::file("copy", &from, &error))?;
    Ok(into)
}

/// Copies a manifest of tokens, and its custodians' signatures where it has them.
pub fn copy_manifest(from: &Path, to: &Path) -> Outcome {
    let copy = |from: &Path, to: &Path| {
        fs::copy(from, to)
            .map(drop)
            .map_err(|error| Failure::file("copy", from, &error))
    };
    copy(from, to)?;
    let signatures = Signatures::beside(from);
    match signatures.exists() {
        true => copy(&signatures, &Signatures::beside(to)),
        false => Ok(()),
    }
}

impl Shown for Done {
    fn table(&self) -> Table {
        let mut table = Table::facts();
        table
            .fact("backup", self.directory.display().to_string())
            .fact("store", format!("{} changes, every row verified", self.changes))
            .fact("log", format!("{}, {} records, verified", self.log, self.records))
            .fact("files", format!("{} files, {} bytes", self.files, self.bytes));
        table
    }
}

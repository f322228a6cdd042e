//! Backups of a store in use: a directory with the store, the audit log and a manifest.
//!
//! ```text
//! snapshot(…)                    store.db, tombstones: of one moment, checked, synced
//! the audit module copies        log/…: its segments, once they hold every record up to `outbox_through`
//! seal(…)                        manifest.json: size and SHA-256 of every file, head of the chain, size and root of the log
//! ```
//!
//! A backup holds wrapped keys, never keys in clear: it is of no use without the token group.

use std::{
    fs::{self, File},
    io::Write as _,
    path::Path,
};

use serde::{Deserialize, Serialize};

use super::{Applied, RowKey, StoreError, files, sqlite, verify};
use crate::clock::Timestamp;

/// Names in the directory of a backup.
pub const STORE: &str = sqlite::FILE;
pub const TOMBSTONES: &str = "tombstones";
pub const LOG: &str = "log";
pub const MANIFEST: &str = "manifest.json";

/// Version of the manifest's form.
pub(super) const FORM: u32 = 1;

/// A copy of the store at one moment.
#[derive(Debug, Clone, Copy)]
pub struct Snapshot {
    pub head: Applied,
    /// The log copied beside it must hold the records up to this place, since a restore empties the outbox.
    pub outbox_through: Option<u64>,
}

/// What a backup holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    pub v: u32,
    /// Version of the program that made it.
    pub program: String,
    /// RFC 3339.
    pub created: String,
    pub head: HeadEntry,
    pub log: LogEntry,
    pub files: Vec<FileEntry>,
}

/// Where the chain of changes ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeadEntry {
    pub seq: u64,
    /// Hex.
    pub link: String,
}

/// Size and root of the audit log when it was copied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogEntry {
    pub origin: String,
    pub size: u64,
    /// Hex.
    pub root: String,
}

/// One file, by its path in the backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileEntry {
    pub path: String,
    pub size: u64,
    /// Hex.
    pub sha256: String,
}

/// First step: copies the store in `directory`, in use or not, and the tombstone file into `into`, new or empty.
///
/// The copy is checked by SQLite and by [`verify`]. Errors: `NotEmpty`; `Tampered` with the first finding; faults of files.
pub async fn snapshot(
    directory: &Path,
    tombstone_file: &Path,
    row_key: &RowKey,
    into: &Path,
) -> Result<Snapshot, StoreError> {
    files::empty_directory(into)?;
    let copy = into.join(STORE);
    let outbox_through = sqlite::copy(&directory.join(STORE), &copy).await?;
    let report = verify(into, row_key, None).await?;
    if let Some(finding) = report.findings.first() {
        tracing::error!(
            object = finding.object,
            problem = finding.problem,
            "the store to back up was tampered with"
        );
        return Err(StoreError::tampered(&finding.object, "its copy does not verify"));
    }
    files::sync(&copy)?;
    // After the store, so that it lists all that the store's copy has destroyed.
    files::copy(tombstone_file, &into.join(TOMBSTONES))?;
    Ok(Snapshot {
        head: report.head,
        outbox_through,
    })
}

/// Last step: measures every file below `into` and writes the manifest. A directory without one is no backup.
pub fn seal(into: &Path, snapshot: Snapshot, log: LogEntry, now: Timestamp) -> Result<Manifest, StoreError> {
    let mut entries = Vec::new();
    for path in files::list(into)? {
        let file = into.join(&path);
        files::sync(&file)?;
        let (size, sha256) = files::measure(&file)?;
        let sha256 = data_encoding::HEXLOWER.encode(&sha256);
        entries.push(FileEntry { path, size, sha256 });
    }
    let manifest = Manifest {
        v: FORM,
        program: env!("CARGO_PKG_VERSION").into(),
        created: now.rfc3339(),
        head: HeadEntry {
            seq: snapshot.head.seq,
            link: data_encoding::HEXLOWER.encode(&snapshot.head.link),
        },
        log,
        files: entries,
    };
    let text = serde_json::to_vec_pretty(&manifest).expect("text and numbers are JSON");
    let (path, unfinished) = (into.join(MANIFEST), into.join("manifest.json.new"));
    let written = File::create(&unfinished).and_then(|mut file| {
        file.write_all(&text)?;
        file.sync_all()
    });
    let renamed = written.and_then(|()| fs::rename(&unfinished, &path));
    renamed.map_err(StoreError::file(&path))?;
    files::sync_parent(&path)?;
    files::sync_parent(into)?;
    Ok(manifest)
}

//! From a backup to a store that starts: check, lay out. The new epoch of the log is opened by `audit::start`.
//!
//! The token group is not restored: it must be there already. What happened after the backup is lost to the store, not to the evidence:
//! the new epoch says what was last known of the log before it (`docs/formats.md`, section 8).
//!
//! From before the first file is laid until `complete`, a mark stands in the data directory, and no node opens it.

use std::{
    fs,
    path::{Component, Path},
};

use super::{
    StoreError,
    backup::{FORM, LOG, MANIFEST, Manifest, STORE, TOMBSTONES},
    files,
};

/// Name of the mark in a data directory whose restore did not complete, or has not yet.
const MARK: &str = "restore-unfinished";

/// Where a backup's files go.
pub struct Target<'a> {
    /// Of the store: new or empty.
    pub directory: &'a Path,
    /// Of the audit log: new or empty.
    pub log_directory: &'a Path,
    /// May exist: what it lists stays destroyed, whatever the backup holds.
    pub tombstone_file: &'a Path,
}

/// Reads the manifest and compares every file with it; one too many is a fault, too.
pub fn check(from: &Path) -> Result<Manifest, StoreError> {
    let text = fs::read(from.join(MANIFEST)).map_err(StoreError::file(&from.join(MANIFEST)))?;
    let manifest: Manifest =
        serde_json::from_slice(&text).map_err(|error| unusable(format!("its manifest cannot be read: {error}")))?;
    if manifest.v != FORM {
        return Err(unusable(format!(
            "its manifest has form {}, this program knows {FORM}",
            manifest.v
        )));
    }
    let mut listed: Vec<_> = manifest.files.iter().map(|file| file.path.as_str()).collect();
    listed.push(MANIFEST);
    listed.sort_unstable();
    let found = files::list(from)?;
    if let Some(other) = found.iter().find(|path| !listed.contains(&path.as_str())) {
        return Err(unusable(format!("`{other}` is not in its manifest")));
    }
    for file in &manifest.files {
        if !is_plain(&file.path) || !found.contains(&file.path) {
            return Err(unusable(format!("`{}` is missing", file.path)));
        }
        let (size, sha256) = files::measure(&from.join(&file.path))?;
        if size != file.size || data_encoding::HEXLOWER.encode(&sha256) != file.sha256 {
            return Err(unusable(format!("`{}` is not as its manifest says", file.path)));
        }
    }
    if !manifest.files.iter().any(|file| file.path == STORE) {
        return Err(unusable(format!("`{STORE}` is missing")));
    }
    Ok(manifest)
}

/// Checks the backup, then marks the data directory and lays the files. Nothing is written unless all of it is good and both places are
/// empty. Whoever has verified what was laid calls [`complete`].
pub fn lay(from: &Path, target: &Target<'_>) -> Result<Manifest, StoreError> {
    let manifest = check(from)?;
    files::empty_directory(target.directory)?;
    files::empty_directory(target.log_directory)?;
    let mark = target.directory.join(MARK);
    files::private(&mark)?;
    files::sync(&mark)?;
    files::sync_parent(&mark)?;
    merge_tombstones(&from.join(TOMBSTONES), target.tombstone_file)?;
    for file in &manifest.files {
        let path = &file.path;
        let to = match path.strip_prefix(LOG).and_then(|path| path.strip_prefix('/')) {
            Some(segment) => target.log_directory.join(segment),
            None if path == STORE => target.directory.join(STORE),
            None => continue,
        };
        files::copy(&from.join(path), &to)?;
    }
    Ok(manifest)
}

/// Takes the mark away: what was laid is whole, and its log goes on in a new epoch.
pub fn complete(directory: &Path) -> Result<(), StoreError> {
    let mark = directory.join(MARK);
    fs::remove_file(&mark).map_err(StoreError::file(&mark))?;
    files::sync_parent(&mark)
}

/// Errors: `HalfRestored` if a restore into `directory` began and did not complete.
pub fn check_complete(directory: &Path) -> Result<(), StoreError> {
    let mark = directory.join(MARK);
    match mark.try_exists().map_err(StoreError::file(&mark))? {
        false => Ok(()),
        true => Err(StoreError::HalfRestored {
            path: directory.to_owned(),
        }),
    }
}

/// Lists in `to` what it or the backup lists. Lines are taken as they are: the store checks them when it opens.
fn merge_tombstones(from: &Path, to: &Path) -> Result<(), StoreError> {
    if !from.exists() {
        return Ok(());
    }
    if !to.exists() {
        return files::copy(from, to);
    }
    let theirs = super::tombstones::TombstoneFile::open(from)?;
    let listed: Vec<_> = theirs.listed().iter().copied().collect();
    let now = crate::clock::Clock::now(&crate::clock::SystemClock);
    super::tombstones::TombstoneFile::open(to)?.append(&listed, now)
}

/// No way out of the backup's directory.
fn is_plain(path: &str) -> bool {
    let mut parts = Path::new(path).components();
    parts.all(|part| matches!(part, Component::Normal(_)))
}

fn unusable(problem: String) -> StoreError {
    StoreError::Backup { problem }
}

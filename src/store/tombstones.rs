//! The tombstone file: ids of destroyed versions, kept outside the database so that a restored backup cannot revive them.
//!
//! One line each: `<key id> <version> <time>`. Appended and synced before a destruction is answered; never rewritten.

use std::{
    collections::HashSet,
    fs::{File, OpenOptions},
    io::{Read as _, Seek as _, SeekFrom, Write as _},
    path::{Path, PathBuf},
};

use super::{StoreError, files};
use crate::{
    clock::Timestamp,
    model::{KeyId, KeyVersion},
};

/// A version of a key, for ever gone.
pub type VersionId = (KeyId, KeyVersion);

pub struct TombstoneFile {
    path: PathBuf,
    file: File,
    listed: HashSet<VersionId>,
    #[cfg(test)]
    broken: Option<File>,
}

/// The versions that the file at `path` lists; a last line without its end is passed over. Errors: as [`TombstoneFile::open`].
pub fn listed(path: &Path) -> Result<HashSet<VersionId>, StoreError> {
    let text = std::fs::read_to_string(path).map_err(|source| StoreError::File {
        path: path.to_owned(),
        source,
    })?;
    let whole = text.rfind('\n').map_or(0, |end| end + 1);
    parse_all(&text[..whole], path)
}

impl TombstoneFile {
    /// Opens or makes the file. A last line without its end is a write that was never answered: it is cut.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let failed = |source| StoreError::File {
            path: path.to_owned(),
            source,
        };
        let is_new = !path.exists();
        let mut file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(path)
            .map_err(failed)?;
        if is_new {
            files::sync_parent(path)?;
        }
        let mut text = String::new();
        file.read_to_string(&mut text).map_err(failed)?;
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        if whole < text.len() {
            file.set_len(whole as u64).map_err(failed)?;
        }
        file.seek(SeekFrom::Start(whole as u64)).map_err(failed)?;
        let listed = parse_all(&text[..whole], path)?;
        Ok(Self {
            path: path.to_owned(),
            file,
            listed,
            #[cfg(test)]
            broken: None,
        })
    }

    /// The next write meets a file that cannot be written.
    #[cfg(test)]
    pub fn fail_once(&mut self) {
        let read_only = File::open(&self.path).expect("it exists");
        self.broken = Some(std::mem::replace(&mut self.file, read_only));
    }

    pub fn listed(&self) -> &HashSet<VersionId> {
        &self.listed
    }

    /// Appends what is not listed yet, and syncs.
    pub fn append(&mut self, versions: &[VersionId], now: Timestamp) -> Result<(), StoreError> {
        let new: Vec<_> = versions.iter().filter(|id| !self.listed.contains(id)).collect();
        if new.is_empty() {
            return Ok(());
        }
        let lines: String = new
            .iter()
            .map(|(key, version)| format!("{key} {version} {}\n", now.rfc3339()))
            .collect();
        let end = self.file.stream_position();
        let written = end.and_then(|end| {
            let done = self
                .file
                .write_all(lines.as_bytes())
                .and_then(|()| self.file.sync_data());
            if done.is_err() {
                // Half a line must not stand in the way of the next attempt.
                let _ = self.file.set_len(end);
                let _ = self.file.seek(SeekFrom::Start(end));
            }
            done
        });
        #[cfg(test)]
        if let Some(file) = self.broken.take() {
            self.file = file;
        }
        written.map_err(|source| StoreError::File {
            path: self.path.clone(),
            source,
        })?;
        self.listed.extend(versions);
        Ok(())
    }
}

fn parse_all(lines: &str, path: &Path) -> Result<HashSet<VersionId>, StoreError> {
    let listed = lines.lines().map(parse).collect::<Option<_>>();
    listed.ok_or_else(|| {
        StoreError::tampered(
            path.display().to_string(),
            "a line is not `<key id> <version> <time>`: put the file back as it was",
        )
    })
}

fn parse(line: &str) -> Option<VersionId> {
    let mut words = line.split(' ');
    let id = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    words.next()?;
    words.next().is_none().then_some(id)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn id(byte: u8, version: u32) -> VersionId {
        (KeyId::from_bytes([byte; 16]), KeyVersion::new(version).unwrap())
    }

    #[test]
    fn ids_are_listed_again_after_a_reopen_and_a_torn_line_is_cut() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("tombstones");
        let now = Timestamp::from_unix_ms(0);
        let mut file = TombstoneFile::open(&path).unwrap();
        file.append(&[id(1, 1), id(1, 2)], now).unwrap();
        file.append(&[id(1, 2)], now).unwrap();
        drop(file);
        let before = fs::read_to_string(&path).unwrap();
        assert_eq!(before.lines().count(), 2, "{before}");

        let mut torn = OpenOptions::new().append(true).open(&path).unwrap();
        torn.write_all(b"02020202-0202").unwrap();
        let mut file = TombstoneFile::open(&path).unwrap();
        assert_eq!(file.listed(), &HashSet::from([id(1, 1), id(1, 2)]));
        file.append(&[id(3, 1)], now).unwrap();
        let after = fs::read_to_string(&path).unwrap();
        assert!(after.starts_with(&before) && after.lines().count() == 3, "{after}");
    }

    #[test]
    fn a_line_that_was_edited_is_not_passed_over() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("tombstones");
        fs::write(&path, "no id 1 x\n").unwrap();
        assert!(matches!(TombstoneFile::open(&path), Err(StoreError::Tampered { .. })));
    }
}

//! The newest manifest that this host has seen of a group, so that an older one, though signed, is not believed again.
//!
//! One small file beside the tombstone file, outside the data directory: a restored backup does not bring an old one back.

use std::{
    cmp::Ordering,
    io,
    path::{Path, PathBuf},
};

use crate::token::{
    OpenError, TokenConfig, files,
    manifest::{Manifest, from_hex},
};

/// `seq`, a blank, SHA-256, a line's end.
const MAX_BYTES: u64 = 128;

pub struct LastSeen {
    path: PathBuf,
}

#[derive(Debug, thiserror::Error)]
pub enum LastSeenError {
    #[error(
        "the manifest has seq {found}, and this host has seen {seen} (`{path}`): an older one was put back; bring the newest one here"
    )]
    Older { found: u64, seen: u64, path: String },
    #[error(
        "the manifest has seq {seq} as one that this host has seen (`{path}`), and is another: custodians signed two; find out which is right"
    )]
    Forked { seq: u64, path: String },
    #[error(
        "the manifest with seq {seq} does not follow the one before that this host has seen (`{path}`): bring the missing ones"
    )]
    NotNext { seq: u64, path: String },
    #[error("cannot read or write `{path}`: {error}")]
    File { path: String, error: io::Error },
}

/// At a start: the manifest of a group with custodians is no older than what this host has seen. A pinned one cannot be.
pub fn admit_manifest(config: &TokenConfig, tombstones: &Path) -> Result<(), OpenError> {
    if config.group_id.is_none() {
        return Ok(());
    }
    let manifest = Manifest::load(&config.manifest_source()?)?;
    Ok(LastSeen::beside(tombstones, &manifest.group).admit(&manifest)?)
}

/// The manifest, if a start would admit it; nothing is remembered.
pub fn check_manifest(config: &TokenConfig, tombstones: &Path) -> Result<Manifest, OpenError> {
    let manifest = Manifest::load(&config.manifest_source()?)?;
    LastSeen::beside(tombstones, &manifest.group).check(&manifest)?;
    Ok(manifest)
}

impl LastSeen {
    /// Of one group, beside the tombstone file.
    pub fn beside(tombstones: &Path, group: &str) -> Self {
        // Group ids are hex; anything else would be no group's.
        let group = from_hex::<16>(group).map_or("unknown", |_| group);
        let mut name = tombstones.as_os_str().to_owned();
        name.push(format!(".manifest-{group}"));
        Self { path: name.into() }
    }

    /// Admits a manifest that is the one seen, or newer, and remembers it.
    pub fn admit(&self, manifest: &Manifest) -> Result<(), LastSeenError> {
        if !self.check(manifest)? {
            return Ok(());
        }
        let line = format!("{} {}\n", manifest.seq, manifest.sha256());
        files::replace(&self.path, line.as_bytes()).map_err(|error| self.failed(error))
    }

    /// Whether it would be admitted: `true` if it is newer than what was seen.
    pub fn check(&self, manifest: &Manifest) -> Result<bool, LastSeenError> {
        let Some((seen, hash)) = self.read()? else {
            return Ok(true);
        };
        let (seq, path) = (manifest.seq, self.path.display().to_string());
        match seq.cmp(&seen) {
            Ordering::Less => Err(LastSeenError::Older { found: seq, seen, path }),
            Ordering::Equal if manifest.sha256() == hash => Ok(false),
            Ordering::Equal => Err(LastSeenError::Forked { seq, path }),
            Ordering::Greater if seq == seen + 1 && manifest.prev != hash => Err(LastSeenError::NotNext { seq, path }),
            Ordering::Greater => Ok(true),
        }
    }

    fn read(&self) -> Result<Option<(u64, String)>, LastSeenError> {
        let bytes = match files::read(&self.path, MAX_BYTES) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            bytes => bytes.map_err(|error| self.failed(error))?,
        };
        let parsed = std::str::from_utf8(&bytes).ok().and_then(|text| {
            let (seq, hash) = text.strip_suffix('\n')?.split_once(' ')?;
            from_hex::<32>(hash)?;
            Some((seq.parse().ok()?, hash.to_owned()))
        });
        // Unreadable is not "nothing seen".
        parsed
            .map(Some)
            .ok_or_else(|| self.failed(io::Error::other("it is not a number and a SHA-256")))
    }

    fn failed(&self, error: io::Error) -> LastSeenError {
        LastSeenError::File {
            path: self.path.display().to_string(),
            error,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(seq: u64, prev: &str, epochs: usize) -> Manifest {
        let epochs = (1..=epochs).map(|number| crate::token::manifest::Epoch {
            kek_id: format!("{number:032x}"),
            epoch: u32::try_from(number).unwrap(),
            check: crate::token::manifest::Checks {
                kek: "00".repeat(16),
                bind: "00".repeat(16),
                svc: "00".repeat(16),
            },
        });
        Manifest {
            v: 1,
            group: "ab".repeat(16),
            seq,
            prev: prev.to_owned(),
            members: vec![],
            recovery: vec![],
            epochs: epochs.collect(),
        }
    }

    #[test]
    fn a_manifest_goes_forward_and_never_back() {
        let directory = tempfile::tempdir().unwrap();
        let seen = LastSeen::beside(&directory.path().join("data.tombstones"), &"ab".repeat(16));
        let first = manifest(1, &"0".repeat(64), 0);
        let second = manifest(2, &first.sha256(), 1);
        seen.admit(&first).unwrap();
        seen.admit(&first).unwrap();
        seen.admit(&second).unwrap();
        let error = seen.admit(&first).unwrap_err();
        assert!(
            matches!(error, LastSeenError::Older { found: 1, seen: 2, .. }),
            "{error}"
        );
        let fork = manifest(2, &first.sha256(), 2);
        let error = seen.admit(&fork).unwrap_err();
        assert!(matches!(error, LastSeenError::Forked { seq: 2, .. }), "{error}");
        let stray = manifest(3, &fork.sha256(), 2);
        let error = seen.admit(&stray).unwrap_err();
        assert!(matches!(error, LastSeenError::NotNext { seq: 3, .. }), "{error}");
        // Those between are not here: the quorum vouches for the newer one.
        seen.admit(&manifest(9, &"cd".repeat(32), 2)).unwrap();
    }

    #[test]
    fn groups_are_seen_apart_and_an_unreadable_file_is_not_nothing_seen() {
        let directory = tempfile::tempdir().unwrap();
        let tombstones = directory.path().join("data.tombstones");
        LastSeen::beside(&tombstones, &"ab".repeat(16))
            .admit(&manifest(5, &"00".repeat(32), 0))
            .unwrap();
        LastSeen::beside(&tombstones, &"cd".repeat(16))
            .admit(&manifest(1, &"0".repeat(64), 0))
            .unwrap();
        let seen = LastSeen::beside(&tombstones, &"ab".repeat(16));
        std::fs::write(&seen.path, "5").unwrap();
        let error = seen.admit(&manifest(6, &"00".repeat(32), 0)).unwrap_err();
        assert!(matches!(error, LastSeenError::File { .. }), "{error}");
    }
}

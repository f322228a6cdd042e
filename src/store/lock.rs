//! One process per data directory: an exclusive lock on a file in it, which the system drops with the process.

use std::{
    fs::{File, OpenOptions, TryLockError},
    path::Path,
};

use super::StoreError;

/// Name of the lock file. It stays when the process ends; only the lock on it means anything.
pub const FILE: &str = "lock";

/// Held as long as the store is open.
pub struct DirectoryLock {
    _file: File,
}

impl DirectoryLock {
    /// Errors: `InUse` if another process holds it; `Unusable` if the directory is missing or may not be written.
    pub fn take(directory: &Path) -> Result<Self, StoreError> {
        let unusable = |source| StoreError::Unusable {
            path: directory.to_owned(),
            source,
        };
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(directory.join(FILE))
            .map_err(unusable)?;
        match file.try_lock() {
            Ok(()) => Ok(Self { _file: file }),
            Err(TryLockError::WouldBlock) => Err(StoreError::InUse {
                path: directory.to_owned(),
            }),
            Err(TryLockError::Error(source)) => Err(unusable(source)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_taker_is_refused_until_the_first_lets_go() {
        let directory = tempfile::tempdir().unwrap();
        let first = DirectoryLock::take(directory.path()).unwrap();
        // flock belongs to the open file, so a second open in this process stands for a second process.
        assert!(matches!(
            DirectoryLock::take(directory.path()),
            Err(StoreError::InUse { .. })
        ));
        drop(first);
        DirectoryLock::take(directory.path()).unwrap();
    }

    #[test]
    fn a_directory_that_is_missing_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let missing = directory.path().join("missing");
        let error = DirectoryLock::take(&missing).err().unwrap();
        assert!(error.to_string().contains("missing"), "{error}");
    }
}

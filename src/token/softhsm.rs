//! What SoftHSM needs beyond PKCS#11: its token directory synced, and starts that take turns.
//!
//! SoftHSM 2.6.1 never syncs its files, so a key "just created" can be lost to a power cut; and its C_Login truncates and
//! rewrites a file that a starting process reads. Other modules have no token directory: then nothing here does anything.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use rustix::fs::{FlockOperation, flock};

/// The token directory, if `module` is SoftHSM and its configuration can be read.
pub fn token_directory(module: &Path) -> Option<PathBuf> {
    if !module.file_name()?.to_str()?.contains("softhsm") {
        return None;
    }
    let text = fs::read_to_string(configuration()?).ok()?;
    text.lines()
        .filter_map(|line| line.split_once('='))
        .find(|(name, _)| name.trim() == "directories.tokendir")
        .map(|(_, value)| PathBuf::from(value.trim()))
}

/// Syncs every file and directory beneath `directory`.
pub fn sync(directory: &Path) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            sync(&entry.path())?;
        } else if kind.is_file() {
            File::open(entry.path())?.sync_all()?;
        }
    }
    File::open(directory)?.sync_all()
}

/// Held from C_Initialize to the end of C_Login, host-wide; released on drop.
pub struct StartLock(#[expect(dead_code, reason = "the lock lives as long as the file is open")] Option<File>);

impl StartLock {
    /// Waits for the turn. A directory that cannot be written has no racing writer either, so then there is no lock.
    pub fn take(directory: Option<&Path>) -> StartLock {
        let file = directory.and_then(|directory| {
            let file = File::options()
                .create(true)
                .truncate(false)
                .write(true)
                .open(directory.join(".keyreeve-start.lock"))
                .ok()?;
            flock(&file, FlockOperation::LockExclusive).ok()?;
            Some(file)
        });
        StartLock(file)
    }
}

/// The file that SoftHSM itself would read.
pub fn configuration() -> Option<PathBuf> {
    if let Some(path) = std::env::var_os("SOFTHSM2_CONF") {
        return Some(path.into());
    }
    let own = std::env::var_os("HOME").map(|home| Path::new(&home).join(".config/softhsm2/softhsm2.conf"));
    own.filter(|path| path.is_file())
        .or_else(|| Some(PathBuf::from("/etc/softhsm/softhsm2.conf")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_module_has_no_token_directory() {
        assert_eq!(token_directory(Path::new("/usr/lib/libkryoptic_pkcs11.so")), None);
    }

    #[test]
    fn sync_walks_into_directories_and_reports_a_missing_one() {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("token")).unwrap();
        fs::write(directory.path().join("token/object"), "x").unwrap();
        sync(directory.path()).unwrap();
        assert!(sync(&directory.path().join("absent")).is_err());
    }

    #[test]
    fn a_start_waits_for_the_one_before() {
        let directory = tempfile::tempdir().unwrap();
        let first = StartLock::take(Some(directory.path()));
        let path = directory.path().join(".keyreeve-start.lock");
        let other = File::options().write(true).open(path).unwrap();
        assert!(flock(&other, FlockOperation::NonBlockingLockExclusive).is_err());
        drop(first);
        flock(&other, FlockOperation::NonBlockingLockExclusive).unwrap();
    }
}

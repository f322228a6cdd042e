//! Files from outside, read with a limit and never overwritten.

use std::{
    fs::File,
    io::{self, Read as _, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use rustix::{
    fs::{CWD, RenameFlags, renameat_with},
    io::Errno,
};

/// The whole file, unless it has more than `limit` bytes.
pub fn read(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(limit + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        return Err(io::Error::other(format!("it has more than {limit} bytes")));
    }
    Ok(bytes)
}

/// A serial number as a part of a file name: no two have the same. All but letters, digits, `-` and `_` becomes `%` and two digits.
pub fn name_of(serial: &str) -> String {
    let mut name = String::with_capacity(serial.len());
    for byte in serial.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' => name.push(byte.into()),
            other => name.push_str(&format!("%{other:02x}")),
        }
    }
    name
}

/// Writes and syncs a new file for this user alone, and its directory. It appears whole or not at all. Errors: `AlreadyExists`, whatever
/// is there.
pub fn create(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let new = write_beside(path, bytes, 0o600)?;
    match renameat_with(CWD, &new, CWD, path, RenameFlags::NOREPLACE) {
        // A file system without that, of a network mostly.
        Err(Errno::INVAL | Errno::NOSYS) if !path.try_exists()? => std::fs::rename(&new, path)?,
        Err(error) => {
            std::fs::remove_file(&new)?;
            let known = matches!(error, Errno::INVAL | Errno::NOSYS);
            return Err(if known { Errno::EXIST } else { error }.into());
        }
        Ok(()) => {}
    }
    sync_parent(path)
}

/// Replaces a file at once or not at all.
pub fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let new = write_beside(path, bytes, 0o666)?;
    std::fs::rename(new, path)?;
    sync_parent(path)
}

/// Writes and syncs the file of this name with `.new` behind; of `mode`, the umask takes away.
fn write_beside(path: &Path, bytes: &[u8], mode: u32) -> io::Result<PathBuf> {
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    let mut file = File::options()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(mode)
        .open(&new)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    Ok(new.into())
}

fn sync_parent(path: &Path) -> io::Result<()> {
    match path.parent().filter(|directory| !directory.as_os_str().is_empty()) {
        Some(directory) => File::open(directory)?.sync_all(),
        None => File::open(".")?.sync_all(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn serials_name_files_and_no_two_the_same() {
        assert_eq!(name_of("0a-B_9"), "0a-B_9");
        assert_eq!(name_of("../1 2%"), "%2e%2e%2f1%202%25");
        assert_ne!(name_of("1/2"), name_of("1.2"));
    }

    #[test]
    fn a_file_over_the_limit_is_refused_and_none_is_overwritten() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        create(&path, b"12345").unwrap();
        assert_eq!(read(&path, 5).unwrap(), b"12345");
        assert!(read(&path, 4).is_err());
        let error = create(&path, b"6").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(read(&path, 5).unwrap(), b"12345");
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
        replace(&path, b"6").unwrap();
        assert_eq!(read(&path, 5).unwrap(), b"6");
    }
}

//! Files that survive a power cut: written, synced, and their names synced in their directory.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _},
    path::Path,
};

use aws_lc_rs::digest;

use super::StoreError;

/// Makes a new or renamed file's name survive.
pub fn sync_parent(path: &Path) -> Result<(), StoreError> {
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    sync(parent)
}

/// Syncs a file or a directory.
pub fn sync(path: &Path) -> Result<(), StoreError> {
    File::open(path)
        .and_then(|file| file.sync_all())
        .map_err(StoreError::file(path))
}

/// Makes an empty file for the service's user alone, if there is none.
pub fn private(path: &Path) -> Result<(), StoreError> {
    let mut options = OpenOptions::new();
    options.create(true).truncate(false).write(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let made = options.open(path);
    made.map(drop).map_err(StoreError::file(path))
}

/// Copies into a new file, with its directories.
pub fn copy(from: &Path, to: &Path) -> Result<(), StoreError> {
    if let Some(parent) = to.parent() {
        fs::create_dir_all(parent).map_err(StoreError::file(parent))?;
    }
    let copied = File::open(from).and_then(|mut from| io::copy(&mut from, &mut File::create_new(to)?));
    copied.map_err(StoreError::file(to))?;
    sync(to)?;
    sync_parent(to)
}

/// Size and SHA-256 of a file.
pub fn measure(path: &Path) -> Result<(u64, [u8; 32]), StoreError> {
    let measured = || {
        let mut file = File::open(path)?;
        let mut hash = digest::Context::new(&digest::SHA256);
        let mut size = 0;
        let mut part = vec![0; 64 * 1024];
        loop {
            let length = file.read(&mut part)?;
            if length == 0 {
                return Ok((size, hash.finish()));
            }
            size += length as u64;
            hash.update(&part[..length]);
        }
    };
    let (size, hash) = measured().map_err(StoreError::file(path))?;
    Ok((size, hash.as_ref().try_into().expect("SHA-256 gives 32 bytes")))
}

/// Makes the directory if it is missing. Errors: `NotEmpty`.
pub fn empty_directory(path: &Path) -> Result<(), StoreError> {
    fs::create_dir_all(path).map_err(StoreError::file(path))?;
    let mut entries = fs::read_dir(path).map_err(StoreError::file(path))?;
    match entries.next() {
        None => Ok(()),
        Some(_) => Err(StoreError::NotEmpty { path: path.to_owned() }),
    }
}

/// All files below `directory`, as paths relative to it with `/`, in order.
pub fn list(directory: &Path) -> Result<Vec<String>, StoreError> {
    let mut found = Vec::new();
    let mut open = vec![directory.to_owned()];
    while let Some(directory_now) = open.pop() {
        let entries = fs::read_dir(&directory_now).map_err(StoreError::file(&directory_now))?;
        for entry in entries {
            let path = entry.map_err(StoreError::file(&directory_now))?.path();
            if path.is_dir() {
                open.push(path);
            } else {
                let relative = path.strip_prefix(directory).expect("it was found below the directory");
                found.push(relative.to_string_lossy().into_owned());
            }
        }
    }
    found.sort();
    Ok(found)
}

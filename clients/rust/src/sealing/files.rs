//! Files: sealed, opened and wrapped anew into files that appear whole or not at all.
//!
//! The new file is made without a name on the target's file system, synced, and given the name only then. So whatever ends the process
//! in between, a kill or a power cut, leaves nothing of it. Where a file system has no such files, it is made beside the target under a
//! name of its own, and removed on an error, but not when the process is killed. An opened file belongs to its owner alone (0600), and has
//! its name only after the last chunk verified. The directory is synced after it, so that the name lasts, too.

use std::{
    fs::{File, Metadata, Permissions},
    io::{self, Seek, SeekFrom},
    os::{
        fd::AsRawFd,
        unix::fs::{MetadataExt, PermissionsExt, fchown},
    },
    path::{Path, PathBuf},
};

use keyreeve_envelope::{EncryptionContext, sealed::Identity};
use rustix::fs::{AtFlags, CWD, Mode, OFlags, linkat};
use tempfile::NamedTempFile;

use super::{Expectation, Opener, Sealer, front::Front, rewrap::Existing};
use crate::ClientError;

/// A file that is being made. Gone if it is dropped before [`Self::publish`].
pub struct NewFile {
    file: Making,
    directory: PathBuf,
    target: PathBuf,
}

enum Making {
    Unnamed(File),
    Named(NamedTempFile),
}

impl NewFile {
    /// For ciphertext: readable by whom the umask lets.
    pub fn sealed(target: &Path) -> Result<Self, ClientError> {
        Self::with_mode(target, 0o666)
    }

    /// For plaintext: for its owner alone.
    pub fn opened(target: &Path) -> Result<Self, ClientError> {
        Self::with_mode(target, 0o600)
    }

    fn with_mode(target: &Path, mode: u32) -> Result<Self, ClientError> {
        let directory = match target.parent() {
            Some(parent) if parent != Path::new("") => parent,
            _ => Path::new("."),
        };
        let flags = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
        let file = match rustix::fs::open(directory, flags, Mode::from_raw_mode(mode)) {
            Ok(file) => Making::Unnamed(file.into()),
            Err(_) => {
                let named = beside()
                    .permissions(Permissions::from_mode(mode))
                    .tempfile_in(directory);
                Making::Named(named.map_err(|error| of_file("make a file beside", target, &error))?)
            }
        };
        Ok(Self {
            file,
            directory: directory.to_owned(),
            target: target.to_owned(),
        })
    }

    /// Where to write.
    pub fn as_file(&self) -> &File {
        match &self.file {
            Making::Unnamed(file) => file,
            Making::Named(file) => file.as_file(),
        }
    }

    /// Syncs it and gives it its name, which is synced as well; a file that had the name is replaced.
    pub fn publish(self) -> Result<(), ClientError> {
        self.publish_and(sync_directory)
    }

    fn publish_and(self, sync: impl FnOnce(&Path) -> io::Result<()>) -> Result<(), ClientError> {
        let failed = |error: &io::Error| of_file("write", &self.target, error);
        self.as_file().sync_all().map_err(|error| failed(&error))?;
        let renamed = match self.file {
            Making::Unnamed(file) => {
                // A link cannot replace a file, a rename can: for a moment the whole file has a name beside the target.
                let open = format!("/proc/self/fd/{}", file.as_raw_fd());
                let link = |path: &Path| Ok(linkat(CWD, &*open, CWD, path, AtFlags::SYMLINK_FOLLOW)?);
                let named = beside()
                    .make_in(&self.directory, link)
                    .map_err(|error| failed(&error))?;
                named.persist(&self.target).map_err(|error| error.error).map(drop)
            }
            Making::Named(file) => file.persist(&self.target).map_err(|error| error.error).map(drop),
        };
        let lasting = renamed.and_then(|()| sync(&self.directory));
        lasting.map_err(|error| failed(&error))
    }
}

/// Without it a power cut may take the name away again. A directory that may be written and not read, and one of a file system that
/// cannot sync directories, stay as they are.
fn sync_directory(directory: &Path) -> io::Result<()> {
    let synced = File::open(directory).and_then(|directory| directory.sync_all());
    match synced.as_ref().map_err(io::Error::kind) {
        Err(io::ErrorKind::PermissionDenied | io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported) => Ok(()),
        _ => synced,
    }
}

fn beside() -> tempfile::Builder<'static, 'static> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(".keyreeve-").suffix(".part");
    builder
}

impl Sealer {
    /// Seals a file into another. Large ones are sealed on all cores.
    pub async fn seal_file(
        &self,
        from: impl Into<PathBuf>,
        to: impl Into<PathBuf>,
        context: &EncryptionContext,
    ) -> Result<Identity, ClientError> {
        let (from, to) = (from.into(), to.into());
        let input = blocking(move || opened(&from)).await?;
        let message = self.begin(context).await?;
        blocking(move || {
            let identity = message.identity();
            let new = NewFile::sealed(&to)?;
            message.stream(input, new.as_file())?;
            new.publish().map(|()| identity)
        })
        .await
    }
}

impl Opener {
    /// Opens a file into another, for its owner alone. Large ones are opened on all cores.
    pub async fn open_file(
        &self,
        from: impl Into<PathBuf>,
        to: impl Into<PathBuf>,
        expected: &Expectation,
    ) -> Result<Identity, ClientError> {
        let (from, to) = (from.into(), to.into());
        let (front, input) = blocking(move || with_front(&from)).await?;
        let message = self.unlock(&front, expected).await?;
        blocking(move || {
            let new = NewFile::opened(&to)?;
            message.stream(input, new.as_file())?;
            new.publish().map(|()| message.identity())
        })
        .await
    }

    /// Replaces or adds wrapped keys of a sealed file, which keeps its payload, its mode, its owner and group as far as this process may
    /// give them, and its name: it is at every time the old file or the new one. Of a symbolic link it is the target that is replaced. The
    /// payload is copied by the system, without passing through this process where file systems can do that.
    pub async fn rewrap_file(
        &self,
        path: impl Into<PathBuf>,
        expected: &Expectation,
        keys: &[&str],
        existing: Existing,
    ) -> Result<(), ClientError> {
        let path = path.into();
        let (path, front, mut input) = blocking(move || {
            let path = path.canonicalize().map_err(|error| of_file("read", &path, &error))?;
            with_front(&path).map(|(front, input)| (path, front, input))
        })
        .await?;
        let header = self.rewrap_header(&front, expected, keys, existing).await?;
        blocking(move || {
            let new = NewFile::sealed(&path)?;
            let mut output = new.as_file();
            let mut copy = || -> io::Result<()> {
                io::Write::write_all(&mut output, &header.encode())?;
                input.seek(SeekFrom::Start(front.header.encoded_len() as u64))?;
                io::copy(&mut input, &mut output)?;
                let old = input.metadata()?;
                keep_owner(output, &old)?;
                // After the owner: a change of that takes bits of the mode away.
                output.set_permissions(old.permissions())
            };
            copy().map_err(|error| of_file("wrap anew", &path, &error))?;
            new.publish()
        })
        .await
    }
}

/// Gives `file` the owner and group of `old`: the group alone where only that is allowed, and neither where none is.
fn keep_owner(file: &File, old: &Metadata) -> io::Result<()> {
    let own = file.metadata()?;
    if (own.uid(), own.gid()) == (old.uid(), old.gid()) {
        return Ok(());
    }
    let not_allowed = |error: &io::Error| error.kind() == io::ErrorKind::PermissionDenied;
    match fchown(file, Some(old.uid()), Some(old.gid())) {
        Err(error) if not_allowed(&error) => match fchown(file, None, Some(old.gid())) {
            Err(error) if not_allowed(&error) => Ok(()),
            other => other,
        },
        other => other,
    }
}

/// The file, standing at its first chunk.
fn with_front(path: &Path) -> Result<(Front, File), ClientError> {
    let mut input = opened(path)?;
    Ok((Front::read(&mut input)?, input))
}

fn opened(path: &Path) -> Result<File, ClientError> {
    File::open(path).map_err(|error| of_file("read", path, &error))
}

fn of_file(doing: &str, path: &Path, error: &io::Error) -> ClientError {
    ClientError::io(&format!("{doing} `{}`", path.display()), error)
}

/// On a thread for blocking work. Goes on to its end even if its caller does not wait for it.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ClientError> + Send + 'static,
) -> Result<T, ClientError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(panicked) => std::panic::resume_unwind(panicked.into_panic()),
    }
}

#[cfg(test)]
#[path = "files_tests.rs"]
mod tests;

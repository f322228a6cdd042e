//! Files: sealed, opened and wrapped anew into files that appear whole or not at all.
//!
//! The new file is made without a name on the target's file system, synced, and given the name only then. So whatever ends the process
//! in between, a kill or a power cut, leaves nothing of it. Where a file system has no such files, it is made beside the target under a
//! name of its own, and removed on an error, but not when the process is killed. An opened file belongs to its owner alone (0600), and has
//! its name only after the last chunk verified.

use std::{
    fs::{File, Permissions},
    io::{self, Seek, SeekFrom},
    os::{fd::AsRawFd, unix::fs::PermissionsExt},
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

    /// Syncs it and gives it its name; a file that had it is replaced.
    pub fn publish(self) -> Result<(), ClientError> {
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
        renamed.map_err(|error| failed(&error))
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
        let input = opened(&from)?;
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
        let mut input = opened(&from)?;
        let front = Front::read(&mut input)?;
        let message = self.unlock(&front, expected).await?;
        blocking(move || {
            let new = NewFile::opened(&to)?;
            message.stream(input, new.as_file())?;
            new.publish().map(|()| message.identity())
        })
        .await
    }

    /// Replaces or adds wrapped keys of a sealed file, which keeps its payload, its mode, and its name: it is at every time the old file
    /// or the new one. The payload is copied by the system, without passing through this process where file systems can do that.
    pub async fn rewrap_file(
        &self,
        path: impl Into<PathBuf>,
        expected: &Expectation,
        keys: &[&str],
        existing: Existing,
    ) -> Result<(), ClientError> {
        let path = path.into();
        let mut input = opened(&path)?;
        let front = Front::read(&mut input)?;
        let header = self.rewrap_header(&front, expected, keys, existing).await?;
        blocking(move || {
            let failed = |error: &io::Error| of_file("wrap anew", &path, error);
            let mode = input.metadata().map_err(|error| failed(&error))?.permissions();
            let new = NewFile::sealed(&path)?;
            let mut output = new.as_file();
            let copy = || -> io::Result<()> {
                io::Write::write_all(&mut output, &header.encode())?;
                input.seek(SeekFrom::Start(front.header.encoded_len() as u64))?;
                io::copy(&mut input, &mut output)?;
                output.set_permissions(mode)
            };
            copy().map_err(|error| failed(&error))?;
            new.publish()
        })
        .await
    }
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

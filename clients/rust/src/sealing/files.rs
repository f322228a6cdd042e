//! Files: sealed, opened and wrapped anew into files that appear whole or not at all.
//!
//! The new file is made beside the target, synced, and renamed over it. An opened file belongs to its owner alone (0600), and is seen
//! under its name only after the last chunk verified; what an interrupted or failed one had by then is removed.

use std::{
    fs::{self, File, Permissions},
    io::{self, Seek, SeekFrom},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use keyreeve_envelope::{EncryptionContext, sealed::Identity};
use tempfile::NamedTempFile;

use super::{Expectation, Opener, Sealer, front::Front, rewrap::Existing};
use crate::ClientError;

/// A file that is being made. Removed if it is dropped before [`Self::publish`].
pub struct NewFile {
    file: NamedTempFile,
    target: PathBuf,
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
        let file = tempfile::Builder::new()
            .prefix(".keyreeve-")
            .suffix(".part")
            .permissions(Permissions::from_mode(mode))
            .tempfile_in(directory);
        Ok(Self {
            file: file.map_err(|error| of_file("make a file beside", target, &error))?,
            target: target.to_owned(),
        })
    }

    /// Where to write.
    pub fn as_file(&self) -> &File {
        self.file.as_file()
    }

    /// Syncs it and gives it its name; a file that had it is replaced.
    pub fn publish(self) -> Result<(), ClientError> {
        let failed = |error: &io::Error| of_file("write", &self.target, error);
        self.file.as_file().sync_all().map_err(|error| failed(&error))?;
        self.file.persist(&self.target).map_err(|error| failed(&error.error))?;
        Ok(())
    }
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
                fs::set_permissions(new.file.path(), mode)
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

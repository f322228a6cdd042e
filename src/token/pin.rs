//! Reads the user PIN from where the configuration says, and tells what a second attempt would use.

use std::{
    fs::File,
    io::Read,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use keyreeve_pkcs11::Pin;
use zeroize::Zeroizing;

use super::config::PinSource;

/// No token takes a longer PIN; a longer file is not a PIN file.
const MAX_LEN: u64 = 1024;

#[derive(Debug, thiserror::Error)]
pub enum PinError {
    #[error("cannot read the PIN from {source_name}: {error}")]
    Unreadable { source_name: String, error: std::io::Error },
    #[error("the PIN from {0} is empty: put the token's user PIN there")]
    Empty(String),
    #[error("{0} is longer than any PIN: is it the right one?")]
    TooLong(String),
    #[error("PIN credential `{0}` needs $CREDENTIALS_DIRECTORY: start under systemd with LoadCredential=")]
    NoCredentials(String),
    #[error("`{0}` is not the name of a credential")]
    CredentialName(String),
}

/// A PIN with what is worth a warning about where it was.
pub struct ReadPin {
    pub pin: Pin,
    pub warning: Option<String>,
}

/// Reads the PIN; one trailing newline is not part of it.
pub fn read(source: &PinSource) -> Result<ReadPin, PinError> {
    let (bytes, warning) = read_bytes(source)?;
    Ok(ReadPin {
        pin: Pin::new(bytes),
        warning,
    })
}

/// The same, as bytes that can be handed to another process.
pub fn read_bytes(source: &PinSource) -> Result<(Zeroizing<Vec<u8>>, Option<String>), PinError> {
    let name = describe(source);
    let unreadable = |error| PinError::Unreadable {
        source_name: name.clone(),
        error,
    };
    let path = path(source)?;
    let file = File::open(&path).map_err(unreadable)?;
    let mode = file.metadata().map_err(unreadable)?.mode();
    let warning = (matches!(source, PinSource::File(_)) && mode & 0o077 != 0)
        .then(|| format!("{name} can be read by others (mode {:o}): chmod 600 it", mode & 0o777));
    // Room for all of it at once: a buffer that grows leaves copies behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_LEN as usize + 2));
    file.take(MAX_LEN + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > MAX_LEN {
        return Err(PinError::TooLong(name));
    }
    if bytes.last() == Some(&b'\n') {
        bytes.pop();
        if bytes.last() == Some(&b'\r') {
            bytes.pop();
        }
    }
    if bytes.is_empty() {
        return Err(PinError::Empty(name));
    }
    Ok((bytes, warning))
}

/// Which PIN a login would try, without looking at it: the source and, for a file, when it was last written.
/// Equal words mean the same attempt. systemd writes a credential anew at each start, so its time says nothing.
pub fn attempt(source: &PinSource) -> String {
    let written = path(source)
        .ok()
        .filter(|_| matches!(source, PinSource::File(_)))
        .and_then(|path| std::fs::metadata(path).ok())
        .map_or(String::new(), |metadata| {
            format!(" written {}.{:09}", metadata.mtime(), metadata.mtime_nsec())
        });
    format!("{}{written}", describe(source))
}

fn describe(source: &PinSource) -> String {
    match source {
        PinSource::File(path) => format!("PIN file `{}`", path.display()),
        PinSource::Descriptor(number) => format!("file descriptor {number}"),
        PinSource::Credential(name) => format!("credential `{name}`"),
    }
}

fn path(source: &PinSource) -> Result<PathBuf, PinError> {
    match source {
        PinSource::File(path) => Ok(path.clone()),
        // The descriptor's own entry: opens a file or pipe that was inherited, without unsafe code.
        PinSource::Descriptor(number) => Ok(PathBuf::from(format!("/proc/self/fd/{number}"))),
        PinSource::Credential(name) => {
            if name.is_empty() || name.contains('/') || name.starts_with('.') {
                return Err(PinError::CredentialName(name.clone()));
            }
            let directory =
                std::env::var_os("CREDENTIALS_DIRECTORY").ok_or_else(|| PinError::NoCredentials(name.clone()))?;
            Ok(Path::new(&directory).join(name))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn file(content: &[u8], mode: u32) -> (tempfile::TempDir, PinSource) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pin");
        std::fs::write(&path, content).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        (directory, PinSource::File(path))
    }

    #[test]
    fn a_pin_file_that_others_can_read_is_warned_about() {
        let (_keep, source) = file(b"1234\n", 0o644);
        let read = read(&source).unwrap_or_else(|error| panic!("{error}"));
        assert!(read.warning.is_some_and(|text| text.contains("chmod 600")));
    }

    #[test]
    fn an_empty_and_an_overlong_pin_are_refused() {
        let (_keep, source) = file(b"\n", 0o600);
        assert!(matches!(read(&source), Err(PinError::Empty(_))));
        let (_keep, source) = file(&[b'1'; 1025], 0o600);
        assert!(matches!(read(&source), Err(PinError::TooLong(_))));
    }

    #[test]
    fn a_rewritten_file_is_another_attempt() {
        let (_keep, source) = file(b"1234\n", 0o600);
        let before = attempt(&source);
        assert_eq!(before, attempt(&source));
        let PinSource::File(path) = &source else { unreachable!() };
        let file = File::options().write(true).open(path).unwrap();
        file.set_modified(std::time::UNIX_EPOCH + std::time::Duration::from_secs(1))
            .unwrap();
        assert_ne!(before, attempt(&source));
    }

    #[test]
    fn a_credential_name_cannot_leave_its_directory() {
        let source = PinSource::Credential("../pin".into());
        assert!(matches!(read(&source), Err(PinError::CredentialName(_))));
    }
}

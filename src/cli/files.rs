//! Bytes in and out of a command: standard streams or files, binary-safe; a file appears whole or not at all.

use std::{
    fs::{self, File, OpenOptions},
    io::{IsTerminal, Read, Write, stdin, stdout},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use data_encoding::BASE64;

use super::{
    failure::{Failure, Outcome},
    output,
};

/// More than any message may hold (4 MiB): whoever pipes a disk in learns it early.
const MAX_INPUT: u64 = 4 << 20;

/// Who may read a file that is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Secrecy {
    /// Ciphertexts: as the umask says.
    Open,
    /// Plaintext and keys: the owner alone (0600).
    Secret,
}

/// Reads `file`, or standard input if there is none or it is `-`.
pub fn read(file: Option<&Path>) -> Result<Vec<u8>, Failure> {
    let path = match file {
        Some(path) if path != Path::new("-") => path,
        _ => return read_all(stdin().lock(), Path::new("standard input")),
    };
    let opened = File::open(path).map_err(|error| Failure::file("read", path, &error))?;
    read_all(opened, path)
}

/// As `read`, then out of base64 if `base64` (white space is skipped).
pub fn read_ciphertext(file: Option<&Path>, base64: bool) -> Result<Vec<u8>, Failure> {
    let bytes = read(file)?;
    if !base64 {
        return Ok(bytes);
    }
    let text: Vec<u8> = bytes.into_iter().filter(|byte| !byte.is_ascii_whitespace()).collect();
    BASE64
        .decode(&text)
        .map_err(|_| Failure::failed("the input is not base64: leave out --base64 if it is raw bytes"))
}

/// Writes to `file`, or to standard output if there is none or it is `-`.
///
/// Raw bytes that are no text are kept off a terminal, unless they are what the user wanted to read (`Secrecy::Secret`: plaintext).
pub fn write(file: Option<&Path>, bytes: &[u8], base64: bool, secrecy: Secrecy) -> Outcome {
    let encoded;
    let bytes = if base64 {
        encoded = format!("{}\n", BASE64.encode(bytes)).into_bytes();
        &encoded
    } else {
        bytes
    };
    match file {
        Some(path) if path != Path::new("-") => replace(path, bytes, secrecy),
        _ if !base64 && stdout().is_terminal() && (secrecy == Secrecy::Open || std::str::from_utf8(bytes).is_err()) => {
            Err(Failure::usage(
                "this is binary and standard output is a terminal: add --base64 or --out FILE",
            ))
        }
        _ => output::write(bytes),
    }
}

fn read_all(input: impl Read, name: &Path) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    input
        .take(MAX_INPUT + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| Failure::file("read", name, &error))?;
    if bytes.len() as u64 > MAX_INPUT {
        return Err(Failure::failed(
            "the input is longer than 4 MiB: a message holds at most 64 KiB; take a data key (`keyreeve datakey`) and encrypt locally",
        ));
    }
    Ok(bytes)
}

/// A new file beside the old one, synced, then renamed over it.
fn replace(path: &Path, bytes: &[u8], secrecy: Secrecy) -> Outcome {
    let mut part = path.as_os_str().to_owned();
    part.push(format!(".{}.part", std::process::id()));
    let part = PathBuf::from(part);
    let mode = match secrecy {
        Secrecy::Open => 0o666,
        Secrecy::Secret => 0o600,
    };
    let write = || {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&part)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&part, path)
    };
    write().map_err(|error| {
        // What is left of a failed write must not stay, whatever the reason was.
        let _ = fs::remove_file(&part);
        Failure::file("write", path, &error)
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn plaintext_files_are_for_their_owner_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("plain");
        fs::write(&path, "old").unwrap();
        write(Some(&path), b"\x00new\xff", false, Secrecy::Secret).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"\x00new\xff");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_failed_write_leaves_the_old_file_and_no_part() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("taken");
        fs::create_dir(&path).unwrap();
        assert!(write(Some(&path), b"x", false, Secrecy::Open).is_err());
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn base64_is_read_back_across_lines() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("text");
        write(Some(&path), &[0, 255, 7], true, Secrecy::Open).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "AP8H\n");
        fs::write(&path, "AP\n8H\r\n").unwrap();
        assert_eq!(read_ciphertext(Some(&path), true).unwrap(), [0, 255, 7]);
        fs::write(&path, "not base64!").unwrap();
        assert!(read_ciphertext(Some(&path), true).is_err());
    }
}

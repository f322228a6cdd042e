//! What was done in a ceremony, step by step: a file of JSON lines, each with the SHA-256 of the line before.
//!
//! It travels with the other files. At the end its hash is left as a mark in a server's data directory, and the next start records it
//! in the audit log.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::{
    clock::Timestamp,
    token::{
        files,
        manifest::{from_hex, sha256_hex},
    },
};

/// Largest transcript: some thousand steps.
const MAX_BYTES: u64 = 16 * 1024 * 1024;
const MARK: &str = "ceremony.mark";
const RECORDED: &str = "ceremony.recorded";

/// One line.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    pub v: u32,
    /// RFC 3339, UTC.
    pub ts: String,
    /// SHA-256 of the line before, without its end; zeros in the first.
    pub prev: String,
    /// The command.
    pub step: String,
    /// What it answered.
    pub said: serde_json::Value,
}

/// The whole of a transcript, in one hash.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TranscriptHash {
    /// Of the file.
    pub sha256: String,
    pub steps: usize,
}

/// Appends a step, synced. Errors: also if a line before was changed.
pub fn append(path: &Path, step: &str, said: serde_json::Value, now: Timestamp) -> io::Result<()> {
    let (_, prev) = read(path)?;
    let step = Step {
        v: 1,
        ts: now.rfc3339(),
        prev,
        step: step.to_owned(),
        said,
    };
    let mut line = serde_json::to_vec(&step)?;
    line.push(b'\n');
    let mut file = open(path)?;
    file.write_all(&line)?;
    file.sync_all()
}

/// Opens the file, or makes it, for a line more.
pub fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).mode(0o600).open(path)
}

/// Reads a transcript and verifies that its lines follow each other.
pub fn verify(path: &Path) -> io::Result<TranscriptHash> {
    Ok(read(path)?.0)
}

/// Leaves the mark that the next start of the server in `data_directory` records.
pub fn leave_mark(data_directory: &Path, hash: &TranscriptHash) -> io::Result<()> {
    files::replace(&data_directory.join(MARK), &serde_json::to_vec(hash)?)
}

/// A mark that no start has recorded yet.
pub struct Mark {
    pub transcript: TranscriptHash,
    path: PathBuf,
}

impl Mark {
    pub fn find(data_directory: &Path) -> io::Result<Option<Self>> {
        let path = data_directory.join(MARK);
        match files::read(&path, 1024) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            bytes => {
                let transcript: TranscriptHash = serde_json::from_slice(&bytes?)?;
                from_hex::<32>(&transcript.sha256)
                    .ok_or_else(|| io::Error::other("`ceremony.mark` holds no SHA-256"))?;
                Ok(Some(Self { transcript, path }))
            }
        }
    }

    /// As it is recorded.
    pub fn record(&self) -> String {
        format!("transcript={} steps={}", self.transcript.sha256, self.transcript.steps)
    }

    /// It was recorded. A crash before this records it twice, which does no harm.
    pub fn recorded(self) -> io::Result<()> {
        std::fs::rename(&self.path, self.path.with_file_name(RECORDED))
    }
}

/// The hash of all, and of the last line.
fn read(path: &Path) -> io::Result<(TranscriptHash, String)> {
    let bytes = match files::read(path, MAX_BYTES) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        bytes => bytes?,
    };
    let mut prev = "0".repeat(64);
    let mut steps = 0;
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        steps += 1;
        let broken = |problem: &str| io::Error::other(format!("line {steps} of the transcript {problem}"));
        let line = line.strip_suffix(b"\n").ok_or_else(|| broken("was cut"))?;
        let step: Step = serde_json::from_slice(line).map_err(|error| broken(&format!("is no step: {error}")))?;
        if step.v != 1 || step.prev != prev {
            return Err(broken("does not follow the one before: lines were changed"));
        }
        prev = sha256_hex(line);
    }
    let sha256 = sha256_hex(&bytes);
    Ok((TranscriptHash { sha256, steps }, prev))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transcript_grows_by_lines_and_a_changed_one_is_found() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ceremony.jsonl");
        for step in ["enrol", "sign", "epoch"] {
            let said = serde_json::json!({ "serial": "1" });
            append(&path, step, said, Timestamp::from_unix_ms(0)).unwrap();
        }
        let hash = verify(&path).unwrap();
        assert_eq!(hash.steps, 3);
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, text.replacen("\"1\"", "\"2\"", 1)).unwrap();
        assert!(verify(&path).unwrap_err().to_string().contains("line 2"));
        std::fs::write(&path, text.trim_end()).unwrap();
        assert!(verify(&path).unwrap_err().to_string().contains("cut"));
    }

    #[test]
    fn a_mark_is_found_until_it_is_recorded() {
        let directory = tempfile::tempdir().unwrap();
        assert!(Mark::find(directory.path()).unwrap().is_none());
        let hash = TranscriptHash {
            sha256: "ab".repeat(32),
            steps: 3,
        };
        leave_mark(directory.path(), &hash).unwrap();
        let mark = Mark::find(directory.path()).unwrap().unwrap();
        assert_eq!(mark.transcript, hash);
        mark.recorded().unwrap();
        assert!(Mark::find(directory.path()).unwrap().is_none());
    }
}

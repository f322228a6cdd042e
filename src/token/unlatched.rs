//! Who opened a latch, and why: a line for each beside the latches, which the next start of the service records in the audit log.
//!
//! `tokens unlatch` works on files while the service is down, so it has no log to write to.

use std::{
    fs::{self, OpenOptions, Permissions},
    io::{self, Write},
    os::unix::fs::PermissionsExt,
    path::Path,
};

use serde::{Deserialize, Serialize};

/// One line for each latch, JSON.
const NOTES: &str = "unlatched-tokens.jsonl";
/// What a start has begun to record.
const TAKEN: &str = "unlatched-tokens.taken";

/// A latch that was opened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unlatched {
    pub serial: String,
    /// Class, time and reason of the latch.
    pub class: String,
    pub since: String,
    pub latched_for: String,
    /// The operator's user on this host, or the service itself.
    pub by: String,
    pub reason: String,
    /// RFC 3339, UTC.
    pub at: String,
}

/// Adds a note, synced: to be called before the latch is opened.
pub fn note(directory: &Path, unlatched: &Unlatched) -> io::Result<()> {
    let path = directory.join(NOTES);
    let mut file = OpenOptions::new().create(true).append(true).open(&path)?;
    // The operator may be another user than the service, and nothing in it is secret.
    let _ = fs::set_permissions(&path, Permissions::from_mode(0o644));
    let mut line = serde_json::to_vec(unlatched)?;
    line.push(b'\n');
    file.write_all(&line)?;
    file.sync_all()?;
    fs::File::open(directory)?.sync_all()
}

/// Takes the notes to record them. Until [`recorded`] a later start takes the same.
pub fn take(directory: &Path) -> io::Result<Vec<Unlatched>> {
    let taken = directory.join(TAKEN);
    if !taken.exists() {
        match fs::rename(directory.join(NOTES), &taken) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            renamed => renamed?,
        }
    }
    let text = fs::read_to_string(&taken)?;
    Ok(text.lines().map(|line| parse(line, &taken)).collect())
}

/// Forgets what [`take`] gave.
pub fn recorded(directory: &Path) -> io::Result<()> {
    match fs::remove_file(directory.join(TAKEN)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

/// A line that a crash tore still says that a latch was opened.
fn parse(line: &str, path: &Path) -> Unlatched {
    serde_json::from_str(line).unwrap_or_else(|error| {
        let unknown = || "unknown".to_owned();
        Unlatched {
            serial: unknown(),
            class: unknown(),
            since: unknown(),
            latched_for: unknown(),
            by: unknown(),
            reason: format!("a line of {} cannot be read: {error}", path.display()),
            at: unknown(),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unlatched(reason: &str) -> Unlatched {
        Unlatched {
            serial: "12".into(),
            class: "E13".into(),
            since: "2026-01-01T00:00:00.000Z".into(),
            latched_for: "CANARY answers differently".into(),
            by: "0".into(),
            reason: reason.into(),
            at: "2026-01-02T00:00:00.000Z".into(),
        }
    }

    #[test]
    fn notes_are_taken_until_they_are_recorded_and_later_ones_wait() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(take(directory.path()).unwrap(), []);
        for reason in ["one", "two"] {
            note(directory.path(), &unlatched(reason)).unwrap();
        }
        let both = [unlatched("one"), unlatched("two")];
        assert_eq!(take(directory.path()).unwrap(), both);
        note(directory.path(), &unlatched("three")).unwrap();
        assert_eq!(
            take(directory.path()).unwrap(),
            both,
            "the start before did not record them"
        );
        recorded(directory.path()).unwrap();
        assert_eq!(take(directory.path()).unwrap(), [unlatched("three")]);
        recorded(directory.path()).unwrap();
        assert_eq!(take(directory.path()).unwrap(), []);
    }

    #[test]
    fn a_torn_note_still_counts() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join(NOTES), "{\"serial\":").unwrap();
        assert!(take(directory.path()).unwrap()[0].reason.contains("cannot be read"));
    }
}

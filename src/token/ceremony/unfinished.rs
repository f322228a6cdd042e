//! What a step has begun to make in a token and has not handed over: a mark on the host, written before the token gets its first
//! object, and gone once the step's file is written. So what a step that died has left is told from what a step that ended has made,
//! and only the former is ever removed.

use std::{
    fs::{self, DirBuilder, File},
    io,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
};

use keyreeve_pkcs11::{Attribute, CallError, Session, Template};
use serde::{Deserialize, Serialize};

use super::{error::CeremonyError, signed::Signed, statements::Role};
use crate::token::files;

/// Ids and a nonce.
const MAX_BYTES: u64 = 1024;

/// An enrolment, as it was begun: repeated, it states the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct EnrolmentBegun {
    /// 16 bytes, hex.
    pub group: String,
    /// The id was drawn for a new group.
    pub new_group: bool,
    pub role: Role,
    pub nonce: String,
}

/// The mark of one step at one token.
#[derive(Debug)]
pub(super) struct Unfinished {
    path: PathBuf,
}

impl Unfinished {
    pub fn enrolment(data_directory: &Path, serial: &str) -> Self {
        Self::of(data_directory, serial, "enrolment")
    }

    /// `transfer`: SHA-256 of the transfer statement; the import of another file has another mark.
    pub fn import(data_directory: &Path, serial: &str, transfer: &str) -> Self {
        Self::of(data_directory, serial, transfer)
    }

    fn of(data_directory: &Path, serial: &str, step: &str) -> Self {
        let serial = files::name_of(serial);
        let directory = data_directory.join("ceremony");
        Self {
            path: directory.join(format!("token-{serial}-{step}.unfinished")),
        }
    }

    /// Whether the step was begun and not handed over.
    pub fn is_begun(&self) -> Result<bool, CeremonyError> {
        self.path.try_exists().map_err(|error| self.failed(error))
    }

    pub fn enrolment_begun(&self) -> Result<Option<EnrolmentBegun>, CeremonyError> {
        match files::read(&self.path, MAX_BYTES) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            bytes => {
                let begun = bytes.and_then(|bytes| Ok(serde_json::from_slice(&bytes)?));
                begun.map(Some).map_err(|error| self.failed(error))
            }
        }
    }

    /// Written and synced before this returns.
    pub fn begin(&self, what: &impl Serialize) -> Result<(), CeremonyError> {
        self.write(what).map_err(|error| self.failed(error))
    }

    fn write(&self, what: &impl Serialize) -> io::Result<()> {
        let directory = self.path.parent().unwrap_or(Path::new("."));
        DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        files::replace(&self.path, &serde_json::to_vec(what)?)?;
        File::open(directory.parent().unwrap_or(Path::new(".")))?.sync_all()
    }

    fn end(&self) -> Result<(), CeremonyError> {
        self.remove().map_err(|error| self.failed(error))
    }

    /// Synced: a mark that came back after a power cut would speak of keys that others rely on by then.
    fn remove(&self) -> io::Result<()> {
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed.and_then(|()| File::open(self.path.parent().unwrap_or(Path::new(".")))?.sync_all()),
        }
    }

    fn failed(&self, error: io::Error) -> CeremonyError {
        CeremonyError::Mark {
            path: self.path.display().to_string(),
            error,
        }
    }
}

/// What an interrupted attempt at the same step had left in the token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Left {
    /// All of its keys, and they answer as they must: they are kept.
    Whole,
    /// Less than that, by label; it was removed, and made anew.
    Removed(Vec<String>),
}

/// What a token states at the end of a step; until it is handed over, the step may be repeated and states the same.
#[derive(Debug)]
#[must_use = "the step is not over before its statement is handed over"]
pub struct Stated<S> {
    pub statement: Signed<S>,
    /// `None`: the step was not begun before.
    pub left: Option<Left>,
    pub(super) mark: Unfinished,
}

impl<S> Stated<S> {
    /// The statement is where it is kept. Its keys are the token's from now on, and the step is not repeated.
    pub fn handed_over(self) -> Result<Signed<S>, CeremonyError> {
        self.mark.end()?;
        Ok(self.statement)
    }
}

/// What an interrupted attempt left, stated, if it is whole. `None`: it is not, and is to be removed.
///
/// A token that fails is no reason to remove a key, and what a cut write leaves of one is answered like a failure. So the token, which has
/// just worked with other keys, must fail twice in the same way. Errors: the failure, if it tells nothing of the keys.
pub(super) fn whole<S>(
    state: impl Fn() -> Result<Signed<S>, CeremonyError>,
) -> Result<Option<Signed<S>>, CeremonyError> {
    let first = match state() {
        Ok(statement) => return Ok(Some(statement)),
        Err(error) => error.to_string(),
    };
    match state() {
        Ok(statement) => Ok(Some(statement)),
        Err(again) if again.may_be_about_keys() && again.to_string() == first => Ok(None),
        Err(again) => Err(again),
    }
}

/// Removes the token objects of a label and an id, of whatever class; returns a label for each.
pub(super) fn remove(session: &Session, label: &str, id: &[u8]) -> Result<Vec<String>, CallError> {
    let template = Template::new().label(label).id(id).flag(Attribute::TOKEN, true);
    let found = session.find(&template, usize::MAX)?;
    for object in &found {
        session.destroy(*object)?;
    }
    Ok(vec![label.to_owned(); found.len()])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_unfinished_from_its_mark_to_its_end_and_apart_from_others() {
        let directory = tempfile::tempdir().unwrap();
        let one = Unfinished::import(directory.path(), "12/3", &"ab".repeat(32));
        let other = Unfinished::import(directory.path(), "12/3", &"cd".repeat(32));
        assert!(!one.is_begun().unwrap());
        one.begin(&()).unwrap();
        assert!(one.is_begun().unwrap() && !other.is_begun().unwrap());
        one.end().unwrap();
        one.end().unwrap();
        assert!(!one.is_begun().unwrap());
    }

    #[test]
    fn an_unreadable_mark_is_not_nothing_begun() {
        let directory = tempfile::tempdir().unwrap();
        let mark = Unfinished::enrolment(directory.path(), "1");
        assert!(mark.enrolment_begun().unwrap().is_none());
        let begun = EnrolmentBegun {
            group: "ab".repeat(16),
            new_group: true,
            role: Role::Member,
            nonce: "00".repeat(16),
        };
        mark.begin(&begun).unwrap();
        assert_eq!(mark.enrolment_begun().unwrap(), Some(begun));
        std::fs::write(&mark.path, "{}").unwrap();
        assert!(matches!(mark.enrolment_begun(), Err(CeremonyError::Mark { .. })));
    }
}

//! The latch that survives restarts: a wrong PIN (E9) or a wrong answer (E13) takes a token out until an operator acts.
//!
//! One small JSON file per token under `latches` in the data directory. It holds no PIN and nothing computed from one.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};

use keyreeve_pkcs11::Class;
use serde::{Deserialize, Serialize};

use super::{
    files,
    unlatched::{self, Unlatched},
};
use crate::clock::{Clock, SystemClock};

/// Why a token is latched.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Latched {
    pub serial: String,
    /// `E9` or `E13`.
    pub class: String,
    pub reason: String,
    /// RFC 3339, UTC.
    pub since: String,
    /// For E9: which PIN was tried (`pin::attempt`); another attempt is another configuration and may be made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<String>,
}

/// The latch of one token.
#[derive(Debug, Clone)]
pub struct Latch {
    path: PathBuf,
    serial: String,
}

impl Latch {
    pub fn of(data_directory: &Path, serial: &str) -> Self {
        let name = files::name_of(serial);
        Self {
            path: Self::directory(data_directory).join(format!("token-{name}.latch")),
            serial: serial.to_owned(),
        }
    }

    /// Where the latches of all tokens are: of the data directory, a worker may write here only.
    pub fn directory(data_directory: &Path) -> PathBuf {
        data_directory.join("latches")
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The latch as it stands. A file that cannot be read counts as latched: guessing could cost the token its last PIN try.
    pub fn read(&self) -> Option<Latched> {
        match fs::read(&self.path) {
            Ok(bytes) => {
                Some(serde_json::from_slice(&bytes).unwrap_or_else(|_| self.unreadable("is not a latch file")))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => Some(self.unreadable(&error.to_string())),
        }
    }

    /// Writes the latch, synced: it must outlive the crash that may follow.
    pub fn set(&self, class: Class, reason: &str, attempt: Option<String>) -> io::Result<()> {
        let latched = Latched {
            serial: self.serial.clone(),
            class: class.name().to_owned(),
            reason: reason.to_owned(),
            since: SystemClock.now().rfc3339(),
            attempt,
        };
        self.make_directory()?;
        let part = self.part();
        let mut file = File::create(&part)?;
        file.write_all(&serde_json::to_vec_pretty(&latched)?)?;
        file.sync_all()?;
        fs::rename(&part, &self.path)?;
        match self.path.parent() {
            Some(directory) => File::open(directory)?.sync_all(),
            None => Ok(()),
        }
    }

    /// Whether `set` would find a directory that it can write. Leaves nothing behind that was not there.
    pub fn check_writable(&self) -> io::Result<()> {
        let made = self.make_directory()?;
        let part = self.part();
        File::create(&part).and_then(|_| fs::remove_file(&part))?;
        match self.path.parent() {
            Some(directory) if made => fs::remove_dir(directory),
            _ => Ok(()),
        }
    }

    /// Opens the latch, if there is one, and notes who did it and why: the next start of the service records it.
    pub fn unlatch(&self, by: &str, reason: &str) -> io::Result<()> {
        if let (Some(latched), Some(directory)) = (self.read(), self.path.parent()) {
            let unlatched = Unlatched {
                serial: latched.serial,
                class: latched.class,
                since: latched.since,
                latched_for: latched.reason,
                by: by.to_owned(),
                reason: reason.to_owned(),
                at: SystemClock.now().rfc3339(),
            };
            unlatched::note(directory, &unlatched)?;
        }
        self.clear()
    }

    fn clear(&self) -> io::Result<()> {
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// The file that becomes the latch. Of this process and thread alone: workers and service write at the same time.
    fn part(&self) -> PathBuf {
        let (process, thread) = (std::process::id(), std::thread::current().id());
        self.path.with_extension(format!("{process}-{thread:?}.part"))
    }

    /// Whether it was not there.
    fn make_directory(&self) -> io::Result<bool> {
        match self.path.parent().map(fs::create_dir) {
            Some(Err(error)) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
            Some(made) => made.map(|()| true),
            None => Ok(false),
        }
    }

    fn unreadable(&self, problem: &str) -> Latched {
        Latched {
            serial: self.serial.clone(),
            class: Class::WrongAnswer.name().to_owned(),
            reason: format!("`{}` {problem}", self.path.display()),
            since: String::new(),
            attempt: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_latch_survives_and_is_cleared() {
        let directory = tempfile::tempdir().unwrap();
        let latch = Latch::of(directory.path(), "ab/../12");
        assert_eq!(latch.read(), None);
        latch.check_writable().unwrap();
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
        latch
            .set(Class::Pin, "CKR_PIN_INCORRECT", Some("PIN file `x`".into()))
            .unwrap();
        let again = Latch::of(directory.path(), "ab/../12").read().unwrap();
        assert_eq!(
            (again.class.as_str(), again.attempt.as_deref()),
            ("E9", Some("PIN file `x`"))
        );
        assert_eq!(latch.path().parent(), Some(&*Latch::directory(directory.path())));
        latch.clear().unwrap();
        assert_eq!(latch.read(), None);
    }

    #[test]
    fn a_damaged_latch_file_counts_as_latched() {
        let directory = tempfile::tempdir().unwrap();
        let latch = Latch::of(directory.path(), "12");
        fs::create_dir(Latch::directory(directory.path())).unwrap();
        fs::write(latch.path(), "{").unwrap();
        assert_eq!(latch.read().unwrap().class, "E13");
    }
}

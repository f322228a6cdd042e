//! What a malicious module would do, done from within: whether the sandbox holds on this host is tried, not supposed.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    net::TcpStream,
    os::unix::net::UnixDatagram,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde::{Deserialize, Serialize};

use super::{Sandbox, SandboxError};
use crate::token::{Latch, TokenConfig};

/// One thing that was tried in a sandbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    pub what: String,
    /// Whether the sandbox let it be done.
    pub worked: bool,
    /// Whether it should.
    pub allowed: bool,
}

/// What a sandbox is made for; goes to the standard input of the process that tries it.
#[derive(Debug, Serialize, Deserialize)]
pub struct Trial {
    pub token: TokenConfig,
    pub data_directory: PathBuf,
    pub tombstones: PathBuf,
}

impl Trial {
    /// Has another process try it. Errors: what that says, too. `program`: this one, which with `token-worker --try-sandbox` calls [`Self::run`].
    pub fn of_program(&self, program: &Path) -> io::Result<Vec<Attempt>> {
        let mut child = Command::new(program)
            .args(["token-worker", "--try-sandbox"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        if let Some(mut input) = child.stdin.take() {
            input.write_all(&serde_json::to_vec(self)?)?;
        }
        let output = child.wait_with_output()?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            return Err(io::Error::other(said.trim().to_owned()));
        }
        Ok(serde_json::from_slice(&output.stdout)?)
    }

    /// Reads a trial from standard input, enters its sandbox and prints the attempts. The process is of no more use afterwards.
    pub fn run() -> Result<(), TrialError> {
        let trial: Self = serde_json::from_reader(io::stdin())?;
        let attempts = trial.attempt()?;
        Ok(serde_json::to_writer(io::stdout(), &attempts)?)
    }

    fn attempt(&self) -> Result<Vec<Attempt>, SandboxError> {
        let Self {
            token,
            data_directory,
            tombstones,
        } = self;
        Sandbox::prepare(token, data_directory, tombstones)?.enter()?;
        let within = Latch::directory(data_directory).join("attempt");
        let outside = data_directory.join("attempt");
        let made = |path: &Path| File::create(path).and_then(|_| fs::remove_file(path));
        let attempt = |what: &str, allowed, outcome: io::Result<()>| Attempt {
            what: what.to_owned(),
            // With another error, "connection refused", it was let through.
            worked: outcome.map_or_else(|error| error.kind() != io::ErrorKind::PermissionDenied, |()| true),
            allowed,
        };
        Ok(vec![
            attempt("read the module", true, File::open(&token.module).map(drop)),
            attempt("read the tombstones", true, File::open(tombstones).map(drop)),
            attempt("write a latch", true, made(&within)),
            attempt("read files outside", false, File::open("/etc/passwd").map(drop)),
            attempt("list the data directory", false, fs::read_dir(data_directory).map(drop)),
            attempt("write beside the store", false, made(&outside)),
            attempt("start a program", false, Command::new("/bin/true").status().map(drop)),
            attempt("connect", token.network, TcpStream::connect("127.0.0.1:9").map(drop)),
            attempt("open a local socket", token.network, UnixDatagram::unbound().map(drop)),
        ])
    }
}

#[derive(Debug, thiserror::Error)]
pub enum TrialError {
    #[error("this is started by `keyreeve doctor`, not by hand: {0}")]
    Input(#[from] serde_json::Error),
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
}

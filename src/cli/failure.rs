//! How a command ends badly: a sentence for people on standard error, and an exit code.

use std::{fmt::Display, io, path::Path};

use keyreeve_client::ClientError;

/// Exit codes: 0 done, 1 failed, 2 wrongly called.
#[derive(Debug)]
pub enum Failure {
    Failed(String),
    Usage(String),
    /// Whoever read our output has gone: nothing to say, and nobody to say it to.
    ReaderGone,
}

pub type Outcome = Result<(), Failure>;

impl Failure {
    pub fn failed(message: impl Display) -> Self {
        Self::Failed(message.to_string())
    }

    pub fn usage(message: impl Display) -> Self {
        Self::Usage(message.to_string())
    }

    /// A file that could not be read, written or made.
    pub fn file(doing: &str, path: &Path, error: &io::Error) -> Self {
        Self::Failed(format!("cannot {doing} `{}`: {error}", path.display()))
    }

    /// Writing to standard output failed.
    pub fn stdout(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::ReaderGone,
            _ => Self::Failed(format!("cannot write to standard output: {error}")),
        }
    }

    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Failed(_) => 1,
            Self::Usage(_) => 2,
            Self::ReaderGone => 0,
        }
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        let mut text = error.message.clone();
        if let Some(step) = next_step(&error) {
            text = format!("{text}\n{step}");
        }
        if let Some(delay) = error.retry_after {
            text = format!("{text}\ntry again in {} ms", delay.as_millis());
        }
        if error.request_id.is_empty() {
            text = format!("{text}\nreason: {}", error.reason);
        } else {
            text = format!("{text}\nreason: {}, request: {}", error.reason, error.request_id);
        }
        Self::Failed(text)
    }
}

/// An error with its causes, in one sentence.
pub fn causes(error: impl std::error::Error) -> Failure {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let said = error.to_string();
        if !text.contains(&said) {
            text = format!("{text}: {said}");
        }
        cause = error.source();
    }
    Failure::Failed(text)
}

/// What to do next, where the service's own sentence does not say it.
fn next_step(error: &ClientError) -> Option<&'static str> {
    Some(match error.reason.as_str() {
        "UNREACHABLE" if error.message.contains("certificate") => {
            "the server's certificate was not accepted: is KEYREEVE_CA its authority, and is the host in KEYREEVE_ADDR one of its names?"
        }
        "UNREACHABLE" if error.tries > 0 => {
            "if the connection was closed at once, the service did not accept KEYREEVE_CERT: is it current, and signed by a client CA?"
        }
        "UNREACHABLE" => "is it running, and is KEYREEVE_ADDR right? on its host: `keyreeve doctor`",
        "UNAUTHENTICATED" => "`keyreeve whoami` shows who the service takes you for",
        "DECRYPT_FAILED" => {
            "it may be another key's ciphertext, the pairs of --context may differ, or bytes were changed (was it base64? then add --base64)"
        }
        "NOT_FOUND" => "`keyreeve keys list ENV/TEAM` shows what there is",
        "STATE_FORBIDS" => "`keyreeve keys show KEY` shows the states of its versions",
        "TOKEN_UNAVAILABLE" | "TOKEN_REFUSES" => "`keyreeve tokens status` shows why",
        _ => return None,
    })
}

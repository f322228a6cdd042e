//! The one error of the client, and what it is made from on this side; from what the service sends: `status.rs`.

use std::{error::Error, fmt::Write, io, time::Duration};

use keyreeve_envelope::{ContextError, DecryptFailed, sealed::SealError};
use tonic::{Code, Status};

const DECRYPT_FAILED: &str = "DECRYPT_FAILED";
pub(crate) const UNREACHABLE: &str = "UNREACHABLE";
pub(crate) const DRAINING: &str = "DRAINING";
pub(crate) const DEADLINE_EXCEEDED: &str = "DEADLINE_EXCEEDED";
pub(crate) const TRANSPORT: &str = "TRANSPORT";
pub(crate) const POSITION_UNKNOWN: &str = "POSITION_UNKNOWN";

/// Why a call failed. No plaintext, no key is ever in it. What to do next: [`ClientError::next_step`].
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
#[non_exhaustive]
pub struct ClientError {
    /// Of the service, or what it would be there; programs branch on the reason.
    pub code: Code,
    /// Stable, for programs: `DECRYPT_FAILED`, `PERMISSION_DENIED`, …; of the client itself: `CONFIGURATION`, `UNREACHABLE`,
    /// `TRANSPORT`, `DEADLINE_EXCEEDED`, `CHECKSUM_MISMATCH`, `MALFORMED_ANSWER`, `CLOSED`; of local sealing: also `DECRYPT_FAILED`, whatever
    /// is wrong with a message, `UNEXPECTED_MESSAGE`, `MESSAGE_TOO_LONG`, `UNFINISHED`, `IO`, `HOST_FAULT`.
    pub reason: String,
    /// For people: what happened and what to do.
    pub message: String,
    /// Names the request in the audit log; empty if nothing was sent.
    pub request_id: String,
    /// How long to wait before a retry, where a retry helps.
    pub retry_after: Option<Duration>,
    /// How often it was tried; 0 if nothing was sent.
    pub tries: u32,
}

impl ClientError {
    pub(crate) fn configuration(message: String) -> Self {
        Self::local(Code::InvalidArgument, "CONFIGURATION", message)
    }

    /// What the service would answer to the same fault.
    fn invalid(message: String) -> Self {
        Self::local(Code::InvalidArgument, "INVALID_ARGUMENT", message)
    }

    pub(crate) fn malformed(field: &str) -> Self {
        let message = format!("`{field}` of the answer is not what it should be: is the service of this version?");
        Self::local(Code::Internal, "MALFORMED_ANSWER", message)
    }

    pub(crate) fn unreachable(address: &str, error: &(dyn Error + 'static)) -> Self {
        let message = format!("cannot reach the service at {address}: {}", chain(error));
        Self::local(Code::Unavailable, UNREACHABLE, message)
    }

    pub(crate) fn deadline(deadline: Duration) -> Self {
        let message = format!("no answer within {} ms", deadline.as_millis());
        Self::local(Code::DeadlineExceeded, DEADLINE_EXCEEDED, message)
    }

    pub(crate) fn checksum(field: &str) -> Self {
        let message = format!(
            "the checksum of `{field}` does not match: TLS lets no byte change, so suspect the memory of this host or of the service's"
        );
        Self::local(Code::DataLoss, "CHECKSUM_MISMATCH", message)
    }

    /// A message is sound, or not looked at further, and is not the one that its caller expects.
    pub(crate) fn wrong_message() -> Self {
        let message = "this is another message than the expected one: it may be an older one put in its place";
        Self::local(Code::FailedPrecondition, "UNEXPECTED_MESSAGE", message.into())
    }

    /// A writer that failed before, or was ended, is used again.
    pub(crate) fn unfinished() -> Self {
        let message = "the message was ended or given up: seal it again from its start";
        Self::local(Code::FailedPrecondition, "UNFINISHED", message.into())
    }

    pub(crate) fn io(doing: &str, error: &io::Error) -> Self {
        Self::local(Code::Unknown, "IO", format!("cannot {doing}: {error}"))
    }

    /// What went wrong within a reader or writer of this crate, or beneath it.
    pub fn from_io(error: io::Error) -> Self {
        match error.downcast::<Self>() {
            Ok(own) => own,
            Err(error) => Self::io("read or write", &error),
        }
    }

    /// Whether the service was not there to answer: a call may be made again later, and nothing was refused.
    pub fn is_unavailable(&self) -> bool {
        matches!(self.code, Code::Unavailable | Code::DeadlineExceeded)
    }

    /// The same text for all that can be wrong with a message, wherever it was found out.
    pub(crate) fn decrypt_failed() -> Self {
        let message = "the sealed message cannot be opened with these keys and this context";
        Self::local(Code::InvalidArgument, DECRYPT_FAILED, message.into())
    }

    /// What the service answered about a wrapped key: that it does not open is said like everything else that is wrong with a message.
    pub(crate) fn of_unwrapping(self) -> Self {
        match self.reason == DECRYPT_FAILED {
            true => Self {
                request_id: self.request_id,
                ..Self::decrypt_failed()
            },
            false => self,
        }
    }

    pub(crate) fn closed(what: &str) -> Self {
        Self::local(Code::Cancelled, "CLOSED", format!("{what} was closed: make a new one"))
    }

    /// A stream that is to last ended without a status that says why.
    pub(crate) fn ended(what: &str) -> Self {
        Self::local(
            Code::Unavailable,
            UNREACHABLE,
            format!("the service ended {what} without saying why"),
        )
    }

    /// Nothing was asked of the service yet.
    pub(crate) fn not_begun(what: &str, within: Duration) -> Self {
        let message = format!("the service began no {what} within {} ms", within.as_millis());
        Self::local(Code::Unavailable, UNREACHABLE, message)
    }

    /// An answer that is no answer to what was asked.
    pub(crate) fn unexpected(message: String) -> Self {
        Self::local(Code::Internal, TRANSPORT, message)
    }

    pub(crate) fn local(code: Code, reason: &str, message: String) -> Self {
        Self {
            code,
            reason: reason.into(),
            message,
            request_id: String::new(),
            retry_after: None,
            tries: 0,
        }
    }
}

impl From<DecryptFailed> for ClientError {
    fn from(_: DecryptFailed) -> Self {
        Self::decrypt_failed()
    }
}

impl From<SealError> for ClientError {
    fn from(error: SealError) -> Self {
        match error {
            SealError::TooLong => Self::local(Code::OutOfRange, "MESSAGE_TOO_LONG", error.to_string()),
            SealError::Cipher(_) => Self::local(Code::Internal, "HOST_FAULT", error.to_string()),
            SealError::NoWrappedKey
            | SealError::TooManyWrappedKeys
            | SealError::WrappedKeyTooLong { .. }
            | SealError::HeaderTooLong { .. } => Self::invalid(error.to_string()),
        }
    }
}

impl From<ContextError> for ClientError {
    fn from(error: ContextError) -> Self {
        Self::invalid(error.to_string())
    }
}

/// Readers and writers of this crate carry their error in an `io::Error`; [`ClientError::from_io`] takes it out.
impl From<ClientError> for io::Error {
    fn from(error: ClientError) -> Self {
        let kind = match error.reason.as_str() {
            DECRYPT_FAILED => io::ErrorKind::InvalidData,
            _ => io::ErrorKind::Other,
        };
        Self::new(kind, error)
    }
}

/// An error and its causes, without those that repeat what was said.
pub(crate) fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = match error.downcast_ref::<Status>() {
        Some(status) => status.message().to_owned(),
        None => error.to_string(),
    };
    let mut cause = error.source();
    while let Some(error) = cause {
        let said = error.to_string();
        if !text.contains(&said) {
            let _ = write!(text, ": {said}");
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
pub(crate) mod testing {
    use super::*;

    pub fn of(code: Code, reason: &str) -> ClientError {
        ClientError::local(code, reason, "made by a test".into())
    }
}

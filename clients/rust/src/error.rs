//! The one error of the client, decoded from the details that the service sends.

use std::{error::Error, fmt::Write, io, time::Duration};

use keyreeve_envelope::{ContextError, DecryptFailed, sealed::SealError};
use tonic::{Code, Status};
use tonic_types::StatusExt;

/// Domain of the `ErrorInfo` that the service sends; another domain's reasons are not ours.
const DOMAIN: &str = "keyreeve.dev";
/// Header under which the service names the request in its audit log.
const REQUEST_ID: &str = "x-request-id";

const DECRYPT_FAILED: &str = "DECRYPT_FAILED";

/// Why a call failed. No plaintext, no key is ever in it.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub struct ClientError {
    pub code: Code,
    /// Stable, for programs: `DECRYPT_FAILED`, `PERMISSION_DENIED`, …; of the client itself: `CONFIGURATION`, `UNREACHABLE`,
    /// `TRANSPORT`, `DEADLINE_EXCEEDED`, `CHECKSUM_MISMATCH`, `MALFORMED_ANSWER`; of local sealing: also `DECRYPT_FAILED`, whatever is wrong with a
    /// message, `WRONG_MESSAGE`, `MESSAGE_TOO_LONG`, `UNFINISHED`, `IO`, `HOST_FAULT`.
    pub reason: String,
    /// For people: what happened and what to do.
    pub message: String,
    /// Names the request in the audit log; empty if the service did not answer.
    pub request_id: String,
    /// How long to wait before a retry, where a retry helps.
    pub retry_after: Option<Duration>,
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
        Self::local(Code::Unavailable, "UNREACHABLE", message)
    }

    pub(crate) fn deadline(deadline: Duration) -> Self {
        let message = format!("no answer within {} ms", deadline.as_millis());
        Self::local(Code::DeadlineExceeded, "DEADLINE_EXCEEDED", message)
    }

    pub(crate) fn checksum(field: &str) -> Self {
        let message = format!("the checksum of `{field}` does not match: the answer changed on its way; try again");
        Self::local(Code::DataLoss, "CHECKSUM_MISMATCH", message)
    }

    /// A message is sound, or not looked at further, and is not the one that its caller expects.
    pub(crate) fn wrong_message() -> Self {
        let message = "this is another message than the expected one: it may be an older one put in its place";
        Self::local(Code::InvalidArgument, "WRONG_MESSAGE", message.into())
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

    fn local(code: Code, reason: &str, message: String) -> Self {
        Self {
            code,
            reason: reason.into(),
            message,
            request_id: String::new(),
            retry_after: None,
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

impl From<Status> for ClientError {
    fn from(status: Status) -> Self {
        let details = status.get_error_details();
        let info = details.error_info().filter(|info| info.domain == DOMAIN);
        let header = || Some(status.metadata().get(REQUEST_ID)?.to_str().ok()?.to_owned());
        let in_details = || Some(info?.metadata.get("request_id")?.clone());
        let request_id = details.request_info().map(|info| info.request_id.clone());
        Self {
            code: status.code(),
            // Without our details, the answer came from tonic on this side, or from something between us and the service.
            reason: info.map_or_else(|| "TRANSPORT".into(), |info| info.reason.clone()),
            message: match info {
                Some(_) => status.message().to_owned(),
                None => format!(
                    "the call did not reach the service, or its answer did not reach us: {}",
                    chain(&status)
                ),
            },
            request_id: request_id.or_else(in_details).or_else(header).unwrap_or_default(),
            retry_after: details.retry_info().and_then(|info| info.retry_delay),
        }
    }
}

/// An error and its causes, without those that repeat what was said.
fn chain(error: &(dyn Error + 'static)) -> String {
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
mod tests {
    use tonic_types::ErrorDetails;

    use super::*;

    #[test]
    fn reason_request_and_delay_come_from_the_details() {
        let mut details = ErrorDetails::with_error_info("OVERLOADED", DOMAIN, []);
        details.set_retry_info(Some(Duration::from_millis(250)));
        details.set_request_info("req-1", "");
        let error = ClientError::from(Status::with_error_details(
            Code::ResourceExhausted,
            "too many requests",
            details,
        ));
        assert_eq!(
            (error.code, error.reason.as_str()),
            (Code::ResourceExhausted, "OVERLOADED")
        );
        assert_eq!(error.to_string(), "too many requests");
        assert_eq!(error.request_id, "req-1");
        assert_eq!(error.retry_after, Some(Duration::from_millis(250)));
    }

    #[test]
    fn request_id_is_found_in_the_header_too() {
        let mut status = Status::with_error_details(
            Code::NotFound,
            "absent",
            ErrorDetails::with_error_info("NOT_FOUND", DOMAIN, []),
        );
        status
            .metadata_mut()
            .insert(REQUEST_ID, "req-2".parse().expect("ASCII"));
        assert_eq!(ClientError::from(status).request_id, "req-2");
    }

    #[test]
    fn statuses_of_others_are_told_apart() {
        let proxy = ErrorDetails::with_error_info("PERMISSION_DENIED", "proxy.example", []);
        for status in [
            Status::unavailable("tcp connect error"),
            Status::with_error_details(Code::PermissionDenied, "no", proxy),
        ] {
            assert_eq!(ClientError::from(status).reason, "TRANSPORT");
        }
    }
}

//! The one error of the client, decoded from the details that the service sends.

use std::{error::Error, fmt::Write, time::Duration};

use tonic::{Code, Status};
use tonic_types::StatusExt;

/// Domain of the `ErrorInfo` that the service sends; another domain's reasons are not ours.
const DOMAIN: &str = "keyreeve.dev";
/// Header under which the service names the request in its audit log.
const REQUEST_ID: &str = "x-request-id";

/// Why a call failed. No plaintext, no key is ever in it.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub struct ClientError {
    pub code: Code,
    /// Stable, for programs: `DECRYPT_FAILED`, `PERMISSION_DENIED`, …; of the client itself: `CONFIGURATION`, `UNREACHABLE`,
    /// `TRANSPORT`, `DEADLINE_EXCEEDED`, `CHECKSUM_MISMATCH`.
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

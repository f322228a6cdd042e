//! From an error to what the wire says: one exhaustive map, and the dressing of answers that tonic makes by itself.
//!
//! Every error carries `ErrorInfo` (domain `keyreeve.dev`, a stable reason, the request id), `RetryInfo` where a retry helps, and
//! `BadRequest` for a field at fault. Faults of the service are logged here, once.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
};

use http::{HeaderMap, HeaderValue};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use crate::{
    Error,
    clock::{Clock, SystemClock},
};

/// `ErrorInfo.domain` of every error.
pub const DOMAIN: &str = "keyreeve.dev";

tokio::task_local! {
    /// Id of the request that this task works on, for the details of its errors.
    pub(super) static REQUEST_ID: Arc<str>;
}

/// The code of an error. For batches and streams, whose items have a status each.
pub fn code(error: &Error) -> Code {
    match error {
        Error::InvalidArgument { .. }
        | Error::ChecksumMismatch { .. }
        | Error::DecryptFailed
        | Error::RequestIdReused => Code::InvalidArgument,
        Error::Unauthenticated(_) => Code::Unauthenticated,
        Error::Denied { .. } => Code::PermissionDenied,
        Error::NotFound(_) => Code::NotFound,
        Error::AlreadyExists(_) => Code::AlreadyExists,
        Error::Conflict(_) => Code::Aborted,
        Error::StateForbids { .. }
        | Error::MustRotate { .. }
        | Error::ApprovalRequired
        | Error::EnvironmentUnbound(_)
        | Error::TokenRefuses(_) => Code::FailedPrecondition,
        Error::PositionUnknown => Code::OutOfRange,
        Error::Overloaded { .. } | Error::KeyCeiling { .. } => Code::ResourceExhausted,
        Error::DeadlineExceeded => Code::DeadlineExceeded,
        Error::Cancelled => Code::Cancelled,
        Error::Draining | Error::TokenUnavailable(_) | Error::LogUnavailable => Code::Unavailable,
        Error::Tampered { .. } => Code::DataLoss,
        Error::Internal(_) => Code::Internal,
    }
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        let code = code(&error);
        let request_id = REQUEST_ID.try_with(Arc::clone).unwrap_or_default();
        log_fault(&error, code, &request_id);
        let mut details = error_info(error.reason(), &request_id);
        if let Some(delay) = error.retry_after() {
            details.set_retry_info(Some(delay));
        }
        match &error {
            Error::InvalidArgument { field, problem } => {
                details.add_bad_request_violation(*field, problem.clone());
            }
            Error::ChecksumMismatch { field } => {
                details.add_bad_request_violation(*field, "the checksum does not match");
            }
            Error::RequestIdReused => {
                details.add_bad_request_violation("request_id", "was used before with another request");
            }
            // No detail beyond the reason: the text says what a caller may know.
            _ => {}
        }
        Status::with_error_details(code, error.to_string(), details)
    }
}

/// Gives an answer without details, which tonic made by itself, the code and the details it should have. Returns the code.
///
/// `headers`: of a response without a body, or the trailers of one.
pub(super) fn dress(headers: &mut HeaderMap, request_id: &Arc<str>, path: &str) -> Code {
    let Some(code) = headers.get(Status::GRPC_STATUS) else {
        return Code::Ok;
    };
    let code = Code::from_bytes(code.as_bytes());
    if code == Code::Ok || headers.contains_key(Status::GRPC_STATUS_DETAILS) {
        return code;
    }
    let said = Status::from_header_map(headers)
        .map(|status| status.message().to_owned())
        .unwrap_or_default();
    let (code, reason, message) = match code {
        // tonic-0.14 `codec/decode.rs`: "decoded message length too large". gRPC's own list of codes gives RESOURCE_EXHAUSTED for it.
        Code::OutOfRange => (
            Code::ResourceExhausted,
            "MESSAGE_TOO_LARGE",
            format!(
                "a message may have at most {} bytes: send less at once",
                super::limits::MESSAGE_BYTES
            ),
        ),
        // tonic's own timer; ours is earlier, but nobody should have to know that.
        Code::Cancelled => (
            Code::DeadlineExceeded,
            "DEADLINE_EXCEEDED",
            Error::DeadlineExceeded.to_string(),
        ),
        // Bytes that are not the message of this method; the texts name fields, never contents.
        Code::Internal => (
            Code::InvalidArgument,
            "MALFORMED_MESSAGE",
            format!("the message cannot be read: {said}"),
        ),
        Code::Unimplemented if said.is_empty() => (
            code,
            "UNIMPLEMENTED",
            format!("there is no method `{}`", printable(path)),
        ),
        Code::Unimplemented => (code, "UNIMPLEMENTED", said),
        other => (
            other,
            reason_of(other),
            if said.is_empty() {
                other.description().to_owned()
            } else {
                said
            },
        ),
    };
    let status = Status::with_error_details(code, message, error_info(reason, request_id));
    for name in [Status::GRPC_STATUS, Status::GRPC_MESSAGE] {
        headers.remove(name);
    }
    // Fails for a message that cannot be a header value, which percent-encoding rules out; the code alone is then still right.
    if status.add_header(headers).is_err() {
        headers.insert(Status::GRPC_STATUS, HeaderValue::from(code as i32));
    }
    code
}

/// The word for a code, as `grpc-status` lists and metrics show it.
pub(super) const fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        other => reason_of(other),
    }
}

const fn reason_of(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

fn error_info(reason: &str, request_id: &Arc<str>) -> ErrorDetails {
    let mut metadata = HashMap::new();
    if !request_id.is_empty() {
        metadata.insert("request_id".to_owned(), request_id.to_string());
    }
    ErrorDetails::with_error_info(reason, DOMAIN, metadata)
}

/// A path as a caller sent it, fit to be shown back.
fn printable(path: &str) -> String {
    path.chars().filter(char::is_ascii_graphic).take(200).collect()
}

/// One line for each fault that is ours. A token or a log that is away fails every call, so these are logged once a second.
fn log_fault(error: &Error, code: Code, request_id: &Arc<str>) {
    static LAST_UNAVAILABLE: AtomicI64 = AtomicI64::new(0);
    let ours = match code {
        Code::Internal | Code::DataLoss => true,
        Code::Unavailable => {
            let second = SystemClock.now().unix_ms() / 1000;
            !matches!(error, Error::Draining) && LAST_UNAVAILABLE.swap(second, Ordering::Relaxed) != second
        }
        Code::FailedPrecondition => matches!(error, Error::TokenRefuses(_)),
        _ => false,
    };
    if ours {
        let error: &(dyn std::error::Error + 'static) = error;
        tracing::error!(
            request_id = &**request_id,
            code = code_name(code),
            error,
            "a call failed by a fault of the service"
        );
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::token::TokenError;

    fn headers(status: &Status) -> HeaderMap {
        let mut headers = HeaderMap::new();
        status.add_header(&mut headers).unwrap();
        headers
    }

    #[tokio::test]
    async fn an_error_names_its_reason_domain_and_request() {
        let id: Arc<str> = "r-7".into();
        let status = REQUEST_ID.scope(id, async { Status::from(Error::DecryptFailed) }).await;
        assert_eq!(status.code(), Code::InvalidArgument);
        let details = status.get_error_details();
        let info = details.error_info().unwrap();
        assert_eq!((info.reason.as_str(), info.domain.as_str()), ("DECRYPT_FAILED", DOMAIN));
        assert_eq!(info.metadata["request_id"], "r-7");
        assert!(details.retry_info().is_none() && details.bad_request().is_none());
    }

    #[test]
    fn a_retry_that_helps_says_when_and_a_bad_field_says_which() {
        let status = Status::from(Error::Overloaded {
            retry_after: Duration::from_millis(70),
        });
        assert_eq!(status.code(), Code::ResourceExhausted);
        let delay = status.get_error_details().retry_info().unwrap().retry_delay;
        assert_eq!(delay, Some(Duration::from_millis(70)));

        let status = Status::from(Error::KeyCeiling {
            retry_after: Duration::from_secs(3_600),
        });
        let details = status.get_error_details();
        assert_eq!(status.code(), Code::ResourceExhausted);
        assert_eq!(details.error_info().unwrap().reason, "KEY_CEILING");
        assert_eq!(
            details.retry_info().unwrap().retry_delay,
            Some(Duration::from_secs(3_600))
        );

        let status = Status::from(Error::invalid("name", "has no team"));
        let details = status.get_error_details();
        assert_eq!(details.bad_request().unwrap().field_violations[0].field, "name");
    }

    #[test]
    fn what_the_token_says_stays_inside() {
        let status = Status::from(Error::TokenUnavailable(TokenError::Unavailable(
            "CKR_SECRET_STORY".into(),
        )));
        assert_eq!(status.code(), Code::Unavailable);
        assert!(!format!("{status:?}").contains("STORY"));
    }

    #[test]
    fn bare_answers_get_code_and_details_and_dressed_ones_are_left_alone() {
        let id: Arc<str> = "r-8".into();
        for (bare, code, reason) in [
            (
                Status::out_of_range("too large"),
                Code::ResourceExhausted,
                "MESSAGE_TOO_LARGE",
            ),
            (
                Status::cancelled("Timeout expired"),
                Code::DeadlineExceeded,
                "DEADLINE_EXCEEDED",
            ),
            (
                Status::internal("bad wire type"),
                Code::InvalidArgument,
                "MALFORMED_MESSAGE",
            ),
            (Status::unimplemented(""), Code::Unimplemented, "UNIMPLEMENTED"),
            (Status::not_found("unknown service"), Code::NotFound, "NOT_FOUND"),
        ] {
            let mut map = headers(&bare);
            assert_eq!(dress(&mut map, &id, "/a/b"), code);
            let status = Status::from_header_map(&map).unwrap();
            assert_eq!(status.code(), code);
            let details = status.get_error_details();
            assert_eq!(details.error_info().unwrap().reason, reason);
            assert_eq!(details.error_info().unwrap().metadata["request_id"], "r-8");
        }
        let mut map = headers(&Status::from(Error::DecryptFailed));
        let before = map.clone();
        assert_eq!(dress(&mut map, &id, "/a/b"), Code::InvalidArgument);
        assert_eq!(map, before);
    }

    #[test]
    fn the_name_of_an_unknown_method_is_shown_without_control_characters() {
        let mut map = headers(&Status::unimplemented(""));
        dress(&mut map, &"r".into(), "/a\u{7}/b c");
        assert_eq!(
            Status::from_header_map(&map).unwrap().message(),
            "there is no method `/a/bc`"
        );
    }
}

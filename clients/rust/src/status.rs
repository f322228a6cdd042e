//! The error of the client, decoded from the details that the service sends.

use std::{error::Error, time::Duration};

use tonic::{Code, Status, TimeoutExpired};
use tonic_types::StatusExt;

use crate::{
    ClientError,
    error::{DEADLINE_EXCEEDED, TRANSPORT, UNREACHABLE, chain},
    v1::ItemError,
};

/// Domain of the `ErrorInfo` that the service sends; another domain's reasons are not ours.
const DOMAIN: &str = "keyreeve.dev";
/// Header under which the service names the request in its audit log.
pub(crate) const REQUEST_ID: &str = "x-request-id";

impl From<Status> for ClientError {
    fn from(status: Status) -> Self {
        let details = status.get_error_details();
        let info = details.error_info().filter(|info| info.domain == DOMAIN);
        let header = || Some(status.metadata().get(REQUEST_ID)?.to_str().ok()?.to_owned());
        let in_details = || Some(info?.metadata.get("request_id")?.clone());
        let request_id = details.request_info().map(|info| info.request_id.clone());
        let (code, reason, message) = match info {
            Some(info) => (status.code(), info.reason.as_str(), status.message().to_owned()),
            None => of_others(&status),
        };
        Self {
            request_id: request_id.or_else(in_details).or_else(header).unwrap_or_default(),
            retry_after: details.retry_info().and_then(|info| info.retry_delay),
            ..Self::local(code, reason, message)
        }
    }
}

impl ClientError {
    /// One message of a stream, or one item of a batch, failed.
    pub(crate) fn of_item(item: ItemError) -> Self {
        let retry_after = Duration::from_millis(item.retry_after_ms.into());
        Self {
            retry_after: Some(retry_after).filter(|wait| !wait.is_zero()),
            ..Self::local(Code::from_i32(item.code), &item.reason, item.message)
        }
    }
}

/// A status without our details: made by tonic on this side, or by something between us and the service.
fn of_others(status: &Status) -> (Code, &'static str, String) {
    if caused_by::<TimeoutExpired>(status) {
        let message = "no answer within the time that was left".to_owned();
        return (Code::DeadlineExceeded, DEADLINE_EXCEEDED, message);
    }
    let message = format!(
        "the call did not reach the service, or its answer did not reach us: {}",
        chain(status)
    );
    // Only a status that was made here has a cause: the connection failed, under whatever code.
    match status.code() == Code::Unavailable || status.source().is_some() {
        true => (Code::Unavailable, UNREACHABLE, message),
        false => (status.code(), TRANSPORT, message),
    }
}

fn caused_by<E: Error + 'static>(error: &(dyn Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if error.is::<E>() {
            return true;
        }
        cause = error.source();
    }
    false
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
        let lost = std::io::Error::from(std::io::ErrorKind::ConnectionReset);
        for (status, code, reason) in [
            (
                Status::unavailable("no healthy upstream"),
                Code::Unavailable,
                UNREACHABLE,
            ),
            (Status::from_error(Box::new(lost)), Code::Unavailable, UNREACHABLE),
            (
                Status::from_error(Box::new(TimeoutExpired(()))),
                Code::DeadlineExceeded,
                DEADLINE_EXCEEDED,
            ),
            (
                Status::with_error_details(Code::PermissionDenied, "no", proxy),
                Code::PermissionDenied,
                "TRANSPORT",
            ),
        ] {
            let error = ClientError::from(status);
            assert_eq!((error.code, error.reason.as_str()), (code, reason));
        }
    }

    #[test]
    fn an_item_says_whether_waiting_helps() {
        let item = |retry_after_ms| ItemError {
            code: Code::ResourceExhausted.into(),
            reason: "OVERLOADED".into(),
            message: "too many requests".into(),
            retry_after_ms,
        };
        assert_eq!(ClientError::of_item(item(0)).retry_after, None);
        let error = ClientError::of_item(item(70));
        assert_eq!(error.retry_after, Some(Duration::from_millis(70)));
        assert_eq!(
            (error.code, error.reason.as_str()),
            (Code::ResourceExhausted, "OVERLOADED")
        );
    }
}

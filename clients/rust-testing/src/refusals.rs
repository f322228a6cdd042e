//! Errors of the service by their reasons, for faults on order: the service's own, with its codes, texts and details.

use std::time::Duration;

use keyreeve::{
    Error,
    model::{KeyName, KeyState, UsedUp},
    token::TokenError,
};

/// What [`error`] knows.
pub const REASONS: [&str; 24] = [
    "ALREADY_EXISTS",
    "APPROVAL_REQUIRED",
    "CANCELLED",
    "CHECKSUM_MISMATCH",
    "CONFLICT",
    "DEADLINE_EXCEEDED",
    "DECRYPT_FAILED",
    "DRAINING",
    "ENVIRONMENT_UNBOUND",
    "INTEGRITY_FAILED",
    "INTERNAL",
    "INVALID_ARGUMENT",
    "KEY_CEILING",
    "LOG_UNAVAILABLE",
    "NOT_FOUND",
    "OVERLOADED",
    "PERMISSION_DENIED",
    "POSITION_UNKNOWN",
    "REQUEST_ID_REUSED",
    "ROTATION_REQUIRED",
    "STATE_FORBIDS",
    "TOKEN_REFUSES",
    "TOKEN_UNAVAILABLE",
    "UNAUTHENTICATED",
];

const ORDERED: &str = "as a test has ordered";

#[derive(Debug, thiserror::Error)]
#[error("{ORDERED}")]
struct Ordered;

/// The error of one call. `name`: what it is about; `retry_after`: for OVERLOADED and KEY_CEILING.
pub fn error(reason: &str, retry_after: Duration, method: &'static str, name: &str) -> Error {
    let object = || name.to_owned();
    match reason {
        "ALREADY_EXISTS" => Error::AlreadyExists(object()),
        "APPROVAL_REQUIRED" => Error::ApprovalRequired,
        "CANCELLED" => Error::Cancelled,
        "CHECKSUM_MISMATCH" => Error::ChecksumMismatch { field: "plaintext" },
        "CONFLICT" => Error::Conflict(object()),
        "DEADLINE_EXCEEDED" => Error::DeadlineExceeded,
        "DECRYPT_FAILED" => Error::DecryptFailed,
        "DRAINING" => Error::Draining,
        "ENVIRONMENT_UNBOUND" => Error::EnvironmentUnbound(object()),
        "INTEGRITY_FAILED" => Error::Tampered { object: object() },
        "INVALID_ARGUMENT" => Error::invalid("name", ORDERED),
        "KEY_CEILING" => Error::KeyCeiling { retry_after },
        "LOG_UNAVAILABLE" => Error::LogUnavailable,
        "NOT_FOUND" => Error::NotFound(object()),
        "OVERLOADED" => Error::Overloaded { retry_after },
        "PERMISSION_DENIED" => Error::Denied {
            action: method,
            object: object(),
        },
        "POSITION_UNKNOWN" => Error::PositionUnknown,
        "REQUEST_ID_REUSED" => Error::RequestIdReused,
        "ROTATION_REQUIRED" => Error::MustRotate {
            key: key(name),
            version: 1,
            why: UsedUp::Exhausted,
        },
        "STATE_FORBIDS" => Error::StateForbids {
            key: key(name),
            version: 1,
            state: KeyState::Suspended,
            operation: method,
        },
        "TOKEN_REFUSES" => Error::TokenRefuses(TokenError::Refused(ORDERED.into())),
        "TOKEN_UNAVAILABLE" => Error::TokenUnavailable(TokenError::Unavailable(ORDERED.into())),
        "UNAUTHENTICATED" => Error::Unauthenticated(ORDERED),
        _ => Error::internal(Ordered),
    }
}

/// Of a call that is about no key, some key.
fn key(name: &str) -> KeyName {
    let some = || "dev/shop/orders".parse().expect("it is the name of a key");
    name.parse().unwrap_or_else(|_| some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_makes_the_error_that_has_it() {
        for reason in REASONS {
            let made = error(
                reason,
                Duration::from_millis(70),
                "Encrypt",
                "envs/dev/teams/shop/keys/orders",
            );
            assert_eq!(made.reason(), reason);
        }
    }
}

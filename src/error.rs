//! Every way an operation can fail, as a program must tell them apart. Knows nothing of gRPC (`grpc/status.rs` maps it).

use std::{sync::Arc, time::Duration};

use crate::{
    model::{KeyName, KeyState, UsedUp},
    token::TokenError,
};

pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong. The text is for the caller: no secret, no detail of the token or the store; those are in the record and the log.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    #[error("`{field}` is not valid: {problem}")]
    InvalidArgument { field: &'static str, problem: String },
    #[error("the checksum of `{field}` does not match: the data changed on its way; send it again")]
    ChecksumMismatch { field: &'static str },
    /// Whatever is wrong with a ciphertext, its key, its context: one error (`docs/formats.md`, section 3).
    #[error("the ciphertext cannot be opened with this key and context")]
    DecryptFailed,
    #[error("the caller is not authenticated: {0}")]
    Unauthenticated(&'static str),
    #[error("the caller may not {action} on `{object}`; ask the owner, or see the audit log under this request id")]
    Denied { action: &'static str, object: String },
    #[error("`{0}` does not exist")]
    NotFound(String),
    #[error("`{0}` exists already")]
    AlreadyExists(String),
    #[error("`{0}` was changed by someone else meanwhile: read it again, then retry")]
    Conflict(String),
    #[error("version {version} of `{key}` is {state} and may not {operation}")]
    StateForbids {
        key: KeyName,
        version: u32,
        state: KeyState,
        operation: &'static str,
    },
    #[error("version {version} of `{key}` may not encrypt any more: {why}; rotate the key")]
    MustRotate { key: KeyName, version: u32, why: UsedUp },
    #[error(
        "this environment is marked production: destruction needs an approval, and approvals are not available in this release"
    )]
    ApprovalRequired,
    #[error(
        "environment `{0}` is not bound to a token group: add it under [token] environments in the configuration file and restart"
    )]
    EnvironmentUnbound(String),
    #[error("`request_id` was used before with another request: make a new one")]
    RequestIdReused,
    #[error(
        "the store has no such change: it was restored from a backup; forget what is known and begin without a position"
    )]
    PositionUnknown,
    #[error("too many requests: retry after {} ms", retry_after.as_millis())]
    Overloaded { retry_after: Duration },
    #[error("the key was used as often as it may be: retry after {} s", retry_after.as_secs() + 1)]
    KeyCeiling { retry_after: Duration },
    #[error("the deadline passed before the work was done")]
    DeadlineExceeded,
    #[error("the call was cancelled")]
    Cancelled,
    #[error("the service is shutting down: retry on another node")]
    Draining,
    #[error("the token is unavailable")]
    TokenUnavailable(#[source] TokenError),
    #[error("the token refuses this operation; `keyreeve doctor` tells why")]
    TokenRefuses(#[source] TokenError),
    #[error("the audit log cannot be written: no answer is given, and a change may or may not have been made")]
    LogUnavailable,
    /// A row failed its MAC, its place in the change chain, or its blob's tag (`docs/formats.md`, sections 5 and 9).
    #[error(
        "stored data of `{object}` failed its integrity check: the version is refused; run `keyreeve audit verify`"
    )]
    Tampered { object: String },
    #[error("internal error")]
    Internal(#[source] Arc<dyn std::error::Error + Send + Sync>),
}

impl Error {
    /// The stable name of the error: `ErrorInfo.reason` on the wire, `code` in the audit record.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::InvalidArgument { .. } => "INVALID_ARGUMENT",
            Self::ChecksumMismatch { .. } => "CHECKSUM_MISMATCH",
            Self::DecryptFailed => "DECRYPT_FAILED",
            Self::Unauthenticated(_) => "UNAUTHENTICATED",
            Self::Denied { .. } => "PERMISSION_DENIED",
            Self::NotFound(_) => "NOT_FOUND",
            Self::AlreadyExists(_) => "ALREADY_EXISTS",
            Self::Conflict(_) => "CONFLICT",
            Self::StateForbids { .. } => "STATE_FORBIDS",
            Self::MustRotate { .. } => "ROTATION_REQUIRED",
            Self::ApprovalRequired => "APPROVAL_REQUIRED",
            Self::EnvironmentUnbound(_) => "ENVIRONMENT_UNBOUND",
            Self::RequestIdReused => "REQUEST_ID_REUSED",
            Self::PositionUnknown => "POSITION_UNKNOWN",
            Self::Overloaded { .. } => "OVERLOADED",
            Self::KeyCeiling { .. } => "KEY_CEILING",
            Self::DeadlineExceeded => "DEADLINE_EXCEEDED",
            Self::Cancelled => "CANCELLED",
            Self::Draining => "DRAINING",
            Self::TokenUnavailable(_) => "TOKEN_UNAVAILABLE",
            Self::TokenRefuses(_) => "TOKEN_REFUSES",
            Self::LogUnavailable => "LOG_UNAVAILABLE",
            Self::Tampered { .. } => "INTEGRITY_FAILED",
            Self::Internal(_) => "INTERNAL",
        }
    }

    /// How long to wait before a retry, where a retry helps.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Overloaded { retry_after } | Self::KeyCeiling { retry_after } => Some(*retry_after),
            Self::TokenUnavailable(_) | Self::LogUnavailable | Self::Draining => Some(Duration::from_millis(500)),
            _ => None,
        }
    }

    pub fn invalid(field: &'static str, problem: impl std::fmt::Display) -> Self {
        Self::InvalidArgument {
            field,
            problem: problem.to_string(),
        }
    }

    pub fn internal(source: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self::Internal(Arc::new(source))
    }
}

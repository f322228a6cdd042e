//! How a call to a token can fail, as the service must tell it apart. Detail is for the log and the record, not for the caller.

use std::{sync::Arc, time::Duration};

#[derive(Debug, Clone, thiserror::Error)]
pub enum TokenError {
    /// The queue has no room for this caller, or its work would miss the deadline.
    #[error("the token's queue is full")]
    Overloaded { retry_after: Duration },
    /// The key was used as often, or for as much, as it may be (`[token] key_operations_per_second`, `key_bytes_per_day`).
    #[error("the key's ceiling is reached")]
    KeyCeiling { retry_after: Duration },
    /// The job's deadline passed while it waited; no token work was done.
    #[error("the deadline passed in the token's queue")]
    Expired,
    /// The token, its module or its login failed (classes E3–E7, E11, E12); or it is latched.
    #[error("{0}")]
    Unavailable(Arc<str>),
    /// The token refuses the mechanism, template or key (class E10).
    #[error("{0}")]
    Refused(Arc<str>),
    /// A wrapped key failed its tag: the store's fault (`docs/formats.md`, section 5).
    #[error("the tag of a wrapped key does not verify")]
    BlobTag,
    /// A wrong answer of the token (class E13): latched, page.
    #[error("wrong answer of the token: {0}")]
    WrongAnswer(Arc<str>),
}

//! PKCS#11 tokens: groups, session threads, handle cache, recovery. Takes proof, not trust.
//!
//! [`Token`] is what operations see: every call takes the permit, and the key comes out of the permit, so that a permit for one key or
//! action cannot work another. There is no "HMAC these bytes" call. Under it, a [`Host`] runs typed calls on the module, in threads of
//! this process or, later, in a worker process.

mod error;
pub mod host;

pub use error::TokenError;
pub use host::{Answer, Call, EnvelopeInput, Host, Job, Lane};

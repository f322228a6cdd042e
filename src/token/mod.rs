//! PKCS#11 tokens: groups, session threads, handle cache, recovery. Takes proof, not trust.
//!
//! [`Token`] is what operations see: every call takes the permit, and the key comes out of the permit, so that a permit for one key or
//! action cannot work another. There is no "HMAC these bytes" call. Under it, a [`Host`] runs typed calls on the module, in threads of
//! this process or, later, in a worker process.

mod config;
mod error;
pub mod host;
mod reserve;
mod root;
#[cfg(test)]
pub(crate) mod software_host;
#[expect(clippy::module_inception, reason = "the type that everyone calls the token")]
mod token;

pub use config::{PinSource, TokenConfig, TokenConfigError};
pub use error::TokenError;
pub use host::{Answer, Call, EnvelopeInput, Host, HostStatus, Job, Lane};
pub use root::Root;
pub use token::{Token, Tokens};

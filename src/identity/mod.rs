//! Who is calling. A [`Caller`] is built here from the leaf certificate of the connection, and by jobs of the service itself; nowhere else.
//!
//! The handshake is checked by [`ClientVerifier`], the leaf read into a [`Peer`] once per connection, and each request checks the
//! leaf's time and the [`Revocations`] again. Rules: SPIFFE X.509-SVID.

mod caller;
mod revocation;
mod spiffe;
mod svid;
#[cfg(test)]
pub(crate) mod test_ca;
mod verifier;

pub use caller::{Caller, Identity, Kind, RequestFacts};
pub use revocation::{RevocationError, Revocations};
pub use spiffe::{InvalidSpiffeId, SpiffeId, SpiffePattern, TrustDomain};
pub use svid::{Peer, SvidError, spiffe_id};
pub use verifier::{BundleError, Bundles, ClientVerifier};

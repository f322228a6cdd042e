//! Who is calling. A [`Caller`] is built here from the leaf certificate of the connection, and by jobs of the service itself; nowhere else.

mod caller;

pub use caller::{Caller, Identity, Kind, RequestFacts};

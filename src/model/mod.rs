//! What the service is about: environments, teams, keys, versions; their names, ids and states. Plain types, no I/O.

mod environment;
mod key;
mod name;
mod state;
mod use_counter;

pub use environment::{Environment, Team};
pub use key::{Blob, IvSource, Key, Purpose, Residency, TokenAttributes, TokenObject, Version, cka_id};
pub use keyreeve_envelope::{EnvironmentId, KeyId, KeyVersion, Suite, TeamId};
pub use name::{EnvironmentName, FullName, InvalidName, KeyName, TeamName};
pub use state::{KeyState, Transition, Use};
pub use use_counter::{MOST_USES, ROTATE_AT, USE_BLOCK, UseCounter, UsedUp};

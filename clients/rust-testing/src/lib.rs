//! An in-memory Keyreeve for the tests of your application: the service's own code, on a token in memory.
//!
//! ```
//! # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use std::time::Duration;
//! use keyreeve_client::v1;
//!
//! let double = keyreeve_testing::Service::start().await?;
//! let client = double.client().await?;
//! client
//!     .create_key(v1::CreateKeyRequest {
//!         parent: "envs/dev/teams/shop".into(),
//!         key_id: "orders".into(),
//!         ..Default::default()
//!     })
//!     .await?;
//! double.faults().unavailable(2); // the next two calls fail; the client tries again
//! let sealed = client
//!     .encrypt(v1::EncryptRequest {
//!         name: "envs/dev/teams/shop/keys/orders".into(),
//!         plaintext: "hello".into(),
//!         ..Default::default()
//!     })
//!     .await?;
//! assert!(keyreeve_testing::is_test_ciphertext(&sealed.ciphertext));
//! double.advance(Duration::from_hours(30 * 24)).await; // what was scheduled for destruction is gone
//! # Ok(()) }
//! ```
//!
//! It is a double, made so that it cannot be taken for the service: it listens on loopback only, answers nobody from elsewhere, does not
//! start where an environment variable says production, draws its root keys anew at each start and keeps them in memory, and marks every
//! key and so every ciphertext. Nothing that it seals is protected.
//!
//! | file | what |
//! |---|---|
//! | `service.rs`, `place.rs`, `first_teams.rs`, `background.rs` | the double from its start to its end; its files, first teams, threads |
//! | `front.rs`, `crypt_messages.rs`, `methods.rs` | what each call and each message of a stream passes before the service's own code |
//! | `faults.rs`, `refusals.rs`, `records.rs`, `clock.rs` | faults on order, what was called, time that moves |
//! | `guard.rs`, `marks.rs` | where it does not start; what tells its keys and ciphertexts from those of a service |
//! | `software_token.rs`, `host.rs` | the token in memory |
//! | `caller.rs`, `certificates.rs` | who calls |
#![forbid(unsafe_code)]

mod background;
mod caller;
mod certificates;
mod clock;
mod crypt_messages;
mod faults;
mod first_teams;
mod front;
mod guard;
mod host;
mod marks;
mod methods;
mod place;
mod records;
mod refusals;
mod service;
mod software_token;

pub use caller::{Caller, InvalidCaller};
pub use faults::Faults;
pub use guard::NotHere;
pub use marks::{is_test_ciphertext, is_test_key_id};
pub use place::PlaceError;
pub use records::Record;
pub use service::{Builder, Service, Settings, StartError};

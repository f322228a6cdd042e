//! Client of a Keyreeve service: gRPC over TLS 1.3 with a certificate on both sides.
//!
//! [`Client`] has one method for each RPC, takes and returns the messages of [`v1`], sets and checks the CRC32C of
//! what may not change on its way, bounds every call by a deadline, and has one error, [`ClientError`].
//!
//! ```no_run
//! # async fn example() -> Result<(), keyreeve_client::ClientError> {
//! use keyreeve_client::{Client, ClientConfig, v1};
//!
//! let client = Client::connect(ClientConfig::from_env()?).await?;
//! let sealed = client
//!     .encrypt(v1::EncryptRequest {
//!         name: "envs/dev/teams/shop/keys/orders".into(),
//!         plaintext: "hello".into(),
//!         ..Default::default()
//!     })
//!     .await?;
//! assert_eq!(sealed.key_version, 1);
//! # Ok(()) }
//! ```
//!
//! [`sealing`] seals and opens data of any size on this side, under data keys of the service ([`Sealer`], [`Opener`]).
//!
//! Not in scope: retries.
#![forbid(unsafe_code)]

mod calls;
mod checksum;
mod client;
mod config;
mod connector;
mod error;
pub mod sealing;

pub use client::Client;
pub use config::ClientConfig;
pub use error::ClientError;
/// Ids and contexts of the byte formats.
pub use keyreeve_envelope::{ContextError, EncryptionContext, KeyId, KeyVersion, MessageId, Plaintext, sealed};
pub use keyreeve_proto::v1;
pub use sealing::{CacheLimits, DataKeys, Expectation, OfflineBudget, Opener, Sealer};
/// The gRPC code of a [`ClientError`].
pub use tonic::Code;

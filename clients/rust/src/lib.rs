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
//! # When the service is slow, overloaded, restarting or gone
//!
//! Calls that can be repeated are tried again, up to four times, with full jitter, within one total deadline and a budget, and in an outage
//! until the deadline; changes get a `request_id` by which the service knows them again. Several endpoints take over from each other; certificates of files are taken up
//! while the client runs. The rules are the same for clients of all languages: `docs/clients.md` of the repository.
//!
//! ```no_run
//! # async fn example() -> Result<(), keyreeve_client::ClientError> {
//! use std::time::Duration;
//! use keyreeve_client::{Client, ClientConfig, Code, v1};
//!
//! let config = ClientConfig::new("node-1:7443,node-2:7443", "ca.pem", "own.pem", "own.key")
//!     .on_event(|event| eprintln!("{} {} {}", event.name, event.method, event.reason)); // or count it
//! let client = Client::connect(config).await?;
//! let request = v1::GetKeyRequest { name: "envs/dev/teams/shop/keys/orders".into() };
//! match client.with_deadline(Duration::from_secs(2))?.get_key(request).await {
//!     Ok(answer) => drop(answer),
//!     Err(error) if error.code == Code::NotFound => {}
//!     Err(error) => eprintln!("{error} ({}, request {}): {}", error.reason, error.request_id, error.next_step()),
//! }
//! # Ok(()) }
//! ```
//!
//! Certificates come from files, or from a [`CertificateSource`]; the feature `spiffe` has one for the SPIFFE Workload API, `WorkloadApi`.
//!
//! # Many operations
//!
//! A [`Pipeline`] carries single operations of many callers over one stream; batches (`batch_encrypt`, …) are for one caller who has many.
//!
//! ```no_run
//! # async fn example(client: keyreeve_client::Client) -> Result<(), keyreeve_client::ClientError> {
//! use keyreeve_client::v1;
//!
//! let pipeline = client.pipeline(); // clone it into every task
//! let request = |text: &'static str| v1::EncryptRequest {
//!     name: "envs/dev/teams/shop/keys/orders".into(),
//!     plaintext: text.into(),
//!     ..Default::default()
//! };
//! let (one, two) = tokio::try_join!(pipeline.encrypt(request("one")), pipeline.encrypt(request("two")))?;
//! # drop((one, two)); Ok(()) }
//! ```
//!
//! # Changes of keys
//!
//! A [`KeyWatcher`] tells a [`KeyListener`], such as a cache, what happens to keys.
//!
//! ```no_run
//! # async fn example(client: keyreeve_client::Client) {
//! use std::sync::Arc;
//! use keyreeve_client::{KeyListener, KeyWatcher, v1};
//!
//! struct Cache;
//! impl KeyListener for Cache {
//!     fn begun(&self, names: &[String]) { /* let everything of these keys go */ }
//!     fn changed(&self, key: &v1::Key) { /* let go what is of another version */ }
//! }
//!
//! let names = ["envs/dev/teams/shop/keys/orders".to_owned()];
//! let watcher = KeyWatcher::start(&client, names, Arc::new(Cache)); // until it is dropped
//! # drop(watcher); }
//! ```
//!
//! # Local sealing
//!
//! [`sealing`] seals and opens data of any size on this side, under data keys of the service ([`Sealer`], [`Opener`]).
#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod budget;
mod calls;
mod certificates;
mod channels;
mod checksum;
mod circuit;
mod client;
mod config;
mod connector;
mod crypt_stream;
mod endpoints;
mod error;
mod events;
mod hedge;
mod next_step;
mod options;
mod pipeline;
mod repeatable;
mod retry;
pub mod sealing;
mod shared;
mod status;
mod tls;
mod tries;
mod watch;
#[cfg(feature = "spiffe")]
mod workload_api;

pub use certificates::{CertificateFiles, CertificateSource, Certificates};
pub use circuit::CircuitState;
pub use client::Client;
pub use config::ClientConfig;
pub use endpoints::EndpointHealth;
pub use error::ClientError;
pub use events::{Event, EventName, Events};
/// Ids and contexts of the byte formats.
pub use keyreeve_envelope::{ContextError, EncryptionContext, KeyId, KeyVersion, MessageId, Plaintext, sealed};
/// The messages and stubs of the API. Messages get further fields in minor versions: write `..Default::default()` where one is made.
pub use keyreeve_proto::v1;
pub use pipeline::Pipeline;
pub use sealing::{CacheLimits, DataKeys, Expectation, OfflineBudget, Opener, Sealer};
/// The README's example, compiled.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

/// The gRPC code of a [`ClientError`].
pub use tonic::Code;
pub use watch::{KeyListener, KeyWatcher};
#[cfg(feature = "spiffe")]
pub use workload_api::WorkloadApi;

//! Local sealing: data of any size, under data keys that the service makes. Plaintext never goes to the service.
//!
//! A [`Sealer`] has a data key made and wrapped under one or several named keys, and seals a message with it; an [`Opener`] has one of
//! its own keys open a wrapped key, and opens the message. Both begin with a call to the service, unless a cache is on, and then work
//! without it: on values, on `Read` and `Write`, on their tokio forms, on files, and at any offset.
//!
//! ```no_run
//! # async fn example() -> Result<(), keyreeve_client::ClientError> {
//! use keyreeve_client::{Client, ClientConfig, EncryptionContext, Expectation, Opener, Sealer};
//!
//! let client = Client::connect(ClientConfig::from_env()?).await?;
//! let key = "envs/dev/teams/shop/keys/orders";
//! let context = EncryptionContext::from_pairs([("table", "orders")])?;
//! let sealed = Sealer::new(client.clone(), key).seal(b"hello", &context).await?;
//! let opened = Opener::new(client, key).open(&sealed, &Expectation::context(context)).await?;
//! assert_eq!(opened.as_bytes(), b"hello");
//! # Ok(()) }
//! ```
//!
//! | module | what |
//! |---|---|
//! | [`data_keys`] | what is asked of the service: a small trait, so that it can be doubled |
//! | `named_key` | a key by its name, and the id by which a message names it |
//! | [`sealer`], [`opener`] | begin: from names and context to the keys of one message |
//! | [`expectation`] | what an opener demands of a message before he believes it |
//! | [`front`] | what stands before the chunks |
//! | [`message`] | the chunks of one message, and whole values |
//! | `batch` | a few chunks in one buffer, filled, sealed or opened, emptied |
//! | [`writer`], [`reader`], [`async_writer`], [`async_reader`] | streams |
//! | [`random_access`] | any offset |
//! | `pump` | large streams over all cores, in bounded memory |
//! | [`files`] | files that appear whole or not at all |
//! | [`rewrap`] | other wrapped keys before the same payload |
//! | `cache`, `shelf`, [`limits`] | data keys kept for a while, off by default |
//! | `told` | a cache that hears of a rotation or another state lets the keys go |
//!
//! Plaintext is in buffers that are wiped; what is handed to a caller, or by him, is his. The format: `docs/formats.md`, section 4.

pub mod async_reader;
pub mod async_writer;
mod batch;
mod cache;
pub mod data_keys;
pub mod expectation;
pub mod files;
pub mod front;
pub mod limits;
pub mod message;
mod named_key;
pub mod opener;
mod pump;
pub mod random_access;
pub mod reader;
pub mod rewrap;
pub mod sealer;
mod shelf;
mod told;
pub mod writer;

#[cfg(test)]
mod double;

pub use data_keys::DataKeys;
pub use expectation::Expectation;
pub use limits::{CacheLimits, OfflineBudget};
pub use opener::Opener;
pub use sealer::Sealer;

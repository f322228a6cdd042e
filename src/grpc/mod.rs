//! The wire: parses a request, asks the gate for a permit, calls one operation, converts its recorded answer.
//!
//! A connection comes in through `listener`; each of its calls passes `layers`, then one service.

mod caller;
mod convert;
mod crypt_stream;
mod crypto_service;
mod event_service;
mod headers;
pub mod health;
mod key_service;
mod layers;
pub mod limits;
pub mod listener;
mod meters;
mod services;
pub mod status;
mod stream_life;
mod system_service;
pub mod tls;
mod watch_stream;

pub use convert::item_error;
pub use crypt_stream::{CryptStream, IN_FLIGHT};
pub use crypto_service::CryptoService;
pub use event_service::EventService;
pub use key_service::KeyService;
pub use layers::{Answer, Dispatch, Front};
pub use services::Services;
pub use system_service::{About, ReadAudit, SystemService};

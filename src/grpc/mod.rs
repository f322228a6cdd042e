//! The wire: parses a request, asks the gate for a permit, calls one operation, converts its recorded answer.
//!
//! A connection comes in through `listener`; each of its calls passes `layers`, then one service.

mod headers;
pub mod health;
mod layers;
pub mod limits;
pub mod listener;
mod meters;
mod services;
pub mod status;
pub mod tls;

pub use layers::{Answer, Dispatch, Front};
pub use services::Services;

//! PKCS#11 as Keyreeve needs it, over `cryptoki` and the raw calls that it lacks.
//!
//! In scope: loading a module, choosing a token, sessions, templates, return codes. Out of scope: policy, threads, recovery
//! (the token layer of the service). With `faultmod`, which is for tests, this crate holds the project's only `unsafe` code,
//! each piece with its reason.
//!
//! | file | what |
//! |---|---|
//! | `module.rs` | load, initialise, list and select tokens, finalise |
//! | `token.rs` | what a token says of itself; how one is named |
//! | `provision.rs` | make a token and its PIN: throwaway tokens of `dev` and tests |
//! | `session.rs` | open, login, random; calls on objects in `objects.rs`, `wrapping.rs`, `signing.rs`, `gcm.rs` |
//! | `template.rs`, `presets.rs` | attribute templates, and the complete ones of Keyreeve's keys |
//! | `rv.rs`, `codes.rs`, `class.rs` | failed calls, and the recovery class of each code |
//! | `mechanism.rs`, `pin.rs`, `exit.rs` | mechanism numbers, the PIN in memory, the quick exit |
//! | `spki.rs`, `rsa.rs`, `der.rs` | public keys of AUDIT and TRANSPORT as SPKI |

#![deny(clippy::undocumented_unsafe_blocks)]

mod class;
mod codes;
mod der;
mod exit;
mod gcm;
mod mechanism;
mod module;
mod objects;
mod pin;
pub mod presets;
mod provision;
mod rsa;
mod rv;
mod session;
mod signing;
mod spki;
mod template;
mod token;
mod wrapping;

pub use class::{Class, Vendor};
pub use codes::ReturnCode;
pub use der::ecdsa_asn1;
pub use exit::exit_now;
pub use mechanism::Mechanism;
pub use module::{Module, ModuleError};
pub use pin::Pin;
pub use rsa::RsaPublicKey;
pub use rv::{CallError, Function};
pub use session::{Access, ObjectHandle, Session, SessionInfo};
pub use spki::spki;
pub use template::{Attribute, KeyType, ObjectClass, Template};
pub use token::{Selector, TokenInfo};
pub use wrapping::OaepHash;

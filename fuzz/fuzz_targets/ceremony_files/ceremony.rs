//! What tokens state.

#[path = "../../../src/token/ceremony/signed.rs"]
pub mod signed;
#[path = "../../../src/token/ceremony/statements.rs"]
pub mod statements;

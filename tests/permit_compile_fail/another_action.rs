// fails: E0308
//! A permit to decrypt does not encrypt.
use keyreeve::{
    operations::{Encrypt, Operations},
    policy::{Permit, action},
};

async fn misuse(operations: &Operations, permit: Permit<action::Decrypt>, request: Encrypt) {
    let _ = operations.encrypt(permit, request).await;
}

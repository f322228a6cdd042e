//! The right way compiles: without this case, a broken test would look like ten rules kept.
use keyreeve::{
    Result,
    operations::{Encrypt, Operations, Sealed},
    policy::{Permit, Recorded, UsesKey, action},
    proto::v1::EncryptResponse,
};

pub async fn encrypt(
    operations: &Operations,
    permit: Permit<action::Encrypt>,
    request: Encrypt,
) -> Result<Recorded<Sealed>> {
    works_the_key(&permit);
    operations.encrypt(permit, request).await
}

pub fn answer(recorded: Recorded<Sealed>) -> EncryptResponse {
    recorded.into()
}

fn works_the_key<A: UsesKey>(_: &Permit<A>) {}

//! Data keys: GenerateDataKey, GenerateDataKeyWithoutPlaintext, WrapDataKey, UnwrapDataKey.
//!
//! A data key is 32 bytes, token XOR host, so that neither generator alone decides it. Its envelope says that it is one:
//! only UnwrapDataKey opens it in clear. One that another service made is wrapped as its caller brings it.

use aws_lc_rs::rand;
use keyreeve_envelope::Plaintext;
use static_assertions::assert_not_impl_any;
use zeroize::Zeroizing;

use super::{
    Opened, Operations, Sealed,
    input::{BoundContext, Message, Opening},
    sealing::{Body, generator_failed},
    tally::{self, Tally},
};
use crate::{
    Error, Result,
    audit::{Draft, Outcome},
    model::KeyName,
    policy::{Context, Permit, Recorded, UsesKey, action},
    token::Token,
};

/// Bytes of a data key.
pub const DATA_KEY_LEN: usize = 32;

/// A request for a data key. `context`: that of the messages it will seal.
pub struct GenerateDataKey {
    pub key: KeyName,
    pub context: BoundContext,
}

/// A request for the envelope of a data key alone.
pub struct GenerateDataKeyWithoutPlaintext {
    pub key: KeyName,
    pub context: BoundContext,
}

/// A request for the envelope of a data key that the caller has.
pub struct WrapDataKey {
    pub key: KeyName,
    data_key: Message,
}

assert_not_impl_any!(WrapDataKey: std::fmt::Debug, Clone, PartialEq);

/// A request to open a data-key envelope.
pub struct UnwrapDataKey {
    pub key: KeyName,
    pub opening: Opening,
}

/// A data key in clear and as an envelope. The plaintext is wiped on drop.
pub struct DataKey {
    pub plaintext: Plaintext,
    pub sealed: Sealed,
}

assert_not_impl_any!(DataKey: std::fmt::Debug, std::fmt::Display, Clone, PartialEq);

impl GenerateDataKey {
    /// What the gate and the record may know.
    pub fn facts(&self) -> Context {
        Context::of(self.context.context())
    }
}

impl GenerateDataKeyWithoutPlaintext {
    /// What the gate and the record may know.
    pub fn facts(&self) -> Context {
        Context::of(self.context.context())
    }
}

impl WrapDataKey {
    /// Errors: `InvalidArgument` unless the data key has 32 bytes: all else is a message, for Encrypt.
    pub fn new(key: KeyName, data_key: Message) -> Result<Self> {
        match data_key.plaintext().len() {
            DATA_KEY_LEN => Ok(Self { key, data_key }),
            other => Err(Error::invalid(
                "plaintext",
                format_args!("a data key has {DATA_KEY_LEN} bytes, not {other}: is it a message, for Encrypt?"),
            )),
        }
    }

    /// What the gate and the record may know.
    pub fn facts(&self) -> Context {
        Context::of(self.data_key.context()).plaintext(DATA_KEY_LEN)
    }
}

impl UnwrapDataKey {
    /// What the gate and the record may know.
    pub fn facts(&self) -> Context {
        Context::of(self.opening.context())
    }
}

impl Operations {
    /// Makes a data key under the primary version of the permit's key. Errors: as Encrypt.
    pub async fn generate_data_key(
        &self,
        permit: Permit<action::GenerateDataKey>,
        request: GenerateDataKey,
    ) -> Result<Recorded<DataKey>> {
        let result = self.make_data_key(&permit, &request.context).await;
        permit.complete(result).await
    }

    /// The same, and the plaintext never leaves the service. Errors: as Encrypt.
    pub async fn generate_data_key_without_plaintext(
        &self,
        permit: Permit<action::GenerateDataKeyWithoutPlaintext>,
        request: GenerateDataKeyWithoutPlaintext,
    ) -> Result<Recorded<Sealed>> {
        let result = self.make_data_key(&permit, &request.context).await;
        permit.complete(result.map(|made| made.sealed)).await
    }

    /// Wraps a data key that its caller has under the primary version of the permit's key, so that it opens what was sealed under a key of
    /// another service. Errors: as Encrypt.
    pub async fn wrap_data_key(
        &self,
        permit: Permit<action::WrapDataKey>,
        request: WrapDataKey,
    ) -> Result<Recorded<Sealed>> {
        let result = self.wrap(&permit, &request.data_key).await;
        permit.complete(result).await
    }

    /// Opens a data-key envelope of the permit's key. Errors: as Decrypt; `DecryptFailed` also for what is not a data key.
    pub async fn unwrap_data_key(
        &self,
        permit: Permit<action::UnwrapDataKey>,
        request: UnwrapDataKey,
    ) -> Result<Recorded<Opened>> {
        let result = self.open_body(&permit, &request.opening, Body::DataKey, UNWRAP).await;
        permit.complete(result).await
    }

    async fn wrap(&self, permit: &Permit<action::WrapDataKey>, data_key: &Message) -> Result<Sealed> {
        let version = permit.on().protecting("wrap data keys")?;
        let sealed = self.seal_under(permit, version, Body::DataKey, data_key.ec_hash(), data_key.plaintext());
        sealed.await
    }

    async fn make_data_key<A: UsesKey>(&self, permit: &Permit<A>, context: &BoundContext) -> Result<DataKey> {
        let version = permit.on().protecting(GENERATE)?;
        let mut plaintext = fresh_data_keys(self.token_of(permit.on())?, permit, 1).await?;
        let plaintext = plaintext.pop().expect("one was asked for");
        let sealed = self.seal_under(permit, version, Body::DataKey, context.hash(), plaintext.as_bytes());
        let sealed = sealed.await?;
        Ok(DataKey { plaintext, sealed })
    }
}

/// Why the token is latched when verification before release fails.
pub(super) const DOES_NOT_OPEN: &str =
    "a new data key does not open again: of two answers to one question one is wrong";

/// For errors: "may not …".
pub(super) const GENERATE: &str = "make data keys";
pub(super) const UNWRAP: &str = "unwrap data keys";

/// `count` fresh data keys: token bytes XOR host bytes.
pub(super) async fn fresh_data_keys<A: UsesKey>(
    token: &Token,
    permit: &Permit<A>,
    count: usize,
) -> Result<Vec<Plaintext>> {
    let share = token.random_share(permit, count * DATA_KEY_LEN).await?;
    let mut host = Zeroizing::new([0; DATA_KEY_LEN]);
    let xor = |share: &[u8]| {
        rand::fill(&mut host[..]).map_err(generator_failed)?;
        let bytes = share.iter().zip(&host[..]).map(|(token, host)| token ^ host);
        Ok(Plaintext::new(bytes.collect()))
    };
    share.chunks_exact(DATA_KEY_LEN).map(xor).collect()
}

impl Outcome for DataKey {
    fn describe(&self, draft: &mut Draft) {
        tally::alone(self, draft);
    }
}

impl Tally for DataKey {
    /// As its envelope: a record never tells the plaintext, and its length is no news.
    fn add_to(&self, draft: &mut Draft) {
        self.sealed.add_to(draft);
        draft.bytes_in -= self.sealed.plaintext_len as u64;
        draft.bytes_out += self.plaintext.as_bytes().len() as u64;
    }
}

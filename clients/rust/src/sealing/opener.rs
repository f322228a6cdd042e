//! Opens with named keys: finds the wrapped key that one of them can open, has it opened, and unlocks the message.

use std::sync::{Arc, atomic::AtomicU64};

use aws_lc_rs::digest::{SHA256, digest};
use keyreeve_envelope::{
    EncryptionContext, Header, KeyId, KeyVersion, Plaintext,
    sealed::{DataKey, PayloadKey, WrappedKey},
};

use super::{
    CacheLimits, DataKeys, Expectation,
    cache::OpenCache,
    front::Front,
    message::{ChunkKey, MessageOpener},
    named_key::NamedKey,
};
use crate::ClientError;

/// Opens messages that were sealed to one of its keys.
///
/// Only a wrapped key that names one of these keys goes to the service, and only the first such one of a message: whoever adds wrapped
/// keys to a file cannot make its reader call with them.
pub struct Opener {
    keys: Vec<NamedKey>,
    cache: Option<OpenCache>,
}

impl Opener {
    /// Opens with `key`, by its name `envs/{env}/teams/{team}/keys/{key}`. Its id is asked for at the first message.
    pub fn new(source: impl DataKeys + 'static, key: impl Into<String>) -> Self {
        Self {
            keys: vec![NamedKey::new(Arc::new(source), key.into())],
            cache: None,
        }
    }

    /// Opens with `key` if it still has this id; needs no right to read the key.
    pub fn pinned(source: impl DataKeys + 'static, key: impl Into<String>, id: KeyId) -> Self {
        Self {
            keys: vec![NamedKey::pinned(Arc::new(source), key.into(), id)],
            cache: None,
        }
    }

    /// Or with another key of the same client.
    #[must_use]
    pub fn or(mut self, key: impl Into<String>) -> Self {
        let source = self.keys[0].source.clone();
        self.keys.push(NamedKey::new(source, key.into()));
        self
    }

    /// Or with a key of another client, of the same service or another.
    #[must_use]
    pub fn or_of(mut self, source: impl DataKeys + 'static, key: impl Into<String>) -> Self {
        self.keys.push(NamedKey::new(Arc::new(source), key.into()));
        self
    }

    /// Keeps unwrapped data keys for further messages. The audit log then shows each release of a data key, not each message.
    /// Errors: limits beyond the hard ones.
    pub fn with_cache(mut self, limits: CacheLimits) -> Result<Self, ClientError> {
        self.cache = Some(OpenCache::new(limits.checked()?, self.keys[0].source.events()));
        Ok(self)
    }

    /// Opens a whole message. The plaintext is wiped when it is dropped.
    pub async fn open(&self, message: &[u8], expected: &Expectation) -> Result<Plaintext, ClientError> {
        let (front, chunks) = Front::split(message)?;
        self.unlock(&front, expected).await?.open(chunks)
    }

    /// From what stands before the chunks to the keys that open them; what follows needs the service no more.
    ///
    /// Errors: `UNEXPECTED_MESSAGE`; `DECRYPT_FAILED` for whatever else is wrong with the message, its context or its keys.
    pub async fn unlock(&self, front: &Front, expected: &Expectation) -> Result<MessageOpener, ClientError> {
        let context = expected.check(&front.header, front.commitment())?;
        let (key, wrapped, envelope) = self.first_match(front).await?;
        let (data_key, bytes) = self.data_key(key, wrapped, &envelope, &context).await?;
        let payload = PayloadKey::unlock(&data_key, &front.header, &front.payload, &context)?;
        Ok(MessageOpener::new(ChunkKey::new(payload, bytes), context))
    }

    /// Wipes what the cache holds of a key: it was suspended, compromised, destroyed.
    pub fn evict(&self, key: KeyId) {
        self.evict_if(|id, _| id == key);
    }

    /// Wipes what the cache holds of one version of a key.
    pub fn evict_version(&self, key: KeyId, version: KeyVersion) {
        self.evict_if(|id, of| (id, of) == (key, version));
    }

    /// Wipes the cache.
    pub fn evict_all(&self) {
        self.evict_if(|_, _| true);
    }

    fn evict_if(&self, condemned: impl Fn(KeyId, KeyVersion) -> bool) {
        if let Some(cache) = &self.cache {
            cache.evict(condemned);
        }
    }

    /// The first wrapped key of the message that names one of our keys. None after it is tried, whatever comes of it.
    pub(super) async fn first_match<'a>(
        &self,
        front: &'a Front,
    ) -> Result<(&NamedKey, &'a WrappedKey, Header), ClientError> {
        for wrapped in front.header.wrapped_keys() {
            if let Some(envelope) = wrapped.envelope_header()
                && let Some(key) = self.key_of(envelope.key_id()).await?
            {
                return Ok((key, wrapped, envelope));
            }
        }
        Err(ClientError::decrypt_failed())
    }

    /// The key that has this id. Ids are asked for one after the other, and only until it is found.
    async fn key_of(&self, id: KeyId) -> Result<Option<&NamedKey>, ClientError> {
        let known = self.keys.iter().find(|key| key.known_id() == Some(id));
        if known.is_some() {
            return Ok(known);
        }
        for key in self.keys.iter().filter(|key| key.known_id().is_none()) {
            if key.id().await? == id {
                return Ok(Some(key));
            }
        }
        Ok(None)
    }

    async fn data_key(
        &self,
        key: &NamedKey,
        wrapped: &WrappedKey,
        envelope: &Header,
        context: &EncryptionContext,
    ) -> Result<(DataKey, Vec<Arc<AtomicU64>>), ClientError> {
        let unwrap = async || {
            let unwrapped = key.source.unwrap(&key.name, wrapped, context).await;
            unwrapped.map_err(ClientError::of_unwrapping)
        };
        let Some(cache) = &self.cache else {
            return Ok((unwrap().await?, Vec::new()));
        };
        // Of before the call: the certificate may be another one after it.
        let place = (key.source.identity(), sha256(wrapped.as_bytes()), context.sha256());
        if let Some((data_key, bytes)) = cache.take(&place) {
            return Ok((data_key, vec![bytes]));
        }
        let asked = cache.evictions();
        let data_key = unwrap().await?;
        let bytes = cache.keep(asked, place, envelope, &data_key);
        Ok((data_key, vec![bytes]))
    }
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    digest(&SHA256, bytes).as_ref().try_into().expect("SHA-256 is 32 bytes")
}

#[cfg(test)]
#[path = "opener_tests.rs"]
mod tests;

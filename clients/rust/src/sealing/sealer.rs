//! Seals to named keys: has a data key made and wrapped, and begins messages with it.

use std::sync::Arc;

use keyreeve_envelope::{
    EncryptionContext, KeyId, KeyVersion,
    sealed::{DataKey, Sealing, WrappedKey},
};

use super::{
    CacheLimits, DataKeys,
    cache::{SealCache, SealedUse},
    message::MessageSealer,
    named_key::NamedKey,
};
use crate::ClientError;

/// Seals messages to one or several keys: whoever may unwrap under any of them can open.
///
/// Each message gets a data key of its own, unless [`Self::with_cache`] is on. It is made under the first key; under the others it is
/// wrapped by ReEncrypt, for which the client needs `ReEncryptFrom` on the first and `ReEncryptTo` on the other, and under those of another
/// service by WrapDataKey.
pub struct Sealer {
    keys: Vec<NamedKey>,
    store_context: bool,
    cache: Option<SealCache>,
}

/// A data key, and all its envelopes.
struct Made {
    data_key: DataKey,
    wrapped: Vec<WrappedKey>,
}

impl Sealer {
    /// Seals to `key`, by its name `envs/{env}/teams/{team}/keys/{key}`.
    pub fn new(source: impl DataKeys + 'static, key: impl Into<String>) -> Self {
        Self {
            keys: vec![NamedKey::new(Arc::new(source), key.into())],
            store_context: false,
            cache: None,
        }
    }

    /// And to another key of the same service, of whatever environment.
    #[must_use]
    pub fn and(mut self, key: impl Into<String>) -> Self {
        let source = self.keys[0].source.clone();
        self.keys.push(NamedKey::new(source, key.into()));
        self
    }

    /// And to another key, wrapped by another client of the same service: one who may do it there.
    #[must_use]
    pub fn and_of(mut self, source: impl DataKeys + 'static, key: impl Into<String>) -> Self {
        self.keys.push(NamedKey::new(Arc::new(source), key.into()));
        self
    }

    /// And to a key of another service, at which `source` is a client that may `WrapDataKey`: either service opens the message alone. The data
    /// key goes there in clear, within TLS.
    #[must_use]
    pub fn and_elsewhere(mut self, source: impl DataKeys + 'static, key: impl Into<String>) -> Self {
        let mut key = NamedKey::new(Arc::new(source), key.into());
        key.elsewhere = true;
        self.keys.push(key);
        self
    }

    /// Stores the context in each message, in clear, so that an opener need not know it. It is bound to the message either way.
    #[must_use]
    pub fn storing_context(mut self) -> Self {
        self.store_context = true;
        self
    }

    /// Keeps data keys for further messages of the same context. The audit log then shows each release of a data key, not each message.
    /// Errors: limits beyond the hard ones.
    pub fn with_cache(mut self, limits: CacheLimits) -> Result<Self, ClientError> {
        self.cache = Some(SealCache::new(limits.checked()?, self.keys[0].source.events()));
        Ok(self)
    }

    /// Seals a value. Larger ones than some MiB keep the thread busy: then rather [`Self::begin`], and seal on a thread for blocking work.
    pub async fn seal(&self, plaintext: &[u8], context: &EncryptionContext) -> Result<Vec<u8>, ClientError> {
        self.begin(context).await?.seal(plaintext)
    }

    /// Begins a message; what follows needs the service no more.
    pub async fn begin(&self, context: &EncryptionContext) -> Result<MessageSealer, ClientError> {
        let Some(cache) = &self.cache else {
            let made = self.make(context).await?;
            return self.message(&made.data_key, made.wrapped, context, None);
        };
        // Of before the call: the certificate may be another one after it.
        let identities: Vec<_> = self.keys.iter().map(|key| key.source.identity()).collect();
        let place = self.place(&identities).map(|keys| (keys, context.sha256()));
        if let Some(kept) = place.as_ref().and_then(|place| cache.take(place)) {
            return self.message_of(kept, context);
        }
        let asked = cache.evictions();
        let error = match cache.down() {
            Some(error) => error,
            None => match self.make(context).await {
                Ok(made) => {
                    let keys = made.wrapped.iter().zip(identities);
                    let keys = keys.filter_map(|(wrapped, identity)| Some((identity, wrapped.envelope_header()?)));
                    let keys: Vec<_> = keys.collect();
                    self.remember(&keys.iter().map(|(_, header)| header.key_id()).collect::<Vec<_>>());
                    let kept = cache.keep(asked, keys, context.sha256(), made.data_key, made.wrapped);
                    return self.message_of(kept, context);
                }
                Err(error) => error,
            },
        };
        match place.and_then(|place| cache.take_offline(&place, &error)) {
            Some(kept) => self.message_of(kept, context),
            None => Err(error),
        }
    }

    /// Wipes what the cache holds of a key: it was suspended, compromised, destroyed.
    pub fn evict(&self, key: KeyId) {
        if let Some(cache) = &self.cache {
            cache.evict(|id, _| id == key);
        }
    }

    /// Wipes what the cache holds of other versions of a key: it was rotated.
    pub fn primary_changed(&self, key: KeyId, primary: KeyVersion) {
        if let Some(cache) = &self.cache {
            cache.evict(|id, version| id == key && version != primary);
        }
    }

    /// Wipes the cache.
    pub fn evict_all(&self) {
        if let Some(cache) = &self.cache {
            cache.evict(|_, _| true);
        }
    }

    /// Ids of all keys with the identities that use them; `None` before the first message told them.
    fn place(&self, identities: &[[u8; 32]]) -> Option<Vec<([u8; 32], KeyId)>> {
        let keys = identities.iter().zip(&self.keys);
        keys.map(|(identity, key)| Some((*identity, key.known_id()?))).collect()
    }

    fn remember(&self, ids: &[KeyId]) {
        self.keys.iter().zip(ids).for_each(|(key, id)| key.learn(*id));
    }

    async fn make(&self, context: &EncryptionContext) -> Result<Made, ClientError> {
        let first = &self.keys[0];
        let (data_key, envelope) = first.source.generate(&first.name, context).await?;
        let mut wrapped = vec![envelope];
        for key in &self.keys[1..] {
            let wrapping = match key.elsewhere {
                true => key.source.wrap(&key.name, &data_key, context),
                false => key.source.wrap_anew(&first.name, &wrapped[0], &key.name, context),
            };
            wrapped.push(wrapping.await?);
        }
        Ok(Made { data_key, wrapped })
    }

    fn message_of(&self, kept: SealedUse, context: &EncryptionContext) -> Result<MessageSealer, ClientError> {
        let wrapped = kept.wrapped.clone();
        self.message(&kept.data_key, wrapped, context, Some(&kept))
    }

    fn message(
        &self,
        data_key: &DataKey,
        wrapped: Vec<WrappedKey>,
        context: &EncryptionContext,
        kept: Option<&SealedUse>,
    ) -> Result<MessageSealer, ClientError> {
        let sealing = Sealing::begin(data_key, context, self.store_context, wrapped)?;
        let bytes = kept.map_or_else(Vec::new, |kept| kept.bytes.clone());
        Ok(MessageSealer::new(
            sealing,
            bytes,
            kept.is_some_and(|kept| kept.offline),
        ))
    }
}

#[cfg(test)]
#[path = "sealer_tests.rs"]
mod tests;

//! What local sealing asks of the service. [`Client`] answers it by RPCs; tests, and whoever has keys elsewhere, by something else.

use std::pin::Pin;

use bytes::Bytes;
use keyreeve_envelope::{
    EncryptionContext, KeyId,
    sealed::{DataKey, WrappedKey},
};
use zeroize::Zeroize;

use crate::{Client, ClientError, Events, v1};

/// An answer that takes a while.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, ClientError>> + Send + 'a>>;

/// Makes and opens data keys. `key`: the name of a key, `envs/{env}/teams/{team}/keys/{key}`.
pub trait DataKeys: Send + Sync {
    /// Tells identities apart: what one of them was given is not handed to another out of a cache.
    fn identity(&self) -> [u8; 32];

    /// Who is told what a cache does with them: nobody, unless there is a callback.
    fn events(&self) -> Events {
        Events::default()
    }

    /// A new data key, and its envelope under `key` and `context`.
    fn generate<'a>(&'a self, key: &'a str, context: &'a EncryptionContext) -> Answer<'a, (DataKey, WrappedKey)>;

    /// Opens an envelope that [`Self::generate`] or [`Self::wrap_anew`] made.
    fn unwrap<'a>(
        &'a self,
        key: &'a str,
        wrapped: &'a WrappedKey,
        context: &'a EncryptionContext,
    ) -> Answer<'a, DataKey>;

    /// The same data key under the primary version of another key, or of the same one; it is not shown.
    fn wrap_anew<'a>(
        &'a self,
        key: &'a str,
        wrapped: &'a WrappedKey,
        to: &'a str,
        context: &'a EncryptionContext,
    ) -> Answer<'a, WrappedKey>;

    /// A data key of another service under the primary version of `key`. Whoever does not implement it has no keys for messages of two
    /// services. Errors: `CONFIGURATION`.
    fn wrap<'a>(
        &'a self,
        key: &'a str,
        _data_key: &'a DataKey,
        _context: &'a EncryptionContext,
    ) -> Answer<'a, WrappedKey> {
        let error = format!("what has the key `{key}` wraps no data key of another service");
        Box::pin(async move { Err(ClientError::configuration(error)) })
    }

    /// The id by which envelopes name `key`.
    fn key_id<'a>(&'a self, key: &'a str) -> Answer<'a, KeyId>;
}

impl DataKeys for Client {
    fn identity(&self) -> [u8; 32] {
        Self::identity(self)
    }

    fn events(&self) -> Events {
        self.shared.events.clone()
    }

    fn generate<'a>(&'a self, key: &'a str, context: &'a EncryptionContext) -> Answer<'a, (DataKey, WrappedKey)> {
        Box::pin(async move {
            let request = v1::GenerateDataKeyRequest {
                name: key.to_owned(),
                encryption_context: pairs(context),
                ..Default::default()
            };
            let answer = self.generate_data_key(request).await?;
            let wrapped = WrappedKey::from_envelope(answer.ciphertext.to_vec());
            drop(answer.ciphertext);
            Ok((
                data_key(answer.plaintext)?,
                wrapped.map_err(|_| malformed("ciphertext"))?,
            ))
        })
    }

    fn unwrap<'a>(
        &'a self,
        key: &'a str,
        wrapped: &'a WrappedKey,
        context: &'a EncryptionContext,
    ) -> Answer<'a, DataKey> {
        Box::pin(async move {
            let request = v1::UnwrapDataKeyRequest {
                name: key.to_owned(),
                ciphertext: Bytes::copy_from_slice(wrapped.as_bytes()),
                encryption_context: pairs(context),
                ..Default::default()
            };
            data_key(self.unwrap_data_key(request).await?.plaintext)
        })
    }

    fn wrap_anew<'a>(
        &'a self,
        key: &'a str,
        wrapped: &'a WrappedKey,
        to: &'a str,
        context: &'a EncryptionContext,
    ) -> Answer<'a, WrappedKey> {
        Box::pin(async move {
            let request = v1::ReEncryptRequest {
                source_name: key.to_owned(),
                ciphertext: Bytes::copy_from_slice(wrapped.as_bytes()),
                source_encryption_context: pairs(context),
                destination_name: to.to_owned(),
                destination_encryption_context: pairs(context),
                ..Default::default()
            };
            let answer = self.re_encrypt(request).await?;
            WrappedKey::from_envelope(answer.ciphertext.to_vec()).map_err(|_| malformed("ciphertext"))
        })
    }

    fn wrap<'a>(
        &'a self,
        key: &'a str,
        data_key: &'a DataKey,
        context: &'a EncryptionContext,
    ) -> Answer<'a, WrappedKey> {
        Box::pin(async move {
            let request = v1::WrapDataKeyRequest {
                name: key.to_owned(),
                plaintext: Bytes::from_owner(Wiped(data_key.duplicate())),
                encryption_context: pairs(context),
                ..Default::default()
            };
            let answer = self.wrap_data_key(request).await?;
            WrappedKey::from_envelope(answer.ciphertext.to_vec()).map_err(|_| malformed("ciphertext"))
        })
    }

    fn key_id<'a>(&'a self, key: &'a str) -> Answer<'a, KeyId> {
        Box::pin(async move {
            let answer = self.get_key(v1::GetKeyRequest { name: key.to_owned() }).await?;
            let key = answer.key.ok_or_else(|| malformed("key"))?;
            key.id.parse().map_err(|_| malformed("key.id"))
        })
    }
}

/// Takes the key over and wipes what it came in, if nobody else holds that. The buffers of TLS and gRPC are freed unwiped: a
/// program that must do better sets an allocator that wipes what it frees, as `keyreeve` does.
fn data_key(bytes: Bytes) -> Result<DataKey, ClientError> {
    let key = DataKey::copied(&bytes);
    if let Ok(mut own) = bytes.try_into_mut() {
        own.zeroize();
    }
    key.ok_or_else(|| malformed("plaintext"))
}

/// A data key on its way out, wiped when the request is gone.
struct Wiped(DataKey);

impl AsRef<[u8]> for Wiped {
    fn as_ref(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

fn malformed(field: &str) -> ClientError {
    ClientError::malformed(field)
}

fn pairs(context: &EncryptionContext) -> Vec<v1::ContextPair> {
    let pair = |(key, value): (&str, &str)| v1::ContextPair {
        key: key.to_owned(),
        value: value.to_owned(),
    };
    context.pairs().map(pair).collect()
}

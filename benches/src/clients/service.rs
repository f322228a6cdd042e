//! Data keys without a service: one data key, and an envelope that says it is one.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use keyreeve_client::{
    ClientError, DataKeys, EncryptionContext, KeyId, KeyVersion,
    sealed::{DataKey, WrappedKey},
    sealing::data_keys::Answer,
};
use keyreeve_envelope::{
    Header, Suite,
    prf_commit::{self, MessageKeys},
};

use crate::Failure;

const ID: KeyId = KeyId::from_bytes([7; 16]);

#[derive(Clone)]
pub struct InMemory {
    wrapped: WrappedKey,
    /// For data keys.
    calls: Arc<AtomicU64>,
}

impl InMemory {
    pub fn new() -> Result<Self, Failure> {
        let header = Header::new(Suite::PrfCommit, ID, KeyVersion::FIRST, true, 32)?;
        let keys = MessageKeys::from_prf_output(&[7; 64]);
        let mut envelope = Vec::new();
        prf_commit::seal(&keys, &header, &[0; 32], &[0; 12], &[0; 32], &[7; 32], &mut envelope)?;
        Ok(Self {
            wrapped: WrappedKey::from_envelope(envelope)?,
            calls: Arc::default(),
        })
    }

    pub fn calls(&self) -> u64 {
        self.calls.load(Ordering::Relaxed)
    }

    fn called(&self) {
        self.calls.fetch_add(1, Ordering::Relaxed);
    }
}

fn data_key() -> DataKey {
    DataKey::copied(&[7; 32]).expect("32 bytes are a data key")
}

fn ready<'a, T: Send + 'a>(answer: T) -> Answer<'a, T> {
    Box::pin(async { Ok::<_, ClientError>(answer) })
}

impl DataKeys for InMemory {
    fn identity(&self) -> [u8; 32] {
        [7; 32]
    }

    fn generate<'a>(&'a self, _: &'a str, _: &'a EncryptionContext) -> Answer<'a, (DataKey, WrappedKey)> {
        self.called();
        ready((data_key(), self.wrapped.clone()))
    }

    fn unwrap<'a>(&'a self, _: &'a str, _: &'a WrappedKey, _: &'a EncryptionContext) -> Answer<'a, DataKey> {
        self.called();
        ready(data_key())
    }

    fn wrap_anew<'a>(
        &'a self,
        _: &'a str,
        wrapped: &'a WrappedKey,
        _: &'a str,
        _: &'a EncryptionContext,
    ) -> Answer<'a, WrappedKey> {
        ready(wrapped.clone())
    }

    fn key_id<'a>(&'a self, _: &'a str) -> Answer<'a, KeyId> {
        ready(ID)
    }
}

//! Data keys without a service: real envelopes under version keys that both languages hold. Calls are counted.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use aws_lc_rs::{hmac, rand};
use keyreeve_client::{
    ClientError, Code, DataKeys, EncryptionContext, KeyId, KeyVersion,
    sealed::{DataKey, WrappedKey},
    sealing::data_keys::Answer,
};
use keyreeve_envelope::{DecryptFailed, Header, Suite, prf_commit};
use tonic::Status;
use tonic_types::{ErrorDetails, StatusExt};

/// The keys by name; clones share the counters.
#[derive(Clone, Default)]
pub struct Keys {
    keys: BTreeMap<String, (KeyId, Vec<u8>)>,
    generated: Arc<AtomicUsize>,
    unwrapped: Arc<AtomicUsize>,
}

impl Keys {
    pub fn add(&mut self, name: String, id: KeyId, version_key: Vec<u8>) {
        self.keys.insert(name, (id, version_key));
    }

    /// Calls since the last question: data keys generated, data keys unwrapped.
    pub fn calls(&self) -> (usize, usize) {
        let taken = |counter: &AtomicUsize| counter.swap(0, Ordering::Relaxed);
        (taken(&self.generated), taken(&self.unwrapped))
    }

    fn key(&self, name: &str) -> Result<&(KeyId, Vec<u8>), ClientError> {
        self.keys
            .get(name)
            .ok_or_else(|| Status::not_found("the test told no such key").into())
    }

    fn seal(&self, name: &str, data_key: &[u8], context: &EncryptionContext) -> Result<WrappedKey, ClientError> {
        let (id, version_key) = self.key(name)?;
        let (salt, iv, ec_hash) = (random()?, random()?, context.sha256());
        let header =
            Header::new(Suite::PrfCommit, *id, KeyVersion::FIRST, true, data_key.len()).map_err(|_| broken())?;
        let keys = message_keys(version_key, &prf_commit::kdf_input(&header.encode(), &salt, &ec_hash))?;
        let mut envelope = Vec::new();
        prf_commit::seal(&keys, &header, &salt, &iv, &ec_hash, data_key, &mut envelope).map_err(|_| broken())?;
        Ok(WrappedKey::from_envelope(envelope)?)
    }

    fn open(&self, name: &str, wrapped: &WrappedKey, context: &EncryptionContext) -> Result<Vec<u8>, ClientError> {
        let (id, version_key) = self.key(name)?;
        let ec_hash = context.sha256();
        let envelope = prf_commit::Envelope::parse(wrapped.as_bytes()).map_err(refused)?;
        if (envelope.header().key_id(), envelope.header().key_version()) != (*id, KeyVersion::FIRST) {
            return Err(refused(DecryptFailed));
        }
        let keys = message_keys(version_key, &envelope.kdf_input(&ec_hash))?;
        let opened = prf_commit::open(&keys, &envelope, &ec_hash).map_err(refused)?;
        Ok(opened.as_bytes().to_vec())
    }
}

impl DataKeys for Keys {
    fn identity(&self) -> [u8; 32] {
        [1; 32]
    }

    fn generate<'a>(&'a self, key: &'a str, context: &'a EncryptionContext) -> Answer<'a, (DataKey, WrappedKey)> {
        self.generated.fetch_add(1, Ordering::Relaxed);
        Box::pin(async move {
            let plain: [u8; 32] = random()?;
            let data_key = DataKey::copied(&plain).ok_or_else(broken)?;
            Ok((data_key, self.seal(key, &plain, context)?))
        })
    }

    fn unwrap<'a>(
        &'a self,
        key: &'a str,
        wrapped: &'a WrappedKey,
        context: &'a EncryptionContext,
    ) -> Answer<'a, DataKey> {
        self.unwrapped.fetch_add(1, Ordering::Relaxed);
        Box::pin(async move { DataKey::copied(&self.open(key, wrapped, context)?).ok_or_else(broken) })
    }

    fn wrap_anew<'a>(
        &'a self,
        key: &'a str,
        wrapped: &'a WrappedKey,
        to: &'a str,
        context: &'a EncryptionContext,
    ) -> Answer<'a, WrappedKey> {
        Box::pin(async move { self.seal(to, &self.open(key, wrapped, context)?, context) })
    }

    fn key_id<'a>(&'a self, key: &'a str) -> Answer<'a, KeyId> {
        Box::pin(async move { Ok(self.key(key)?.0) })
    }
}

fn message_keys(version_key: &[u8], input: &[u8]) -> Result<prf_commit::MessageKeys, ClientError> {
    let output = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA512, version_key), input);
    let output = output.as_ref().try_into().map_err(|_| broken())?;
    Ok(prf_commit::MessageKeys::from_prf_output(output))
}

/// What the service says of an envelope that does not open.
fn refused(_: DecryptFailed) -> ClientError {
    let details = ErrorDetails::with_error_info("DECRYPT_FAILED", "keyreeve.dev", []);
    let text = "the ciphertext cannot be opened with this key and context";
    Status::with_error_details(Code::InvalidArgument, text, details).into()
}

fn random<const N: usize>() -> Result<[u8; N], ClientError> {
    let mut bytes = [0; N];
    rand::fill(&mut bytes).map_err(|_| broken())?;
    Ok(bytes)
}

fn broken() -> ClientError {
    Status::internal("this host makes no envelopes").into()
}

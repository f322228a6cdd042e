//! A service in memory: keys with versions, real envelopes, calls that are counted, and an outage when a test wants one.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU8, Ordering},
    },
};

use aws_lc_rs::{hmac, rand};
use keyreeve_envelope::{
    DecryptFailed, EncryptionContext, Header, KeyId, KeyVersion, Suite, prf_commit,
    sealed::{DataKey, WrappedKey},
};

use tonic::Status;
use tonic_types::{ErrorDetails, StatusExt};

use super::data_keys::{Answer, DataKeys};
use crate::{ClientError, Code, Events};

pub(super) const ORDERS: &str = "envs/dev/teams/shop/keys/orders";
pub(super) const ARCHIVE: &str = "envs/staging/teams/shop/keys/archive";

/// A client of it; clones share the service.
#[derive(Clone)]
pub(super) struct Double {
    service: Arc<Mutex<Service>>,
    identity: Arc<AtomicU8>,
    events: Events,
}

#[derive(Default)]
pub(super) struct Service {
    keys: BTreeMap<String, Key>,
    /// Refuses every call for this reason.
    pub outage: Option<ClientError>,
    /// Gives the caller a new certificate in each call that makes or opens a data key.
    pub certificates_change: bool,
    pub generated: usize,
    pub unwrapped: usize,
    pub wrapped_anew: usize,
    pub ids_asked: usize,
}

struct Key {
    id: KeyId,
    versions: Vec<[u8; 64]>,
}

impl Double {
    /// A service with two keys, in two environments.
    pub fn new() -> Self {
        let double = Self {
            service: Arc::default(),
            identity: Arc::new(AtomicU8::new(1)),
            events: Events::default(),
        };
        double.create(ORDERS);
        double.create(ARCHIVE);
        double
    }

    /// Another caller of the same service.
    pub fn as_(&self, identity: u8) -> Self {
        Self {
            service: self.service.clone(),
            identity: Arc::new(AtomicU8::new(identity)),
            events: Events::default(),
        }
    }

    /// The same caller, with a callback.
    pub fn telling(&self, events: Events) -> Self {
        Self { events, ..self.clone() }
    }

    pub fn service(&self) -> MutexGuard<'_, Service> {
        self.service.lock().unwrap()
    }

    /// Makes a key; one of the same name is gone.
    pub fn create(&self, name: &str) -> KeyId {
        let id = KeyId::from_bytes(random());
        let versions = vec![random()];
        self.service().keys.insert(name.into(), Key { id, versions });
        id
    }

    pub fn rotate(&self, name: &str) -> KeyVersion {
        let mut service = self.service();
        let key = service.keys.get_mut(name).unwrap();
        key.versions.push(random());
        key.primary()
    }

    pub fn id(&self, name: &str) -> KeyId {
        self.service().keys[name].id
    }

    pub fn go_down(&self) {
        let status = Status::unavailable("nobody listens");
        self.service().outage = Some(status.into());
    }

    pub fn come_back(&self) {
        self.service().outage = None;
    }

    fn called(&self, service: &Service) {
        if service.certificates_change {
            self.identity.fetch_add(1, Ordering::SeqCst);
        }
    }
}

impl Service {
    fn key(&self, name: &str) -> Result<&Key, ClientError> {
        match &self.outage {
            Some(error) => Err(error.clone()),
            None => self
                .keys
                .get(name)
                .ok_or_else(|| Status::not_found("no such key").into()),
        }
    }
}

impl Key {
    fn primary(&self) -> KeyVersion {
        KeyVersion::new(self.versions.len() as u32).unwrap()
    }

    fn keys(&self, version: KeyVersion, input: &[u8]) -> Option<prf_commit::MessageKeys> {
        let secret = self.versions.get(version.number() as usize - 1)?;
        let output = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA512, secret), input);
        Some(prf_commit::MessageKeys::from_prf_output(
            output.as_ref().try_into().unwrap(),
        ))
    }

    fn seal(&self, data_key: &[u8], context: &EncryptionContext) -> WrappedKey {
        let (salt, iv, ec_hash) = (random(), random(), context.sha256());
        let header = Header::new(Suite::PrfCommit, self.id, self.primary(), true, data_key.len()).unwrap();
        let input = prf_commit::kdf_input(&header.encode(), &salt, &ec_hash);
        let keys = self.keys(self.primary(), &input).unwrap();
        let mut envelope = Vec::new();
        prf_commit::seal(&keys, &header, &salt, &iv, &ec_hash, data_key, &mut envelope).unwrap();
        WrappedKey::from_envelope(envelope).unwrap()
    }

    fn open(&self, wrapped: &WrappedKey, context: &EncryptionContext) -> Result<Vec<u8>, ClientError> {
        let open = || {
            let envelope = prf_commit::Envelope::parse(wrapped.as_bytes())?;
            let header = envelope.header();
            if header.key_id() != self.id || !header.is_data_key() {
                return Err(DecryptFailed);
            }
            let ec_hash = context.sha256();
            let keys = self.keys(header.key_version(), &envelope.kdf_input(&ec_hash));
            let opened = prf_commit::open(&keys.ok_or(DecryptFailed)?, &envelope, &ec_hash)?;
            Ok(opened.as_bytes().to_vec())
        };
        open().map_err(|DecryptFailed| {
            let info = [("request_id".to_owned(), "req-7".to_owned())];
            let details = ErrorDetails::with_error_info("DECRYPT_FAILED", "keyreeve.dev", info);
            let text = "the ciphertext cannot be opened with this key and context";
            Status::with_error_details(Code::InvalidArgument, text, details).into()
        })
    }
}

impl DataKeys for Double {
    fn identity(&self) -> [u8; 32] {
        [self.identity.load(Ordering::SeqCst); 32]
    }

    fn events(&self) -> Events {
        self.events.clone()
    }

    fn generate<'a>(&'a self, key: &'a str, context: &'a EncryptionContext) -> Answer<'a, (DataKey, WrappedKey)> {
        let mut service = self.service();
        service.generated += 1;
        self.called(&service);
        let plain: [u8; 32] = random();
        let made = service
            .key(key)
            .map(|key| (DataKey::copied(&plain).unwrap(), key.seal(&plain, context)));
        Box::pin(async { made })
    }

    fn unwrap<'a>(
        &'a self,
        key: &'a str,
        wrapped: &'a WrappedKey,
        context: &'a EncryptionContext,
    ) -> Answer<'a, DataKey> {
        let mut service = self.service();
        service.unwrapped += 1;
        self.called(&service);
        let opened = service.key(key).and_then(|key| key.open(wrapped, context));
        Box::pin(async { Ok(DataKey::copied(&opened?).unwrap()) })
    }

    fn wrap_anew<'a>(
        &'a self,
        key: &'a str,
        wrapped: &'a WrappedKey,
        to: &'a str,
        context: &'a EncryptionContext,
    ) -> Answer<'a, WrappedKey> {
        let mut service = self.service();
        service.wrapped_anew += 1;
        let made = service.key(key).and_then(|from| {
            let opened = from.open(wrapped, context)?;
            Ok(service.key(to)?.seal(&opened, context))
        });
        Box::pin(async { made })
    }

    fn wrap<'a>(
        &'a self,
        key: &'a str,
        data_key: &'a DataKey,
        context: &'a EncryptionContext,
    ) -> Answer<'a, WrappedKey> {
        let service = self.service();
        let made = service.key(key).map(|key| key.seal(data_key.as_bytes(), context));
        Box::pin(async { made })
    }

    fn key_id<'a>(&'a self, key: &'a str) -> Answer<'a, KeyId> {
        let mut service = self.service();
        service.ids_asked += 1;
        let id = service.key(key).map(|key| key.id);
        Box::pin(async move { id })
    }
}

fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    rand::fill(&mut bytes).unwrap();
    bytes
}

pub(super) fn context(pairs: &[(&str, &str)]) -> EncryptionContext {
    EncryptionContext::from_pairs(pairs.iter().copied()).unwrap()
}

/// Bytes in which a chunk that was dropped, doubled or moved shows.
pub(super) fn plaintext(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at / 3 + at / 16_384) as u8).collect()
}

//! A token in software, for the unit tests of what stands above the token: HMAC and key wrap by aws-lc-rs, no threads.
//!
//! Same formats as a real token, so the published vectors pass through it. Counts its calls, and can be told to fail.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey},
    cmac, hmac,
    key_wrap::{AES_256, AesKek, KeyWrap},
    rand,
};
use keyreeve_envelope::{
    Header, KekId, Plaintext, Suite,
    blob::{KeyType, KeyUsage, WrapSuite, WrappedKey, kcv_input},
    prf_commit::{MessageKeys, kdf_input},
    subkey::{Subkey, SubkeyBytes},
    token_gcm,
};
use zeroize::Zeroizing;

use super::{
    Answer, BreakerState, Call, EnvelopeInput, Host, Job, OpenInput, SealInput, TokenError,
    host::{HostStatus, MadeKey, Place, SubkeyLabel},
};
use crate::model::{Blob, IvSource, KeyId, KeyVersion, Residency, TokenAttributes, TokenObject, cka_id};

/// What a real token holds: the keys of the blob vectors.
pub(crate) struct SoftwareHost {
    serial: Arc<str>,
    kek: [u8; 32],
    bind: [u8; 32],
    svc: [u8; 64],
    calls: Mutex<HashMap<&'static str, u64>>,
    evicted: Mutex<Vec<[u8; 32]>>,
    /// Keys that stay, by CKA_ID.
    objects: Mutex<HashMap<[u8; 20], Vec<u8>>>,
    envelope_inputs: AtomicU64,
    fault: Mutex<Option<TokenError>>,
    flip_answers: AtomicBool,
    latched: Mutex<Option<Arc<str>>>,
}

impl SoftwareHost {
    pub(crate) fn new() -> Arc<Self> {
        Self::named("software-1")
    }

    pub(crate) fn named(serial: &str) -> Arc<Self> {
        Arc::new(Self {
            serial: serial.into(),
            kek: [0x4b; 32],
            bind: [0xb1; 32],
            svc: [0x5c; 64],
            calls: Mutex::default(),
            evicted: Mutex::default(),
            objects: Mutex::default(),
            envelope_inputs: AtomicU64::new(0),
            fault: Mutex::new(None),
            flip_answers: AtomicBool::new(false),
            latched: Mutex::default(),
        })
    }

    /// Fails every call with `fault`, or none.
    pub(crate) fn fail_with(&self, fault: Option<TokenError>) {
        *self.fault.lock().unwrap() = fault;
    }

    /// Makes every second answer for an envelope wrong in one bit, as a broken token would.
    pub(crate) fn flip_answers(&self) {
        self.flip_answers.store(true, Ordering::SeqCst);
    }

    pub(crate) fn calls(&self, name: &str) -> u64 {
        self.calls.lock().unwrap().get(name).copied().unwrap_or(0)
    }

    pub(crate) fn evicted(&self) -> Vec<[u8; 32]> {
        self.evicted.lock().unwrap().clone()
    }

    /// Objects of the token that stay.
    pub(crate) fn objects(&self) -> usize {
        self.objects.lock().unwrap().len()
    }

    /// Puts an object there that no row names.
    pub(crate) fn occupy(&self, key: KeyId, number: KeyVersion) {
        self.objects.lock().unwrap().insert(cka_id(key, number), Vec::new());
    }

    /// Wraps `secret` as the version at `place`: 64 bytes of type 1, 32 of type 2.
    pub(crate) fn wrap(&self, place: Place, secret: &[u8]) -> Blob {
        let key_type = match secret.len() {
            64 => KeyType::EnvelopePrf,
            _ => KeyType::Aes256,
        };
        let mut wrapped = [0; 72];
        let wrapped = AesKek::new(&AES_256, &self.kek)
            .unwrap()
            .wrap(secret, &mut wrapped)
            .unwrap();
        let kcv = kcv(place, secret, key_type);
        let fields = WrappedKey {
            imported: false,
            suite: WrapSuite::Kw,
            environment: place.environment,
            key_id: place.key,
            key_version: place.version,
            key_type,
            usage: KeyUsage::Envelope,
            kek_id: KekId::from_bytes([7; 16]),
            kek_epoch: 1,
            created_ms: 1_700_000_000_000,
            kcv,
            wrapped,
        };
        Blob::new(fields.encode(&self.tag(&fields.tag_input().unwrap())).unwrap())
    }

    fn tag(&self, input: &[u8]) -> [u8; 32] {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &self.bind);
        hmac::sign(&key, input).as_ref().try_into().unwrap()
    }

    fn unwrap_key<const N: usize>(&self, blob: &Blob, place: Place) -> Result<[u8; N], TokenError> {
        self.unwrapped(blob, place)?.try_into().map_err(|_| TokenError::BlobTag)
    }

    fn unwrapped(&self, blob: &Blob, place: Place) -> Result<Vec<u8>, TokenError> {
        if let Some(object) = blob.token_object() {
            if (object.key, object.number) != (place.key, place.version) {
                return Err(TokenError::BlobTag);
            }
            let found = self.objects.lock().unwrap().get(&object.cka_id()).cloned();
            return found.ok_or_else(|| TokenError::Refused("no such object".into()));
        }
        let unverified = WrappedKey::parse(blob.bytes()).map_err(|_| TokenError::BlobTag)?;
        let tag = self.tag(&unverified.tag_input());
        let fields = unverified.verify(&tag).map_err(|_| TokenError::BlobTag)?;
        let of = (fields.environment, fields.key_id, fields.key_version);
        if of != (place.environment, place.key, place.version) {
            return Err(TokenError::BlobTag);
        }
        let mut secret = [0; 72];
        let secret = AesKek::new(&AES_256, &self.kek)
            .unwrap()
            .unwrap(fields.wrapped, &mut secret)
            .map_err(|_| TokenError::WrongAnswer("unwrap".into()))?;
        Ok(secret.to_vec())
    }

    fn seal(&self, blob: &Blob, place: Place, input: &SealInput) -> Result<Vec<u8>, TokenError> {
        let key = gcm(&self.unwrap_key(blob, place)?);
        let plaintext = input.plaintext.as_bytes();
        let (id, version) = (place.key, place.version);
        let header = Header::new(Suite::TokenGcm, id, version, input.data_key, plaintext.len()).unwrap();
        token_gcm::seal_with(&header, &input.ec_hash, |aad, iv, out| {
            rand::fill(iv).unwrap();
            let mut sealed = plaintext.to_vec();
            let nonce = Nonce::assume_unique_for_key(*iv);
            key.seal_in_place_append_tag(nonce, Aad::from(*aad), &mut sealed)
                .unwrap();
            out.copy_from_slice(&sealed);
            Ok(())
        })
    }

    fn open(&self, blob: &Blob, place: Place, input: &OpenInput) -> Result<Option<Plaintext>, TokenError> {
        let key = gcm(&self.unwrap_key(blob, place)?);
        let envelope = token_gcm::Envelope::parse(&input.envelope).unwrap();
        let (nonce, aad) = (
            Nonce::assume_unique_for_key(*envelope.iv()),
            Aad::from(envelope.associated_data(&input.ec_hash)),
        );
        let mut body = envelope.ciphertext_and_tag().to_vec();
        let opened = key.open_in_place(nonce, aad, &mut body).ok();
        let mut opened = opened.map(|plaintext| plaintext.to_vec());
        let count = self.envelope_inputs.fetch_add(1, Ordering::SeqCst);
        if let (true, Some(byte)) = (
            self.flip_answers.load(Ordering::SeqCst) && count % 2 == 1,
            opened.as_mut().and_then(|opened| opened.first_mut()),
        ) {
            *byte ^= 1;
        }
        Ok(opened.map(Plaintext::new))
    }

    fn message_keys(&self, secret: &[u8; 64], input: &EnvelopeInput) -> MessageKeys {
        let mut output = hmac_sha512(secret, &kdf_input(&input.header, &input.salt, &input.ec_hash));
        let count = self.envelope_inputs.fetch_add(1, Ordering::SeqCst);
        if self.flip_answers.load(Ordering::SeqCst) && count % 2 == 1 {
            output[0] ^= 1;
        }
        MessageKeys::from_prf_output(&output)
    }

    fn work(&self, call: Call) -> Result<Answer, TokenError> {
        *self.calls.lock().unwrap().entry(name_of(&call)).or_default() += 1;
        if let Some(fault) = self.fault.lock().unwrap().clone() {
            return Err(fault);
        }
        match call {
            Call::EnvelopeKeys { blob, place, inputs } => {
                let secret = self.unwrap_key(&blob, place)?;
                Ok(Answer::EnvelopeKeys(
                    inputs.iter().map(|input| self.message_keys(&secret, input)).collect(),
                ))
            }
            Call::Seal { blob, place, inputs } => {
                let sealed = inputs.iter().map(|input| self.seal(&blob, place, input));
                sealed.collect::<Result<_, _>>().map(Answer::Sealed)
            }
            Call::Open { blob, place, inputs } => {
                let opened = inputs.iter().map(|input| self.open(&blob, place, input));
                opened.collect::<Result<_, _>>().map(Answer::Opened)
            }
            Call::MakeEnvelopeKey {
                place,
                suite,
                residency,
                ..
            } => {
                let mut secret = match suite {
                    Suite::PrfCommit => vec![0; 64],
                    Suite::TokenGcm => vec![0; 32],
                };
                rand::fill(&mut secret).unwrap();
                let (blob, at_birth) = match residency {
                    Residency::Wrapped => (self.wrap(place, &secret), at_birth()),
                    Residency::TokenResident => {
                        let mut objects = self.objects.lock().unwrap();
                        if objects.contains_key(&cka_id(place.key, place.version)) {
                            return Ok(Answer::Occupied);
                        }
                        let key_type = match suite {
                            Suite::PrfCommit => KeyType::EnvelopePrf,
                            Suite::TokenGcm => KeyType::Aes256,
                        };
                        let object = TokenObject {
                            key: place.key,
                            number: place.version,
                            suite,
                            kcv: kcv(place, &secret, key_type),
                        };
                        objects.insert(object.cka_id(), secret);
                        (object.to_blob(), master_key())
                    }
                };
                Ok(Answer::MadeEnvelopeKey(Box::new(MadeKey {
                    blob,
                    at_birth,
                    iv_source: (suite == Suite::TokenGcm).then_some(IvSource::TokenRandom),
                })))
            }
            Call::Attributes { blob, place } => {
                self.unwrapped(&blob, place)?;
                Ok(Answer::Attributes(match blob.token_object() {
                    Some(_) => master_key(),
                    None => in_use(),
                }))
            }
            Call::Remove { blob } => {
                let object = blob.token_object().unwrap();
                self.objects.lock().unwrap().remove(&object.cka_id());
                Ok(Answer::Done)
            }
            Call::Check { blob, place } => self.unwrapped(&blob, place).map(|_| Answer::Done),
            Call::MasterKeyAttributes => Ok(Answer::Attributes(master_key())),
            Call::Random { length } => {
                let mut bytes = Zeroizing::new(vec![0; length]);
                rand::fill(&mut bytes).unwrap();
                Ok(Answer::Random(bytes))
            }
            Call::Subkey(label) => {
                let input = match &label {
                    SubkeyLabel::Row => Subkey::Row,
                    SubkeyLabel::Cred => Subkey::Credential,
                    SubkeyLabel::Page => Subkey::Page,
                    SubkeyLabel::Hedge => Subkey::Hedge,
                    SubkeyLabel::Redact { log_origin } => Subkey::Redact { log_origin },
                }
                .input();
                Ok(Answer::Subkey(SubkeyBytes::from_hmac_output(&hmac_sha512(
                    &self.svc, &input,
                ))))
            }
            Call::Evict { blob } => {
                self.evicted.lock().unwrap().push(blob);
                Ok(Answer::Done)
            }
            Call::Probe => Ok(Answer::Done),
            #[allow(unreachable_patterns, reason = "calls of the real host that nothing here makes")]
            _ => Err(TokenError::Refused("not a call of the software token".into())),
        }
    }
}

impl Host for SoftwareHost {
    fn submit(&self, job: Job) {
        let _ = job.reply.send(self.work(job.call));
    }

    fn status(&self) -> HostStatus {
        HostStatus {
            serial: Arc::clone(&self.serial),
            model: "test double".to_owned(),
            software_token: true,
            fault: self.latched.lock().unwrap().clone(),
            breaker: BreakerState::Closed,
            worker_epoch: 1,
            session_threads: 1,
            cached_handles: 0,
        }
    }

    fn serves(&self) -> bool {
        self.latched.lock().unwrap().is_none()
    }

    fn take_uses(&self) -> crate::token::KeyUses {
        crate::token::KeyUses::default()
    }

    fn worker_epoch(&self) -> u64 {
        1
    }

    fn distrust(&self, why: &str) -> TokenError {
        let why: Arc<str> = why.into();
        self.latched.lock().unwrap().get_or_insert_with(|| why.clone());
        TokenError::WrongAnswer(why)
    }

    fn stop(&self) {}
}

/// As a token reports a wrapped version key when it is made, before it is wrapped.
pub(crate) fn at_birth() -> TokenAttributes {
    TokenAttributes {
        local: true,
        always_sensitive: true,
        never_extractable: false,
        sensitive: true,
        extractable: true,
        modifiable: false,
        copyable: false,
        observed: 1_700_000_000_000,
    }
}

/// As a token reports the unwrapped copy.
fn in_use() -> TokenAttributes {
    TokenAttributes {
        local: false,
        always_sensitive: false,
        extractable: false,
        ..at_birth()
    }
}

/// As a token reports what it made and keeps: the KEK of a single-token group, resident version keys.
fn master_key() -> TokenAttributes {
    TokenAttributes {
        never_extractable: true,
        extractable: false,
        ..at_birth()
    }
}

fn kcv(place: Place, secret: &[u8], key_type: KeyType) -> [u8; 16] {
    let input = kcv_input(place.key, place.version, key_type);
    match key_type {
        KeyType::Aes256 => {
            let key = cmac::Key::new(cmac::AES_256, secret).unwrap();
            cmac::sign(&key, &input).unwrap().as_ref().try_into().unwrap()
        }
        _ => hmac_sha512(secret, &input)[..16].try_into().unwrap(),
    }
}

fn gcm(key: &[u8; 32]) -> LessSafeKey {
    LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key).unwrap())
}

fn hmac_sha512(key: &[u8], input: &[u8]) -> [u8; 64] {
    let key = hmac::Key::new(hmac::HMAC_SHA512, key);
    hmac::sign(&key, input).as_ref().try_into().unwrap()
}

fn name_of(call: &Call) -> &'static str {
    match call {
        Call::EnvelopeKeys { .. } => "EnvelopeKeys",
        Call::Seal { .. } => "Seal",
        Call::Open { .. } => "Open",
        Call::MakeEnvelopeKey { .. } => "MakeEnvelopeKey",
        Call::Attributes { .. } => "Attributes",
        Call::Check { .. } => "Check",
        Call::MasterKeyAttributes => "MasterKeyAttributes",
        Call::Random { .. } => "Random",
        Call::Subkey(_) => "Subkey",
        Call::Remove { .. } => "Remove",
        Call::Evict { .. } => "Evict",
        Call::Probe => "Probe",
        #[allow(unreachable_patterns, reason = "as in `work`")]
        _ => "other",
    }
}

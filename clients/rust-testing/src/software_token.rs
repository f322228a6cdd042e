//! A token in software: HMAC, AES-GCM and key wrap by aws-lc-rs, no threads, nothing that stays. Protects nothing.
//!
//! Same formats as a real token, so the published vectors pass through it. The unit tests of the service include this file; the
//! service itself does not.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey},
    cmac, hmac,
    key_wrap::{AES_256, AesKek, KeyWrap},
    rand,
};
use keyreeve::{
    clock::Clock,
    model::{Blob, IvSource, Residency, Suite, TokenAttributes, TokenObject},
    token::{
        Answer, Call, EnvelopeInput, OpenInput, SealInput, TokenError,
        host::{MadeKey, Place, SubkeyLabel},
    },
};
use keyreeve_envelope::{
    Header, KekId, Plaintext,
    blob::{KeyType, KeyUsage, WrapSuite, WrappedKey, kcv_input},
    prf_commit::{MessageKeys, kdf_input},
    subkey::{Subkey, SubkeyBytes},
    token_gcm,
};
use zeroize::Zeroizing;

/// The keys that everything else hangs on.
pub struct RootKeys {
    /// Wraps version keys.
    pub kek: Zeroizing<[u8; 32]>,
    /// Binds wrapped keys to their place.
    pub bind: Zeroizing<[u8; 32]>,
    /// Makes the service's subkeys.
    pub service: Zeroizing<[u8; 64]>,
}

/// What a real token holds, and what it does with it.
pub struct SoftwareToken {
    root: RootKeys,
    clock: Arc<dyn Clock>,
    /// Keys that stay, by CKA_ID.
    objects: Mutex<HashMap<[u8; 20], Zeroizing<Vec<u8>>>>,
}

impl SoftwareToken {
    pub fn new(root: RootKeys, clock: Arc<dyn Clock>) -> Self {
        Self {
            root,
            clock,
            objects: Mutex::default(),
        }
    }

    /// Keys that stay, by CKA_ID.
    pub fn objects(&self) -> MutexGuard<'_, HashMap<[u8; 20], Zeroizing<Vec<u8>>>> {
        self.objects.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Works one call. Errors: `BlobTag` for a key of another place; `Refused` for an object that is not there.
    pub fn work(&self, call: Call) -> Result<Answer, TokenError> {
        match call {
            Call::EnvelopeKeys { blob, place, inputs } => {
                let secret = self.unwrap_key(&blob, place)?;
                let keys = inputs.iter().map(|input| message_keys(&secret, input));
                Ok(Answer::EnvelopeKeys(keys.collect()))
            }
            Call::Seal { blob, place, inputs } => {
                let key = gcm(&*self.unwrap_key(&blob, place)?)?;
                let sealed = inputs.iter().map(|input| seal(&key, place, input));
                sealed.collect::<Result<_, _>>().map(Answer::Sealed)
            }
            Call::Open { blob, place, inputs } => {
                let key = gcm(&*self.unwrap_key(&blob, place)?)?;
                let opened = inputs.iter().map(|input| open(&key, input));
                opened.collect::<Result<_, _>>().map(Answer::Opened)
            }
            Call::MakeEnvelopeKey {
                place,
                suite,
                residency,
                ..
            } => self.make(place, suite, residency),
            Call::Attributes { blob, place } => {
                self.unwrapped(&blob, place)?;
                Ok(Answer::Attributes(match blob.token_object() {
                    Some(_) => kept(self.now()),
                    None => in_use(self.now()),
                }))
            }
            Call::Remove { blob } => {
                if let Some(object) = blob.token_object() {
                    self.objects().remove(&object.cka_id());
                }
                Ok(Answer::Done)
            }
            Call::Check { blob, place } => self.unwrapped(&blob, place).map(|_| Answer::Done),
            Call::MasterKeyAttributes => Ok(Answer::Attributes(kept(self.now()))),
            Call::Random { length } => drawn(length).map(Answer::Random),
            Call::Subkey(label) => Ok(Answer::Subkey(self.subkey(&label))),
            Call::Evict { .. } | Call::Probe => Ok(Answer::Done),
        }
    }

    /// Wraps `secret` as the version at `place`: 64 bytes of type 1, 32 of type 2.
    pub fn wrap(&self, place: Place, secret: &[u8]) -> Result<Blob, TokenError> {
        let key_type = match secret.len() {
            64 => KeyType::EnvelopePrf,
            _ => KeyType::Aes256,
        };
        let mut wrapped = [0; 72];
        let kek = AesKek::new(&AES_256, &*self.root.kek).map_err(broken)?;
        let wrapped = kek.wrap(secret, &mut wrapped).map_err(broken)?;
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
            created_ms: u64::try_from(self.now()).unwrap_or(0),
            kcv: kcv(place, secret, key_type)?,
            wrapped,
        };
        let input = fields.tag_input().map_err(broken)?;
        Ok(Blob::new(fields.encode(&self.tag(&input)).map_err(broken)?))
    }

    fn make(&self, place: Place, suite: Suite, residency: Residency) -> Result<Answer, TokenError> {
        let (length, key_type) = match suite {
            Suite::PrfCommit => (64, KeyType::EnvelopePrf),
            Suite::TokenGcm => (32, KeyType::Aes256),
        };
        let secret = drawn(length)?;
        let (blob, at_birth) = match residency {
            Residency::Wrapped => (self.wrap(place, &secret)?, at_birth(self.now())),
            Residency::TokenResident => {
                let object = TokenObject {
                    key: place.key,
                    number: place.version,
                    suite,
                    kcv: kcv(place, &secret, key_type)?,
                };
                let mut objects = self.objects();
                if objects.contains_key(&object.cka_id()) {
                    return Ok(Answer::Occupied);
                }
                objects.insert(object.cka_id(), secret);
                (object.to_blob(), kept(self.now()))
            }
        };
        Ok(Answer::MadeEnvelopeKey(Box::new(MadeKey {
            blob,
            at_birth,
            iv_source: (suite == Suite::TokenGcm).then_some(IvSource::TokenRandom),
        })))
    }

    fn subkey(&self, label: &SubkeyLabel) -> SubkeyBytes {
        let input = match label {
            SubkeyLabel::Row => Subkey::Row,
            SubkeyLabel::Cred => Subkey::Credential,
            SubkeyLabel::Page => Subkey::Page,
            SubkeyLabel::Hedge => Subkey::Hedge,
            SubkeyLabel::Redact { log_origin } => Subkey::Redact { log_origin },
        }
        .input();
        SubkeyBytes::from_hmac_output(&hmac_sha512(&*self.root.service, &input))
    }

    fn tag(&self, input: &[u8]) -> [u8; 32] {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &*self.root.bind);
        let mut tag = [0; 32];
        tag.copy_from_slice(hmac::sign(&key, input).as_ref());
        tag
    }

    fn unwrap_key<const N: usize>(&self, blob: &Blob, place: Place) -> Result<Zeroizing<[u8; N]>, TokenError> {
        let secret = self.unwrapped(blob, place)?;
        let secret = <[u8; N]>::try_from(&**secret).map_err(|_| TokenError::BlobTag)?;
        Ok(Zeroizing::new(secret))
    }

    fn unwrapped(&self, blob: &Blob, place: Place) -> Result<Zeroizing<Vec<u8>>, TokenError> {
        if let Some(object) = blob.token_object() {
            if (object.key, object.number) != (place.key, place.version) {
                return Err(TokenError::BlobTag);
            }
            let found = self.objects().get(&object.cka_id()).cloned();
            return found.ok_or_else(|| TokenError::Refused("no such object".into()));
        }
        let unverified = WrappedKey::parse(blob.bytes()).map_err(|_| TokenError::BlobTag)?;
        let tag = self.tag(&unverified.tag_input());
        let fields = unverified.verify(&tag).map_err(|_| TokenError::BlobTag)?;
        let of = (fields.environment, fields.key_id, fields.key_version);
        if of != (place.environment, place.key, place.version) {
            return Err(TokenError::BlobTag);
        }
        let mut secret = Zeroizing::new([0; 72]);
        let kek = AesKek::new(&AES_256, &*self.root.kek).map_err(broken)?;
        let secret = kek.unwrap(fields.wrapped, &mut *secret).map_err(broken)?;
        Ok(Zeroizing::new(secret.to_vec()))
    }

    fn now(&self) -> i64 {
        self.clock.now().unix_ms()
    }
}

/// As a token reports a wrapped version key when it is made, before it is wrapped. `observed`: milliseconds since the Unix epoch.
pub fn at_birth(observed: i64) -> TokenAttributes {
    TokenAttributes {
        local: true,
        always_sensitive: true,
        never_extractable: false,
        sensitive: true,
        extractable: true,
        modifiable: false,
        copyable: false,
        observed,
    }
}

/// As a token reports the unwrapped copy.
fn in_use(observed: i64) -> TokenAttributes {
    TokenAttributes {
        local: false,
        always_sensitive: false,
        extractable: false,
        ..at_birth(observed)
    }
}

/// As a token reports what it made and keeps: the KEK of a single-token group, resident version keys.
fn kept(observed: i64) -> TokenAttributes {
    TokenAttributes {
        never_extractable: true,
        extractable: false,
        ..at_birth(observed)
    }
}

fn message_keys(secret: &[u8; 64], input: &EnvelopeInput) -> MessageKeys {
    MessageKeys::from_prf_output(&hmac_sha512(
        secret,
        &kdf_input(&input.header, &input.salt, &input.ec_hash),
    ))
}

fn seal(key: &LessSafeKey, place: Place, input: &SealInput) -> Result<Vec<u8>, TokenError> {
    let plaintext = input.plaintext.as_bytes();
    let (id, version) = (place.key, place.version);
    let header = Header::new(Suite::TokenGcm, id, version, input.data_key, plaintext.len()).map_err(broken)?;
    token_gcm::seal_with(&header, &input.ec_hash, |aad, iv, out| {
        rand::fill(iv).map_err(broken)?;
        let mut sealed = plaintext.to_vec();
        let nonce = Nonce::assume_unique_for_key(*iv);
        key.seal_in_place_append_tag(nonce, Aad::from(*aad), &mut sealed)
            .map_err(broken)?;
        out.copy_from_slice(&sealed);
        Ok(())
    })
}

fn open(key: &LessSafeKey, input: &OpenInput) -> Result<Option<Plaintext>, TokenError> {
    let envelope = token_gcm::Envelope::parse(&input.envelope).map_err(broken)?;
    let nonce = Nonce::assume_unique_for_key(*envelope.iv());
    let aad = Aad::from(envelope.associated_data(&input.ec_hash));
    let mut body = envelope.ciphertext_and_tag().to_vec();
    let opened = key.open_in_place(nonce, aad, &mut body).ok();
    Ok(opened.map(|plaintext| Plaintext::new(plaintext.to_vec())))
}

fn drawn(length: usize) -> Result<Zeroizing<Vec<u8>>, TokenError> {
    let mut bytes = Zeroizing::new(vec![0; length]);
    rand::fill(&mut bytes).map_err(broken)?;
    Ok(bytes)
}

fn kcv(place: Place, secret: &[u8], key_type: KeyType) -> Result<[u8; 16], TokenError> {
    let input = kcv_input(place.key, place.version, key_type);
    let mut value = [0; 16];
    match key_type {
        KeyType::Aes256 => {
            let key = cmac::Key::new(cmac::AES_256, secret).map_err(broken)?;
            value.copy_from_slice(cmac::sign(&key, &input).map_err(broken)?.as_ref());
        }
        _ => value.copy_from_slice(&hmac_sha512(secret, &input)[..16]),
    }
    Ok(value)
}

fn gcm(key: &[u8; 32]) -> Result<LessSafeKey, TokenError> {
    UnboundKey::new(&AES_256_GCM, key).map(LessSafeKey::new).map_err(broken)
}

fn hmac_sha512(key: &[u8], input: &[u8]) -> [u8; 64] {
    let key = hmac::Key::new(hmac::HMAC_SHA512, key);
    let mut output = [0; 64];
    output.copy_from_slice(hmac::sign(&key, input).as_ref());
    output
}

/// Nothing that a caller does leads here.
fn broken(error: impl std::fmt::Display) -> TokenError {
    TokenError::WrongAnswer(error.to_string().into())
}

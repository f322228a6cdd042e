//! Version keys in the token: made, unwrapped, checked. The order on use is that of the blob format: tag, tombstones, KEK,
//! unwrap with the fixed template, KCV, cache. Source: docs/formats.md, wrapped key blob.

use std::sync::Arc;

use keyreeve_envelope::{
    KekId, Suite,
    blob::{KeyType, KeyUsage, WrapSuite, WrappedKey, kcv_input},
    subkey::{Subkey, SubkeyBytes},
};
use keyreeve_pkcs11::{
    Attribute, CallError, Class, Function, Mechanism, ObjectHandle, ReturnCode, Session, Template,
    presets::{self, Life},
};
use zeroize::Zeroizing;

use super::{
    TokenError,
    handles::UnwrappedKey,
    host::{MadeKey, Place, SubkeyLabel},
    recovery::{Fault, does_not_unwrap},
    root_keys::EpochKeys,
    session_thread::SessionThread,
    thread_host::lock,
};
use crate::{
    clock::{Clock, SystemClock},
    model::{Blob, TokenAttributes},
};

impl SessionThread {
    /// The key of `blob`, from the cache or unwrapped. `place`: what its tag must bind it to.
    pub fn unwrapped(&mut self, blob: &Blob, place: Place) -> Result<Arc<UnwrappedKey>, Fault> {
        if let Some(key) = self.shared.handles.find(blob.sha256()) {
            self.cache.hits.increment(1);
            if key.place == place {
                return Ok(key);
            }
            self.let_go(key);
            return Err(Fault::Answer(TokenError::BlobTag));
        }
        self.cache.misses.increment(1);
        if let Some(object) = blob.token_object() {
            return self.found(blob, place, &object);
        }
        let wrapped = self.verified(blob, place)?;
        let keeper_lock = Arc::clone(&self.shared);
        let keeper = lock(&keeper_lock.keeper);
        // None, if there was no room for one when it was last renewed.
        let keeper = keeper.as_ref().ok_or(Fault::Call(CallError {
            function: Function::C_UnwrapKey,
            code: ReturnCode::SESSION_HANDLE_INVALID,
        }))?;
        // Somebody else may have unwrapped it while this thread waited for the keeper.
        if let Some(key) = self.shared.handles.find(blob.sha256()) {
            return Ok(key);
        }
        let handle = self.unwrap_in(keeper, &wrapped, place)?;
        let key = UnwrappedKey {
            handle,
            era: self.shared.era(),
            place,
            key_type: wrapped.key_type,
            life: Life::Session,
            meter: self.shared.usage.meter(place.key),
        };
        Ok(self.remember(blob, key))
    }

    /// Whether the key unwraps to what it was. It is not kept for use, and nothing that is leaves the cache for it.
    pub fn check(&mut self, blob: &Blob, place: Place) -> Result<(), Fault> {
        if blob.token_object().is_some() {
            return self.attributes(blob, place).map(drop); // nothing is unwrapped for it
        }
        let wrapped = self.verified(blob, place)?;
        let session = self.session()?;
        let handle = self.unwrap_in(session, &wrapped, place)?;
        Ok(self.watched(|| session.destroy(handle))?)
    }

    /// Unwraps with the fixed template and compares the key check value; what fails leaves nothing behind.
    fn unwrap_in(&self, session: &Session, wrapped: &WrappedKey<'_>, place: Place) -> Result<ObjectHandle, Fault> {
        let (kek, key_type) = (self.epoch_of(wrapped.kek_id, wrapped.kek_epoch)?.kek, wrapped.key_type);
        let handle = self
            .watched(|| session.unwrap(Mechanism::AES_KEY_WRAP, kek, wrapped.wrapped, &in_use(key_type)))
            .map_err(|error| match self.shared.class_of(&error) {
                Class::Caller => Fault::WrongAnswer(does_not_unwrap(&error)),
                _ => Fault::Call(error),
            })?;
        match self.kcv(handle, place, key_type) {
            Ok(kcv) if wrapped.kcv_is(&kcv) => Ok(handle),
            result => {
                let _ = self.watched(|| session.destroy(handle));
                result?;
                Err(Fault::WrongAnswer(
                    "an unwrapped key has another key check value".into(),
                ))
            }
        }
    }

    /// The same, of the type that its use wants. Another type is a row that names another suite than its blob.
    pub fn unwrapped_as(&mut self, key_type: KeyType, blob: &Blob, place: Place) -> Result<Arc<UnwrappedKey>, Fault> {
        let key = self.unwrapped(blob, place)?;
        if key.key_type == key_type {
            return Ok(key);
        }
        self.let_go(key);
        Err(Fault::Answer(TokenError::BlobTag))
    }

    /// Makes a version key: born extractable, wrapped, checked, destroyed, unwrapped for use, checked again.
    pub fn make(&mut self, place: Place, suite: Suite, created_ms: u64) -> Result<MadeKey, Fault> {
        let (roots, key_type) = (self.shared.roots(), type_of(suite));
        let epoch = roots.newest().ok_or_else(|| {
            Fault::Answer(TokenError::Refused(
                "this token has not imported the newest epoch of its group: `keyreeve tokens import`".into(),
            ))
        })?;
        let iv_source = match suite {
            Suite::PrfCommit => None,
            Suite::TokenGcm => Some(self.iv_source()?),
        };
        let (mechanism, template) = at_birth(key_type);
        let born = self.timed(|session| session.generate_key(mechanism, &template))?;
        let taken = (|| {
            let wrapped = self.timed(|session| session.wrap(Mechanism::AES_KEY_WRAP, epoch.kek, born))?;
            Ok::<_, CallError>((wrapped, self.kcv(born, place, key_type)?, self.read_attributes(born)?))
        })();
        // Before anything else: this copy is extractable.
        let destroyed = self.timed(|session| session.destroy(born));
        let (wrapped, kcv, at_birth) = taken?;
        destroyed?;
        let key = WrappedKey {
            imported: false,
            suite: WrapSuite::Kw,
            environment: place.environment,
            key_id: place.key,
            key_version: place.version,
            key_type,
            usage: KeyUsage::Envelope,
            kek_id: epoch.kek_id,
            kek_epoch: epoch.epoch,
            created_ms,
            kcv,
            wrapped: &wrapped,
        };
        let wrong = |error| Fault::WrongAnswer(format!("the token wrapped a key to something else: {error}"));
        let tag_input = key.tag_input().map_err(wrong)?;
        let tag = self.timed(|session| session.hmac_sha256(epoch.bind, &tag_input))?;
        let blob = Blob::new(key.encode(&tag).map_err(wrong)?);
        // Unwraps with the fixed template and compares the KCV: the version is usable before it is committed.
        let used = self.unwrapped(&blob, place).map_err(|fault| match fault {
            // No store was between: the token answered differently to the same bytes.
            Fault::Answer(TokenError::BlobTag) => {
                Fault::WrongAnswer("the tag of a key just made does not verify".into())
            }
            fault => fault,
        })?;
        self.let_go(used);
        Ok(MadeKey {
            blob,
            at_birth,
            iv_source,
        })
    }

    /// What the token reports of the key in use, and that its KCV is still the blob's.
    pub fn attributes(&mut self, blob: &Blob, place: Place) -> Result<TokenAttributes, Fault> {
        let key = self.unwrapped(blob, place)?;
        let result = (|| {
            let kcv = self.kcv(key.handle, place, key.key_type)?;
            let is_same = match blob.token_object() {
                Some(object) => object.kcv == kcv,
                None => self.verified(blob, place)?.kcv_is(&kcv),
            };
            if !is_same {
                return Err(Fault::WrongAnswer("a key in use has another key check value".into()));
            }
            Ok(self.read_attributes(key.handle)?)
        })();
        self.let_go(key);
        result
    }

    pub fn read_attributes(&self, key: ObjectHandle) -> Result<TokenAttributes, CallError> {
        // An attribute that the token does not tell counts as the weaker value.
        let read = |attribute, silent: bool| {
            self.timed(|session: &Session| session.flag(key, attribute))
                .map(|flag| flag.unwrap_or(silent))
        };
        Ok(TokenAttributes {
            local: read(Attribute::LOCAL, false)?,
            always_sensitive: read(Attribute::ALWAYS_SENSITIVE, false)?,
            never_extractable: read(Attribute::NEVER_EXTRACTABLE, false)?,
            sensitive: read(Attribute::SENSITIVE, false)?,
            extractable: read(Attribute::EXTRACTABLE, true)?,
            modifiable: read(Attribute::MODIFIABLE, true)?,
            copyable: read(Attribute::COPYABLE, true)?,
            observed: SystemClock.now().unix_ms(),
        })
    }

    pub fn subkey(&mut self, label: &SubkeyLabel) -> Result<SubkeyBytes, Fault> {
        let input = match label {
            SubkeyLabel::Row => Subkey::Row,
            SubkeyLabel::Cred => Subkey::Credential,
            SubkeyLabel::Page => Subkey::Page,
            SubkeyLabel::Hedge => Subkey::Hedge,
            SubkeyLabel::Redact { log_origin } => Subkey::Redact { log_origin },
        }
        .input();
        let svc = self.shared.roots().svc;
        let mut output = Zeroizing::new([0; 64]);
        self.timed(|session| session.hmac_sha512_into(svc, &input, &mut output))?;
        Ok(SubkeyBytes::from_hmac_output(&output))
    }

    /// CANARY's known answer: proves which token answers.
    pub fn ask_canary(&mut self) -> Result<(), Fault> {
        let roots = self.shared.roots();
        let answer = self.timed(|session| roots.canary_answer(session))?;
        let member = self.shared.manifest.member(&self.shared.serial);
        let pinned = member.map(|member| member.canary.as_str());
        if pinned == Some(data_encoding::HEXLOWER.encode(&answer).as_str()) {
            Ok(())
        } else {
            Err(Fault::WrongAnswer("CANARY answers differently".into()))
        }
    }

    /// Tag, then everything the tag binds.
    fn verified<'a>(&self, blob: &'a Blob, place: Place) -> Result<WrappedKey<'a>, Fault> {
        let unverified = WrappedKey::parse(blob.bytes()).map_err(|_| Fault::Answer(TokenError::BlobTag))?;
        let bind = self.epoch_of(unverified.kek_id(), unverified.kek_epoch())?.bind;
        let tag_input = unverified.tag_input();
        let tag = self.timed(|session| session.hmac_sha256(bind, &tag_input))?;
        let key = unverified
            .verify(&tag)
            .map_err(|_| Fault::Answer(TokenError::BlobTag))?;
        if (key.environment, key.key_id, key.key_version) != (place.environment, place.key, place.version) {
            return Err(Fault::Answer(TokenError::BlobTag)); // a good blob in another key's row
        }
        if (self.shared.buried)(place.key, place.version) {
            return Err(Fault::Answer(TokenError::Refused(
                "the version was destroyed: its tombstone stands".into(),
            )));
        }
        let is_known = matches!(key.key_type, KeyType::EnvelopePrf | KeyType::Aes256);
        if !is_known || key.suite != WrapSuite::Kw {
            return Err(Fault::Answer(TokenError::Refused(
                "a key type or wrap suite that this release does not work with".into(),
            )));
        }
        Ok(key)
    }

    fn epoch_of(&self, kek_id: KekId, epoch: u32) -> Result<EpochKeys, Fault> {
        self.shared.roots().of(kek_id, epoch).copied().ok_or_else(|| {
            let text = format!(
                "the key is wrapped under KEK {kek_id} of epoch {epoch}, which this token does not hold: import that epoch with \
                 `keyreeve tokens import`, or ask another token"
            );
            Fault::Answer(TokenError::Refused(text.into()))
        })
    }

    pub(super) fn kcv(&self, key: ObjectHandle, place: Place, key_type: KeyType) -> Result<[u8; 16], CallError> {
        let input = kcv_input(place.key, place.version, key_type);
        if key_type == KeyType::Aes256 {
            return self.timed(|session| session.aes_cmac(key, &input));
        }
        let mut output = Zeroizing::new([0; 64]);
        self.timed(|session| session.hmac_sha512_into(key, &input, &mut output))?;
        Ok(*output.first_chunk().expect("64 is more than 16"))
    }

    pub(super) fn remember(&self, blob: &Blob, key: UnwrappedKey) -> Arc<UnwrappedKey> {
        let key = Arc::new(key);
        for out in self.shared.handles.insert(*blob.sha256(), Arc::clone(&key)) {
            self.let_go(out);
        }
        key
    }
}

/// The type of key that a suite works with.
pub(super) const fn type_of(suite: Suite) -> KeyType {
    match suite {
        Suite::PrfCommit => KeyType::EnvelopePrf,
        Suite::TokenGcm => KeyType::Aes256,
    }
}

/// How a key of this type is generated. `verified` and `type_of` let no third type in.
fn at_birth(key_type: KeyType) -> (Mechanism, Template) {
    match key_type {
        KeyType::Aes256 => (Mechanism::AES_KEY_GEN, presets::gcm_key_at_birth()),
        _ => (Mechanism::GENERIC_SECRET_KEY_GEN, presets::version_key_at_birth()),
    }
}

/// The fixed template under which it is unwrapped.
fn in_use(key_type: KeyType) -> Template {
    match key_type {
        KeyType::Aes256 => presets::gcm_key_in_use(),
        _ => presets::version_key_in_use(),
    }
}

//! Version keys that stay in the token for good: made there with EXTRACTABLE=0, found by CKA_ID at first use, removed when destroyed.
//!
//! An object is never adopted and never overwritten. One that no row of the store names is left by a crash between making it and the
//! commit, or is of a time after the backup that was restored: the next version takes another number.

use std::sync::Arc;

use keyreeve_envelope::{Suite, blob::KeyType};
use keyreeve_pkcs11::{
    Attribute, CallError, Mechanism, ObjectClass, ObjectHandle, Session, Template,
    presets::{self, Life},
};

use super::{
    TokenError,
    handles::UnwrappedKey,
    host::{MadeKey, Place},
    recovery::Fault,
    session_thread::SessionThread,
    softhsm,
    version_keys::type_of,
};
use crate::model::{Blob, TokenObject, cka_id};

impl SessionThread {
    /// The object of `blob`, found and checked; a search, so once per object and run of the module.
    pub fn found(&mut self, blob: &Blob, place: Place, object: &TokenObject) -> Result<Arc<UnwrappedKey>, Fault> {
        if (object.key, object.number) != (place.key, place.version) {
            return Err(Fault::Answer(TokenError::BlobTag));
        }
        if (self.shared.buried)(place.key, place.version) {
            let why = "the version was destroyed: its tombstone stands";
            return Err(Fault::Answer(TokenError::Refused(why.into())));
        }
        let handle = match self.timed(|session| objects(session, &object.cka_id()))?.as_slice() {
            [handle] => *handle,
            [] => {
                let why = "the token holds no object of this version: is it the token that made it?";
                return Err(Fault::Answer(TokenError::Refused(why.into())));
            }
            _ => return Err(Fault::WrongAnswer("two objects have the id of one version key".into())),
        };
        let key_type = type_of(object.suite);
        if self.kcv(handle, place, key_type)? != object.kcv {
            let why = "a resident version key has another key check value";
            return Err(Fault::WrongAnswer(why.into()));
        }
        let key = UnwrappedKey {
            handle,
            place,
            key_type,
            life: Life::Token,
            era: self.shared.era(),
            meter: self.shared.usage.meter(place.key),
        };
        Ok(self.remember(blob, key))
    }

    /// Makes an object of the token; `None` if there is one of this key and version already.
    pub fn make_resident(&mut self, place: Place, suite: Suite) -> Result<Option<MadeKey>, Fault> {
        let iv_source = match suite {
            Suite::PrfCommit => None,
            Suite::TokenGcm => Some(self.iv_source()?),
        };
        let id = cka_id(place.key, place.version);
        if !self.timed(|session| objects(session, &id))?.is_empty() {
            return Ok(None);
        }
        let (mechanism, template) = match type_of(suite) {
            KeyType::Aes256 => (Mechanism::AES_KEY_GEN, presets::resident_gcm_key(&id)),
            _ => (Mechanism::GENERIC_SECRET_KEY_GEN, presets::resident_version_key(&id)),
        };
        let handle = self.timed(|session| session.generate_key(mechanism, &template))?;
        let taken =
            (|| Ok::<_, CallError>((self.kcv(handle, place, type_of(suite))?, self.read_attributes(handle)?)))();
        let stays = taken.as_ref().is_ok_and(|(_, now)| {
            let made_here = now.local && now.always_sensitive && now.never_extractable;
            made_here && now.sensitive && !now.extractable && !now.modifiable && !now.copyable
        });
        if !stays {
            // Nobody has it yet.
            let _ = self.timed(|session| session.destroy(handle));
        }
        let (kcv, at_birth) = taken?;
        if !stays {
            let why = "the token does not report a key that it made and that may not leave it as one";
            return Err(Fault::WrongAnswer(why.into()));
        }
        self.sync()?;
        let object = TokenObject {
            key: place.key,
            number: place.version,
            suite,
            kcv,
        };
        let blob = object.to_blob();
        // Finds it as every use will, and compares the key check value.
        let used = self.unwrapped(&blob, place)?;
        self.let_go(used);
        Ok(Some(MadeKey {
            blob,
            at_birth,
            iv_source,
        }))
    }

    /// Removes the object for ever. Others with the same id, which only an intruder makes, go with it.
    pub fn remove(&mut self, blob: &Blob) -> Result<(), Fault> {
        let Some(object) = blob.token_object() else {
            let why = "a wrapped key is no object of the token";
            return Err(Fault::Answer(TokenError::Refused(why.into())));
        };
        if let Some(key) = self.shared.handles.remove(blob.sha256()) {
            self.let_go(key);
        }
        for handle in self.timed(|session| objects(session, &object.cka_id()))? {
            self.timed(|session| session.destroy(handle))?;
        }
        self.sync()
    }

    /// SoftHSM does not sync what it writes.
    fn sync(&self) -> Result<(), Fault> {
        let Some(directory) = softhsm::token_directory(self.shared.module.path()) else {
            return Ok(());
        };
        softhsm::sync(&directory).map_err(|error| {
            let why = format!("the token's directory cannot be synced: {error}");
            Fault::Answer(TokenError::Unavailable(why.into()))
        })
    }
}

/// Objects of the token with this id; more than one are too many.
fn objects(session: &Session, id: &[u8; 20]) -> Result<Vec<ObjectHandle>, CallError> {
    let template = Template::new()
        .class(ObjectClass::SecretKey)
        .flag(Attribute::TOKEN, true)
        .id(id);
    session.find(&template, 16)
}

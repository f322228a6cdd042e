//! KEK, BIND and, with the first epoch, SVC on their way: made, unwrapped, checked, wrapped, destroyed.

use data_encoding::HEXLOWER;
use keyreeve_pkcs11::{
    Attribute, CallError, Mechanism, ObjectHandle, RsaPublicKey, Session, Template,
    presets::{self, Life},
};

use super::{error::CeremonyError, statements::WrappedKeys};
use crate::token::{
    known_answer,
    manifest::{Checks, OaepHash},
    root_keys::{checks, epoch_id},
};

/// Handles of the keys of one epoch.
pub(super) struct TransferKeys {
    pub kek: ObjectHandle,
    pub bind: ObjectHandle,
    pub svc: Option<ObjectHandle>,
}

/// How they are made or unwrapped.
pub(super) struct Templates {
    kek: Template,
    bind: Template,
    svc: Template,
}

impl Templates {
    /// To be kept: the templates of docs/formats.md, section 1.
    pub fn kept(
        session: &Session,
        offered: &[Mechanism],
        life: Life,
        group: &[u8; 16],
        kek_id: &[u8; 16],
        epoch: u32,
    ) -> Self {
        let id = epoch_id(kek_id, epoch);
        Self {
            kek: presets::kek_in_use(life, &id, known_answer::padded_wrap(session, offered)),
            bind: presets::bind_in_use(life, &id),
            svc: presets::svc_in_use(life, group),
        }
    }

    /// To be wrapped for others and destroyed: session objects, never token objects, with EXTRACTABLE=1.
    pub fn passing(session: &Session, group: &[u8; 16], kek_id: &[u8; 16], epoch: u32) -> Self {
        let kept = Self::kept(session, &[], Life::Session, group, kek_id, epoch);
        let extractable = |template: Template| template.flag(Attribute::EXTRACTABLE, true);
        Self {
            kek: extractable(kept.kek),
            bind: extractable(kept.bind),
            svc: extractable(kept.svc),
        }
    }
}

impl TransferKeys {
    /// Makes the keys of a new epoch in the token.
    pub fn generate(session: &Session, templates: Templates, with_svc: bool) -> Result<Self, CallError> {
        let secret = Mechanism::GENERIC_SECRET_KEY_GEN;
        let mut made = Made::new(session);
        let kek = made.add(session.generate_key(Mechanism::AES_KEY_GEN, &templates.kek.value_len(32)))?;
        let bind = made.add(session.generate_key(secret, &templates.bind.value_len(32)))?;
        let svc = match with_svc {
            true => Some(made.add(session.generate_key(secret, &templates.svc.value_len(64)))?),
            false => None,
        };
        made.keep();
        Ok(Self { kek, bind, svc })
    }

    /// Unwraps them. Errors: `TransferRefused` if they do not open; what was opened before is gone again.
    pub fn unwrap(
        session: &Session,
        hash: OaepHash,
        private: ObjectHandle,
        wrapped: &WrappedKeys,
        templates: &Templates,
    ) -> Result<Self, CeremonyError> {
        let mut made = Made::new(session);
        let mut open = |hex: &str, template| {
            let bytes = HEXLOWER
                .decode(hex.as_bytes())
                .map_err(|_| CeremonyError::TransferRefused)?;
            made.add(session.unwrap_oaep(hash.into(), private, &bytes, template))
                .map_err(|_| CeremonyError::TransferRefused)
        };
        let kek = open(&wrapped.kek, &templates.kek)?;
        let bind = open(&wrapped.bind, &templates.bind)?;
        let svc = match &wrapped.svc {
            Some(svc) => Some(open(svc, &templates.svc)?),
            None => None,
        };
        made.keep();
        Ok(Self { kek, bind, svc })
    }

    /// What they answer. `svc`: the group's, where it did not come with them.
    pub fn checks(&self, session: &Session, svc: Option<ObjectHandle>) -> Result<Checks, CeremonyError> {
        let svc = self.svc.or(svc).ok_or(CeremonyError::TransferRefused)?;
        Ok(checks(session, self.kek, self.bind, svc)?)
    }

    /// Wraps them to a TRANSPORT key.
    pub fn wrap(&self, session: &Session, hash: OaepHash, to: &RsaPublicKey) -> Result<WrappedKeys, CallError> {
        let public = session.import_wrapping_key(to)?;
        let wrapped = (|| {
            let wrap = |key| Ok(HEXLOWER.encode(&session.wrap_oaep(hash.into(), public, key)?));
            Ok::<_, CallError>(WrappedKeys {
                kek: wrap(self.kek)?,
                bind: wrap(self.bind)?,
                svc: self.svc.map(wrap).transpose()?,
            })
        })();
        session.destroy(public)?;
        wrapped
    }

    /// Destroys them, all that can be.
    pub fn destroy(self, session: &Session) -> Result<(), CallError> {
        let handles = [Some(self.kek), Some(self.bind), self.svc];
        let results = handles.into_iter().flatten().map(|key| session.destroy(key));
        results.fold(Ok(()), Result::and)
    }
}

/// Objects that are destroyed unless all of them came about.
pub(super) struct Made<'a> {
    session: &'a Session,
    handles: Vec<ObjectHandle>,
}

impl<'a> Made<'a> {
    pub fn new(session: &'a Session) -> Self {
        Self {
            session,
            handles: Vec::new(),
        }
    }

    pub fn add(&mut self, made: Result<ObjectHandle, CallError>) -> Result<ObjectHandle, CallError> {
        made.inspect(|handle| self.handles.push(*handle))
    }

    pub fn add_pair(&mut self, public: ObjectHandle, private: ObjectHandle) {
        self.handles.extend([public, private]);
    }

    pub fn keep(mut self) {
        self.handles.clear();
    }
}

impl Drop for Made<'_> {
    fn drop(&mut self) {
        for handle in &self.handles {
            // The error that led here matters; a session object dies with its session, a token object is found by the next attempt.
            let _ = self.session.destroy(*handle);
        }
    }
}

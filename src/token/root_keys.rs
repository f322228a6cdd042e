//! KEK, BIND, SVC and CANARY of a group: in the single-token form made here, in any form found and checked at every start.
//!
//! In the single-token form all are token objects with EXTRACTABLE=0 from birth: the KEK reads LOCAL, ALWAYS_SENSITIVE and
//! NEVER_EXTRACTABLE. Such a group can never grow, and what it protects is lost with its token. The keys of other groups come from a
//! ceremony (`ceremony/`).

use aws_lc_rs::digest::{SHA256, digest};
use data_encoding::HEXLOWER;
use keyreeve_envelope::KekId;
use keyreeve_pkcs11::{
    Attribute, CallError, Class, KeyType, Mechanism, ObjectClass, ObjectHandle, Session, Template, Vendor,
    presets::{self, Life},
};

use super::{
    audit_key::AuditKey,
    manifest::{self, Checks, Epoch, Manifest, Member},
    root_attributes::{check_kek, check_mac_key},
};

/// The first, and in the single-token form the only, epoch.
pub(super) const FIRST_EPOCH: u32 = 1;
/// What CANARY is asked.
const CANARY_QUESTION: &[u8] = b"canary.v1";

#[derive(Debug, thiserror::Error)]
pub enum RootKeyError {
    #[error("{0}")]
    Call(#[from] CallError),
    #[error(
        "the token holds a key `{0}` already: it was initialised before; use its manifest, or initialise the token anew"
    )]
    Exists(&'static str),
    #[error("the token has no key `{0}` of this group: is it the token that `init` prepared?")]
    Missing(&'static str),
    #[error("the token has two keys `{0}` with the same id: an intruder or a cloned object; find out which is right")]
    Doubled(&'static str),
    #[error("the token's answer for {0} is not that of the manifest: this is another token, or its keys were replaced")]
    WrongAnswer(&'static str),
    #[error(
        "the manifest describes {expected}, this token has serial `{found}`: correct the selection or the manifest"
    )]
    OtherToken { expected: String, found: String },
    #[error(
        "the token holds the keys of no epoch of its group: import them with `keyreeve tokens import`, or make the first with \
         `keyreeve ceremony epoch`"
    )]
    NoEpoch,
    #[error(
        "the token's key `{key}` has {found}: {consequence}; it was not made by `init`, or the token does not keep its keys as they are made"
    )]
    Weak {
        key: &'static str,
        /// Attribute and value.
        found: String,
        consequence: &'static str,
    },
    #[error(
        "the token's pair `{0}` is not whole: it was cut off when it was made; repeat that step, or initialise the token anew"
    )]
    HalfMade(&'static str),
    #[error("the token offers neither Ed25519 nor P-256 for the AUDIT pair")]
    NoCurve,
    #[error("the token gives no public key for AUDIT")]
    NoPublicKey,
}

impl RootKeyError {
    /// Whether the token is to be latched for this (E13).
    pub fn is_wrong_answer(&self) -> bool {
        match self {
            Self::Doubled(_) | Self::WrongAnswer(_) | Self::Weak { .. } => true,
            Self::Call(error) => error.class(Vendor::Other) == Class::WrongAnswer,
            Self::Exists(_)
            | Self::Missing(_)
            | Self::OtherToken { .. }
            | Self::NoEpoch
            | Self::HalfMade(_)
            | Self::NoCurve
            | Self::NoPublicKey => false,
        }
    }
}

/// Handles of the root keys. Token objects: valid in every session while the module is initialised.
pub struct RootKeys {
    /// Those that this token holds, oldest first; never empty.
    epochs: Vec<EpochKeys>,
    /// The newest epoch of the manifest is among them.
    up_to_date: bool,
    pub svc: ObjectHandle,
    pub canary: ObjectHandle,
}

/// KEK and BIND of one epoch.
#[derive(Clone, Copy)]
pub struct EpochKeys {
    pub kek_id: KekId,
    pub epoch: u32,
    pub kek: ObjectHandle,
    pub bind: ObjectHandle,
}

impl RootKeys {
    /// Makes all root keys in an empty token and describes them in a manifest. `random`: the ids, from the host's generator.
    pub fn make(
        session: &Session,
        offered: &[Mechanism],
        padded_wrap: Option<Mechanism>,
        random: ([u8; 16], [u8; 16]),
        member: Member,
    ) -> Result<Manifest, RootKeyError> {
        let (group, kek_id) = random;
        refuse_existing(
            session,
            &[
                presets::KEK_LABEL,
                presets::BIND_LABEL,
                presets::SVC_LABEL,
                presets::CANARY_LABEL,
                presets::AUDIT_LABEL,
            ],
        )?;
        let epoch_id = epoch_id(&kek_id, FIRST_EPOCH);
        session.generate_key(
            Mechanism::AES_KEY_GEN,
            &presets::kek(Life::Token, &epoch_id, padded_wrap),
        )?;
        for template in [
            presets::bind(Life::Token, &epoch_id),
            presets::svc(Life::Token, &group),
            presets::canary(Life::Token, &group),
        ] {
            session.generate_key(Mechanism::GENERIC_SECRET_KEY_GEN, &template)?;
        }
        let audit_spki = AuditKey::make(session, offered, &group, |_, _| {})?.spki_hex();
        let keys = EpochKeys::find(session, &kek_id, FIRST_EPOCH)?.ok_or(RootKeyError::NoEpoch)?;
        let svc = find_svc(session, &group)?;
        Ok(Manifest {
            v: 1,
            group: HEXLOWER.encode(&group),
            seq: 1,
            prev: "0".repeat(64),
            members: vec![Member {
                canary: HEXLOWER.encode(&canary_answer(session, find_canary(session, &group)?)?),
                audit_spki,
                ..member
            }],
            recovery: vec![],
            epochs: vec![Epoch {
                kek_id: HEXLOWER.encode(&kek_id),
                epoch: FIRST_EPOCH,
                check: checks(session, keys.kek, keys.bind, svc)?,
            }],
        })
    }

    /// Finds the keys that `manifest` speaks of, looks at their attributes, and holds their answers against it.
    ///
    /// An epoch that this token has not imported yet is left out, and said; its blobs are refused, and where it is the newest one, no
    /// key is made.
    pub fn open(session: &Session, manifest: &Manifest, serial: &str) -> Result<Self, RootKeyError> {
        let group = manifest
            .group_id()
            .ok_or(RootKeyError::WrongAnswer("the manifest's form"))?;
        let member = manifest.member(serial).ok_or_else(|| {
            let serials: Vec<_> = manifest
                .members
                .iter()
                .map(|member| format!("`{}`", member.serial))
                .collect();
            RootKeyError::OtherToken {
                expected: serials.join(", "),
                found: serial.to_owned(),
            }
        })?;
        let canary = find_canary(session, &group)?;
        if HEXLOWER.encode(&canary_answer(session, canary)?) != member.canary {
            return Err(RootKeyError::WrongAnswer("CANARY"));
        }
        let mut epochs = Vec::with_capacity(manifest.epochs.len());
        let mut svc = None;
        for listed in &manifest.epochs {
            let kek_id = manifest::from_hex(&listed.kek_id).ok_or(RootKeyError::WrongAnswer("the manifest's form"))?;
            let Some(keys) = EpochKeys::find(session, &kek_id, listed.epoch)? else {
                tracing::warn!(
                    serial,
                    epoch = listed.epoch,
                    "this token has not imported an epoch of its group"
                );
                continue;
            };
            let svc = match svc {
                Some(svc) => svc,
                None => *svc.insert(find_svc(session, &group)?),
            };
            checks(session, keys.kek, keys.bind, svc)?.compare(&listed.check)?;
            epochs.push(keys);
        }
        AuditKey::open(session, &group, &member.audit_spki)?;
        let newest = manifest.epochs.last().map(|listed| listed.epoch);
        Ok(Self {
            up_to_date: epochs.last().map(|keys| keys.epoch) == newest,
            epochs,
            svc: svc.ok_or(RootKeyError::NoEpoch)?,
            canary,
        })
    }

    /// What new keys are wrapped under: the newest epoch of the manifest, or nothing if this token has not imported it. An older KEK
    /// may have been replaced because it is known to others.
    pub fn newest(&self) -> Option<&EpochKeys> {
        self.epochs.last().filter(|_| self.up_to_date)
    }

    /// What a blob was wrapped under; `None` if this token does not hold it.
    pub fn of(&self, kek_id: KekId, epoch: u32) -> Option<&EpochKeys> {
        self.epochs
            .iter()
            .find(|keys| keys.epoch == epoch && keys.kek_id == kek_id)
    }

    /// The newest epoch that this token holds, whether or not the manifest has a newer one.
    pub fn newest_held(&self) -> &EpochKeys {
        self.epochs.last().expect("a token without an epoch is not opened")
    }

    /// CANARY's answer to the fixed question.
    pub fn canary_answer(&self, session: &Session) -> Result<[u8; 32], CallError> {
        canary_answer(session, self.canary)
    }
}

impl EpochKeys {
    /// Both keys of an epoch, no stronger than they were made; `None` if the token holds neither.
    pub fn find(session: &Session, kek_id: &[u8; 16], epoch: u32) -> Result<Option<Self>, RootKeyError> {
        let id = epoch_id(kek_id, epoch);
        let find = |label| only(session, ObjectClass::SecretKey, label, &id);
        let (kek, bind) = match (find(presets::KEK_LABEL), find(presets::BIND_LABEL)) {
            (Err(RootKeyError::Missing(_)), Err(RootKeyError::Missing(_))) => return Ok(None),
            (kek, bind) => (kek?, bind?),
        };
        check_kek(session, kek)?;
        check_mac_key(session, bind, presets::BIND_LABEL, Mechanism::SHA256_HMAC)?;
        Ok(Some(Self {
            kek_id: KekId::from_bytes(*kek_id),
            epoch,
            kek,
            bind,
        }))
    }
}

impl Checks {
    /// Errors: `WrongAnswer` names the key whose answer is another.
    pub(super) fn compare(&self, pinned: &Self) -> Result<(), RootKeyError> {
        for (name, found, pinned) in [
            ("KEK", &self.kek, &pinned.kek),
            ("BIND", &self.bind, &pinned.bind),
            ("SVC", &self.svc, &pinned.svc),
        ] {
            if found != pinned {
                return Err(RootKeyError::WrongAnswer(name));
            }
        }
        Ok(())
    }
}

/// `check(KEK)` is the start of SHA-256 of a known key wrapped: it needs only WRAP. The others are the start of an HMAC.
pub(super) fn checks(
    session: &Session,
    kek: ObjectHandle,
    bind: ObjectHandle,
    svc: ObjectHandle,
) -> Result<Checks, CallError> {
    let known = digest(&SHA256, b"kekcheck.v1");
    let template = Template::new()
        .class(ObjectClass::SecretKey)
        .key_type(KeyType::GenericSecret)
        .flag(Attribute::TOKEN, false)
        .flag(Attribute::PRIVATE, true)
        .flag(Attribute::SENSITIVE, false)
        .flag(Attribute::EXTRACTABLE, true)
        .flags(&presets::SECRET_USAGES, false)
        .bytes(Attribute::VALUE, known.as_ref());
    let object = session.create(&template)?;
    let wrapped = session.wrap(Mechanism::AES_KEY_WRAP, kek, object);
    session.destroy(object)?;
    let mut answer = [0; 64];
    session.hmac_sha512_into(svc, b"svccheck.v1", &mut answer)?;
    Ok(Checks {
        kek: HEXLOWER.encode(&digest(&SHA256, &wrapped?).as_ref()[..16]),
        bind: HEXLOWER.encode(&session.hmac_sha256(bind, b"bindcheck.v1")?[..16]),
        svc: HEXLOWER.encode(&answer[..16]),
    })
}

/// Refuses a token that has one of these keys already, whatever its id.
pub(super) fn refuse_existing(session: &Session, labels: &[&'static str]) -> Result<(), RootKeyError> {
    for label in labels {
        if !session.find(&Template::new().label(label), 1)?.is_empty() {
            return Err(RootKeyError::Exists(label));
        }
    }
    Ok(())
}

pub(super) fn find_svc(session: &Session, group: &[u8; 16]) -> Result<ObjectHandle, RootKeyError> {
    let svc = only(session, ObjectClass::SecretKey, presets::SVC_LABEL, group)?;
    check_mac_key(session, svc, presets::SVC_LABEL, Mechanism::SHA512_HMAC)?;
    Ok(svc)
}

/// Refuses a key that can do more than it was made for before it is asked anything.
pub(super) fn find_canary(session: &Session, group: &[u8; 16]) -> Result<ObjectHandle, RootKeyError> {
    let canary = only(session, ObjectClass::SecretKey, presets::CANARY_LABEL, group)?;
    check_mac_key(session, canary, presets::CANARY_LABEL, Mechanism::SHA256_HMAC)?;
    Ok(canary)
}

pub(super) fn canary_answer(session: &Session, canary: ObjectHandle) -> Result<[u8; 32], CallError> {
    session.hmac_sha256(canary, CANARY_QUESTION)
}

/// CKA_ID of KEK and BIND: KEK id, then the epoch.
pub(super) fn epoch_id(kek_id: &[u8; 16], epoch: u32) -> [u8; 20] {
    let mut id = [0; 20];
    id[..16].copy_from_slice(kek_id);
    id[16..].copy_from_slice(&epoch.to_be_bytes());
    id
}

pub(super) fn only(
    session: &Session,
    class: ObjectClass,
    label: &'static str,
    id: &[u8],
) -> Result<ObjectHandle, RootKeyError> {
    let template = Template::new().class(class).label(label).id(id);
    match session.find(&template, 2)?.as_slice() {
        [key] => Ok(*key),
        [] => Err(RootKeyError::Missing(label)),
        _ => Err(RootKeyError::Doubled(label)),
    }
}

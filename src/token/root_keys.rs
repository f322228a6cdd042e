//! KEK, BIND, SVC, AUDIT and CANARY of a single-token group: made once, found and checked at every start.
//!
//! All are token objects with EXTRACTABLE=0 from birth: the KEK reads LOCAL, ALWAYS_SENSITIVE and NEVER_EXTRACTABLE. Such a group
//! can never grow, and what it protects is lost with its token.

use aws_lc_rs::{
    digest::{SHA256, digest},
    signature::{ECDSA_P256_SHA256_FIXED, ED25519, UnparsedPublicKey, VerificationAlgorithm},
};
use data_encoding::HEXLOWER;
use keyreeve_envelope::KekId;
use keyreeve_pkcs11::{
    Attribute, CallError, KeyType, Mechanism, ObjectClass, ObjectHandle, Session, Template,
    presets::{self, Curve, Life},
    spki,
};

use super::{
    manifest::{Checks, Epoch, Manifest, Member},
    root_attributes::{check_audit, check_kek, check_mac_key},
};

/// The first, and in the single-token form the only, epoch.
const FIRST_EPOCH: u32 = 1;
/// What CANARY is asked.
const CANARY_QUESTION: &[u8] = b"canary.v1";
/// What AUDIT signs at every start. No checkpoint (three lines of text) and no statement (label, zero byte, 32 bytes) looks like it.
const AUDIT_QUESTION: &[u8] = b"auditcheck.v1";

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
        "the manifest describes the token with serial `{expected}`, this one is `{found}`: correct the selection or the manifest"
    )]
    OtherToken { expected: String, found: String },
    #[error(
        "the token's key `{key}` has {found}: {consequence}; it was not made by `init`, or the token does not keep its keys as they are made"
    )]
    Weak {
        key: &'static str,
        /// Attribute and value.
        found: String,
        consequence: &'static str,
    },
    #[error("the token offers neither Ed25519 nor P-256 for the AUDIT pair")]
    NoCurve,
    #[error("the token gives no public key for AUDIT")]
    NoPublicKey,
}

impl RootKeyError {
    /// Whether the token is to be latched for this (E13).
    pub fn is_wrong_answer(&self) -> bool {
        matches!(self, Self::Doubled(_) | Self::WrongAnswer(_) | Self::Weak { .. })
    }
}

/// Handles of the root keys. Token objects: valid in every session while the module is initialised.
#[derive(Clone, Copy)]
pub struct RootKeys {
    pub kek_id: KekId,
    pub epoch: u32,
    pub kek: ObjectHandle,
    pub bind: ObjectHandle,
    pub svc: ObjectHandle,
    pub canary: ObjectHandle,
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
        for label in [
            presets::KEK_LABEL,
            presets::BIND_LABEL,
            presets::SVC_LABEL,
            presets::CANARY_LABEL,
            presets::AUDIT_LABEL,
        ] {
            if !session.find(&Template::new().label(label), 1)?.is_empty() {
                return Err(RootKeyError::Exists(label));
            }
        }
        let curve = curve(offered)?;
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
        let (public, private) = presets::audit(Life::Token, &group, curve);
        let (public, _) = session.generate_pair(curve.pair_generation(), &public, &private)?;
        let point = session
            .bytes(public, Attribute::EC_POINT)?
            .ok_or(RootKeyError::NoPublicKey)?;
        let audit_spki = HEXLOWER.encode(&spki(curve, &point).ok_or(RootKeyError::NoPublicKey)?);
        audit_pair(session, &group, &audit_spki)?;

        let keys = Self::find(session, &group, &kek_id, FIRST_EPOCH)?;
        Ok(Manifest {
            v: 1,
            group: HEXLOWER.encode(&group),
            seq: 1,
            prev: "0".repeat(64),
            members: vec![Member {
                canary: HEXLOWER.encode(&keys.canary_answer(session)?),
                audit_spki,
                ..member
            }],
            recovery: vec![],
            epochs: vec![Epoch {
                kek_id: HEXLOWER.encode(&kek_id),
                epoch: FIRST_EPOCH,
                check: keys.checks(session)?,
            }],
        })
    }

    /// Finds the keys that `manifest` speaks of, looks at their attributes, and holds their answers against it.
    pub fn open(session: &Session, manifest: &Manifest, serial: &str) -> Result<Self, RootKeyError> {
        let (Some(group), Some(kek_id), [member], [epoch]) = (
            manifest.group_id(),
            manifest.kek_id(),
            manifest.members.as_slice(),
            manifest.epochs.as_slice(),
        ) else {
            return Err(RootKeyError::WrongAnswer("the manifest's form"));
        };
        if member.serial != serial {
            return Err(RootKeyError::OtherToken {
                expected: member.serial.clone(),
                found: serial.to_owned(),
            });
        }
        let keys = Self::find(session, &group, &kek_id, epoch.epoch)?;
        if HEXLOWER.encode(&keys.canary_answer(session)?) != member.canary {
            return Err(RootKeyError::WrongAnswer("CANARY"));
        }
        let found = keys.checks(session)?;
        for (name, found, pinned) in [
            ("KEK", &found.kek, &epoch.check.kek),
            ("BIND", &found.bind, &epoch.check.bind),
            ("SVC", &found.svc, &epoch.check.svc),
        ] {
            if found != pinned {
                return Err(RootKeyError::WrongAnswer(name));
            }
        }
        audit_pair(session, &group, &member.audit_spki)?;
        Ok(keys)
    }

    /// CANARY's answer to the fixed question.
    pub fn canary_answer(&self, session: &Session) -> Result<[u8; 32], CallError> {
        session.hmac_sha256(self.canary, CANARY_QUESTION)
    }

    /// Refuses a key that can do more than it was made for before it is asked anything.
    fn find(session: &Session, group: &[u8; 16], kek_id: &[u8; 16], epoch: u32) -> Result<Self, RootKeyError> {
        let epoch_id = epoch_id(kek_id, epoch);
        let keys = Self {
            kek_id: KekId::from_bytes(*kek_id),
            epoch,
            kek: only(session, ObjectClass::SecretKey, presets::KEK_LABEL, &epoch_id)?,
            bind: only(session, ObjectClass::SecretKey, presets::BIND_LABEL, &epoch_id)?,
            svc: only(session, ObjectClass::SecretKey, presets::SVC_LABEL, group)?,
            canary: only(session, ObjectClass::SecretKey, presets::CANARY_LABEL, group)?,
        };
        check_kek(session, keys.kek)?;
        check_mac_key(session, keys.bind, presets::BIND_LABEL, Mechanism::SHA256_HMAC)?;
        check_mac_key(session, keys.svc, presets::SVC_LABEL, Mechanism::SHA512_HMAC)?;
        check_mac_key(session, keys.canary, presets::CANARY_LABEL, Mechanism::SHA256_HMAC)?;
        Ok(keys)
    }

    /// `check(KEK)` is the start of SHA-256 of a known key wrapped: it needs only WRAP. The others are the start of an HMAC.
    fn checks(&self, session: &Session) -> Result<Checks, CallError> {
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
        let wrapped = session.wrap(Mechanism::AES_KEY_WRAP, self.kek, object);
        session.destroy(object)?;
        let mut svc = [0; 64];
        session.hmac_sha512_into(self.svc, b"svccheck.v1", &mut svc)?;
        Ok(Checks {
            kek: HEXLOWER.encode(&digest(&SHA256, &wrapped?).as_ref()[..16]),
            bind: HEXLOWER.encode(&session.hmac_sha256(self.bind, b"bindcheck.v1")?[..16]),
            svc: HEXLOWER.encode(&svc[..16]),
        })
    }
}

/// The curve of AUDIT that this token can make and sign with.
fn curve(offered: &[Mechanism]) -> Result<Curve, RootKeyError> {
    [Curve::Ed25519, Curve::P256]
        .into_iter()
        .find(|curve| offered.contains(&curve.pair_generation()) && offered.contains(&curve.signing()))
        .ok_or(RootKeyError::NoCurve)
}

/// CKA_ID of KEK and BIND: KEK id, then the epoch.
fn epoch_id(kek_id: &[u8; 16], epoch: u32) -> [u8; 20] {
    let mut id = [0; 20];
    id[..16].copy_from_slice(kek_id);
    id[16..].copy_from_slice(&epoch.to_be_bytes());
    id
}

/// The AUDIT pair is there once, its public half is `pinned` (SPKI, hex), and the private half signs for it. Verified on the host.
fn audit_pair(session: &Session, group: &[u8; 16], pinned: &str) -> Result<(), RootKeyError> {
    let public = only(session, ObjectClass::PublicKey, presets::AUDIT_LABEL, group)?;
    let private = only(session, ObjectClass::PrivateKey, presets::AUDIT_LABEL, group)?;
    check_audit(session, private)?;
    let point = session
        .bytes(public, Attribute::EC_POINT)?
        .ok_or(RootKeyError::NoPublicKey)?;
    let is_pinned = |curve: &Curve| spki(*curve, &point).is_some_and(|spki| HEXLOWER.encode(&spki) == pinned);
    let curve = [Curve::Ed25519, Curve::P256].into_iter().find(is_pinned);
    let curve = curve.ok_or(RootKeyError::WrongAnswer("AUDIT"))?;
    let digest = digest(&SHA256, AUDIT_QUESTION);
    // Either kind of signature has 64 bytes. The point is the end of its own encoding: 32 bytes, or 65 uncompressed.
    let (signed, algorithm, point_len): (&[u8], &dyn VerificationAlgorithm, usize) = match curve {
        Curve::Ed25519 => (AUDIT_QUESTION, &ED25519, 32),
        Curve::P256 => (digest.as_ref(), &ECDSA_P256_SHA256_FIXED, 65),
    };
    let mut signature = [0; 64];
    let length = session.sign_into(curve.signing(), private, signed, &mut signature)?;
    let point = &point[point.len() - point_len..];
    UnparsedPublicKey::new(algorithm, point)
        .verify(AUDIT_QUESTION, &signature[..length])
        .map_err(|_| RootKeyError::WrongAnswer("AUDIT"))
}

fn only(session: &Session, class: ObjectClass, label: &'static str, id: &[u8]) -> Result<ObjectHandle, RootKeyError> {
    let template = Template::new().class(class).label(label).id(id);
    match session.find(&template, 2)?.as_slice() {
        [key] => Ok(*key),
        [] => Err(RootKeyError::Missing(label)),
        _ => Err(RootKeyError::Doubled(label)),
    }
}

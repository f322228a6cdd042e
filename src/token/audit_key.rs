//! The AUDIT pair of a token: made, found, and what it signs. Every signature is verified on the host before it is used.

use aws_lc_rs::digest::{SHA256, digest};
use data_encoding::HEXLOWER;
use keyreeve_pkcs11::{
    Attribute, Mechanism, ObjectClass, ObjectHandle, Session, ecdsa_asn1,
    presets::{self, Curve, Life},
    spki,
};

use super::{
    public_key::{PublicKey, statement},
    root_attributes::check_audit,
    root_keys::{RootKeyError, only},
};

/// What AUDIT signs at every start. No checkpoint (three lines of text) and no statement (label, zero byte, 32 bytes) looks like it.
const QUESTION: &[u8] = b"auditcheck.v1";

/// The private half, and the public one that verifies for it.
pub struct AuditKey {
    private: ObjectHandle,
    curve: Curve,
    public: PublicKey,
}

impl AuditKey {
    /// Makes the pair as token objects; `made` is told of them before anything can fail.
    pub fn make(
        session: &Session,
        offered: &[Mechanism],
        group: &[u8; 16],
        made: impl FnOnce(ObjectHandle, ObjectHandle),
    ) -> Result<Self, RootKeyError> {
        let curve = curve(offered)?;
        let (public, private) = presets::audit(Life::Token, group, curve);
        let (public, private) = session.generate_pair(curve.pair_generation(), &public, &private)?;
        made(public, private);
        Self::find(session, group)
    }

    /// The pair is there once, it is no weaker than it was made, and the private half signs for the public one.
    pub fn find(session: &Session, group: &[u8; 16]) -> Result<Self, RootKeyError> {
        let public = only(session, ObjectClass::PublicKey, presets::AUDIT_LABEL, group)?;
        let private = only(session, ObjectClass::PrivateKey, presets::AUDIT_LABEL, group)?;
        check_audit(session, private)?;
        let point = session
            .bytes(public, Attribute::EC_POINT)?
            .ok_or(RootKeyError::NoPublicKey)?;
        // A point has the length of one curve only.
        let of_curve = |curve| PublicKey::from_spki(&spki(curve, &point)?).map(|public| (curve, public));
        let (curve, public) = [Curve::Ed25519, Curve::P256]
            .into_iter()
            .find_map(of_curve)
            .ok_or(RootKeyError::NoPublicKey)?;
        let key = Self { private, curve, public };
        key.sign_message(session, QUESTION)?;
        Ok(key)
    }

    /// The same, of the pair that `pinned` (SPKI, hex) names.
    pub fn open(session: &Session, group: &[u8; 16], pinned: &str) -> Result<Self, RootKeyError> {
        let key = Self::find(session, group)?;
        if key.spki_hex() != pinned {
            return Err(RootKeyError::WrongAnswer("AUDIT"));
        }
        Ok(key)
    }

    pub fn spki_hex(&self) -> String {
        HEXLOWER.encode(self.public.spki())
    }

    /// Signs a file: `label || \0 || SHA-256(bytes)`.
    pub fn sign(&self, session: &Session, label: &str, bytes: &[u8]) -> Result<Vec<u8>, RootKeyError> {
        self.sign_message(session, &statement(label, bytes))
    }

    fn sign_message(&self, session: &Session, message: &[u8]) -> Result<Vec<u8>, RootKeyError> {
        let wrong = RootKeyError::WrongAnswer("AUDIT");
        // Either kind of signature has 64 bytes as tokens give it.
        let mut raw = [0; 64];
        let hash = digest(&SHA256, message);
        let signed = match self.curve {
            Curve::Ed25519 => message,
            Curve::P256 => hash.as_ref(),
        };
        let length = session.sign_into(self.curve.signing(), self.private, signed, &mut raw)?;
        let signature = match self.curve {
            Curve::Ed25519 => Some(raw[..length].to_vec()),
            Curve::P256 => ecdsa_asn1(&raw[..length]),
        };
        signature
            .filter(|signature| self.public.verifies(message, signature))
            .ok_or(wrong)
    }
}

/// The curve that this token can make and sign with.
fn curve(offered: &[Mechanism]) -> Result<Curve, RootKeyError> {
    [Curve::Ed25519, Curve::P256]
        .into_iter()
        .find(|curve| offered.contains(&curve.pair_generation()) && offered.contains(&curve.signing()))
        .ok_or(RootKeyError::NoCurve)
}

//! The token at hand, as the manifest knows it: its CANARY, AUDIT and TRANSPORT are those that custodians vouched for.

use data_encoding::HEXLOWER;
use keyreeve_pkcs11::{Attribute, ObjectClass, ObjectHandle, RsaPublicKey, Session, Template, presets};

use super::{
    error::CeremonyError,
    signed::{Signed, Statement},
    statements::{Role, Transfer},
    transfer_keys::TransferKeys,
};
use crate::token::{
    audit_key::AuditKey,
    manifest::{Epoch, Manifest, Member, OaepHash, from_hex, sha256_hex},
    root_attributes::check_transport,
    root_keys::{FIRST_EPOCH, RootKeyError, canary_answer, epoch_id, find_canary, only},
};

pub(super) struct ThisToken<'a> {
    pub session: &'a Session,
    pub manifest: &'a Manifest,
    pub group: [u8; 16],
    pub member: &'a Member,
    pub audit: AuditKey,
}

impl<'a> ThisToken<'a> {
    /// Errors: `NotListed` unless the manifest lists the serial in this role; `RootKeys` if the token answers otherwise.
    pub fn identify(
        session: &'a Session,
        manifest: &'a Manifest,
        serial: &str,
        role: Role,
    ) -> Result<Self, CeremonyError> {
        let (listed, name) = match role {
            Role::Member => (&manifest.members, "a member"),
            Role::Recovery => (&manifest.recovery, "a recovery token"),
        };
        let member = listed.iter().find(|token| token.serial == serial);
        let member = member.ok_or_else(|| CeremonyError::NotListed {
            serial: serial.to_owned(),
            role: name,
        })?;
        let group = manifest
            .group_id()
            .ok_or(RootKeyError::WrongAnswer("the manifest's form"))?;
        let canary = find_canary(session, &group)?;
        if HEXLOWER.encode(&canary_answer(session, canary)?) != member.canary {
            return Err(RootKeyError::WrongAnswer("CANARY").into());
        }
        let audit = AuditKey::open(session, &group, &member.audit_spki)?;
        Ok(Self {
            session,
            manifest,
            group,
            member,
            audit,
        })
    }

    /// Whether a transfer file is for this token, now. In this order, before anything is unwrapped: its signature, by a token of the
    /// manifest; whom it is for, by serial and by the TRANSPORT key as it is in the token; that its epoch is not here yet.
    ///
    /// `begun`: an import of this file was begun and not handed over, so keys of this epoch and KEK id may be here.
    /// `earlier`: manifests that custodians signed. The token that made an epoch may be gone by now: its signature then counts under
    /// the manifest that it names, while what the keys must answer is always said by today's.
    /// Returns the private half of TRANSPORT. Errors: `TransferRefused`, whatever it was.
    pub fn receive(
        &self,
        transfer: &Signed<Transfer>,
        earlier: &[Manifest],
        begun: bool,
    ) -> Result<ObjectHandle, CeremonyError> {
        let refused = |accepted: bool| accepted.then_some(()).ok_or(CeremonyError::TransferRefused);
        let said = &transfer.said;
        let named = earlier
            .iter()
            .filter(|earlier| earlier.group == self.manifest.group && earlier.sha256() == said.manifest);
        let signed = |from: &&Member| from.audit_key().is_some_and(|key| transfer.is_by(&key));
        let from = std::iter::once(self.manifest)
            .chain(named)
            .filter_map(|manifest| manifest.token(&said.from))
            .find(signed)
            .ok_or(CeremonyError::TransferRefused)?;
        refused(said.group == self.manifest.group && self.vouched(said))?;
        let (private, public) = transport(self.session, &self.group)?;
        let spki = public.spki();
        let own = sha256_hex(&spki);
        refused(said.to == self.member.serial && said.to_spki_sha256 == own)?;
        refused(HEXLOWER.encode(&spki) == self.member.transport_spki)?;
        refused(Some(said.oaep_hash) == common_hash(from, self.member))?;
        let own = from_hex(&said.kek_id).map(|kek_id| epoch_id(&kek_id, said.epoch).to_vec());
        let mut here = epochs_here(self.session)?.into_iter();
        refused(here.all(|id| !id.ends_with(&said.epoch.to_be_bytes()) || (begun && Some(id) == own)))?;
        Ok(private)
    }

    /// The epoch is one of the manifest, with the same answers; or it is the next one, made under exactly this manifest.
    fn vouched(&self, said: &Transfer) -> bool {
        match self.manifest.epochs.iter().find(|listed| listed.epoch == said.epoch) {
            Some(listed) => listed.kek_id == said.kek_id && listed.check == said.check,
            None => {
                let (number, svc) = match self.manifest.epochs.last() {
                    Some(last) => (last.epoch.checked_add(1), last.check.svc == said.check.svc),
                    None => (Some(FIRST_EPOCH), true),
                };
                number == Some(said.epoch) && svc && said.manifest == self.manifest.sha256()
            }
        }
    }

    /// Signs what this token states.
    pub fn state<S: Statement>(&self, said: S) -> Result<Signed<S>, CeremonyError> {
        Ok(Signed::new(said, |label, bytes| {
            self.audit.sign(self.session, label, bytes)
        })?)
    }

    /// Wraps keys to another token's TRANSPORT key, as the manifest has it, and states it.
    pub fn send(&self, keys: &TransferKeys, to: &Member, epoch: &Epoch) -> Result<Signed<Transfer>, CeremonyError> {
        let unfit = || CeremonyError::Unfit(format!("the manifest has no TRANSPORT key of token `{}`", to.serial));
        let key = to.transport_key().ok_or_else(unfit)?;
        let oaep_hash = common_hash(self.member, to).ok_or_else(unfit)?;
        let wrapped = keys.wrap(self.session, oaep_hash, &key)?;
        let said = Transfer {
            v: 1,
            manifest: self.manifest.sha256(),
            group: self.manifest.group.clone(),
            epoch: epoch.epoch,
            kek_id: epoch.kek_id.clone(),
            from: self.member.serial.clone(),
            to: to.serial.clone(),
            to_spki_sha256: sha256_hex(&key.spki()),
            oaep_hash,
            wrapped,
            check: epoch.check.clone(),
        };
        self.state(said)
    }
}

/// The best hash that both tokens have.
fn common_hash(one: &Member, other: &Member) -> Option<OaepHash> {
    Some(one.oaep_hash?.min(other.oaep_hash?))
}

/// The TRANSPORT pair is there once, whole, and no weaker than it was made: its private half, and the public one.
///
/// Errors: `HalfMade` before the token works with a pair without its numbers, which kills SoftHSM's process.
pub(super) fn transport(session: &Session, group: &[u8; 16]) -> Result<(ObjectHandle, RsaPublicKey), RootKeyError> {
    let public = only(session, ObjectClass::PublicKey, presets::TRANSPORT_LABEL, group)?;
    let private = only(session, ObjectClass::PrivateKey, presets::TRANSPORT_LABEL, group)?;
    check_transport(session, private)?;
    let key = session.rsa_public_key(public)?.ok_or(RootKeyError::NoPublicKey)?;
    // Not sensitive; a token that tells it of public keys alone is believed.
    let same = session
        .rsa_modulus(private)?
        .is_none_or(|modulus| modulus == key.modulus);
    match key.is_sound() && same {
        true => Ok((private, key)),
        false => Err(RootKeyError::HalfMade(presets::TRANSPORT_LABEL)),
    }
}

/// CKA_ID of each KEK and BIND that is a token object here: its end is the epoch.
fn epochs_here(session: &Session) -> Result<Vec<Vec<u8>>, RootKeyError> {
    let mut ids = Vec::new();
    for label in [presets::KEK_LABEL, presets::BIND_LABEL] {
        let template = Template::new().label(label).flag(Attribute::TOKEN, true);
        for key in session.find(&template, usize::MAX)? {
            ids.push(session.bytes(key, Attribute::ID)?.unwrap_or_default().to_vec());
        }
    }
    Ok(ids)
}

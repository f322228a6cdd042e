//! A token asks to join: it gets TRANSPORT, AUDIT and CANARY, and states what they are.
//!
//! The request authenticates nothing. Two custodians compare its hash and the key's modulus with what the token's console shows; that
//! is the only proof that TRANSPORT is in the token and not an intruder's.

use aws_lc_rs::rand;
use data_encoding::HEXLOWER;
use keyreeve_pkcs11::{
    CallError, Mechanism, ObjectHandle, RsaPublicKey, Session,
    presets::{self, Life},
};

use super::{
    error::CeremonyError,
    signed::Signed,
    statements::{EnrolRequest, Role},
    this_token::transport,
    transfer_keys::{Made, Templates, TransferKeys},
    transport_probe::probe_transport,
    unfinished::{EnrolmentBegun, Left, Stated, Unfinished, remove, whole},
};
use crate::token::{
    OpenError,
    audit_key::AuditKey,
    init,
    manifest::{Member, OaepHash, from_hex},
    open::OpenToken,
    probe::Probe,
    report,
    root_keys::{RootKeyError, canary_answer, find_canary, refuse_existing},
};

/// What is made here, and what comes by a ceremony.
const OWN_KEYS: &[&str] = &[presets::TRANSPORT_LABEL, presets::AUDIT_LABEL, presets::CANARY_LABEL];
const ROOT_KEYS: &[&str] = &[presets::KEK_LABEL, presets::BIND_LABEL, presets::SVC_LABEL];

/// Makes the token's own three keys and the request. `group`: `None` draws the id of a new one.
///
/// A token that was enrolled or initialised before is refused. Where this enrolment was begun and not handed over, the keys that it left
/// are kept if they are all there and work, else removed and made anew; the request has the same group and nonce.
pub(super) fn enrol(
    token: &OpenToken,
    group: Option<[u8; 16]>,
    role: Role,
    attestation: Option<&[u8]>,
    mark: Unfinished,
) -> Result<Stated<EnrolRequest>, OpenError> {
    let (hash, member) = examine(token, role)?;
    let (begun, is_repeated) = begin(&token.session, group, role, &mark)?;
    let offered = token.module.mechanisms(token.info.slot)?;
    let id = from_hex(&begun.group).ok_or(RootKeyError::WrongAnswer("the group's id"))?;
    let said = EnrolRequest {
        v: 1,
        group: begun.group,
        role,
        token: member,
        nonce: begun.nonce,
        attestation: attestation.map(|bytes| HEXLOWER.encode(bytes)),
    };
    let keys = TokenKeys {
        session: &token.session,
        group: &id,
        hash,
    };
    let mut left = None;
    if is_repeated {
        if let Some(statement) = whole(|| keys.state(said.clone()))? {
            let left = Some(Left::Whole);
            return Ok(Stated { statement, left, mark });
        }
        // A token with the keys of an epoch was enrolled in the end, whatever the mark says.
        refuse_existing(&token.session, ROOT_KEYS)?;
        left = Some(Left::Removed(keys.remove_what_was_left()?));
    }
    let statement = keys.make(&offered, said)?;
    Ok(Stated { statement, left, mark })
}

/// Leaves the mark, or finds that of the same enrolment.
fn begin(
    session: &Session,
    group: Option<[u8; 16]>,
    role: Role,
    mark: &Unfinished,
) -> Result<(EnrolmentBegun, bool), CeremonyError> {
    let before = mark.enrolment_begun()?;
    if let Some(before) = &before {
        let same_group = match group {
            Some(group) => HEXLOWER.encode(&group) == before.group,
            None => before.new_group,
        };
        if same_group && before.role == role {
            return Ok((before.clone(), true));
        }
    }
    refuse_existing(session, &[OWN_KEYS, ROOT_KEYS].concat()).map_err(|error| match (error, before) {
        (RootKeyError::Exists(_), Some(before)) => CeremonyError::OtherEnrolment {
            group: before.group,
            role: before.role.as_str(),
        },
        (error, _) => error.into(),
    })?;
    let begun = EnrolmentBegun {
        group: HEXLOWER.encode(&group.map_or_else(random, Ok)?),
        new_group: group.is_none(),
        role,
        nonce: HEXLOWER.encode(&random()?),
    };
    mark.begin(&begun)?;
    Ok((begun, false))
}

/// Tries all that the token must refuse in this role, on throwaway keys, and describes it, but for its keys.
///
/// Errors: `Hole` or `Unfit` if it cannot be of a group.
pub(super) fn examine(token: &OpenToken, role: Role) -> Result<(OaepHash, Member), OpenError> {
    let report = report::of_open_token(token);
    init::refuse_unfit(&report)?;
    let (hash, transport_probes) = probe_transport(&token.session, role)?;
    if let Some(hole) = transport_probes.iter().find(|probe| probe.must_refuse()) {
        return Err(CeremonyError::Hole(Box::new(hole.clone())).into());
    }
    let probes: Vec<Probe> = report.probes.into_iter().chain(transport_probes).collect();
    let mut member = init::member(&token.info, &probes);
    member.oaep_hash = Some(hash);
    Ok((hash, member))
}

/// TRANSPORT, AUDIT and CANARY of a token that asks to be of `group`.
struct TokenKeys<'a> {
    session: &'a Session,
    group: &'a [u8; 16],
    hash: OaepHash,
}

impl TokenKeys<'_> {
    fn make(&self, offered: &[Mechanism], said: EnrolRequest) -> Result<Signed<EnrolRequest>, CeremonyError> {
        let (session, group) = (self.session, self.group);
        refuse_existing(session, &[OWN_KEYS, ROOT_KEYS].concat())?;
        let mut made = Made::new(session);
        let (public, private) = presets::transport(Life::Token, group, said.role.recipient());
        let (public, private) = session.generate_pair(Mechanism::RSA_PKCS_KEY_PAIR_GEN, &public, &private)?;
        made.add_pair(public, private);
        AuditKey::make(session, offered, group, |public, private| {
            made.add_pair(public, private)
        })?;
        made.add(session.generate_key(Mechanism::GENERIC_SECRET_KEY_GEN, &presets::canary(Life::Token, group)))?;
        let request = self.state(said)?;
        made.keep();
        Ok(request)
    }

    /// Finds the keys as every later start finds them, tries them, and states what they are.
    fn state(&self, mut said: EnrolRequest) -> Result<Signed<EnrolRequest>, CeremonyError> {
        let (session, group) = (self.session, self.group);
        let (private, public) = transport(session, group)?;
        let audit = AuditKey::find(session, group)?;
        said.token.transport_spki = HEXLOWER.encode(&public.spki());
        said.token.audit_spki = audit.spki_hex();
        said.token.canary = HEXLOWER.encode(&canary_answer(session, find_canary(session, group)?)?);
        opens_what_is_wrapped_to_it(session, group, self.hash, private, &public)?;
        Ok(Signed::new(said, |label, bytes| audit.sign(session, label, bytes))?)
    }

    fn remove_what_was_left(&self) -> Result<Vec<String>, CallError> {
        let mut removed = Vec::new();
        for label in OWN_KEYS {
            removed.extend(remove(self.session, label, self.group)?);
        }
        Ok(removed)
    }
}

/// The public key in the request is that of the private one in the token.
fn opens_what_is_wrapped_to_it(
    session: &Session,
    group: &[u8; 16],
    hash: OaepHash,
    private: ObjectHandle,
    public: &RsaPublicKey,
) -> Result<(), CeremonyError> {
    let keys = TransferKeys::generate(session, Templates::passing(session, group, &[0; 16], 0), true)?;
    let tried = (|| {
        let wrapped = keys.wrap(session, hash, public)?;
        let templates = Templates::kept(session, &[], Life::Session, group, &[0; 16], 0);
        let opened = TransferKeys::unwrap(session, hash, private, &wrapped, &templates)?;
        let same = opened
            .checks(session, None)
            .map(|found| Ok(found == keys.checks(session, None)?));
        opened.destroy(session)?;
        same?
    })();
    keys.destroy(session)?;
    match tried {
        Ok(true) => Ok(()),
        Ok(false) | Err(CeremonyError::TransferRefused) => Err(CeremonyError::Unfit(
            "it does not open what is wrapped to its TRANSPORT key, or opens something else".into(),
        )),
        Err(error) => Err(error),
    }
}

fn random() -> Result<[u8; 16], CeremonyError> {
    let mut bytes = [0; 16];
    rand::fill(&mut bytes).map_err(|_| CeremonyError::Random)?;
    Ok(bytes)
}

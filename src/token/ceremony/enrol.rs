//! A token asks to join: it gets TRANSPORT, AUDIT and CANARY, and states what they are.
//!
//! The request authenticates nothing. Two custodians compare its hash and the key's modulus with what the token's console shows; that
//! is the only proof that TRANSPORT is in the token and not an intruder's.

use aws_lc_rs::rand;
use data_encoding::HEXLOWER;
use keyreeve_pkcs11::{
    Mechanism, ObjectHandle, RsaPublicKey, Session,
    presets::{self, Life},
};

use super::{
    error::CeremonyError,
    signed::Signed,
    statements::{EnrolRequest, Role},
    this_token::transport,
    transfer_keys::{Made, Templates, TransferKeys},
    transport_probe::probe_transport,
};
use crate::token::{
    OpenError,
    audit_key::AuditKey,
    init,
    manifest::{Member, OaepHash},
    open::OpenToken,
    probe::Probe,
    report,
    root_keys::{canary_answer, find_canary, refuse_existing},
};

/// Makes the token's own three keys and the request. A token that was enrolled or initialised before is refused.
pub(super) fn enrol(
    token: &OpenToken,
    group: [u8; 16],
    role: Role,
    attestation: Option<&[u8]>,
) -> Result<Signed<EnrolRequest>, OpenError> {
    let (hash, member) = examine(token, role)?;
    let offered = token.module.mechanisms(token.info.slot)?;
    let said = EnrolRequest {
        v: 1,
        group: HEXLOWER.encode(&group),
        role,
        token: member,
        nonce: HEXLOWER.encode(&random()?),
        attestation: attestation.map(|bytes| HEXLOWER.encode(bytes)),
    };
    Ok(make(&token.session, &offered, &group, hash, said)?)
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

fn make(
    session: &Session,
    offered: &[Mechanism],
    group: &[u8; 16],
    hash: OaepHash,
    mut said: EnrolRequest,
) -> Result<Signed<EnrolRequest>, CeremonyError> {
    refuse_existing(
        session,
        &[
            presets::TRANSPORT_LABEL,
            presets::AUDIT_LABEL,
            presets::CANARY_LABEL,
            presets::KEK_LABEL,
            presets::BIND_LABEL,
            presets::SVC_LABEL,
        ],
    )?;
    let mut made = Made::new(session);
    let (public, private) = presets::transport(Life::Token, group, said.role.recipient());
    let (public, private) = session.generate_pair(Mechanism::RSA_PKCS_KEY_PAIR_GEN, &public, &private)?;
    made.add_pair(public, private);
    let audit = AuditKey::make(session, offered, group, |public, private| {
        made.add_pair(public, private)
    })?;
    made.add(session.generate_key(Mechanism::GENERIC_SECRET_KEY_GEN, &presets::canary(Life::Token, group)))?;
    // Read back as every later start reads them.
    let (private, public) = transport(session, group)?;
    said.token.transport_spki = HEXLOWER.encode(&public.spki());
    said.token.audit_spki = audit.spki_hex();
    said.token.canary = HEXLOWER.encode(&canary_answer(session, find_canary(session, group)?)?);
    opens_what_is_wrapped_to_it(session, group, hash, private, &public)?;
    let request = Signed::new(session, &audit, said)?;
    made.keep();
    Ok(request)
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

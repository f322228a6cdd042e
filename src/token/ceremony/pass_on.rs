//! A recovery token hands the keys of a group to a new member, or to another recovery token, on a host that is offline.
//!
//! It holds no root key. Its transfer files, kept with it and apart from everything else, open in it to session objects with
//! EXTRACTABLE=1, which are wrapped to the other token and destroyed. No version key is touched. A recovery token that was sent every
//! epoch so, SVC with the first, can do all that this one can.

use keyreeve_pkcs11::Session;

use super::{
    error::CeremonyError,
    signed::Signed,
    statements::{Role, Transfer},
    this_token::ThisToken,
    transfer_keys::{Templates, TransferKeys},
};
use crate::token::manifest::{Manifest, from_hex};

/// Makes transfer files of every epoch of `manifest` for the token `to`, oldest first.
///
/// `kept`: the transfer files of this recovery token, one for each epoch. Errors: as of `import`; `TransferMissing` names the epoch.
pub(super) fn pass_on(
    session: &Session,
    (manifest, earlier): (&Manifest, &[Manifest]),
    serial: &str,
    kept: &[Signed<Transfer>],
    to: &str,
) -> Result<Vec<Signed<Transfer>>, CeremonyError> {
    let this = ThisToken::identify(session, manifest, serial, Role::Recovery)?;
    let to = manifest
        .token(to)
        .ok_or_else(|| CeremonyError::UnknownRecipient(to.to_owned()))?;
    if manifest.epochs.is_empty() {
        return Err(CeremonyError::NoEpoch);
    }
    let mut first: Option<TransferKeys> = None;
    let mut sent = Vec::with_capacity(manifest.epochs.len());
    let mut pass = || {
        for epoch in &manifest.epochs {
            let transfer = kept
                .iter()
                .find(|transfer| transfer.said.epoch == epoch.epoch)
                .ok_or(CeremonyError::TransferMissing(epoch.epoch))?;
            let private = this.receive(transfer, earlier, false)?;
            let said = &transfer.said;
            let kek_id = from_hex(&said.kek_id).ok_or(CeremonyError::TransferRefused)?;
            let templates = Templates::passing(session, &this.group, &kek_id, said.epoch);
            let keys = TransferKeys::unwrap(session, said.oaep_hash, private, &said.wrapped, &templates)?;
            let svc = first.as_ref().and_then(|first| first.svc);
            let passed = match keys.checks(session, svc) {
                Ok(found) if found == epoch.check => this.send(&keys, to, epoch),
                other => other.and(Err(CeremonyError::TransferRefused)),
            };
            // SVC, which came with the first epoch, answers for the others, too.
            match first {
                None => first = Some(keys),
                Some(_) => keys.destroy(session)?,
            }
            sent.push(passed?);
        }
        Ok(())
    };
    let passed: Result<(), CeremonyError> = pass();
    // Before anything else: this copy is extractable.
    if let Some(first) = first {
        first.destroy(session)?;
    }
    passed.map(|()| sent)
}

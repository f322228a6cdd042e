//! A member takes the keys of an epoch in, and says so in a receipt.

use keyreeve_pkcs11::{
    Attribute, CallError, Mechanism, ObjectHandle, Session,
    presets::{self, Life},
};

use super::{
    error::CeremonyError,
    signed::Signed,
    statements::{KeyReadBack, Receipt, Role, Transfer},
    this_token::ThisToken,
    transfer_keys::{Templates, TransferKeys},
};
use crate::token::{
    manifest::{Manifest, from_hex},
    root_keys::{EpochKeys, RootKeyError, find_svc},
};

/// Imports the epoch of `transfer` as token objects that can never leave.
///
/// Everything that can be known before is checked before anything is unwrapped. The keys are then unwrapped twice: as session objects,
/// whose answers must be those of the transfer file, and only then as token objects, whose answers are compared again. So a file with
/// the wrong keys leaves nothing behind, even if the power fails. Errors: `TransferRefused`, whatever is wrong with the file.
pub(super) fn import(
    session: &Session,
    offered: &[Mechanism],
    manifest: &Manifest,
    serial: &str,
    transfer: &Signed<Transfer>,
) -> Result<Signed<Receipt>, CeremonyError> {
    let this = ThisToken::identify(session, manifest, serial, Role::Member)?;
    let private = this.receive(transfer)?;
    let said = &transfer.said;
    let svc = match find_svc(session, &this.group) {
        Ok(svc) => Some(svc),
        Err(RootKeyError::Missing(_)) => None,
        Err(error) => return Err(error.into()),
    };
    // SVC comes with the first epoch and never again.
    if said.wrapped.svc.is_some() != svc.is_none() {
        return Err(CeremonyError::TransferRefused);
    }
    let kek_id = from_hex(&said.kek_id).ok_or(CeremonyError::TransferRefused)?;
    let unwrap = |life| {
        let templates = Templates::kept(session, offered, life, &this.group, &kek_id, said.epoch);
        let keys = TransferKeys::unwrap(session, said.oaep_hash, private, &said.wrapped, &templates)?;
        match keys.checks(session, svc) {
            Ok(found) if found == said.check => Ok(keys),
            other => {
                keys.destroy(session)?;
                other.and(Err(CeremonyError::TransferRefused))
            }
        }
    };
    unwrap(Life::Session)?.destroy(session)?;
    let keys = unwrap(Life::Token)?;
    match finish(&this, transfer, &kek_id, &keys, svc) {
        Ok(receipt) => Ok(receipt),
        Err(error) => {
            keys.destroy(session)?;
            Err(error)
        }
    }
}

/// Finds the keys as every start finds them, and states what they are.
fn finish(
    this: &ThisToken<'_>,
    transfer: &Signed<Transfer>,
    kek_id: &[u8; 16],
    keys: &TransferKeys,
    svc: Option<ObjectHandle>,
) -> Result<Signed<Receipt>, CeremonyError> {
    let (session, said) = (this.session, &transfer.said);
    EpochKeys::find(session, kek_id, said.epoch)?.ok_or(CeremonyError::TransferRefused)?;
    let found_svc = find_svc(session, &this.group)?;
    let mut read_back = vec![
        read_back(session, presets::KEK_LABEL, keys.kek)?,
        read_back(session, presets::BIND_LABEL, keys.bind)?,
    ];
    read_back.push(self::read_back(session, presets::SVC_LABEL, svc.unwrap_or(found_svc))?);
    let receipt = Receipt {
        v: 1,
        group: said.group.clone(),
        epoch: said.epoch,
        kek_id: said.kek_id.clone(),
        serial: this.member.serial.clone(),
        transfer: transfer.sha256(),
        check: keys.checks(session, svc)?,
        keys: read_back,
    };
    Ok(Signed::new(session, &this.audit, receipt)?)
}

fn read_back(session: &Session, label: &str, key: ObjectHandle) -> Result<KeyReadBack, CallError> {
    let read = |attribute| session.flag(key, attribute);
    Ok(KeyReadBack {
        label: label.to_owned(),
        sensitive: read(Attribute::SENSITIVE)?,
        extractable: read(Attribute::EXTRACTABLE)?,
        modifiable: read(Attribute::MODIFIABLE)?,
        copyable: read(Attribute::COPYABLE)?,
        local: read(Attribute::LOCAL)?,
        always_sensitive: read(Attribute::ALWAYS_SENSITIVE)?,
        never_extractable: read(Attribute::NEVER_EXTRACTABLE)?,
    })
}

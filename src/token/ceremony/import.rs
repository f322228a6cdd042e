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
    unfinished::{Left, Stated, Unfinished, remove, whole},
};
use crate::token::{
    manifest::{Manifest, from_hex},
    root_keys::{EpochKeys, RootKeyError, checks, epoch_id, find_svc},
};

/// Imports the epoch of `transfer` as token objects that can never leave.
///
/// Everything that can be known before is checked before anything is unwrapped. The keys are then unwrapped twice: as session objects,
/// whose answers must be those of the transfer file, and only then as token objects, whose answers are compared again. So a file with
/// the wrong keys leaves nothing behind, even if the power fails. Errors: `TransferRefused`, whatever is wrong with the file.
///
/// Where an import of this very file was begun and not handed over, what it left is kept if it is whole and right, else removed, and the
/// epoch imported anew.
pub(super) fn import(
    session: &Session,
    offered: &[Mechanism],
    manifests: (&Manifest, &[Manifest]),
    serial: &str,
    transfer: &Signed<Transfer>,
    mark: Unfinished,
) -> Result<Stated<Receipt>, CeremonyError> {
    let begun = mark.is_begun()?;
    let arrival = Arrival::receive(session, manifests, serial, transfer, begun)?;
    // From here on the token is known to work, with these very keys.
    arrival.unwrap(&[], Life::Session)?.destroy(session)?;
    let mut left = None;
    if begun {
        if let Some(statement) = whole(|| arrival.receipt())? {
            let left = Some(Left::Whole);
            return Ok(Stated { statement, left, mark });
        }
        left = Some(Left::Removed(arrival.remove_what_was_left()?));
    }
    mark.begin(&transfer.sha256())?;
    let keys = arrival.unwrap(offered, Life::Token)?;
    let receipt = arrival.receipt();
    if receipt.is_err() {
        keys.destroy(session)?;
    }
    Ok(Stated {
        statement: receipt?,
        left,
        mark,
    })
}

/// The same up to the token objects: nothing is left.
pub(super) fn try_import(
    session: &Session,
    manifests: (&Manifest, &[Manifest]),
    serial: &str,
    transfer: &Signed<Transfer>,
    mark: &Unfinished,
) -> Result<(), CeremonyError> {
    let arrival = Arrival::receive(session, manifests, serial, transfer, mark.is_begun()?)?;
    Ok(arrival.unwrap(&[], Life::Session)?.destroy(session)?)
}

/// A transfer file that is for this token, now.
struct Arrival<'a> {
    this: ThisToken<'a>,
    transfer: &'a Signed<Transfer>,
    private: ObjectHandle,
    kek_id: [u8; 16],
    /// The group's, where it was here before this epoch.
    svc: Option<ObjectHandle>,
}

impl<'a> Arrival<'a> {
    /// `begun`: an import of this file was begun and not handed over, so its objects may be here.
    fn receive(
        session: &'a Session,
        (manifest, earlier): (&'a Manifest, &[Manifest]),
        serial: &str,
        transfer: &'a Signed<Transfer>,
        begun: bool,
    ) -> Result<Self, CeremonyError> {
        let this = ThisToken::identify(session, manifest, serial, Role::Member)?;
        let private = this.receive(transfer, earlier, begun)?;
        let said = &transfer.said;
        let svc = match find_svc(session, &this.group) {
            // SVC comes with the first epoch and never again: here it is what that import left.
            _ if begun && said.wrapped.svc.is_some() => None,
            Ok(svc) => Some(svc),
            Err(RootKeyError::Missing(_)) => None,
            Err(error) => return Err(error.into()),
        };
        if said.wrapped.svc.is_some() != svc.is_none() {
            return Err(CeremonyError::TransferRefused);
        }
        Ok(Self {
            kek_id: from_hex(&said.kek_id).ok_or(CeremonyError::TransferRefused)?,
            this,
            transfer,
            private,
            svc,
        })
    }

    /// Removes every object that an import of this file makes. Returns their labels.
    fn remove_what_was_left(&self) -> Result<Vec<String>, CeremonyError> {
        let session = self.this.session;
        let epoch = epoch_id(&self.kek_id, self.transfer.said.epoch);
        let mut made: Vec<(&str, &[u8])> = vec![(presets::KEK_LABEL, &epoch), (presets::BIND_LABEL, &epoch)];
        if self.svc.is_none() {
            made.push((presets::SVC_LABEL, &self.this.group));
        }
        let mut removed = Vec::new();
        for (label, id) in made {
            removed.extend(remove(session, label, id)?);
        }
        Ok(removed)
    }

    /// Keys whose answers are those of the file; others are gone again.
    fn unwrap(&self, offered: &[Mechanism], life: Life) -> Result<TransferKeys, CeremonyError> {
        let (session, said) = (self.this.session, &self.transfer.said);
        let templates = Templates::kept(session, offered, life, &self.this.group, &self.kek_id, said.epoch);
        let keys = TransferKeys::unwrap(session, said.oaep_hash, self.private, &said.wrapped, &templates)?;
        match keys.checks(session, self.svc) {
            Ok(found) if found == said.check => Ok(keys),
            _ => {
                keys.destroy(session)?;
                Err(CeremonyError::TransferRefused)
            }
        }
    }

    /// Finds the keys as every start finds them, compares their answers with the file's, and states what they are.
    fn receipt(&self) -> Result<Signed<Receipt>, CeremonyError> {
        let (session, said) = (self.this.session, &self.transfer.said);
        let found = EpochKeys::find(session, &self.kek_id, said.epoch)?.ok_or(CeremonyError::TransferRefused)?;
        let svc = find_svc(session, &self.this.group)?;
        let check = checks(session, found.kek, found.bind, svc)?;
        if check != said.check {
            return Err(CeremonyError::TransferRefused);
        }
        let receipt = Receipt {
            v: 1,
            group: said.group.clone(),
            epoch: said.epoch,
            kek_id: said.kek_id.clone(),
            serial: self.this.member.serial.clone(),
            transfer: self.transfer.sha256(),
            check,
            keys: vec![
                read_back(session, presets::KEK_LABEL, found.kek)?,
                read_back(session, presets::BIND_LABEL, found.bind)?,
                read_back(session, presets::SVC_LABEL, svc)?,
            ],
        };
        self.this.state(receipt)
    }
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

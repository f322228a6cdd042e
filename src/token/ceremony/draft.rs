//! The next manifest of a group, from the one before and what tokens stated. It says nothing until custodians have signed it.

use std::collections::BTreeSet;

use super::{
    signed::Signed,
    statements::{EnrolRequest, Receipt, Role},
};
use crate::token::manifest::{Epoch, Manifest};

/// What changes from one manifest to the next.
#[derive(Debug, Default)]
pub struct NextManifest {
    /// The one before; none: a new group.
    pub previous: Option<Manifest>,
    pub enrol: Vec<Signed<EnrolRequest>>,
    /// Serials of members or recovery tokens that are to go.
    pub remove: Vec<String>,
    /// Receipts of one new epoch.
    pub receipts: Vec<Signed<Receipt>>,
    /// So many members must have the new epoch; none: two, or one if there is one member.
    pub receipts_needed: Option<usize>,
}

#[derive(Debug, thiserror::Error)]
pub enum DraftError {
    #[error("a new group starts with the enrolment request of a member")]
    Empty,
    #[error("nothing changes: name an enrolment request, a serial to remove, or receipts of a new epoch")]
    Nothing,
    #[error(
        "the enrolment request of token `{0}` is not signed by the AUDIT key that it names: it was changed on its way"
    )]
    EnrolSignature(String),
    #[error("the enrolment request of token `{serial}` is for group {found}, not for {wanted}")]
    OtherGroup {
        serial: String,
        found: String,
        wanted: String,
    },
    #[error("token `{0}` is not in the manifest before")]
    Unknown(String),
    #[error("the receipt of token `{0}` is not of a member of the manifest before, or not signed by its AUDIT key")]
    ReceiptSignature(String),
    #[error("the receipts do not speak of one and the same new epoch, number {0}, with the same answers")]
    ReceiptsDiffer(u32),
    #[error(
        "{found} members have receipts of the new epoch, {needed} are needed: a key that one token has is lost with it"
    )]
    ReceiptsMissing { found: usize, needed: usize },
    #[error("the next manifest would be malformed: {0}")]
    Malformed(String),
}

impl NextManifest {
    /// Drafts it. Every statement is verified against the keys that it must be signed by.
    pub fn draft(self) -> Result<Manifest, DraftError> {
        if self.enrol.is_empty() && self.remove.is_empty() && self.receipts.is_empty() {
            return Err(DraftError::Nothing);
        }
        let mut next = match &self.previous {
            Some(previous) => Manifest {
                seq: previous.seq + 1,
                prev: previous.sha256(),
                ..previous.clone()
            },
            None => self.first()?,
        };
        self.add_epoch(&mut next)?;
        for serial in &self.remove {
            let before = next.tokens().count();
            next.members.retain(|token| token.serial != *serial);
            next.recovery.retain(|token| token.serial != *serial);
            if next.tokens().count() == before {
                return Err(DraftError::Unknown(serial.clone()));
            }
        }
        for request in &self.enrol {
            let said = &request.said;
            let serial = || said.token.serial.clone();
            if !said.token.audit_key().is_some_and(|key| request.is_by(&key)) {
                return Err(DraftError::EnrolSignature(serial()));
            }
            if said.group != next.group {
                return Err(DraftError::OtherGroup {
                    serial: serial(),
                    found: said.group.clone(),
                    wanted: next.group,
                });
            }
            match said.role {
                Role::Member => next.members.push(said.token.clone()),
                Role::Recovery => next.recovery.push(said.token.clone()),
            }
        }
        next.check_ceremony_form().map_err(DraftError::Malformed)?;
        Manifest::parse(&next.bytes()).map_err(DraftError::Malformed)
    }

    fn first(&self) -> Result<Manifest, DraftError> {
        Ok(Manifest {
            v: 1,
            group: self.enrol.first().ok_or(DraftError::Empty)?.said.group.clone(),
            seq: 1,
            prev: "0".repeat(64),
            members: vec![],
            recovery: vec![],
            epochs: vec![],
        })
    }

    fn add_epoch(&self, next: &mut Manifest) -> Result<(), DraftError> {
        let Some(one) = self.receipts.first().map(|receipt| &receipt.said) else {
            return Ok(());
        };
        let number = next.epochs.last().map_or(1, |last| last.epoch.saturating_add(1));
        let mut holders = BTreeSet::new();
        for receipt in &self.receipts {
            let said = &receipt.said;
            let key = next.member(&said.serial).and_then(|member| member.audit_key());
            if !key.is_some_and(|key| receipt.is_by(&key)) {
                return Err(DraftError::ReceiptSignature(said.serial.clone()));
            }
            let same = said.kek_id == one.kek_id && said.check == one.check;
            if said.group != next.group || said.epoch != number || !same {
                return Err(DraftError::ReceiptsDiffer(number));
            }
            holders.insert(said.serial.clone());
        }
        let needed = self.receipts_needed.unwrap_or(2).min(next.members.len());
        if holders.len() < needed {
            let found = holders.len();
            return Err(DraftError::ReceiptsMissing { found, needed });
        }
        next.epochs.push(Epoch {
            kek_id: one.kek_id.clone(),
            epoch: number,
            check: one.check.clone(),
        });
        Ok(())
    }
}

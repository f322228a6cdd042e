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

#[cfg(test)]
mod tests {
    use data_encoding::HEXLOWER;

    use super::*;
    use crate::token::{
        ceremony::signed::testing::signed,
        manifest::{Checks, Member, OaepHash},
        public_key::testing::Signer,
    };

    /// A token that exists on paper.
    struct Paper {
        serial: &'static str,
        audit: Signer,
    }

    impl Paper {
        fn new(serial: &'static str) -> Self {
            Self {
                serial,
                audit: Signer::ed25519(),
            }
        }

        fn said(&self, role: Role) -> EnrolRequest {
            // Unlike any other token's key.
            let mut modulus = vec![0xc5; 384];
            modulus[..32].copy_from_slice(&self.audit.public.spki()[12..44]);
            modulus[0] |= 0x80;
            let rsa = keyreeve_pkcs11::RsaPublicKey {
                modulus,
                exponent: vec![1, 0, 1],
            };
            EnrolRequest {
                v: 1,
                group: "ab".repeat(16),
                role,
                token: Member {
                    serial: self.serial.into(),
                    model: "paper".into(),
                    firmware: String::new(),
                    transport_spki: HEXLOWER.encode(&rsa.spki()),
                    audit_spki: HEXLOWER.encode(self.audit.public.spki()),
                    canary: HEXLOWER.encode(&self.audit.public.spki()[12..]),
                    probes: vec![],
                    oaep_hash: Some(OaepHash::Sha1),
                },
                nonce: "00".repeat(16),
                attestation: None,
            }
        }

        fn request(&self, role: Role) -> Signed<EnrolRequest> {
            signed(&self.said(role), &self.audit)
        }

        fn receipt(&self, epoch: u32, kek_id: &str) -> Signed<Receipt> {
            let receipt = Receipt {
                v: 1,
                group: "ab".repeat(16),
                epoch,
                kek_id: kek_id.repeat(16),
                serial: self.serial.into(),
                transfer: "00".repeat(32),
                check: Checks {
                    kek: kek_id.repeat(16),
                    bind: "02".repeat(16),
                    svc: "03".repeat(16),
                },
                keys: vec![],
            };
            signed(&receipt, &self.audit)
        }
    }

    fn after(previous: &Manifest) -> NextManifest {
        NextManifest {
            previous: Some(previous.clone()),
            ..NextManifest::default()
        }
    }

    fn found(members: &[&Paper]) -> Manifest {
        let enrol = members.iter().map(|token| token.request(Role::Member)).collect();
        let next = NextManifest {
            enrol,
            ..NextManifest::default()
        };
        next.draft().unwrap()
    }

    #[test]
    fn manifests_follow_each_other_by_number_and_hash() {
        let (a, b, r) = (Paper::new("a"), Paper::new("b"), Paper::new("r"));
        let first = found(&[&a, &b]);
        assert_eq!((first.seq, first.members.len()), (1, 2));
        let second = NextManifest {
            receipts: vec![a.receipt(1, "01"), b.receipt(1, "01")],
            enrol: vec![r.request(Role::Recovery)],
            ..after(&first)
        };
        let second = second.draft().unwrap();
        assert_eq!((second.seq, &second.prev), (2, &first.sha256()));
        assert_eq!((second.epochs[0].epoch, second.recovery.len()), (1, 1));
        let third = NextManifest {
            remove: vec!["a".into()],
            ..after(&second)
        };
        let third = third.draft().unwrap();
        assert_eq!((third.members.len(), third.epochs.len()), (1, 1));
    }

    #[test]
    fn an_epoch_needs_receipts_of_enough_members_that_agree() {
        let (a, b, x) = (Paper::new("a"), Paper::new("b"), Paper::new("x"));
        let first = found(&[&a, &b]);
        let with = |receipts| {
            NextManifest {
                receipts,
                ..after(&first)
            }
            .draft()
        };
        let missing = |result| matches!(result, Err(DraftError::ReceiptsMissing { found: 1, needed: 2 }));
        assert!(missing(with(vec![a.receipt(1, "01")])));
        assert!(missing(with(vec![a.receipt(1, "01"), a.receipt(1, "01")])));
        let differ = with(vec![a.receipt(1, "01"), b.receipt(1, "04")]);
        assert!(matches!(differ, Err(DraftError::ReceiptsDiffer(1))));
        let later = with(vec![a.receipt(2, "01"), b.receipt(2, "01")]);
        assert!(matches!(later, Err(DraftError::ReceiptsDiffer(1))));
        let stranger = with(vec![a.receipt(1, "01"), x.receipt(1, "01")]);
        assert!(matches!(stranger, Err(DraftError::ReceiptSignature(_))));
        let impostor = Paper {
            serial: "b",
            audit: Signer::ed25519(),
        };
        let forged = with(vec![a.receipt(1, "01"), impostor.receipt(1, "01")]);
        assert!(matches!(forged, Err(DraftError::ReceiptSignature(_))));
    }

    #[test]
    fn what_is_not_a_request_of_a_new_token_of_this_group_is_refused() {
        let (a, b) = (Paper::new("a"), Paper::new("b"));
        let first = found(&[&a]);
        let with = |request| {
            NextManifest {
                enrol: vec![request],
                ..after(&first)
            }
            .draft()
        };
        let swapped = signed(&b.said(Role::Member), &Signer::ed25519());
        assert!(matches!(with(swapped), Err(DraftError::EnrolSignature(_))));
        let mut other = b.said(Role::Member);
        other.group = "cd".repeat(16);
        assert!(matches!(
            with(signed(&other, &b.audit)),
            Err(DraftError::OtherGroup { .. })
        ));
        assert!(matches!(with(a.request(Role::Member)), Err(DraftError::Malformed(_))));
        assert!(matches!(with(a.request(Role::Recovery)), Err(DraftError::Malformed(_))));
    }

    #[test]
    fn a_group_keeps_a_member_and_nothing_is_drafted_of_nothing() {
        let a = Paper::new("a");
        let first = found(&[&a]);
        let remove = |serial: &str| {
            NextManifest {
                remove: vec![serial.into()],
                ..after(&first)
            }
            .draft()
        };
        assert!(matches!(remove("a"), Err(DraftError::Malformed(_))));
        assert!(matches!(remove("b"), Err(DraftError::Unknown(_))));
        assert!(matches!(after(&first).draft(), Err(DraftError::Nothing)));
        assert!(matches!(NextManifest::default().draft(), Err(DraftError::Nothing)));
    }
}

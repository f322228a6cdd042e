//! The keys of a new epoch: made in one member, wrapped to every token of the manifest, that member included, and gone again.
//!
//! For these moments they are session objects with EXTRACTABLE=1; no token object of them is ever extractable. Done with the server
//! stopped, under the eyes of custodians.

use aws_lc_rs::rand;
use data_encoding::HEXLOWER;
use keyreeve_pkcs11::Session;

use super::{
    error::CeremonyError,
    signed::Signed,
    statements::{Role, Transfer},
    this_token::ThisToken,
    transfer_keys::{Templates, TransferKeys},
};
use crate::token::{
    manifest::{Epoch, Manifest},
    root_keys::{FIRST_EPOCH, RootKeyError, find_svc},
};

/// Makes the epoch after the newest of `manifest`, and one transfer file for each of its tokens.
pub(super) fn make_epoch(
    session: &Session,
    manifest: &Manifest,
    serial: &str,
) -> Result<Vec<Signed<Transfer>>, CeremonyError> {
    let this = ThisToken::identify(session, manifest, serial, Role::Member)?;
    let (number, svc) = match manifest.epochs.last() {
        None => (FIRST_EPOCH, None),
        Some(last) => (
            last.epoch
                .checked_add(1)
                .ok_or(CeremonyError::EpochsExhausted(u32::MAX))?,
            Some(find_svc(session, &this.group)?),
        ),
    };
    let mut kek_id = [0; 16];
    rand::fill(&mut kek_id).map_err(|_| CeremonyError::Random)?;
    let templates = Templates::passing(session, &this.group, &kek_id, number);
    let keys = TransferKeys::generate(session, templates, svc.is_none())?;
    let sent = (|| {
        let epoch = Epoch {
            kek_id: HEXLOWER.encode(&kek_id),
            epoch: number,
            check: keys.checks(session, svc)?,
        };
        if manifest
            .epochs
            .last()
            .is_some_and(|last| last.check.svc != epoch.check.svc)
        {
            return Err(RootKeyError::WrongAnswer("SVC").into());
        }
        manifest.tokens().map(|to| this.send(&keys, to, &epoch)).collect()
    })();
    // Before anything else: these copies are extractable.
    keys.destroy(session)?;
    sent
}

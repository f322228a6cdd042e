//! The token of a configuration, opened for one step of a ceremony and closed again.
//!
//! One login attempt, as at a start; the server must not run on this token meanwhile. What was made is synced before a step returns.

use std::{
    fs::{File, TryLockError},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use super::{
    enrol::{enrol, examine},
    epoch::make_epoch,
    error::CeremonyError,
    import::{import, try_import},
    pass_on::pass_on,
    signed::Signed,
    statements::{EnrolRequest, Receipt, Role, Transfer},
    unfinished::{Stated, Unfinished},
};
use crate::token::{
    OpenError,
    config::TokenConfig,
    files,
    manifest::{Manifest, Member},
    open::{self, OpenToken},
    report, softhsm,
};

/// An open token.
pub struct TokenAtHand {
    /// `Some` until it is dropped.
    token: Option<OpenToken>,
    /// Where marks of unfinished steps are.
    data_directory: PathBuf,
    /// Of two steps at once, one would take the other's keys for those of a dead one. `Some` once it is held.
    lock: Option<File>,
}

impl TokenAtHand {
    /// `data_directory`: where latches live, and marks of unfinished steps. The manifest of the configuration is not read.
    pub fn open(config: &TokenConfig, data_directory: &Path) -> Result<Self, OpenError> {
        let token = open::open(config, data_directory, None)?;
        let mut at_hand = Self {
            token: Some(token),
            data_directory: data_directory.to_owned(),
            lock: None,
        };
        at_hand.lock = Some(at_hand.lock()?);
        Ok(at_hand)
    }

    fn lock(&self) -> Result<File, CeremonyError> {
        let name = format!("ceremony-token-{}.lock", files::name_of(self.serial()));
        let path = self.data_directory.join(name);
        let mut options = File::options();
        let opened = options.create(true).append(true).mode(0o600).open(&path);
        let failed = |error: TryLockError| CeremonyError::UnderWay {
            path: path.display().to_string(),
            error: error.into(),
        };
        let file = opened.map_err(|error| failed(TryLockError::Error(error)))?;
        file.try_lock().map_err(failed)?;
        Ok(file)
    }

    pub fn serial(&self) -> &str {
        &self.token().info.serial
    }

    /// SoftHSM, Kryoptic, NSS: no hardware protects the keys.
    pub fn is_software(&self) -> bool {
        report::is_software_token(&self.token().info)
    }

    /// Whether an enrolment was begun here and its request not handed over.
    pub fn has_begun_enrolment(&self) -> Result<bool, CeremonyError> {
        self.enrolment().is_begun()
    }

    /// Makes TRANSPORT, AUDIT and CANARY, and the request. `group`: `None` draws the id of a new one.
    pub fn enrol(
        &self,
        group: Option<[u8; 16]>,
        role: Role,
        attestation: Option<&[u8]>,
    ) -> Result<Stated<EnrolRequest>, OpenError> {
        let request = enrol(self.token(), group, role, attestation, self.enrolment())?;
        self.sync()?;
        Ok(request)
    }

    /// What a request would say of this token, but for its keys; tried on throwaway keys, and nothing is left.
    pub fn examine_for(&self, role: Role) -> Result<Member, OpenError> {
        examine(self.token(), role).map(|(_, member)| member)
    }

    /// Makes the keys of the next epoch, and a transfer file for each token of the manifest. Leaves nothing in the token.
    pub fn make_epoch(&self, manifest: &Manifest) -> Result<Vec<Signed<Transfer>>, CeremonyError> {
        make_epoch(&self.token().session, manifest, self.serial())
    }

    /// Whether an import of this file was begun here and its receipt not handed over.
    pub fn has_begun_import(&self, transfer: &Signed<Transfer>) -> Result<bool, CeremonyError> {
        self.import_of(transfer).is_begun()
    }

    /// Takes an epoch in. `manifests`: today's, and earlier ones that custodians signed, in case the token that sent it is gone.
    pub fn import(
        &self,
        manifests: (&Manifest, &[Manifest]),
        transfer: &Signed<Transfer>,
    ) -> Result<Stated<Receipt>, OpenError> {
        let token = self.token();
        let offered = token.module.mechanisms(token.info.slot)?;
        let mark = self.import_of(transfer);
        let receipt = import(&token.session, &offered, manifests, self.serial(), transfer, mark)?;
        self.sync()?;
        Ok(receipt)
    }

    /// Whether [`TokenAtHand::import`] would take the file: its keys are unwrapped, asked, and gone again.
    pub fn try_import(
        &self,
        manifests: (&Manifest, &[Manifest]),
        transfer: &Signed<Transfer>,
    ) -> Result<(), CeremonyError> {
        let mark = self.import_of(transfer);
        try_import(&self.token().session, manifests, self.serial(), transfer, &mark)
    }

    /// Wraps what this recovery token was sent for the token `to`, a member or another recovery token. Leaves nothing in the token.
    pub fn pass_on(
        &self,
        manifests: (&Manifest, &[Manifest]),
        kept: &[Signed<Transfer>],
        to: &str,
    ) -> Result<Vec<Signed<Transfer>>, CeremonyError> {
        pass_on(&self.token().session, manifests, self.serial(), kept, to)
    }

    fn enrolment(&self) -> Unfinished {
        Unfinished::enrolment(&self.data_directory, self.serial())
    }

    fn import_of(&self, transfer: &Signed<Transfer>) -> Unfinished {
        Unfinished::import(&self.data_directory, self.serial(), &transfer.sha256())
    }

    fn token(&self) -> &OpenToken {
        self.token.as_ref().expect("it is there until it is dropped")
    }

    fn sync(&self) -> Result<(), OpenError> {
        match softhsm::token_directory(self.token().module.path()) {
            Some(directory) => softhsm::sync(&directory).map_err(OpenError::Sync),
            None => Ok(()),
        }
    }
}

impl Drop for TokenAtHand {
    fn drop(&mut self) {
        if let Some(OpenToken { module, session, .. }) = self.token.take() {
            drop(session); // or the module could not be finalised
            open::finalise(&module);
        }
    }
}

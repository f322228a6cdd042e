//! Throwaway software tokens of `keyreeve dev`: initialised through the module, so that no PIN is in any process's arguments.

use std::{path::Path, sync::Arc};

use aws_lc_rs::rand;
use keyreeve_pkcs11::{Module, Pin};
use zeroize::Zeroizing;

use super::{OpenError, PinSource, pin, softhsm};

/// Makes a token labelled `label` in a slot without one; its user PIN is the content of `pin_file`.
///
/// The security officer's PIN is random and forgotten. An initialised token is never touched.
pub fn make_throwaway(module: &Path, label: &str, pin_file: &Path) -> Result<(), OpenError> {
    let user = pin::read(&PinSource::File(pin_file.to_owned()))?.pin;
    let mut bytes = Zeroizing::new([0; 16]);
    rand::fill(&mut *bytes).map_err(|_| OpenError::SelfTest("the host's random generator failed".into()))?;
    let officer = Pin::new(Zeroizing::new(data_encoding::HEXLOWER.encode(&*bytes).into_bytes()));
    let loaded = Arc::new(Module::load(module)?);
    let made = loaded.initialise_token(label, &officer, &user);
    let finalised = loaded.finalize();
    made?;
    finalised?;
    if let Some(directory) = softhsm::token_directory(module) {
        softhsm::sync(&directory).map_err(OpenError::Sync)?;
    }
    Ok(())
}

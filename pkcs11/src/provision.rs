//! Making a new token: C_InitToken and C_InitPIN, so that no PIN ever is in the arguments of a tool.
//!
//! For throwaway tokens of `keyreeve dev` and of tests. A production token is made with its vendor's own procedure.

use std::sync::Arc;

use cryptoki_sys::{CK_SLOT_ID, CK_ULONG};

use crate::{
    Access, Module, ModuleError, Pin, Selector, Session, TokenInfo,
    module::{check, function},
    rv::{CallError, Function},
};

/// Length of a label in CK_TOKEN_INFO.
const LABEL_LEN: usize = 32;

impl Module {
    /// Makes a token labelled `label`, at most 32 bytes, in the first slot whose token is not initialised, and sets its user PIN.
    ///
    /// Never touches a token that is initialised. Errors: `NoSuchToken` if every slot is in use.
    pub fn initialise_token(self: &Arc<Self>, label: &str, so_pin: &Pin, pin: &Pin) -> Result<TokenInfo, ModuleError> {
        let seen = self.tokens()?;
        let Some(slot) = seen.iter().find(|token| !token.initialized).map(|token| token.slot) else {
            let wanted = Selector::Label(label.to_owned());
            return Err(ModuleError::NoSuchToken { wanted, seen });
        };
        self.init_token(slot, label, so_pin)?;
        let session = Session::open(self, slot, Access::ReadWrite)?;
        session.init_pin(so_pin, pin)?;
        session.close()?;
        Ok(self.token_info(slot)?)
    }

    fn init_token(&self, slot: u64, label: &str, so_pin: &Pin) -> Result<(), CallError> {
        let call = function!(self, C_InitToken);
        let mut padded = [b' '; LABEL_LEN];
        let length = label.len().min(LABEL_LEN);
        padded[..length].copy_from_slice(&label.as_bytes()[..length]);
        let bytes = so_pin.bytes();
        // SAFETY: the PIN is live and of that length, the label has the 32 bytes that the function reads; it only reads both.
        let rv = unsafe {
            call(
                slot as CK_SLOT_ID,
                bytes.as_ptr().cast_mut(),
                bytes.len() as CK_ULONG,
                padded.as_mut_ptr(),
            )
        };
        check(Function::C_InitToken, rv)
    }
}

impl Session {
    /// As the security officer, who is logged out again: the process must not stay logged in as him.
    fn init_pin(&self, so_pin: &Pin, pin: &Pin) -> Result<(), CallError> {
        let login = function!(self.module, C_Login);
        let init_pin = function!(self.module, C_InitPIN);
        let officer = so_pin.bytes();
        // SAFETY: the PIN is live and of that length; a module only reads it.
        check(Function::C_Login, unsafe {
            login(
                self.handle,
                cryptoki_sys::CKU_SO,
                officer.as_ptr().cast_mut(),
                officer.len() as CK_ULONG,
            )
        })?;
        let user = pin.bytes();
        // SAFETY: as above.
        let set = check(Function::C_InitPIN, unsafe {
            init_pin(self.handle, user.as_ptr().cast_mut(), user.len() as CK_ULONG)
        });
        let out = self.logout();
        set.and(out)
    }
}

//! A session: one thread at a time, one call at a time. Opening, login, random numbers; other calls are in
//! `objects.rs`, `wrapping.rs` and `signing.rs`. All calls are raw and single: no size query, no allocation of its own.

use crate::codes::ReturnCode;
use crate::module::{Module, check, function};
use crate::pin::Pin;
use crate::rv::{CallError, Function};
use cryptoki_sys::{CK_SESSION_HANDLE, CK_SESSION_INFO, CK_ULONG};
use std::cell::Cell;
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Handle of an object; valid while the session that made it lives, for a token object while the module is initialised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ObjectHandle(pub u64);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    ReadOnly,
    ReadWrite,
}

/// C_GetSessionInfo, reduced to what is asked of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionInfo {
    pub slot: u64,
    pub logged_in: bool,
    pub read_write: bool,
}

/// An open session. `Send`, so that it can be opened here and used there; not `Sync`, since PKCS#11 keeps the state of an
/// operation in the session. Dropping it closes it, and with it every session object that it made.
pub struct Session {
    pub(crate) module: Arc<Module>,
    pub(crate) handle: CK_SESSION_HANDLE,
    _not_sync: PhantomData<Cell<()>>,
}

impl Session {
    pub fn open(module: &Arc<Module>, slot: u64, access: Access) -> Result<Session, CallError> {
        let mut flags = cryptoki_sys::CKF_SERIAL_SESSION;
        if access == Access::ReadWrite {
            flags |= cryptoki_sys::CKF_RW_SESSION;
        }
        let open = function!(module, C_OpenSession);
        let mut handle = 0;
        // SAFETY: no notification callback is given; `handle` is a live out-parameter.
        let rv = unsafe { open(slot as CK_ULONG, flags, std::ptr::null_mut(), None, &mut handle) };
        check(Function::C_OpenSession, rv)?;
        module.open_sessions.fetch_add(1, Ordering::SeqCst);
        Ok(Session {
            module: Arc::clone(module),
            handle,
            _not_sync: PhantomData,
        })
    }

    pub fn module(&self) -> &Arc<Module> {
        &self.module
    }

    /// Logs the user in, once. That somebody of this process did so before is success: login counts per process.
    pub fn login(&self, pin: &Pin) -> Result<(), CallError> {
        let login = function!(self.module, C_Login);
        let bytes = pin.bytes();
        // SAFETY: the PIN is live and of that length; the C signature lacks `const`, a module only reads it.
        let rv = unsafe {
            login(
                self.handle,
                cryptoki_sys::CKU_USER,
                bytes.as_ptr().cast_mut(),
                bytes.len() as CK_ULONG,
            )
        };
        match check(Function::C_Login, rv) {
            Err(CallError {
                code: ReturnCode::USER_ALREADY_LOGGED_IN,
                ..
            }) => Ok(()),
            result => result,
        }
    }

    /// Logs the whole process out of this token; every session object of every session dies.
    pub fn logout(&self) -> Result<(), CallError> {
        let logout = function!(self.module, C_Logout);
        // SAFETY: takes the session handle by value.
        check(Function::C_Logout, unsafe { logout(self.handle) })
    }

    pub fn info(&self) -> Result<SessionInfo, CallError> {
        let call = function!(self.module, C_GetSessionInfo);
        let mut info = CK_SESSION_INFO::default();
        // SAFETY: `info` is a live structure of the type that the function fills.
        check(Function::C_GetSessionInfo, unsafe { call(self.handle, &mut info) })?;
        let state = info.state;
        Ok(SessionInfo {
            slot: info.slotID,
            logged_in: state == cryptoki_sys::CKS_RO_USER_FUNCTIONS || state == cryptoki_sys::CKS_RW_USER_FUNCTIONS,
            read_write: info.flags & cryptoki_sys::CKF_RW_SESSION != 0,
        })
    }

    /// Fills `out` from the token's generator.
    pub fn random_into(&self, out: &mut [u8]) -> Result<(), CallError> {
        let call = function!(self.module, C_GenerateRandom);
        // SAFETY: `out` is live and of that length.
        let rv = unsafe { call(self.handle, out.as_mut_ptr(), out.len() as CK_ULONG) };
        check(Function::C_GenerateRandom, rv)
    }

    /// Closes the session and says whether the module agreed; dropping does the same silently.
    pub fn close(self) -> Result<(), CallError> {
        let this = std::mem::ManuallyDrop::new(self);
        let result = this.close_handle();
        // SAFETY: `this` is never touched again, so the module's reference is read out, and dropped, exactly once.
        drop(unsafe { std::ptr::read(&this.module) });
        result
    }

    fn close_handle(&self) -> Result<(), CallError> {
        self.module.open_sessions.fetch_sub(1, Ordering::SeqCst);
        let close = function!(self.module, C_CloseSession);
        // SAFETY: takes the session handle by value; a stale one is answered with an error.
        check(Function::C_CloseSession, unsafe { close(self.handle) })
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // A failure here has no one to tell, and nothing to be done: the session is gone or the module is.
        let _ = self.close_handle();
    }
}

//! MACs, signatures, and the encryption calls that only probes make.
//!
//! Each operation is exactly two PKCS#11 calls, Init and the final one, into a buffer that the caller owns.

use crate::codes::ReturnCode;
use crate::mechanism::Mechanism;
use crate::module::{check, function, within};
use crate::objects::plain;
use crate::rv::{CallError, Function};
use crate::session::{ObjectHandle, Session};
use crate::wrapping::{OaepHash, oaep};
use cryptoki_sys::{CK_BYTE, CK_MECHANISM, CK_RV, CK_SESSION_HANDLE, CK_ULONG};
use zeroize::Zeroizing;

pub(crate) type Init = unsafe extern "C" fn(CK_SESSION_HANDLE, *mut CK_MECHANISM, CK_ULONG) -> CK_RV;
pub(crate) type Final =
    unsafe extern "C" fn(CK_SESSION_HANDLE, *mut CK_BYTE, CK_ULONG, *mut CK_BYTE, *mut CK_ULONG) -> CK_RV;

impl Session {
    /// HMAC-SHA-512 of `data`: the hot path. C_SignInit and C_Sign, no allocation.
    pub fn hmac_sha512_into(&self, key: ObjectHandle, data: &[u8], out: &mut [u8; 64]) -> Result<(), CallError> {
        self.mac_into(Mechanism::SHA512_HMAC, key, data, out)
    }

    pub fn hmac_sha256(&self, key: ObjectHandle, data: &[u8]) -> Result<[u8; 32], CallError> {
        let mut out = [0; 32];
        self.mac_into(Mechanism::SHA256_HMAC, key, data, &mut out)?;
        Ok(out)
    }

    pub fn aes_cmac(&self, key: ObjectHandle, data: &[u8]) -> Result<[u8; 16], CallError> {
        let mut out = [0; 16];
        self.mac_into(Mechanism::AES_CMAC, key, data, &mut out)?;
        Ok(out)
    }

    /// Signs `data` into `out` and returns the signature's length. `out` must have room: there is no size query.
    pub fn sign_into(
        &self,
        mechanism: Mechanism,
        key: ObjectHandle,
        data: &[u8],
        out: &mut [u8],
    ) -> Result<usize, CallError> {
        let (init, sign) = (function!(self.module, C_SignInit), function!(self.module, C_Sign));
        self.init(Function::C_SignInit, init, mechanism, key)?;
        self.finish(Function::C_Sign, sign, data, out)
    }

    pub fn verify(
        &self,
        mechanism: Mechanism,
        key: ObjectHandle,
        data: &[u8],
        signature: &[u8],
    ) -> Result<(), CallError> {
        let (init, verify) = (function!(self.module, C_VerifyInit), function!(self.module, C_Verify));
        self.init(Function::C_VerifyInit, init, mechanism, key)?;
        // SAFETY: both inputs are live and of the stated lengths; a module only reads them.
        let rv = unsafe {
            verify(
                self.handle,
                data.as_ptr().cast_mut(),
                data.len() as CK_ULONG,
                signature.as_ptr().cast_mut(),
                signature.len() as CK_ULONG,
            )
        };
        check(Function::C_Verify, rv)
    }

    /// C_Encrypt with a mechanism without parameter: probes only.
    pub fn encrypt(&self, mechanism: Mechanism, key: ObjectHandle, data: &[u8]) -> Result<Vec<u8>, CallError> {
        let (init, encrypt) = (function!(self.module, C_EncryptInit), function!(self.module, C_Encrypt));
        self.init(Function::C_EncryptInit, init, mechanism, key)?;
        let mut out = vec![0; data.len() + 64];
        let len = self.finish(Function::C_Encrypt, encrypt, data, &mut out)?;
        out.truncate(len);
        Ok(out)
    }

    /// C_Decrypt with a mechanism without parameter: probes only. The result may be a key in clear, so it is wiped.
    pub fn decrypt(
        &self,
        mechanism: Mechanism,
        key: ObjectHandle,
        data: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, CallError> {
        self.decrypt_with(&mut plain(mechanism), key, data)
    }

    /// C_Decrypt with RSA-OAEP: probes only.
    pub fn decrypt_oaep(
        &self,
        hash: OaepHash,
        key: ObjectHandle,
        data: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, CallError> {
        self.decrypt_with(&mut oaep(&mut hash.parameters()), key, data)
    }

    fn decrypt_with(
        &self,
        mechanism: &mut CK_MECHANISM,
        key: ObjectHandle,
        data: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, CallError> {
        let (init, decrypt) = (function!(self.module, C_DecryptInit), function!(self.module, C_Decrypt));
        // SAFETY: the mechanism and its parameter are live for the call.
        check(Function::C_DecryptInit, unsafe { init(self.handle, mechanism, key.0) })?;
        let mut out = Zeroizing::new(vec![0; data.len() + 64]);
        let len = self.finish(Function::C_Decrypt, decrypt, data, &mut out)?;
        out.truncate(len);
        Ok(out)
    }

    /// A MAC that must fill `out` exactly: a shorter answer is not taken for a MAC.
    fn mac_into(&self, mechanism: Mechanism, key: ObjectHandle, data: &[u8], out: &mut [u8]) -> Result<(), CallError> {
        let wanted = out.len();
        let len = self.sign_into(mechanism, key, data, out)?;
        if len == wanted {
            Ok(())
        } else {
            Err(CallError {
                function: Function::C_Sign,
                code: ReturnCode::DEVICE_ERROR,
            })
        }
    }

    fn init(&self, function: Function, init: Init, mechanism: Mechanism, key: ObjectHandle) -> Result<(), CallError> {
        let mut mechanism = plain(mechanism);
        // SAFETY: the mechanism is live for the call and has no parameter.
        check(function, unsafe { init(self.handle, &mut mechanism, key.0) })
    }

    pub(crate) fn finish(
        &self,
        function: Function,
        call: Final,
        data: &[u8],
        out: &mut [u8],
    ) -> Result<usize, CallError> {
        let mut len = out.len() as CK_ULONG;
        // SAFETY: `data` is only read (the C signature lacks `const`); `out` has room for `len` bytes.
        let rv = unsafe {
            call(
                self.handle,
                data.as_ptr().cast_mut(),
                data.len() as CK_ULONG,
                out.as_mut_ptr(),
                &mut len,
            )
        };
        check(function, rv)?;
        within(function, len, out.len())
    }
}

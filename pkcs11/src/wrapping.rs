//! Wrapping and unwrapping keys under a key of the token.

use crate::mechanism::Mechanism;
use crate::module::{check, function};
use crate::objects::plain;
use crate::rv::{CallError, Function};
use crate::session::{ObjectHandle, Session};
use crate::template::Template;
use cryptoki_sys::CK_ULONG;

/// Room for the largest wrapped key: an RSA-4096 private key in PKCS#8 takes less than half of it.
const WRAPPED_CAPACITY: usize = 8 * 1024;

impl Session {
    /// Wraps `key` under `wrapping`. One call, cut to the length that the token returns: NSS announces 48 B and writes 40,
    /// and `cryptoki` keeps the 8 B of zeros.
    pub fn wrap(&self, mechanism: Mechanism, wrapping: ObjectHandle, key: ObjectHandle) -> Result<Vec<u8>, CallError> {
        let wrap = function!(self.module, C_WrapKey);
        let mut mechanism = plain(mechanism);
        let mut wrapped = vec![0; WRAPPED_CAPACITY];
        let mut len = wrapped.len() as CK_ULONG;
        // SAFETY: `wrapped` has room for `len` bytes, and the function writes at most that many.
        let rv = unsafe {
            wrap(
                self.handle,
                &mut mechanism,
                wrapping.0,
                key.0,
                wrapped.as_mut_ptr(),
                &mut len,
            )
        };
        check(Function::C_WrapKey, rv)?;
        wrapped.truncate(len as usize);
        wrapped.shrink_to_fit();
        Ok(wrapped)
    }

    /// Unwraps `wrapped` into a new object with exactly the attributes of `template`.
    pub fn unwrap(
        &self,
        mechanism: Mechanism,
        unwrapping: ObjectHandle,
        wrapped: &[u8],
        template: &Template,
    ) -> Result<ObjectHandle, CallError> {
        let unwrap = function!(self.module, C_UnwrapKey);
        let mut mechanism = plain(mechanism);
        let mut raw = template.raw();
        let mut key = 0;
        // SAFETY: all buffers are live and of the stated lengths; the C signature lacks `const` on the wrapped bytes.
        let rv = unsafe {
            unwrap(
                self.handle,
                &mut mechanism,
                unwrapping.0,
                wrapped.as_ptr().cast_mut(),
                wrapped.len() as CK_ULONG,
                raw.as_mut_ptr(),
                raw.len(),
                &mut key,
            )
        };
        check(Function::C_UnwrapKey, rv)?;
        Ok(ObjectHandle(key))
    }
}

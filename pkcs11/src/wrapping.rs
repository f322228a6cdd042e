//! Wrapping and unwrapping keys under a key of the token.

use crate::mechanism::Mechanism;
use crate::module::{check, function, within};
use crate::objects::plain;
use crate::rv::{CallError, Function};
use crate::session::{ObjectHandle, Session};
use crate::template::Template;
use cryptoki_sys::{CK_MECHANISM, CK_RSA_PKCS_OAEP_PARAMS, CK_ULONG};

/// Room for the largest wrapped key: an RSA-4096 private key in PKCS#8 takes less than half of it.
const WRAPPED_CAPACITY: usize = 8 * 1024;

/// Hash of RSA-OAEP; MGF1 is over the same one, and the label is empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OaepHash {
    Sha1,
    Sha256,
}

impl OaepHash {
    pub(crate) fn parameters(self) -> CK_RSA_PKCS_OAEP_PARAMS {
        let (hash, mgf) = match self {
            OaepHash::Sha1 => (cryptoki_sys::CKM_SHA_1, cryptoki_sys::CKG_MGF1_SHA1),
            OaepHash::Sha256 => (cryptoki_sys::CKM_SHA256, cryptoki_sys::CKG_MGF1_SHA256),
        };
        CK_RSA_PKCS_OAEP_PARAMS {
            hashAlg: hash,
            mgf,
            source: cryptoki_sys::CKZ_DATA_SPECIFIED,
            pSourceData: std::ptr::null_mut(),
            ulSourceDataLen: 0,
        }
    }
}

/// RSA-OAEP; it points to `parameters`.
pub(crate) fn oaep(parameters: &mut CK_RSA_PKCS_OAEP_PARAMS) -> CK_MECHANISM {
    CK_MECHANISM {
        mechanism: Mechanism::RSA_PKCS_OAEP.0,
        pParameter: (&raw mut *parameters).cast(),
        ulParameterLen: size_of::<CK_RSA_PKCS_OAEP_PARAMS>() as CK_ULONG,
    }
}

impl Session {
    /// Wraps `key` under `wrapping`. One call, cut to the length that the token returns: NSS announces 48 B and writes 40,
    /// and `cryptoki` keeps the 8 B of zeros.
    pub fn wrap(&self, mechanism: Mechanism, wrapping: ObjectHandle, key: ObjectHandle) -> Result<Vec<u8>, CallError> {
        self.wrap_with(&mut plain(mechanism), wrapping, key)
    }

    /// Wraps `key` for the owner of the RSA public key `wrapping`.
    pub fn wrap_oaep(&self, hash: OaepHash, wrapping: ObjectHandle, key: ObjectHandle) -> Result<Vec<u8>, CallError> {
        self.wrap_with(&mut oaep(&mut hash.parameters()), wrapping, key)
    }

    /// Unwraps with an RSA private key into a new object with exactly the attributes of `template`.
    pub fn unwrap_oaep(
        &self,
        hash: OaepHash,
        unwrapping: ObjectHandle,
        wrapped: &[u8],
        template: &Template,
    ) -> Result<ObjectHandle, CallError> {
        self.unwrap_with(&mut oaep(&mut hash.parameters()), unwrapping, wrapped, template)
    }

    fn wrap_with(
        &self,
        mechanism: &mut CK_MECHANISM,
        wrapping: ObjectHandle,
        key: ObjectHandle,
    ) -> Result<Vec<u8>, CallError> {
        let wrap = function!(self.module, C_WrapKey);
        let mut wrapped = vec![0; WRAPPED_CAPACITY];
        let mut len = wrapped.len() as CK_ULONG;
        // SAFETY: the mechanism and its parameter are live; `wrapped` has room for `len` bytes, and the function writes at most
        // that many.
        let rv = unsafe {
            wrap(
                self.handle,
                mechanism,
                wrapping.0,
                key.0,
                wrapped.as_mut_ptr(),
                &mut len,
            )
        };
        check(Function::C_WrapKey, rv)?;
        wrapped.truncate(within(Function::C_WrapKey, len, WRAPPED_CAPACITY)?);
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
        self.unwrap_with(&mut plain(mechanism), unwrapping, wrapped, template)
    }

    fn unwrap_with(
        &self,
        mechanism: &mut CK_MECHANISM,
        unwrapping: ObjectHandle,
        wrapped: &[u8],
        template: &Template,
    ) -> Result<ObjectHandle, CallError> {
        let unwrap = function!(self.module, C_UnwrapKey);
        let mut raw = template.raw();
        let mut key = 0;
        // SAFETY: all buffers are live and of the stated lengths; the C signature lacks `const` on the wrapped bytes.
        let rv = unsafe {
            unwrap(
                self.handle,
                mechanism,
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

//! AES-256-GCM in the token: an iv of 96 bits, a tag of 128, nothing else.
//!
//! A module may take an iv of no bytes and then use the same one each time (SoftHSM does), and tags of a few bits: both lengths are in the
//! types here. Source: PKCS#11 2.40 `CK_GCM_PARAMS`; 3.0 `CK_GCM_MESSAGE_PARAMS`; SP 800-38D.

use crate::codes::ReturnCode;
use crate::mechanism::Mechanism;
use crate::module::{check, function};
use crate::rv::{CallError, Function};
use crate::session::{ObjectHandle, Session};
use crate::signing::{Final, Init};
use cryptoki_sys::{CK_GCM_MESSAGE_PARAMS, CK_GCM_PARAMS, CK_MECHANISM, CK_ULONG};
use zeroize::Zeroizing;

const IV_LEN: usize = 12;
const TAG_LEN: usize = 16;

/// A function of the 3.0 table, or CKR_FUNCTION_NOT_SUPPORTED in a module without it.
macro_rules! function_3_0 {
    ($module:expr, $name:ident) => {
        $module.functions_3_0.and_then(|list| list.$name).ok_or(CallError {
            function: Function::$name,
            code: ReturnCode::FUNCTION_NOT_SUPPORTED,
        })?
    };
}

impl Session {
    /// Seals `plaintext` into `out` as ciphertext and tag, 16 bytes more. C_EncryptInit and C_Encrypt.
    /// `iv`: fresh for each message of the key; the caller draws it from the token's generator.
    pub fn gcm_seal_into(
        &self,
        key: ObjectHandle,
        iv: &[u8; IV_LEN],
        aad: &[u8],
        plaintext: &[u8],
        out: &mut [u8],
    ) -> Result<(), CallError> {
        let init = (Function::C_EncryptInit, function!(self.module, C_EncryptInit));
        let encrypt = (Function::C_Encrypt, function!(self.module, C_Encrypt));
        let length = self.gcm(init, encrypt, key, (iv, aad), plaintext, out)?;
        exactly(Function::C_Encrypt, length, plaintext.len() + TAG_LEN)
    }

    /// Opens ciphertext and tag. C_DecryptInit and C_Decrypt. A wrong tag is CKR_GENERAL_ERROR on SoftHSM, which says the same of a dead
    /// token, and CKR_ENCRYPTED_DATA_INVALID on Kryoptic. The plaintext is wiped on drop.
    pub fn gcm_open(
        &self,
        key: ObjectHandle,
        iv: &[u8; IV_LEN],
        aad: &[u8],
        ciphertext_and_tag: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, CallError> {
        let init = (Function::C_DecryptInit, function!(self.module, C_DecryptInit));
        let decrypt = (Function::C_Decrypt, function!(self.module, C_Decrypt));
        // Room for the tag, too: some modules want it although they do not fill it.
        let mut plaintext = Zeroizing::new(vec![0; ciphertext_and_tag.len()]);
        let length = self.gcm(init, decrypt, key, (iv, aad), ciphertext_and_tag, &mut plaintext)?;
        exactly(Function::C_Decrypt, length + TAG_LEN, ciphertext_and_tag.len())?;
        plaintext.truncate(length);
        Ok(plaintext)
    }

    /// The same as [`Self::gcm_seal_into`] with an iv of 96 random bits that the token makes and writes to `iv`
    /// (CKG_GENERATE_RANDOM, no fixed bits). C_MessageEncryptInit, C_EncryptMessage, C_MessageEncryptFinal.
    /// Errors: FUNCTION_NOT_SUPPORTED by a module without the message calls of PKCS#11 3.0.
    pub fn gcm_seal_with_token_iv(
        &self,
        key: ObjectHandle,
        iv: &mut [u8; IV_LEN],
        aad: &[u8],
        plaintext: &[u8],
        out: &mut [u8],
    ) -> Result<(), CallError> {
        let module = &self.module;
        let init = function_3_0!(module, C_MessageEncryptInit);
        let encrypt = function_3_0!(module, C_EncryptMessage);
        let end = function_3_0!(module, C_MessageEncryptFinal);
        let Some((ciphertext, tag)) = out.split_last_chunk_mut::<TAG_LEN>() else {
            return Err(wrong_length(Function::C_EncryptMessage));
        };
        let mut params = CK_GCM_MESSAGE_PARAMS {
            pIv: iv.as_mut_ptr(),
            ulIvLen: IV_LEN as CK_ULONG,
            ulIvFixedBits: 0,
            ivGenerator: cryptoki_sys::CKG_GENERATE_RANDOM,
            pTag: tag.as_mut_ptr(),
            ulTagBits: (TAG_LEN * 8) as CK_ULONG,
        };
        let params_len = size_of::<CK_GCM_MESSAGE_PARAMS>() as CK_ULONG;
        let mut mechanism = CK_MECHANISM {
            mechanism: Mechanism::AES_GCM.0,
            pParameter: (&raw mut params).cast(),
            ulParameterLen: params_len,
        };
        // SAFETY: mechanism, parameters and the buffers that they name are live for the call.
        let rv = unsafe { init(self.handle, &mut mechanism, key.0) };
        check(Function::C_MessageEncryptInit, rv)?;
        let mut length = ciphertext.len() as CK_ULONG;
        // SAFETY: parameters and buffers are live; `aad` and `plaintext` are only read (the C signature lacks `const`), `ciphertext` has
        // room for `length` bytes, iv and tag for the lengths that the parameters state.
        let rv = unsafe {
            encrypt(
                self.handle,
                (&raw mut params).cast(),
                params_len,
                aad.as_ptr().cast_mut(),
                aad.len() as CK_ULONG,
                plaintext.as_ptr().cast_mut(),
                plaintext.len() as CK_ULONG,
                ciphertext.as_mut_ptr(),
                &mut length,
            )
        };
        let encrypted = check(Function::C_EncryptMessage, rv);
        // SAFETY: takes the session handle by value. Called on errors too, so that the session stays usable.
        let ended = check(Function::C_MessageEncryptFinal, unsafe { end(self.handle) });
        encrypted.and(ended)?;
        exactly(Function::C_EncryptMessage, length as usize, plaintext.len())
    }

    /// Init and the final call; returns the length of what was written to `out`.
    fn gcm(
        &self,
        init: (Function, Init),
        last: (Function, Final),
        key: ObjectHandle,
        (iv, aad): (&[u8; IV_LEN], &[u8]),
        data: &[u8],
        out: &mut [u8],
    ) -> Result<usize, CallError> {
        let mut params = CK_GCM_PARAMS {
            pIv: iv.as_ptr().cast_mut(),
            ulIvLen: IV_LEN as CK_ULONG,
            ulIvBits: (IV_LEN * 8) as CK_ULONG,
            pAAD: aad.as_ptr().cast_mut(),
            ulAADLen: aad.len() as CK_ULONG,
            ulTagBits: (TAG_LEN * 8) as CK_ULONG,
        };
        let mut mechanism = CK_MECHANISM {
            mechanism: Mechanism::AES_GCM.0,
            pParameter: (&raw mut params).cast(),
            ulParameterLen: size_of::<CK_GCM_PARAMS>() as CK_ULONG,
        };
        // SAFETY: mechanism, parameters, iv and associated data live until the operation has ended; a module only reads the last two (the
        // C signature lacks `const`).
        check(init.0, unsafe { init.1(self.handle, &mut mechanism, key.0) })?;
        self.finish(last.0, last.1, data, out)
    }
}

/// A shorter or longer answer is not taken for one.
fn exactly(function: Function, length: usize, wanted: usize) -> Result<(), CallError> {
    if length == wanted {
        Ok(())
    } else {
        Err(wrong_length(function))
    }
}

fn wrong_length(function: Function) -> CallError {
    CallError {
        function,
        code: ReturnCode::DEVICE_ERROR,
    }
}

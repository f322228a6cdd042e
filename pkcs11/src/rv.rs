//! A failed call: which function, and what it answered. What must be done about it is in `class.rs`.

use crate::class::{Class, Vendor, class};
use crate::codes::ReturnCode;
use std::fmt;

/// A call into the module that failed: which function, and what it answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{function}: {code}")]
pub struct CallError {
    pub function: Function,
    pub code: ReturnCode,
}

impl CallError {
    /// `vendor`: of the token that answered.
    pub fn class(&self, vendor: Vendor) -> Class {
        class(self.function, self.code, vendor)
    }
}

macro_rules! functions {
    ($($name:ident),* $(,)?) => {
        /// A PKCS#11 function that this crate calls; variants carry the standard's spelling.
        #[allow(non_camel_case_types)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Function { $($name),* }

        impl Function {
            pub fn name(self) -> &'static str {
                match self { $(Function::$name => stringify!($name)),* }
            }
        }
    };
}

#[rustfmt::skip]
functions! {
    C_Initialize, C_Finalize, C_GetInfo, C_GetFunctionList, C_GetSlotList, C_GetTokenInfo, C_GetMechanismList,
    C_InitToken, C_InitPIN, C_OpenSession, C_CloseSession, C_GetSessionInfo, C_Login, C_Logout,
    C_CreateObject, C_CopyObject, C_DestroyObject, C_GetAttributeValue, C_SetAttributeValue,
    C_FindObjectsInit, C_FindObjects, C_FindObjectsFinal,
    C_EncryptInit, C_Encrypt, C_DecryptInit, C_Decrypt, C_SignInit, C_Sign, C_VerifyInit, C_Verify,
    C_GenerateKey, C_GenerateKeyPair, C_WrapKey, C_UnwrapKey, C_GenerateRandom,
    C_MessageEncryptInit, C_EncryptMessage, C_MessageEncryptFinal,
}

impl fmt::Display for Function {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_call_reads_as_function_and_code() {
        let error = CallError {
            function: Function::C_UnwrapKey,
            code: ReturnCode::TEMPLATE_INCONSISTENT,
        };
        assert_eq!(error.to_string(), "C_UnwrapKey: CKR_TEMPLATE_INCONSISTENT");
    }
}

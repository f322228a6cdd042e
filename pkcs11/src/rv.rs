//! A failed call, and the recovery class it demands (E1 to E13).
//!
//! The class depends on the function as well as the code: modules answer `CKR_GENERAL_ERROR` for a tampered input
//! (SoftHSM) as for a dead device. Acting on a class is the token layer's work.

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
    pub fn class(&self) -> Class {
        class(self.function, self.code)
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
}

impl fmt::Display for Function {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What must be done about a fault. `Hang`, `Crash` and `WrongAnswer` come from no return code: the token layer finds them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// E1: the caller's input; nothing is wrong with the token.
    Caller,
    /// E2: the input or the token; a known-answer call decides.
    Ambiguous,
    /// E3: discard the session and every handle it owns, open another, retry once.
    Session,
    /// E4: log in once more, retry once.
    Login,
    /// E5: find or unwrap the object again, retry once.
    Handle,
    /// E6: the token is gone or broken; restart the module.
    Token,
    /// E7: the library is in a wrong state; restart the module.
    Library,
    /// E8: no room; shrink and back off.
    Capacity,
    /// E9: the PIN; stop, no second attempt.
    Pin,
    /// E10: not supported or not permitted; a fault of capability or configuration.
    Policy,
    /// E11: no return by the deadline.
    Hang,
    /// E12: the process that hosted the module died.
    Crash,
    /// E13: the token answered, and the answer is wrong.
    WrongAnswer,
}

impl Class {
    pub const ALL: [Self; 13] = [
        Self::Caller,
        Self::Ambiguous,
        Self::Session,
        Self::Login,
        Self::Handle,
        Self::Token,
        Self::Library,
        Self::Capacity,
        Self::Pin,
        Self::Policy,
        Self::Hang,
        Self::Crash,
        Self::WrongAnswer,
    ];

    /// `E1` … `E13`: the label used in metrics and messages.
    pub fn name(self) -> &'static str {
        match self {
            Class::Caller => "E1",
            Class::Ambiguous => "E2",
            Class::Session => "E3",
            Class::Login => "E4",
            Class::Handle => "E5",
            Class::Token => "E6",
            Class::Library => "E7",
            Class::Capacity => "E8",
            Class::Pin => "E9",
            Class::Policy => "E10",
            Class::Hang => "E11",
            Class::Crash => "E12",
            Class::WrongAnswer => "E13",
        }
    }
}

fn class(function: Function, code: ReturnCode) -> Class {
    use ReturnCode as R;
    match code {
        R::DATA_INVALID
        | R::DATA_LEN_RANGE
        | R::KEY_SIZE_RANGE
        | R::ENCRYPTED_DATA_INVALID
        | R::ENCRYPTED_DATA_LEN_RANGE
        | R::AEAD_DECRYPT_FAILED
        | R::SIGNATURE_INVALID
        | R::SIGNATURE_LEN_RANGE
        | R::WRAPPED_KEY_INVALID
        | R::WRAPPED_KEY_LEN_RANGE => Class::Caller,

        R::GENERAL_ERROR | R::FUNCTION_FAILED | R::DEVICE_ERROR if opens(function) => Class::Ambiguous,

        R::SESSION_HANDLE_INVALID | R::SESSION_CLOSED | R::OPERATION_ACTIVE | R::OPERATION_NOT_INITIALIZED => {
            Class::Session
        }
        R::USER_NOT_LOGGED_IN => Class::Login,
        R::OBJECT_HANDLE_INVALID
        | R::KEY_HANDLE_INVALID
        | R::WRAPPING_KEY_HANDLE_INVALID
        | R::UNWRAPPING_KEY_HANDLE_INVALID => Class::Handle,

        R::GENERAL_ERROR
        | R::FUNCTION_FAILED
        | R::DEVICE_ERROR
        | R::DEVICE_REMOVED
        | R::TOKEN_NOT_PRESENT
        | R::TOKEN_NOT_RECOGNIZED
        | R::SLOT_ID_INVALID
        | R::FIPS_SELF_TEST_FAILED
        | R::RANDOM_NO_RNG => Class::Token,

        R::CRYPTOKI_NOT_INITIALIZED
        | R::CRYPTOKI_ALREADY_INITIALIZED
        | R::MUTEX_BAD
        | R::MUTEX_NOT_LOCKED
        | R::CANT_LOCK
        | R::NEED_TO_CREATE_THREADS
        | R::LIBRARY_LOAD_FAILED => Class::Library,

        R::SESSION_COUNT | R::DEVICE_MEMORY | R::HOST_MEMORY | R::TOKEN_RESOURCE_EXCEEDED => Class::Capacity,

        R::PIN_INCORRECT
        | R::PIN_INVALID
        | R::PIN_LEN_RANGE
        | R::PIN_LOCKED
        | R::PIN_EXPIRED
        | R::PIN_TOO_WEAK
        | R::USER_PIN_NOT_INITIALIZED => Class::Pin,

        // A code that the standard does not know says nothing: let the known-answer call decide.
        code if code.name().is_none() => Class::Ambiguous,
        R::FUNCTION_CANCELED | R::CANCEL => Class::Ambiguous,

        _ => Class::Policy,
    }
}

/// Functions that open what somebody else sealed, so that a device error may be only a bad input in disguise.
fn opens(function: Function) -> bool {
    matches!(
        function,
        Function::C_Decrypt | Function::C_Verify | Function::C_UnwrapKey
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_general_error_is_ambiguous_on_opening_and_a_dead_token_elsewhere() {
        assert_eq!(class(Function::C_Decrypt, ReturnCode::GENERAL_ERROR), Class::Ambiguous);
        assert_eq!(class(Function::C_UnwrapKey, ReturnCode::DEVICE_ERROR), Class::Ambiguous);
        assert_eq!(class(Function::C_Sign, ReturnCode::GENERAL_ERROR), Class::Token);
    }

    #[test]
    fn every_class_of_the_table_is_reached_by_its_codes() {
        let of = |code| class(Function::C_Sign, code).name();
        assert_eq!(of(ReturnCode::SIGNATURE_INVALID), "E1");
        assert_eq!(of(ReturnCode::OPERATION_ACTIVE), "E3");
        assert_eq!(of(ReturnCode::USER_NOT_LOGGED_IN), "E4");
        assert_eq!(of(ReturnCode::KEY_HANDLE_INVALID), "E5");
        assert_eq!(of(ReturnCode::DEVICE_REMOVED), "E6");
        assert_eq!(of(ReturnCode::CRYPTOKI_NOT_INITIALIZED), "E7");
        assert_eq!(of(ReturnCode::HOST_MEMORY), "E8");
        assert_eq!(of(ReturnCode::PIN_LOCKED), "E9");
        assert_eq!(of(ReturnCode::TEMPLATE_INCONSISTENT), "E10");
        assert_eq!(of(ReturnCode(0x8000_0042)), "E2");
    }

    #[test]
    fn a_failed_call_reads_as_function_and_code() {
        let error = CallError {
            function: Function::C_UnwrapKey,
            code: ReturnCode::TEMPLATE_INCONSISTENT,
        };
        assert_eq!(error.to_string(), "C_UnwrapKey: CKR_TEMPLATE_INCONSISTENT");
    }
}

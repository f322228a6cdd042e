//! The recovery class (E1 to E13) that a return code demands.
//!
//! It depends on code, function and vendor: modules answer `CKR_GENERAL_ERROR` for a tampered input (SoftHSM) as for a dead
//! device. Every code of the standard has a place here (the compiler sees to it), printed in `docs/tokens.md`. Acting on a
//! class is the token layer's work.

use crate::codes::{Named, ReturnCode};
use crate::rv::Function;

/// Whose module it is, as far as its return codes mean something else than the standard's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Vendor {
    /// NSS softoken: was seen to answer BUFFER_TOO_SMALL for a wrong HMAC.
    Nss,
    /// Answers GENERAL_ERROR when it is to use a private key and the login is lost.
    Kryoptic,
    /// Keeps to the standard, or to what is the rule for all: tampered input is GENERAL_ERROR on SoftHSM, DEVICE_ERROR on Kryoptic.
    Other,
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

/// Exhaustive on purpose, without `_ =>`: a code that the standard gains must be given a class by somebody.
pub(crate) fn class(function: Function, code: ReturnCode, vendor: Vendor) -> Class {
    use Named as N;
    let opens = opens(function);
    let Some(code) = code.named() else {
        // A vendor's own code says nothing: let the known-answer call decide.
        return Class::Ambiguous;
    };
    match code {
        N::BUFFER_TOO_SMALL if opens && vendor == Vendor::Nss => Class::Ambiguous,
        N::GENERAL_ERROR | N::FUNCTION_FAILED | N::DEVICE_ERROR if opens => Class::Ambiguous,
        N::GENERAL_ERROR if vendor == Vendor::Kryoptic && takes_key(function) => Class::Login,
        // Somebody at the device said no, or it gave up waiting: it may be asked again.
        N::CANCEL | N::FUNCTION_CANCELED => Class::Ambiguous,

        N::DATA_INVALID
        | N::DATA_LEN_RANGE
        | N::KEY_SIZE_RANGE
        | N::ENCRYPTED_DATA_INVALID
        | N::ENCRYPTED_DATA_LEN_RANGE
        | N::AEAD_DECRYPT_FAILED
        | N::SIGNATURE_INVALID
        | N::SIGNATURE_LEN_RANGE
        | N::WRAPPED_KEY_INVALID
        | N::WRAPPED_KEY_LEN_RANGE
        | N::PUBLIC_KEY_INVALID => Class::Caller,

        N::SESSION_HANDLE_INVALID
        | N::SESSION_CLOSED
        | N::OPERATION_ACTIVE
        | N::OPERATION_NOT_INITIALIZED
        | N::OPERATION_CANCEL_FAILED
        | N::PENDING => Class::Session,

        N::USER_NOT_LOGGED_IN | N::USER_ALREADY_LOGGED_IN => Class::Login,

        N::OBJECT_HANDLE_INVALID
        | N::KEY_HANDLE_INVALID
        | N::WRAPPING_KEY_HANDLE_INVALID
        | N::UNWRAPPING_KEY_HANDLE_INVALID => Class::Handle,

        N::GENERAL_ERROR
        | N::FUNCTION_FAILED
        | N::DEVICE_ERROR
        | N::DEVICE_REMOVED
        | N::TOKEN_NOT_PRESENT
        | N::TOKEN_NOT_RECOGNIZED
        | N::TOKEN_NOT_INITIALIZED
        | N::SLOT_ID_INVALID
        | N::RANDOM_NO_RNG => Class::Token,

        N::CRYPTOKI_NOT_INITIALIZED
        | N::CRYPTOKI_ALREADY_INITIALIZED
        | N::MUTEX_BAD
        | N::MUTEX_NOT_LOCKED
        | N::CANT_LOCK
        | N::NEED_TO_CREATE_THREADS
        | N::LIBRARY_LOAD_FAILED => Class::Library,

        N::SESSION_COUNT | N::DEVICE_MEMORY | N::HOST_MEMORY | N::TOKEN_RESOURCE_EXCEEDED => Class::Capacity,

        N::PIN_INCORRECT
        | N::PIN_INVALID
        | N::PIN_LEN_RANGE
        | N::PIN_LOCKED
        | N::PIN_EXPIRED
        | N::PIN_TOO_WEAK
        | N::USER_PIN_NOT_INITIALIZED
        | N::NEW_PIN_MODE
        | N::NEXT_OTP => Class::Pin,

        N::FIPS_SELF_TEST_FAILED => Class::WrongAnswer,

        // What the token cannot or may not do, and what this program should not have asked.
        N::ARGUMENTS_BAD
        | N::ACTION_PROHIBITED
        | N::ATTRIBUTE_READ_ONLY
        | N::ATTRIBUTE_SENSITIVE
        | N::ATTRIBUTE_TYPE_INVALID
        | N::ATTRIBUTE_VALUE_INVALID
        | N::BUFFER_TOO_SMALL
        | N::CURVE_NOT_SUPPORTED
        | N::DOMAIN_PARAMS_INVALID
        | N::EXCEEDED_MAX_ITERATIONS
        | N::FUNCTION_NOT_PARALLEL
        | N::FUNCTION_NOT_SUPPORTED
        | N::FUNCTION_REJECTED
        | N::INFORMATION_SENSITIVE
        | N::KEY_CHANGED
        | N::KEY_EXHAUSTED
        | N::KEY_FUNCTION_NOT_PERMITTED
        | N::KEY_INDIGESTIBLE
        | N::KEY_NEEDED
        | N::KEY_NOT_NEEDED
        | N::KEY_NOT_WRAPPABLE
        | N::KEY_TYPE_INCONSISTENT
        | N::KEY_UNEXTRACTABLE
        | N::MECHANISM_INVALID
        | N::MECHANISM_PARAM_INVALID
        | N::NO_EVENT
        | N::OPERATION_NOT_VALIDATED
        | N::PARAMETER_SET_NOT_SUPPORTED
        | N::RANDOM_SEED_NOT_SUPPORTED
        | N::SAVED_STATE_INVALID
        | N::SEED_RANDOM_REQUIRED
        | N::SESSION_ASYNC_NOT_SUPPORTED
        | N::SESSION_EXISTS
        | N::SESSION_PARALLEL_NOT_SUPPORTED
        | N::SESSION_READ_ONLY
        | N::SESSION_READ_ONLY_EXISTS
        | N::SESSION_READ_WRITE_SO_EXISTS
        | N::STATE_UNSAVEABLE
        | N::TEMPLATE_INCOMPLETE
        | N::TEMPLATE_INCONSISTENT
        | N::TOKEN_WRITE_PROTECTED
        | N::UNWRAPPING_KEY_SIZE_RANGE
        | N::UNWRAPPING_KEY_TYPE_INCONSISTENT
        | N::USER_ANOTHER_ALREADY_LOGGED_IN
        | N::USER_TOO_MANY_TYPES
        | N::USER_TYPE_INVALID
        | N::WRAPPING_KEY_SIZE_RANGE
        | N::WRAPPING_KEY_TYPE_INCONSISTENT
        // No failure, so no call error is made of it.
        | N::OK => Class::Policy,
    }
}

/// Functions that take the handle of a key, and open nothing with it.
fn takes_key(function: Function) -> bool {
    matches!(
        function,
        Function::C_SignInit
            | Function::C_VerifyInit
            | Function::C_EncryptInit
            | Function::C_DecryptInit
            | Function::C_WrapKey
            | Function::C_GetAttributeValue
    )
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

    const DOCUMENT: &str = include_str!("../../docs/tokens.md");

    fn of(function: Function, code: ReturnCode) -> Class {
        class(function, code, Vendor::Other)
    }

    #[test]
    fn a_general_error_is_ambiguous_on_opening_and_a_dead_token_elsewhere() {
        assert_eq!(of(Function::C_Decrypt, ReturnCode::GENERAL_ERROR), Class::Ambiguous);
        assert_eq!(of(Function::C_UnwrapKey, ReturnCode::DEVICE_ERROR), Class::Ambiguous);
        assert_eq!(of(Function::C_Sign, ReturnCode::GENERAL_ERROR), Class::Token);
    }

    #[test]
    fn a_vendors_rule_holds_for_that_vendor_and_those_functions_only() {
        let small = ReturnCode::BUFFER_TOO_SMALL;
        assert_eq!(class(Function::C_Verify, small, Vendor::Nss), Class::Ambiguous);
        assert_eq!(class(Function::C_Sign, small, Vendor::Nss), Class::Policy);
        assert_eq!(class(Function::C_Verify, small, Vendor::Other), Class::Policy);
        let general = ReturnCode::GENERAL_ERROR;
        assert_eq!(class(Function::C_SignInit, general, Vendor::Kryoptic), Class::Login);
        assert_eq!(class(Function::C_Sign, general, Vendor::Kryoptic), Class::Token);
        assert_eq!(class(Function::C_SignInit, general, Vendor::Other), Class::Token);
    }

    #[test]
    fn every_code_has_the_class_that_the_document_prints() {
        // "| E3 session | `SESSION_CLOSED`, … | … |"
        let rows = DOCUMENT.lines().filter_map(|line| line.strip_prefix("| E"));
        let rows = rows.filter(|row| row.starts_with(|first: char| first.is_ascii_digit()));
        let mut printed: Vec<(&str, String)> = rows
            .filter_map(|row| {
                let (number, rest) = row.split_once(' ')?;
                let codes = rest.split('|').nth(1)?;
                Some(
                    codes
                        .split('`')
                        .skip(1)
                        .step_by(2)
                        .map(move |code| (code, format!("E{number}"))),
                )
            })
            .flatten()
            .collect();
        let mut ours: Vec<(&str, String)> = ReturnCode::NAMED
            .iter()
            .filter(|code| **code != ReturnCode::OK)
            .filter_map(|code| {
                let name = code.name()?.strip_prefix("CKR_")?;
                Some((name, of(Function::C_Sign, *code).name().to_owned()))
            })
            .collect();
        printed.sort_unstable();
        ours.sort_unstable();
        assert_eq!(printed, ours);
    }

    #[test]
    fn a_vendors_own_code_is_ambiguous_in_every_function() {
        for function in [Function::C_Sign, Function::C_UnwrapKey, Function::C_Login] {
            assert_eq!(of(function, ReturnCode(0x8000_0042)), Class::Ambiguous);
        }
    }
}

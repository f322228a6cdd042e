//! The classes E1 to E13, and what makes a token fail in the manner of each.

use keyreeve_faultmod::{Fault, Function, ReturnCode, When};

use crate::fixture::returned;

pub const CLASSES: [&str; 13] = [
    "E1", "E2", "E3", "E4", "E5", "E6", "E7", "E8", "E9", "E10", "E11", "E12", "E13",
];
/// That a worker cures or answers; they may strike at any time.
pub const HARMLESS: [&str; 7] = ["E1", "E2", "E3", "E4", "E5", "E8", "E10"];

/// Faults of a class.
pub fn faults_of(class: &str) -> Vec<(Function, Fault)> {
    use Function::*;
    use ReturnCode as R;
    let codes = |codes: &[(Function, ReturnCode)]| {
        let both = |(function, code): &(Function, ReturnCode)| {
            [When::Before, When::After].map(|when| (*function, returned(*code, when)))
        };
        codes.iter().flat_map(both).collect()
    };
    let everywhere = |fault: fn(When) -> Fault| {
        let functions = [C_SignInit, C_Sign, C_UnwrapKey, C_GenerateRandom, C_GenerateKey];
        let both = |function| [When::Before, When::After].map(|when| (function, fault(when)));
        functions.into_iter().flat_map(both).collect()
    };
    match class {
        "E1" => codes(&[(C_Sign, R::DATA_LEN_RANGE), (C_SignInit, R::KEY_SIZE_RANGE)]),
        "E2" => codes(&[
            (C_UnwrapKey, R::GENERAL_ERROR),
            (C_UnwrapKey, ReturnCode(0x8000_0042)),
            (C_GenerateRandom, R::FUNCTION_CANCELED),
        ]),
        // On C_UnwrapKey it is the keeper that goes, with every key.
        "E3" => everywhere(|when| Fault::DropSession { when }),
        "E4" => vec![
            (C_Sign, returned(R::USER_NOT_LOGGED_IN, When::Before)),
            (C_SignInit, Fault::Logout { when: When::Before }),
        ],
        "E5" => codes(&[
            (C_SignInit, R::KEY_HANDLE_INVALID),
            (C_UnwrapKey, R::UNWRAPPING_KEY_HANDLE_INVALID),
            (C_WrapKey, R::KEY_HANDLE_INVALID),
        ]),
        "E6" => codes(&[
            (C_Sign, R::DEVICE_REMOVED),
            (C_Sign, R::GENERAL_ERROR),
            (C_GenerateKey, R::FUNCTION_FAILED),
        ]),
        "E7" => codes(&[(C_Sign, R::CRYPTOKI_NOT_INITIALIZED), (C_GenerateRandom, R::MUTEX_BAD)]),
        "E8" => codes(&[
            (C_Sign, R::HOST_MEMORY),
            (C_UnwrapKey, R::DEVICE_MEMORY),
            (C_GenerateKey, R::TOKEN_RESOURCE_EXCEEDED),
        ]),
        "E9" => vec![(C_Login, returned(R::PIN_INCORRECT, When::Before))],
        "E10" => codes(&[
            (C_SignInit, R::MECHANISM_INVALID),
            (C_GenerateKey, R::TEMPLATE_INCOMPLETE),
        ]),
        "E11" => everywhere(|when| Fault::Hang { when }),
        "E12" => everywhere(|when| Fault::Abort { when }),
        "E13" => vec![
            (C_Sign, returned(R::FIPS_SELF_TEST_FAILED, When::Before)),
            (C_WrapKey, Fault::CorruptOutput { bit: Some(5) }),
        ],
        other => panic!("no class {other}"),
    }
}

//! What each return code of each function leads to: its class, what the caller sees, whether the token is latched, and that the
//! next call works where it should. In threads and in worker processes, on both tokens.

use keyreeve::token::{Host, Isolation};
use keyreeve_faultmod::{Function, ReturnCode, When};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};

use crate::{
    consequence::Seen::{self, Latched, Lost, Nothing, Overloaded, Refused, Unavailable},
    contract,
    fixture::{ISOLATION, returned},
    support::{self, Kind, TestModule},
    trial::{Expected, Trial},
};

contract! { steered through faultmod:
    every_return_code_has_its_class_and_its_consequence => in_threads;
    every_return_code_has_its_consequence_in_worker_processes => in_workers;
}

/// Function, code, class, what is seen.
type Row = (Function, ReturnCode, &'static str, Seen);

const VENDORS_OWN: ReturnCode = ReturnCode(0x8000_0042);

#[rustfmt::skip]
const TABLE: &[Row] = {
    use Function::*;
    type R = ReturnCode;
    &[
        (C_SignInit, R::KEY_SIZE_RANGE, "E1", Refused),
        (C_SignInit, R::FUNCTION_CANCELED, "E2", Nothing),
        (C_SignInit, R::OPERATION_ACTIVE, "E3", Nothing),
        (C_SignInit, R::USER_NOT_LOGGED_IN, "E4", Nothing),
        (C_SignInit, R::OBJECT_HANDLE_INVALID, "E5", Nothing),
        (C_SignInit, R::DEVICE_ERROR, "E6", Lost),
        (C_SignInit, R::MECHANISM_INVALID, "E10", Refused),
        (C_SignInit, R::KEY_FUNCTION_NOT_PERMITTED, "E10", Refused),
        (C_Sign, R::DATA_LEN_RANGE, "E1", Refused),
        (C_Sign, VENDORS_OWN, "E2", Nothing),
        (C_Sign, R::SESSION_HANDLE_INVALID, "E3", Nothing),
        (C_Sign, R::SESSION_CLOSED, "E3", Nothing),
        (C_Sign, R::OPERATION_NOT_INITIALIZED, "E3", Nothing),
        (C_Sign, R::KEY_HANDLE_INVALID, "E5", Nothing),
        (C_Sign, R::GENERAL_ERROR, "E6", Lost),
        (C_Sign, R::FUNCTION_FAILED, "E6", Lost),
        (C_Sign, R::DEVICE_REMOVED, "E6", Lost),
        (C_Sign, R::TOKEN_NOT_PRESENT, "E6", Lost),
        (C_Sign, R::CRYPTOKI_NOT_INITIALIZED, "E7", Lost),
        (C_Sign, R::MUTEX_BAD, "E7", Lost),
        (C_Sign, R::HOST_MEMORY, "E8", Overloaded),
        (C_Sign, R::PIN_EXPIRED, "E9", Latched),
        (C_Sign, R::BUFFER_TOO_SMALL, "E10", Refused),
        (C_Sign, R::FIPS_SELF_TEST_FAILED, "E13", Latched),
        (C_UnwrapKey, R::GENERAL_ERROR, "E2", Nothing),
        (C_UnwrapKey, R::FUNCTION_FAILED, "E2", Nothing),
        (C_UnwrapKey, R::DEVICE_ERROR, "E2", Nothing),
        (C_UnwrapKey, R::UNWRAPPING_KEY_HANDLE_INVALID, "E5", Nothing),
        (C_UnwrapKey, R::DEVICE_REMOVED, "E6", Lost),
        (C_UnwrapKey, R::DEVICE_MEMORY, "E8", Overloaded),
        (C_UnwrapKey, R::TEMPLATE_INCONSISTENT, "E10", Refused),
        (C_UnwrapKey, R::WRAPPED_KEY_INVALID, "E13", Latched),
        (C_GenerateKey, R::SESSION_CLOSED, "E3", Nothing),
        (C_GenerateKey, R::FUNCTION_FAILED, "E6", Lost),
        (C_GenerateKey, R::TOKEN_RESOURCE_EXCEEDED, "E8", Overloaded),
        (C_GenerateKey, R::TEMPLATE_INCOMPLETE, "E10", Refused),
        (C_WrapKey, R::WRAPPING_KEY_HANDLE_INVALID, "E5", Nothing),
        (C_WrapKey, R::KEY_UNEXTRACTABLE, "E10", Refused),
        (C_DestroyObject, R::SESSION_HANDLE_INVALID, "E3", Nothing),
        (C_DestroyObject, R::GENERAL_ERROR, "E6", Lost),
        (C_GenerateRandom, R::OPERATION_ACTIVE, "E3", Nothing),
        (C_GenerateRandom, R::RANDOM_NO_RNG, "E6", Lost),
        (C_GenerateRandom, R::RANDOM_SEED_NOT_SUPPORTED, "E10", Refused),
        (C_GetAttributeValue, R::OBJECT_HANDLE_INVALID, "E5", Nothing),
        (C_GetAttributeValue, R::ATTRIBUTE_VALUE_INVALID, "E10", Refused),
        // In a recovery: from a session that is lost, or from a login that is.
        (C_CloseSession, R::SESSION_CLOSED, "E3", Nothing),
        (C_OpenSession, R::SESSION_COUNT, "E8", Overloaded),
        (C_OpenSession, R::SLOT_ID_INVALID, "E6", Lost),
        (C_OpenSession, R::TOKEN_NOT_RECOGNIZED, "E6", Lost),
        (C_OpenSession, R::CANT_LOCK, "E7", Lost),
        (C_GetSessionInfo, R::SESSION_HANDLE_INVALID, "E3", Unavailable),
        (C_FindObjectsInit, R::OPERATION_ACTIVE, "E3", Unavailable),
        (C_Login, R::FUNCTION_FAILED, "E6", Lost),
        (C_Login, R::HOST_MEMORY, "E8", Overloaded),
        (C_Login, R::PIN_INCORRECT, "E9", Latched),
        (C_Login, R::PIN_LOCKED, "E9", Latched),
        (C_Login, R::NEXT_OTP, "E9", Latched),
    ]
};

/// Rows of one vendor.
fn rows_of(kind: Kind) -> &'static [Row] {
    match kind {
        Kind::SoftHsm => &[(Function::C_SignInit, ReturnCode::GENERAL_ERROR, "E6", Lost)],
        Kind::Kryoptic => &[
            (Function::C_SignInit, ReturnCode::GENERAL_ERROR, "E4", Nothing),
            (Function::C_WrapKey, ReturnCode::GENERAL_ERROR, "E4", Nothing),
        ],
    }
}

fn in_threads(test: &TestModule) {
    run_all(test, Some(PrometheusBuilder::new().install_recorder().unwrap()));
}

fn in_workers(test: &TestModule) {
    ISOLATION.set(Isolation::Process).expect("one test, one process");
    run_all(test, None);
}

fn run_all(test: &TestModule, metrics: Option<PrometheusHandle>) {
    let mut trial = Trial::new(test, metrics);
    for (function, code, class, seen) in TABLE.iter().chain(rows_of(test.kind)) {
        // Nobody hears what a session answers that is closed because it is lost.
        let class = (*function != Function::C_CloseSession).then_some(*class);
        for when in [When::Before, When::After] {
            trial.run(Expected {
                function: *function,
                fault: returned(*code, when),
                class,
                seen: *seen,
            });
        }
    }
    trial.host.stop();
}

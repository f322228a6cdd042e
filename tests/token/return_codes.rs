//! What each return code of each function leads to: its class, what the caller sees, whether the token is latched, and that the
//! next call works where it should. In threads and in worker processes, on both tokens.

use std::sync::Arc;

use keyreeve::{
    model::Blob,
    token::{Call, Host, Isolation, Latch, TokenConfig, TokenError},
};
use keyreeve_envelope::prf_commit::MessageKeys;
use keyreeve_faultmod::{Controller, Fault, Function, ReturnCode, Rule, Schedule, When};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};

use crate::{
    contract,
    fixture::{
        ISOLATION, TestHost, ask, assert_same, controller, data, initialised, keys, make, place, returned, serve,
    },
    support::{self, Kind, TestModule},
};

contract! { steered through faultmod:
    every_return_code_has_its_class_and_its_consequence => in_threads;
    every_return_code_has_its_consequence_in_worker_processes => in_workers;
}

/// What becomes of a call that met the code once.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Seen {
    /// Nothing: it is answered as ever.
    Nothing,
    /// FAILED_PRECONDITION.
    Refused,
    /// RESOURCE_EXHAUSTED.
    Overloaded,
    /// UNAVAILABLE, and the next one is served.
    Unavailable,
    /// The process with the module is lost: the thread form is latched until its restart, another worker answers.
    Lost,
    /// Latched on disk.
    Latched,
}
use Seen::{Latched, Lost, Nothing, Overloaded, Refused, Unavailable};

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
    let metrics = PrometheusBuilder::new().install_recorder().unwrap();
    Trial::run_all(test, Some(metrics));
}

fn in_workers(test: &TestModule) {
    ISOLATION.set(Isolation::Process).expect("one test, one process");
    Trial::run_all(test, None);
}

struct Trial<'a> {
    test: &'a TestModule,
    controller: Controller,
    config: TokenConfig,
    blob: Arc<Blob>,
    before: MessageKeys,
    host: TestHost,
    /// Of this process, so in the thread form only.
    metrics: Option<PrometheusHandle>,
    /// Failures that were cured since the host started: too many end it.
    cured: u32,
}

impl<'a> Trial<'a> {
    fn run_all(test: &'a TestModule, metrics: Option<PrometheusHandle>) {
        let controller = controller(test);
        let config = initialised(test);
        let host = serve(test, config.clone()).unwrap();
        let blob = Arc::new(make(&host, place(1)).blob);
        let before = keys(&host, &blob, place(1)).unwrap();
        let mut trial = Trial {
            test,
            controller,
            config,
            blob,
            before,
            host,
            metrics,
            cured: 0,
        };
        for row in TABLE.iter().chain(rows_of(test.kind)) {
            for when in [When::Before, When::After] {
                trial.run(*row, when);
            }
        }
        trial.host.stop();
    }

    fn run(&mut self, (function, code, class, seen): Row, when: When) {
        let name = format!("{function} {} {when:?}", code.0);
        let blob = *self.blob.sha256();
        ask(&self.host, Call::Evict { blob }).unwrap();
        let failures = self.failures(class);
        let fault = Rule::on(function, returned(code, when)).times(1);
        let schedule = needed_for(function).into_iter().fold(Schedule::new(1), Schedule::rule);
        self.controller.set_for(self.host.pid(), schedule.rule(fault)).unwrap();
        let answer = ask(&self.host, call_with(function, &self.blob));

        let in_workers = self.metrics.is_none();
        let expected = match (&answer, seen) {
            (Ok(_), Nothing) => true,
            (Ok(_), Lost) => in_workers,
            (Err(TokenError::Refused(_)), Refused) => true,
            (Err(TokenError::Overloaded { .. }), Overloaded) => true,
            (Err(TokenError::Unavailable(_)), Unavailable) => true,
            (Err(TokenError::Unavailable(_)), Lost) => !in_workers,
            (Err(TokenError::Unavailable(_) | TokenError::WrongAnswer(_)), Latched) => true,
            _ => false,
        };
        assert!(
            expected,
            "{name}: {seen:?} expected, but {:?}",
            answer.map(|_| "answered")
        );
        if self.metrics.is_some() && function != Function::C_CloseSession {
            assert!(self.failures(class) > failures, "{name}: not counted as {class}");
        }
        self.assert_latched(&name, class, seen);
        self.controller.clear().unwrap();
        // Of the session or login that was lost on purpose, and of the row itself.
        self.cured += u32::from(needed_for(function).is_some()) + u32::from(matches!(class, "E3" | "E4" | "E5"));
        if matches!(seen, Lost | Latched) || self.cured >= 3 {
            self.restart();
        }
        let failures = self.failures("");
        let after = keys(&self.host, &self.blob, place(1)).unwrap_or_else(|error| panic!("{name}, the next: {error}"));
        assert_same(&self.before, &after, place(1));
        assert_eq!(self.host.status().fault, None, "{name}");
        assert_eq!(
            self.failures(""),
            failures,
            "{name}: something was left for the next call"
        );
    }

    fn assert_latched(&self, name: &str, class: &str, seen: Seen) {
        let latched = Latch::of(&data(self.test), &self.host.status().serial).read();
        let latched = latched.map(|latched| latched.class);
        assert_eq!(latched.as_deref(), (seen == Latched).then_some(class), "{name}");
        let fails = match seen {
            Latched => true,
            Lost => self.metrics.is_some(),
            Nothing | Refused | Overloaded | Unavailable => false,
        };
        assert_eq!(self.host.status().fault.is_some(), fails, "{name}");
    }

    /// As an operator does who found the cause, and as a supervisor does.
    fn restart(&mut self) {
        self.host.stop();
        let latch = Latch::of(&data(self.test), &self.host.status().serial);
        if latch.read().is_some() {
            assert!(serve(self.test, self.config.clone()).is_err(), "it is latched");
            latch.unlatch("a test", "it goes on").unwrap();
        }
        self.host = serve(self.test, self.config.clone()).unwrap();
        self.cured = 0;
    }

    /// How often this class, or with an empty name any, has occurred in this process.
    fn failures(&self, class: &str) -> u64 {
        let text = self.metrics.as_ref().map(PrometheusHandle::render).unwrap_or_default();
        let counts = text
            .lines()
            .filter_map(|line| line.strip_prefix("keyreeve_token_failures_total{class=\""));
        let counts = counts.filter_map(|line| {
            let (labels, count) = line.split_once(' ')?;
            Some((labels.split_once('"')?.0, count))
        });
        let wanted = counts.filter(|(name, _)| class.is_empty() || *name == class);
        wanted.map(|(_, count)| count.parse::<u64>().unwrap()).sum()
    }
}

/// The faults without which `function` is not called.
fn needed_for(function: Function) -> Option<Rule> {
    let needed = match function {
        Function::C_OpenSession
        | Function::C_CloseSession
        | Function::C_GetSessionInfo
        | Function::C_FindObjectsInit => returned(ReturnCode::SESSION_CLOSED, When::Before),
        Function::C_Login => Fault::Logout { when: When::Before },
        _ => return None,
    };
    Some(Rule::on(Function::C_SignInit, needed).times(1))
}

/// A call that calls `function`.
fn call_with(function: Function, blob: &Arc<Blob>) -> Call {
    match function {
        Function::C_GenerateKey | Function::C_WrapKey | Function::C_DestroyObject => Call::MakeEnvelopeKey {
            place: place(2),
            suite: keyreeve_envelope::Suite::PrfCommit,
            residency: keyreeve::model::Residency::Wrapped,
            created_ms: 1,
        },
        Function::C_GenerateRandom => Call::Random { length: 32 },
        Function::C_GetAttributeValue => Call::MasterKeyAttributes,
        _ => crate::fixture::keys_call(blob, place(1), 1),
    }
}

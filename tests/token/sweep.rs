//! Every single fault: each function of PKCS#11 that a serving token calls, or a start does, with each return code of the standard, before
//! and after the real call, and with each other kind of fault, one at a time under a small workload.
//!
//! What is seen must be what the class of the code says (`consequence.rs`): the caller's error, the class that is counted, the state of
//! breaker and latch; then a token that still serves, or serves after its restart, with the keys that it had. Faults that only a process
//! can suffer (hang, abort) strike workers only. Starts are tried in the thread form: it is the same code that opens a token in a worker.
//!
//! What no class can tell, and no check here either: bytes that a token computes with a key that it alone has (message keys, random bytes,
//! plaintexts that it opened) are taken as they are.
//!
//! A hundred of some 9,500 cases a token on threads, and of 4,700 on workers, by default, always the same ones. `KEYREEVE_SWEEP=all` runs
//! every one, which takes 3 minutes of CPU a token and form; `KEYREEVE_SWEEP=0.1` runs a tenth.

use std::panic::AssertUnwindSafe;

use keyreeve::token::{Answer, Host, OpenError, TokenError};
use keyreeve_faultmod::{Fault, Function, ReturnCode, Rule, Schedule, When};
use keyreeve_pkcs11::{Class, Function as Called};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};

use crate::{
    consequence::{
        AT_START, AtStart, IN_SERVICE, Seen, WITH_IVS_GIVEN, WITH_IVS_MADE, at_start, chooses_ivs, class_of,
        in_service, needed_for,
    },
    contract,
    contract::by_workers,
    dice::Dice,
    fixture::{returned, serve},
    support::{self, Kind, TestModule},
    trial::{Expected, Trial},
};

contract! { steered through faultmod:
    every_single_fault_has_the_consequence_of_its_class => in_threads;
    every_single_fault_has_its_consequence_in_worker_processes => by_workers(in_workers);
}

/// Cases by default.
const SUBSET: usize = 100;
const SEED: u64 = 1;
/// The standard names no such code.
const VENDORS_OWN: ReturnCode = ReturnCode(0x8000_0042);
const BOTH: [When; 2] = [When::Before, When::After];

#[derive(Clone, Copy, Debug)]
enum Case {
    /// A code in a token that serves.
    Code(Expected),
    /// A code in the first call of a function at a start.
    Start(Function, Called, ReturnCode, When),
    /// Another fault, with what is seen of it where that is certain.
    Other(Function, Fault, Option<Seen>),
}

fn in_threads(test: &TestModule) {
    let metrics = PrometheusBuilder::new().install_recorder().unwrap();
    let mut cases = codes(test.kind);
    cases.extend(starts(test.kind));
    cases.extend(others(test.kind));
    run_all(test, Some(metrics), cases);
}

fn in_workers(test: &TestModule) {
    let mut cases = codes(test.kind);
    cases.extend(others(test.kind));
    cases.extend(ends(test.kind));
    run_all(test, None, cases);
}

fn run_all(test: &TestModule, metrics: Option<PrometheusHandle>, mut cases: Vec<Case>) {
    let all = cases.len();
    Dice(SEED).shuffle(&mut cases);
    cases.truncate(match std::env::var("KEYREEVE_SWEEP").as_deref() {
        Err(_) => SUBSET,
        Ok("all") => all,
        Ok(part) => (part.parse::<f64>().unwrap() * all as f64).ceil() as usize,
    });
    let mut trial = Trial::new(test, metrics);
    let mut failed = vec![];
    for case in &cases {
        // One that fails is told, and the rest goes on.
        let run = AssertUnwindSafe(|| case.run(&mut trial));
        if std::panic::catch_unwind(run).is_err() {
            eprintln!("sweep: failed: {case:?}");
            failed.push(case);
            trial.begin_anew();
        }
    }
    trial.host.stop();
    eprintln!("sweep: {} of {all} cases, {} failed", cases.len(), failed.len());
    assert!(failed.is_empty(), "{failed:#?}");
}

impl Case {
    fn run(&self, trial: &mut Trial<'_>) {
        match *self {
            Self::Code(expected) => trial.run(expected),
            Self::Start(function, called, code, when) => start(trial, (function, called), code, when),
            Self::Other(function, fault, Some(seen)) => trial.run(Expected {
                function,
                fault,
                class: None,
                seen,
            }),
            Self::Other(function, fault, None) => lie(trial, function, fault),
        }
    }
}

fn functions(kind: Kind) -> Vec<(Function, Called)> {
    let own = match kind {
        Kind::SoftHsm => WITH_IVS_GIVEN,
        Kind::Kryoptic => WITH_IVS_MADE,
    };
    [IN_SERVICE, own].concat()
}

fn every_code() -> impl Iterator<Item = (ReturnCode, When)> {
    let named = keyreeve_pkcs11::ReturnCode::NAMED.iter().map(|code| ReturnCode(code.0));
    let failures = named.filter(|code| *code != ReturnCode::OK).chain([VENDORS_OWN]);
    failures.flat_map(|code| BOTH.map(|when| (code, when)))
}

fn codes(kind: Kind) -> Vec<Case> {
    let of_function = |call: (Function, Called)| {
        every_code().map(move |(code, when)| {
            if (call.0, code, when) == (Function::C_Login, ReturnCode::USER_ALREADY_LOGGED_IN, When::Before) {
                // A lie: the token says success and is not logged in, so its keys are not found.
                return Case::Other(call.0, returned(code, when), Some(Seen::Lost));
            }
            let (class, seen) = match (call.0, code) {
                (Function::C_Login, ReturnCode::USER_ALREADY_LOGGED_IN) => (None, Seen::Nothing),
                _ => in_service(kind, call, code),
            };
            Case::Code(Expected {
                function: call.0,
                fault: returned(code, when),
                class: class.map(Class::name),
                seen,
            })
        })
    };
    functions(kind).into_iter().flat_map(of_function).collect()
}

fn starts(kind: Kind) -> Vec<Case> {
    let not_at_start = [Function::C_CloseSession, Function::C_GetSessionInfo];
    let called = functions(kind).into_iter().chain(AT_START.iter().copied());
    let called = called.filter(|(function, _)| !not_at_start.contains(function));
    let of_function = |(function, called)| every_code().map(move |(code, when)| (function, called, code, when));
    // A module that is initialised, and says that it is not, can be told nothing more by its process.
    let is_possible = |(function, _, _, when): &(Function, Called, ReturnCode, When)| {
        (*function, *when) != (Function::C_Initialize, When::After)
    };
    called
        .flat_map(of_function)
        .filter(is_possible)
        .map(|(function, called, code, when)| Case::Start(function, called, code, when))
        .collect()
}

/// What is no return code, and ends no process.
fn others(kind: Kind) -> Vec<Case> {
    let mut cases = vec![];
    for (function, _) in functions(kind) {
        for when in BOTH {
            cases.push(Case::Other(
                function,
                Fault::Delay { ms: 20, when },
                Some(Seen::Nothing),
            ));
            if needed_for(function).is_none() {
                let lost = [Fault::DropSession { when }, Fault::Logout { when }];
                cases.extend(lost.map(|fault| Case::Other(function, fault, Some(Seen::Nothing))));
            }
        }
        if needed_for(function).is_none() {
            cases.push(Case::Other(function, Fault::TokenGone, Some(Seen::Lost)));
        }
        for fault in (0..6)
            .map(|bit| Fault::CorruptOutput { bit: Some(bit) })
            .chain([Fault::OverstateLength])
        {
            let rule = Schedule::new(1).rule(Rule::on(function, fault));
            // Refused where the function returns nothing that could be wrong.
            if Schedule::parse(&serde_json::to_string(&rule).unwrap()).is_ok() {
                cases.push(Case::Other(function, fault, None));
            }
        }
    }
    cases
}

/// What ends a worker, or does not let it answer.
fn ends(kind: Kind) -> Vec<Case> {
    let of_function = |(function, _)| {
        BOTH.map(|when| [Fault::Hang { when }, Fault::Abort { when }])
            .into_iter()
            .flatten()
            .map(move |fault| Case::Other(function, fault, Some(Seen::Lost)))
    };
    functions(kind).into_iter().flat_map(of_function).collect()
}

/// A token that answers wrongly: no wrong plaintext, no PIN that is tried for it, and a token that serves again.
fn lie(trial: &mut Trial<'_>, function: Function, fault: Fault) {
    let (answer, _) = trial.meet(function, fault);
    // What a token computes with a key that it alone has, nobody else can check.
    let may_be_wrong = matches!(
        function,
        Function::C_Sign | Function::C_Decrypt | Function::C_GenerateRandom
    );
    if !may_be_wrong {
        trial.check_answer(&answer);
    }
    trial.controller.clear().unwrap();
    let class = trial.latch().read().map(|latched| latched.class);
    assert!(
        matches!(class.as_deref(), None | Some("E13")),
        "{function} {fault:?}: {class:?}"
    );
    assert!(
        !matches!(answer, Err(TokenError::Expired)) && !matches!(answer, Ok(Answer::Occupied)),
        "{function} {fault:?}"
    );
    trial.restart();
    trial.check_all(&format!("{function} {fault:?}"));
}

/// A start that meets the fault fails or is as good as any, and latches, as the class says; the next one serves.
fn start(trial: &mut Trial<'_>, (function, called): (Function, Called), code: ReturnCode, when: When) {
    let class = class_of(trial.test.kind, called, code);
    let name = format!("start, {function} {} {when:?}, {}", code.0, class.name());
    trial.host.stop();
    trial.trace.forget();
    let fault = Rule::on(function, returned(code, when)).times(1);
    trial.controller.set(Schedule::new(1).rule(fault)).unwrap();
    let started = serve(trial.test, trial.config.clone());
    trial.controller.clear().unwrap();
    let lines = trial.trace.read();
    assert!(lines.iter().any(|line| line.fault.is_some()), "{name}: it never struck");
    let logins = lines.iter().filter(|line| line.function == Function::C_Login).count();
    assert!(logins <= 1, "{name}: {logins} logins");

    let latched = trial.latch().read().map(|latched| latched.class);
    let outcome = started.as_ref().map(drop).map_err(OpenError::is_final);
    match started {
        // Not with one that asks for no ivs any more.
        Ok(host) if !chooses_ivs(function) => trial.go_on_with(host),
        Ok(host) => {
            host.stop();
            trial.restart();
        }
        Err(_) => trial.restart(),
    }
    let seen = match (&outcome, latched.as_deref()) {
        (Ok(()), None) => AtStart::Serves,
        (Err(false), None) => AtStart::Fails,
        (Err(true), Some(class)) if class == "E9" || class == "E13" => AtStart::Latches,
        _ => panic!("{name}: {outcome:?}, latched {latched:?}"),
    };
    let may_be = at_start(function, class, code);
    assert!(may_be.contains(&seen), "{name}: {seen:?}, {latched:?}");
    if seen == AtStart::Latches {
        let wanted = if class == Class::Pin { "E9" } else { "E13" };
        assert_eq!(latched.as_deref(), Some(wanted), "{name}");
    }
    trial.check_all(&name);
}

//! Workers of one token that start at once, one that logs in again meanwhile; and what a start must latch for.
//!
//! SoftHSM's C_Login truncates the file of the token before it writes it anew: a process that looks at the token just then sees none.
//! From C_Initialize to the end of C_Login one process after the other has its turn, whichever service it belongs to. Kryoptic keeps its
//! token in a database, which does that by itself.

use std::{collections::HashMap, sync::Arc};

use keyreeve::token::{Host, Latch, TokenConfig};
use keyreeve_faultmod::{Fault, Function, ReturnCode, TraceLine, When};

use crate::{
    contract,
    fixture::{assert_same, controller, data, initialised, keys, make, once, place, returned, start, workers},
    support::{self, Kind, TRACE, TestModule},
    workers::standby,
};

contract! { steered through faultmod:
    workers_that_start_at_once_all_serve_and_take_turns_where_the_token_needs_it => at_once;
    a_start_latches_for_the_codes_that_latch_in_service => latching;
}

/// Each is a service of its own, with a worker at work and one that is ready.
const SERVICES: usize = 5;
const ROUNDS: usize = 3;

fn at_once(test: &TestModule) {
    let controller = controller(test);
    let config = named_like_the_token(test, initialised(test));
    let first = workers(test, config.clone()).unwrap();
    let blob = Arc::new(make(&first.host, place(1)).blob);
    let before = keys(&first.host, &blob, place(1)).unwrap();
    for _ in 0..ROUNDS {
        let (active, _) = standby(&first);
        let logout = Fault::Logout { when: When::Before };
        controller.set_for(active, once(Function::C_SignInit, logout)).unwrap();
        std::thread::scope(|scope| {
            for _ in 0..SERVICES {
                scope.spawn(|| {
                    let served = workers(test, config.clone()).unwrap();
                    standby(&served);
                    assert_same(&before, &keys(&served.host, &blob, place(1)).unwrap(), place(1));
                    assert_eq!(served.host.status().fault, None);
                    served.host.stop();
                });
            }
            assert_same(&before, &keys(&first.host, &blob, place(1)).unwrap(), place(1));
        });
        assert_eq!(first.host.workers().0, Some(active), "it logged in again");
    }
    first.host.stop();

    let starts = starts(test);
    // Those of `init` and of the logins again, too.
    assert!(starts.len() > 2 * SERVICES * ROUNDS, "{} logins", starts.len());
    if test.kind == Kind::SoftHsm {
        for pair in starts.windows(2) {
            assert!(pair[0].1 <= pair[1].0, "two logins at once: {pair:?}");
        }
    }
}

fn latching(test: &TestModule) {
    let controller = controller(test);
    let config = initialised(test);
    let serial = {
        let served = start(test, config.clone()).unwrap();
        served.stop();
        served.status().serial
    };
    let latch = Latch::of(&data(test), &serial);
    for (function, code, class) in [
        (Function::C_OpenSession, ReturnCode::FIPS_SELF_TEST_FAILED, "E13"),
        (Function::C_Login, ReturnCode::FIPS_SELF_TEST_FAILED, "E13"),
        (Function::C_Sign, ReturnCode::FIPS_SELF_TEST_FAILED, "E13"),
        (Function::C_OpenSession, ReturnCode::PIN_LOCKED, "E9"),
        (Function::C_Login, ReturnCode::PIN_LOCKED, "E9"),
        (Function::C_Sign, ReturnCode::PIN_EXPIRED, "E9"),
    ] {
        controller.set(once(function, returned(code, When::Before))).unwrap();
        let error = start(test, config.clone()).err().expect("the token failed");
        controller.clear().unwrap();
        assert!(error.is_final(), "{function}: {error}");
        assert_eq!(latch.read().unwrap().class, class, "{function}: {error}");
        assert!(start(test, config.clone()).is_err(), "it is latched");
        latch.unlatch("a test", "it goes on").unwrap();
    }
    start(test, config).unwrap().stop();
}

/// SoftHSM is known by its name; the module that stands before it is given one like it.
fn named_like_the_token(test: &TestModule, mut config: TokenConfig) -> TokenConfig {
    if test.kind == Kind::SoftHsm {
        let path = test.directory.join("libsofthsm2_through_faultmod.so");
        std::fs::copy(&config.module, &path).unwrap();
        config.module = path;
    }
    config
}

/// When each login began, which for the first of a process is its C_Initialize, and when it ended, in microseconds and in order.
fn starts(test: &TestModule) -> Vec<(u64, u64)> {
    let text = std::fs::read_to_string(test.directory.join(TRACE)).unwrap();
    let wanted = [Function::C_Initialize, Function::C_Login];
    let is_wanted = |line: &&str| wanted.iter().any(|function| line.contains(function.name()));
    let text: String = text.split_inclusive('\n').filter(is_wanted).collect();
    let mut began = HashMap::new();
    let mut starts = vec![];
    for line in keyreeve_faultmod::read_trace(&text).unwrap() {
        let TraceLine {
            pid,
            time_us,
            function,
            code,
            duration_us,
            ..
        } = line;
        assert_eq!(code, Some(ReturnCode::OK), "{function}");
        match function {
            Function::C_Initialize => drop(began.insert(pid, time_us)),
            _ => starts.push((began.remove(&pid).unwrap_or(time_us), time_us + duration_us.unwrap())),
        }
    }
    starts.sort_unstable();
    starts
}

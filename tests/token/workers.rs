//! Worker processes that are killed, hang, abort, lose their token or answer wrongly: what becomes of calls, and of the token.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use keyreeve::{
    model::Blob,
    token::{BreakerState, Call, Host, Lane, Latch, OpenError, Program, TokenError, worker::Trial},
};
use keyreeve_envelope::prf_commit::MessageKeys;
use keyreeve_faultmod::{Fault, Function, ReturnCode, Rule, Schedule, When};

use crate::{
    contract,
    fixture::{
        Workers, ask, assert_same, config, controller, data, initialised, keys, keys_call, make, once, place, returned,
        submit, workers, workers_of,
    },
    support::{self, TestModule},
};

contract! {
    killed_workers_cost_no_call_an_error => killed;
    a_wrong_pin_is_tried_once_by_all_workers_together => wrong_pin;
    three_deaths_within_a_minute_end_the_service_of_the_token => crash_loop;
    workers_end_with_the_host => end;
    a_worker_that_is_stopped_is_replaced_at_work_and_in_waiting => stopped;
    calls_behind_slow_ones_do_not_hang => slow;
    a_module_in_a_worker_reaches_its_own_files_and_nothing_else => sandbox;
    a_program_that_is_no_worker_says_which_it_is => no_worker;
}

contract! { steered through faultmod:
    a_hung_call_is_answered_by_the_worker_that_was_ready => hung;
    a_call_that_two_workers_died_of_is_not_tried_again => poison;
    a_lost_token_in_one_worker_is_no_error_for_the_caller => lost_token;
    a_wrong_answer_ends_the_service_of_the_token => wrong_answer;
    a_breaker_is_open_while_no_worker_starts_and_closes_after_probes => breaker;
}

fn started(test: &TestModule) -> (Workers, Arc<Blob>, MessageKeys) {
    let mut config = initialised(test);
    config.call_deadline_ms = 500;
    let served = workers(test, config).unwrap();
    let blob = Arc::new(make(&served.host, place(1)).blob);
    let before = keys(&served.host, &blob, place(1)).unwrap();
    standby(&served);
    (served, blob, before)
}

/// Waits until a second worker is ready. Returns the pids of the one that works and of that one.
pub fn standby(served: &Workers) -> (u32, u32) {
    wait_for(|| {
        let (active, standby) = served.host.workers();
        active.zip(standby)
    })
}

fn wait_for<T>(mut look: impl FnMut() -> Option<T>) -> T {
    let until = Instant::now() + Duration::from_secs(20);
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < until, "it does not come");
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn kill(pid: u32) {
    signal(pid, rustix::process::Signal::KILL);
}

fn signal(pid: u32, signal: rustix::process::Signal) {
    let pid = rustix::process::Pid::from_raw(pid.try_into().unwrap()).unwrap();
    rustix::process::kill_process(pid, signal).unwrap();
}

fn is_alive(pid: u32) -> bool {
    std::path::Path::new(&format!("/proc/{pid}")).exists()
}

fn killed(test: &TestModule) {
    let (served, blob, before) = started(test);
    let (stop, calls) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    assert_same(&before, &keys(&served.host, &blob, place(1)).unwrap(), place(1));
                    calls.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        // Twice: a third death within a minute ends the service on purpose.
        for _ in 0..2 {
            let done = calls.load(Ordering::Relaxed);
            while calls.load(Ordering::Relaxed) < done + 200 {
                std::thread::yield_now();
            }
            let (active, ready) = standby(&served);
            kill(active);
            wait_for(|| (served.host.workers().0 == Some(ready)).then_some(()));
        }
        standby(&served);
        stop.store(true, Ordering::Relaxed);
    });
    assert_eq!(served.host.status().fault, None);
    served.host.stop();
}

fn wrong_pin(test: &TestModule) {
    let config = initialised(test);
    std::fs::write(config.pin_file.clone().unwrap(), "000000\n").unwrap();
    let error = workers(test, config.clone()).err().expect("the PIN is wrong");
    assert!(
        matches!(&error, OpenError::WorkerSays(trouble) if trouble.is_final),
        "{error}"
    );
    assert!(error.to_string().contains("tried once"), "{error}");
    let error = workers(test, config.clone()).err().expect("the latch holds");
    assert!(error.to_string().contains("is not tried again"), "{error}");
    assert!(!error.to_string().contains("000000"));
    std::fs::write(config.pin_file.clone().unwrap(), support::PIN).unwrap();
    workers(test, config).unwrap().host.stop();
}

fn end(test: &TestModule) {
    let (served, ..) = started(test);
    let (active, ready) = standby(&served);
    assert!(is_alive(active) && is_alive(ready));
    served.host.stop();
    assert!(!is_alive(active) && !is_alive(ready));
}

fn stopped(test: &TestModule) {
    let (served, blob, before) = started(test);
    for stop_the_ready_one in [false, true] {
        let (active, ready) = standby(&served);
        let stopped = if stop_the_ready_one { ready } else { active };
        signal(stopped, rustix::process::Signal::STOP);
        // Of the one at work: answered by the other.
        assert_same(&before, &keys(&served.host, &blob, place(1)).unwrap(), place(1));
        wait_for(|| (!is_alive(stopped)).then_some(()));
    }
    standby(&served);
    assert_eq!(served.host.status().fault, None);
    served.host.stop();
}

fn slow(test: &TestModule) {
    let mut config = initialised(test);
    config.call_deadline_ms = 500;
    config.insecure_test_call_delay_us = 200_000;
    let served = workers(test, config).unwrap();
    let blob = Arc::new(make(&served.host, place(1)).blob);
    let (active, _) = standby(&served);
    // Three seconds of work for two threads, and all of it in the worker at once.
    let calls: Vec<_> = (0..30)
        .map(|_| {
            let call = keys_call(&blob, place(1), 1);
            submit(&served.host, call, Lane::of(None, "a"), Duration::from_secs(60))
        })
        .collect();
    for call in calls {
        call.blocking_recv().unwrap().unwrap();
    }
    assert_eq!(served.host.workers().0, Some(active), "no worker was taken for hung");
    served.host.stop();
}

fn sandbox(test: &TestModule) {
    let (served, ..) = started(test);
    let (active, ready) = standby(&served);
    for worker in [active, ready] {
        let status = std::fs::read_to_string(format!("/proc/{worker}/status")).unwrap();
        assert!(
            status.contains("Seccomp:\t2") && status.contains("NoNewPrivs:\t1"),
            "{status}"
        );
    }
    served.host.stop();

    // Of its own: the tokens of the tests lie in the directory that they share with the rest.
    let data_directory = tempfile::tempdir().unwrap();
    let mut trial = Trial {
        token: config(test),
        data_directory: data_directory.path().to_owned(),
        tombstones: data_directory.path().join("tombstones"),
    };
    let has_landlock = std::fs::read_to_string("/sys/kernel/security/lsm").map_or(true, |all| all.contains("landlock"));
    let absent = Trial {
        token: config(test),
        data_directory: "/absent/data".into(),
        tombstones: "/absent/tombstones".into(),
    };
    let error = absent.of_program(env!("CARGO_BIN_EXE_keyreeve").as_ref()).unwrap_err();
    assert!(error.to_string().contains("/absent/data"), "{error}");
    for network in [false, true] {
        trial.token.network = network;
        let attempts = trial.of_program(env!("CARGO_BIN_EXE_keyreeve").as_ref()).unwrap();
        let of_files = [
            "read files outside",
            "list the data directory",
            "write beside the store",
        ];
        for attempt in attempts {
            if has_landlock || !of_files.contains(&&*attempt.what) {
                assert_eq!(attempt.worked, attempt.allowed, "{}", attempt.what);
            }
        }
    }
}

fn no_worker(test: &TestModule) {
    let config = initialised(test);
    for (path, wanted) in [
        ("/absent/keyreeve", "/absent/keyreeve"),
        ("/bin/false", "exit status: 1"),
    ] {
        let program = Program {
            path: path.into(),
            arguments: vec![],
        };
        let error = workers_of(program, test, config.clone())
            .err()
            .expect("it serves nothing");
        assert!(
            matches!(error, OpenError::Worker(_)) && error.to_string().contains(wanted),
            "{error}"
        );
    }
}

fn hung(test: &TestModule) {
    let controller = controller(test);
    let (served, blob, before) = started(test);
    let (active, ready) = standby(&served);
    controller
        .set_for(active, once(Function::C_Sign, Fault::Hang { when: When::Before }))
        .unwrap();
    let began = Instant::now();
    assert_same(&before, &keys(&served.host, &blob, place(1)).unwrap(), place(1));
    assert!(began.elapsed() >= Duration::from_millis(400), "it did not hang");
    assert_eq!(served.host.workers().0, Some(ready));
    assert!(!is_alive(active), "the hung worker is gone");
    assert_eq!(served.host.status().fault, None);
    served.host.stop();
}

fn poison(test: &TestModule) {
    let controller = controller(test);
    let (served, blob, before) = started(test);
    let (active, ready) = standby(&served);
    for pid in [active, ready] {
        let abort = Fault::Abort { when: When::Before };
        controller.set_for(pid, once(Function::C_Sign, abort)).unwrap();
    }
    let error = keys(&served.host, &blob, place(1))
        .err()
        .expect("two workers died of it");
    assert!(
        matches!(&error, TokenError::Unavailable(why) if why.contains("two workers")),
        "{error}"
    );
    // The third one serves.
    assert_same(&before, &keys(&served.host, &blob, place(1)).unwrap(), place(1));
    served.host.stop();
}

fn lost_token(test: &TestModule) {
    let controller = controller(test);
    let (served, blob, before) = started(test);
    let (active, ready) = standby(&served);
    let removed = returned(ReturnCode::DEVICE_REMOVED, When::Before);
    controller.set_for(active, once(Function::C_Sign, removed)).unwrap();
    assert_same(&before, &keys(&served.host, &blob, place(1)).unwrap(), place(1));
    assert_eq!(served.host.workers().0, Some(ready));
    served.host.stop();
}

fn wrong_answer(test: &TestModule) {
    let controller = controller(test);
    let (served, blob, _) = started(test);
    let (active, _) = standby(&served);
    let serial = served.host.status().serial;
    ask(&served.host, Call::Evict { blob: *blob.sha256() }).unwrap();
    // The first answer is the blob's tag, the second the check value of the key that was unwrapped.
    let flipped = Rule::on(Function::C_Sign, Fault::CorruptOutput { bit: Some(3) }).nth(2);
    controller.set_for(active, Schedule::new(1).rule(flipped)).unwrap();
    let error = keys(&served.host, &blob, place(1))
        .err()
        .expect("the check value is wrong");
    assert!(
        matches!(error, TokenError::Unavailable(_) | TokenError::WrongAnswer(_)),
        "{error}"
    );
    assert!(served.host.status().fault.is_some());
    assert_eq!(Latch::of(&data(test), &serial).read().unwrap().class, "E13");
    assert!(
        keys(&served.host, &blob, place(1)).is_err(),
        "the worker that is ready serves no more, either"
    );
    served.host.stop();
}

fn breaker(test: &TestModule) {
    let controller = controller(test);
    let (served, blob, before) = started(test);
    assert_eq!(served.host.status().breaker, BreakerState::Closed);
    let (active, ready) = standby(&served);
    // Of those that start from now on; no rule holds for those that are ready.
    let failing = Rule::on(Function::C_Login, returned(ReturnCode::FUNCTION_FAILED, When::Before));
    controller.set(Schedule::new(1).rule(failing)).unwrap();
    kill(active);
    wait_for(|| (served.host.workers().0 == Some(ready)).then_some(()));
    assert_eq!(
        served.host.status().breaker,
        BreakerState::Closed,
        "the other one took over"
    );
    kill(ready);
    // Each start that fails opens it again; its reason is told at once.
    wait_for(|| {
        let status = served.host.status();
        (status.breaker == BreakerState::Open && status.fault.is_some()).then_some(())
    });
    assert!(!served.host.status().is_serving());
    let error = keys(&served.host, &blob, place(1)).err().expect("nobody serves");
    assert!(error.to_string().contains("FUNCTION_FAILED"), "{error}");

    controller.clear().unwrap();
    wait_for(|| served.host.status().is_serving().then_some(()));
    assert_same(&before, &keys(&served.host, &blob, place(1)).unwrap(), place(1));
    served.host.stop();
}

fn crash_loop(test: &TestModule) {
    let (served, blob, _) = started(test);
    for _ in 0..3 {
        let active = wait_for(|| served.host.workers().0);
        kill(active);
        wait_for(|| (served.host.workers().0 != Some(active)).then_some(()));
    }
    let fault = wait_for(|| served.host.status().fault);
    assert!(fault.contains("3 workers ended within a minute"), "{fault}");
    assert!(keys(&served.host, &blob, place(1)).is_err());
    served.host.stop();
}

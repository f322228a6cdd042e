//! What became of a failed call: sessions closed, handles destroyed, one login, one PIN try. In the thread form, where the
//! test's own process holds the module and can look.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use cryptoki::object::Attribute;
use keyreeve::{
    model::Blob,
    token::{Answer, Call, Host, Isolation, Lane, Latch, OpenError, ThreadHost, TokenConfig, TokenError},
};
use keyreeve_envelope::prf_commit::MessageKeys;
use keyreeve_faultmod::{Calls, Controller, Fault, Function, ReturnCode, Rule, Schedule, When};

use crate::{
    contract,
    fixture::{
        ISOLATION, ask, assert_same, controller, data, initialised, keys, keys_call, make, once, place, returned,
        serve, start, submit,
    },
    support::{self, TestModule},
};

contract! { steered through faultmod:
    a_pin_refused_at_a_new_login_is_not_tried_by_the_next_start => refused_login;
    a_session_that_failed_twice_is_closed => failed_twice;
    a_session_is_closed_before_another_is_opened => no_room_for_a_session;
    no_room_for_the_keeper_is_waited_out => no_room_for_the_keeper;
    a_hang_in_the_recovery_is_seen_and_does_not_hold_up_the_stop => hung_recovery;
    a_start_without_room_for_its_sessions_closes_the_module => no_room_at_the_start;
    a_device_error_in_a_known_answer_test_stops_the_start => failing_known_answer;
    a_device_error_is_no_refusal_to_a_probe => failing_probe;
    a_wrong_known_answer_latches_the_token => wrong_known_answer;
    a_wrong_tag_of_a_key_just_made_is_a_wrong_answer_of_the_token => wrong_tag;
    a_key_whose_check_value_failed_is_destroyed => failed_check_value;
    a_wrapped_key_that_fails_to_unwrap_once_is_tried_again => unwrap_fails_once;
    a_wrapped_key_that_fails_to_unwrap_twice_latches_the_token => unwrap_fails_twice;
    an_ambiguous_failure_is_the_tokens_if_canary_is_wrong_or_fails => ambiguous;
    refusals_never_add_up_to_a_broken_token => refusals;
    cured_failures_in_a_row_are_a_broken_token => cured_failures;
    a_module_that_overstates_a_length_is_a_broken_token => overstated_length;
    what_was_worked_while_another_thread_replaced_the_keeper_is_worked_again => ended_era;
    keys_made_after_a_lost_login_are_the_same_keys => lost_login;
    what_failed_is_not_tried_again_after_its_deadline => late_retry;
    a_worker_does_not_try_again_after_the_deadline => late_retry_in_a_worker;
}

/// A host of one session, a key and its message keys.
struct Served {
    controller: Controller,
    config: TokenConfig,
    host: ThreadHost,
    blob: Arc<Blob>,
    before: MessageKeys,
}

impl Served {
    fn new(test: &TestModule) -> Self {
        Self::with(test, 1, 500)
    }

    fn with(test: &TestModule, session_threads: usize, call_deadline_ms: u64) -> Self {
        let controller = controller(test);
        let mut config = initialised(test);
        config.session_threads = session_threads;
        config.call_deadline_ms = call_deadline_ms;
        let host = start(test, config.clone()).unwrap();
        let blob = Arc::new(make(&host, place(1)).blob);
        let before = keys(&host, &blob, place(1)).unwrap();
        Self {
            controller,
            config,
            host,
            blob,
            before,
        }
    }

    fn keys(&self) -> Result<MessageKeys, TokenError> {
        keys(&self.host, &self.blob, place(1))
    }

    fn evict(&self) {
        let blob = *self.blob.sha256();
        ask(&self.host, Call::Evict { blob }).unwrap();
    }

    fn set(&self, rules: impl IntoIterator<Item = Rule>) {
        let schedule = rules.into_iter().fold(Schedule::new(1), Schedule::rule);
        self.controller.set(schedule).unwrap();
    }

    fn calls(&self, function: Function) -> u64 {
        let counts = self.controller.counts(std::process::id()).unwrap();
        counts.get(&function).map_or(0, |counts| counts.calls)
    }

    /// The next call is answered, with the same message keys as ever.
    fn assert_serves(&self) {
        self.controller.clear().unwrap();
        assert_same(&self.before, &self.keys().unwrap(), place(1));
        assert_eq!(self.host.status().fault, None);
    }

    fn latch(&self, test: &TestModule) -> Option<String> {
        let latch = Latch::of(&data(test), &self.host.status().serial);
        latch.read().map(|latched| latched.class)
    }
}

fn late_retry(test: &TestModule) {
    let controller = controller(test);
    let mut config = initialised(test);
    config.session_threads = 1;
    let host = serve(test, config).unwrap();
    let random = || Call::Random { length: 32 };
    ask(&host, random()).unwrap();

    // The cure takes longer than the caller waits.
    let slow = Fault::Delay {
        ms: 300,
        when: When::Before,
    };
    let closed = returned(ReturnCode::SESSION_CLOSED, When::Before);
    let schedule = Schedule::new(1)
        .rule(Rule::on(Function::C_GenerateRandom, closed).times(1))
        .rule(Rule::on(Function::C_OpenSession, slow).times(1));
    controller.set(schedule).unwrap();
    let made = || controller.counts(host.pid()).unwrap()[&Function::C_GenerateRandom].calls;
    let earlier = made();
    let answer = submit(&host, random(), Lane::of(None, "a"), Duration::from_millis(150));
    assert!(matches!(answer.blocking_recv().unwrap(), Err(TokenError::Expired)));
    assert_eq!(made(), earlier + 1);
    ask(&host, random()).unwrap();
    host.stop();
}

fn late_retry_in_a_worker(test: &TestModule) {
    ISOLATION.set(Isolation::Process).expect("one test, one process");
    late_retry(test);
}

/// Session objects of the token, as another session of this process sees them; of all sessions.
fn session_objects(test: &TestModule, extractable: bool) -> usize {
    let library = cryptoki::context::Pkcs11::new(&test.path).unwrap();
    let mut slots = library.get_slots_with_initialized_token().unwrap().into_iter();
    let slot = slots.find(|slot| library.get_token_info(*slot).unwrap().label() == "first");
    let session = library.open_ro_session(slot.unwrap()).unwrap();
    let wanted = [Attribute::Token(false), Attribute::Extractable(extractable)];
    session.find_objects(&wanted).unwrap().len()
}

fn refused_login(test: &TestModule) {
    let served = Served::new(test);
    served.set([
        Rule::on(Function::C_SignInit, Fault::Logout { when: When::Before }).times(1),
        Rule::on(Function::C_Login, returned(ReturnCode::PIN_INCORRECT, When::Before)),
    ]);
    let logins = served.calls(Function::C_Login);
    assert!(matches!(served.keys(), Err(TokenError::Unavailable(_))));
    assert_eq!(served.latch(test).as_deref(), Some("E9"));
    served.host.stop();
    for _ in 0..2 {
        let error = start(test, served.config.clone()).err().expect("the PIN was refused");
        assert!(matches!(error, OpenError::PinLatched { .. }), "{error}");
    }
    assert_eq!(served.calls(Function::C_Login), logins + 1);
}

fn failed_twice(test: &TestModule) {
    let served = Served::new(test);
    let closed = ReturnCode::SESSION_CLOSED;
    // The key that was born cannot be destroyed, either.
    served.set([
        Rule::on(Function::C_WrapKey, returned(closed, When::Before)).times(2),
        Rule::on(Function::C_DestroyObject, returned(closed, When::Before)).times(2),
    ]);
    let call = Call::MakeEnvelopeKey {
        place: place(2),
        suite: keyreeve_envelope::Suite::PrfCommit,
        residency: keyreeve::model::Residency::Wrapped,
        created_ms: 1,
    };
    assert!(matches!(ask(&served.host, call), Err(TokenError::Unavailable(_))));
    assert_eq!(session_objects(test, true), 0, "an extractable key is left");
    served.assert_serves();

    // Of the second failure, too, the class counts.
    served.set([
        Rule::on(Function::C_Sign, returned(closed, When::Before)).nth(1),
        Rule::on(Function::C_UnwrapKey, returned(ReturnCode::HOST_MEMORY, When::Before)),
    ]);
    assert!(matches!(served.keys(), Err(TokenError::Overloaded { .. })));
    served.assert_serves();
    served.host.stop();
}

fn no_room_for_a_session(test: &TestModule) {
    let served = Served::new(test);
    let closed = served.calls(Function::C_CloseSession);
    served.set([
        Rule::on(Function::C_Sign, returned(ReturnCode::SESSION_CLOSED, When::Before)).times(1),
        Rule::on(
            Function::C_OpenSession,
            returned(ReturnCode::SESSION_COUNT, When::Before),
        ),
    ]);
    for _ in 0..3 {
        assert!(matches!(served.keys(), Err(TokenError::Overloaded { .. })));
    }
    assert_eq!(served.calls(Function::C_CloseSession), closed + 1);
    served.assert_serves();
    served.host.stop();
}

fn no_room_for_the_keeper(test: &TestModule) {
    let served = Served::new(test);
    let full = returned(ReturnCode::SESSION_COUNT, When::Before);
    served.set([
        Rule::on(Function::C_SignInit, Fault::Logout { when: When::Before }).times(1),
        // The first one is the thread's own.
        Rule::on(Function::C_OpenSession, full).calls(Calls::Range { from: 2, to: Some(3) }),
    ]);
    for time in 1..=2 {
        let error = served.keys().err();
        assert!(
            matches!(error, Some(TokenError::Overloaded { .. })),
            "time {time}: {error:?}"
        );
    }
    served.assert_serves();
    served.host.stop();
}

fn no_room_at_the_start(test: &TestModule) {
    let controller = controller(test);
    let config = initialised(test);
    // The first is the keeper's.
    let full = Rule::on(
        Function::C_OpenSession,
        returned(ReturnCode::SESSION_COUNT, When::Before),
    );
    for nth in [2, 3] {
        controller.set(Schedule::new(1).rule(full.clone().nth(nth))).unwrap();
        let error = start(test, config.clone()).err().expect("there is no room");
        assert!(error.to_string().contains("SESSION_COUNT"), "{error}");
        start(test, config.clone()).unwrap().stop();
    }
}

fn hung_recovery(test: &TestModule) {
    let served = Served::new(test);
    served.set([
        Rule::on(Function::C_Sign, returned(ReturnCode::SESSION_CLOSED, When::Before)).times(1),
        Rule::on(Function::C_OpenSession, Fault::Hang { when: When::Before }),
    ]);
    let call = keys_call(&served.blob, place(1), 1);
    let _waiting = submit(&served.host, call, Lane::of(None, "caller"), Duration::from_secs(30));
    let fault = wait_for(|| served.host.status().fault);
    assert!(fault.contains("E11"), "{fault}");
    let (stopped, stops) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            served.host.stop();
            stopped.send(()).unwrap();
        });
        let in_time = stops.recv_timeout(Duration::from_secs(20));
        served.controller.release().unwrap();
        in_time.expect("the stop waits for the call that hangs");
    });
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

/// The first copy that a start asks for must be refused, and a failure is no refusal.
fn failing_probe(test: &TestModule) {
    let controller = controller(test);
    let config = initialised(test);
    let broken = once(Function::C_CopyObject, returned(ReturnCode::DEVICE_ERROR, When::Before));
    controller.set(broken).unwrap();
    let error = start(test, config.clone()).err().expect("the probe did not run");
    assert!(error.to_string().contains("DEVICE_ERROR"), "{error}");
    start(test, config).unwrap().stop();
}

/// The first object that a start makes is that of the KEK's check; those of the known-answer tests follow.
fn failing_known_answer(test: &TestModule) {
    let controller = controller(test);
    let config = initialised(test);
    let broken = returned(ReturnCode::DEVICE_ERROR, When::Before);
    let schedule = Schedule::new(1).rule(Rule::on(Function::C_CreateObject, broken).nth(2));
    controller.set(schedule).unwrap();
    let error = start(test, config.clone()).err().expect("the test did not run");
    assert!(error.to_string().contains("DEVICE_ERROR"), "{error}");
    controller.clear().unwrap();
    start(test, config).unwrap().stop();
}

fn wrong_known_answer(test: &TestModule) {
    let controller = controller(test);
    let config = initialised(test);
    // RFC 3394 wraps once for the KEK's check and then for the known answer.
    let flipped = Rule::on(Function::C_WrapKey, Fault::CorruptOutput { bit: Some(3) }).nth(2);
    controller.set(Schedule::new(1).rule(flipped)).unwrap();
    let error = start(test, config.clone()).err().expect("the answer is wrong");
    assert!(error.to_string().contains("AES key wrap"), "{error}");
    controller.clear().unwrap();
    let error = start(test, config).err().expect("it is latched");
    assert!(matches!(error, OpenError::Latched { .. }), "{error}");
}

fn wrong_tag(test: &TestModule) {
    let served = Served::new(test);
    // The first answer is the check value, the second the tag.
    served.set([Rule::on(Function::C_Sign, Fault::CorruptOutput { bit: Some(3) }).nth(2)]);
    let call = Call::MakeEnvelopeKey {
        place: place(2),
        suite: keyreeve_envelope::Suite::PrfCommit,
        residency: keyreeve::model::Residency::Wrapped,
        created_ms: 1,
    };
    let error = ask(&served.host, call).err().expect("the tag is wrong");
    assert!(matches!(error, TokenError::WrongAnswer(_)), "{error}");
    assert_eq!(served.latch(test).as_deref(), Some("E13"));
    served.host.stop();
}

fn failed_check_value(test: &TestModule) {
    let served = Served::new(test);
    served.evict();
    // What SoftHSM left of the probes that it refused at the start.
    let left = session_objects(test, false);
    // The first answer is the tag, the second the check value. A failure that leaves the keeper as it is.
    let full = returned(ReturnCode::HOST_MEMORY, When::Before);
    served.set([Rule::on(Function::C_Sign, full).nth(2)]);
    assert!(matches!(served.keys(), Err(TokenError::Overloaded { .. })));
    assert_eq!(session_objects(test, false), left, "the unwrapped key is there still");
    served.assert_serves();
    served.host.stop();
}

/// Of every call of a start: MACs, wrapped keys, and the signature of AUDIT.
fn overstated_length(test: &TestModule) {
    let controller = controller(test);
    let config = initialised(test);
    for function in [Function::C_Sign, Function::C_WrapKey] {
        let mut struck = 0;
        loop {
            let overlong = Rule::on(function, Fault::OverstateLength).nth(struck + 1);
            controller.set(Schedule::new(1).rule(overlong)).unwrap();
            match start(test, config.clone()) {
                Err(error) => assert!(error.to_string().contains("DEVICE_ERROR"), "{error}"),
                Ok(host) => break host.stop(), // it has no more such calls
            }
            struck += 1;
        }
        assert!(struck >= 3, "{function} was struck {struck} times");
    }
}

fn ambiguous(test: &TestModule) {
    let broken = returned(ReturnCode::DEVICE_ERROR, When::Before);
    let flipped = Fault::CorruptOutput { bit: Some(3) };
    let mut served = Served::new(test);
    for (canary, class, on_disk) in [(broken, "(E6)", None), (flipped, "(E13)", Some("E13"))] {
        served.evict();
        served.set([
            Rule::on(Function::C_UnwrapKey, returned(VENDORS_OWN, When::Before)),
            // The first answer is the tag, the second that of CANARY.
            Rule::on(Function::C_Sign, canary).nth(2),
        ]);
        let error = served.keys().err().expect("the token is at fault");
        assert!(error.to_string().contains(class), "{error}");
        assert_eq!(served.latch(test).as_deref(), on_disk);
        served.host.stop();
        if on_disk.is_none() {
            served.controller.clear().unwrap();
            served.host = start(test, served.config.clone()).unwrap();
        }
    }
}

fn ended_era(test: &TestModule) {
    let served = Served::with(test, 2, 60_000);
    served.set([Rule::on(Function::C_Sign, Fault::Hang { when: When::After }).nth(1)]);
    let call = keys_call(&served.blob, place(1), 1);
    let waiting = submit(&served.host, call, Lane::of(None, "caller"), Duration::from_secs(60));
    let struck = || served.controller.counts(std::process::id()).unwrap()[&Function::C_Sign].faults;
    wait_for(|| (struck() == 1).then_some(()));
    // Its answer is there, and not yet out of the module. The other thread loses its session, and with it all keys.
    let closed = returned(ReturnCode::SESSION_CLOSED, When::Before);
    served.controller.set(once(Function::C_SignInit, closed)).unwrap();
    assert_same(&served.before, &served.keys().unwrap(), place(1));
    let (opened, signed) = (served.calls(Function::C_OpenSession), served.calls(Function::C_Sign));
    served.controller.release().unwrap();
    let Ok(Answer::EnvelopeKeys(keys)) = waiting.blocking_recv().unwrap() else {
        panic!("it was not answered")
    };
    assert_same(&served.before, &keys[0], place(1));
    assert_eq!(served.calls(Function::C_OpenSession), opened + 1);
    assert_eq!(served.calls(Function::C_Sign), signed + 1, "with another handle");
    served.host.stop();
}

fn refusals(test: &TestModule) {
    let served = Served::new(test);
    served.set([Rule::on(
        Function::C_Sign,
        returned(ReturnCode::DATA_LEN_RANGE, When::Before),
    )]);
    for _ in 0..20 {
        assert!(matches!(served.keys(), Err(TokenError::Refused(_))));
    }
    served.set([Rule::on(
        Function::C_GenerateRandom,
        returned(VENDORS_OWN, When::Before),
    )]);
    for _ in 0..20 {
        let random = ask(&served.host, Call::Random { length: 32 });
        assert!(matches!(random, Err(TokenError::Refused(_))));
    }
    served.assert_serves();
    served.host.stop();
}

fn cured_failures(test: &TestModule) {
    let served = Served::new(test);
    let closed = returned(ReturnCode::SESSION_CLOSED, When::Before);
    for _ in 0..4 {
        served.controller.set(once(Function::C_Sign, closed)).unwrap();
        assert_same(&served.before, &served.keys().unwrap(), place(1));
    }
    served.controller.set(once(Function::C_Sign, closed)).unwrap();
    let error = served.keys().err().expect("it is the fifth within 10 s");
    assert!(error.to_string().contains("again and again"), "{error}");
    assert_eq!(served.latch(test), None, "a restart may cure it");
    served.host.stop();
}

const VENDORS_OWN: ReturnCode = ReturnCode(0x8000_0042);

fn unwrap_fails_once(test: &TestModule) {
    let served = Served::new(test);
    for code in [VENDORS_OWN, ReturnCode::GENERAL_ERROR, ReturnCode::DEVICE_ERROR] {
        served.evict();
        served
            .controller
            .set(once(Function::C_UnwrapKey, returned(code, When::Before)))
            .unwrap();
        assert_same(&served.before, &served.keys().unwrap(), place(1));
    }
    served.assert_serves();
    served.host.stop();
}

fn unwrap_fails_twice(test: &TestModule) {
    let served = Served::new(test);
    served.evict();
    served.set([Rule::on(Function::C_UnwrapKey, returned(VENDORS_OWN, When::Before))]);
    assert!(matches!(served.keys(), Err(TokenError::WrongAnswer(_))));
    assert_eq!(served.latch(test).as_deref(), Some("E13"));
    served.host.stop();
}

fn lost_login(test: &TestModule) {
    let served = Served::new(test);
    // Of a key in the cache, and of BIND; four times, since a fifth within 10 s is one too many.
    for (is_cached, when) in [
        (true, When::Before),
        (true, When::After),
        (false, When::Before),
        (false, When::After),
    ] {
        let logins = served.calls(Function::C_Login);
        if !is_cached {
            served.evict();
        }
        let logout = once(Function::C_SignInit, Fault::Logout { when });
        served.controller.set(logout).unwrap();
        for _ in 0..2 {
            assert_same(&served.before, &served.keys().unwrap(), place(1));
        }
        assert_eq!(served.calls(Function::C_Login), logins + 1);
    }
    served.assert_serves();
    served.host.stop();
}

//! Random faults on worker processes, by seed: whatever fails, no promise is broken.
//!
//! A run goes through all classes E1 to E13 in a random order. In each round one fault of that class strikes the worker at work, at a
//! random call, while harmless ones may strike any worker; some twenty operations run meanwhile. What must hold:
//! - every answer comes before its deadline and some grace;
//! - message keys of a key that was made open what earlier ones sealed, at the end of each round and of the run, too;
//! - a blob that was acknowledged is never called the store's fault;
//! - a refused PIN is not tried again until an operator unlatches;
//! - no session is left over in a worker that serves;
//! - a breaker that is latched stays so, and one that is closed again serves.
//!
//! Two runs by default, 20 in `make test`. `KEYREEVE_CAMPAIGN=1000` makes a thousand, in about 45 minutes; `KEYREEVE_CAMPAIGN_SEED=7` repeats one.

use std::{
    collections::HashMap,
    fs,
    io::{Read, Seek, SeekFrom},
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use keyreeve::{
    model::Blob,
    token::{Answer, BreakerState, Call, Host, Latch, TokenConfig, TokenError, host::Place},
};
use keyreeve_envelope::prf_commit::MessageKeys;
use keyreeve_faultmod::{Calls, Controller, Fault, Function, Only, ReturnCode, Rule, Schedule, TraceLine, When};
use tokio::sync::oneshot;

use crate::{
    contract,
    fixture::{Workers, assert_same, controller, data, initialised, keys_call, place, returned, submit, workers},
    support::{self, TRACE, TestModule},
};

contract! { steered through faultmod:
    random_faults_break_no_promise => campaign;
}

const RUNS: u64 = 2;
const DEADLINE: Duration = Duration::from_secs(5);
/// For a machine that does other things, too.
const GRACE: Duration = Duration::from_secs(10);
const OPERATIONS_A_ROUND: usize = 20;
/// After so many the fault must have struck.
const PATIENCE: usize = 400;
const SESSION_THREADS: usize = 2;

fn campaign(test: &TestModule) {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let seeds = match number("KEYREEVE_CAMPAIGN_SEED") {
        Some(seed) => seed..=seed,
        None => 1..=number("KEYREEVE_CAMPAIGN").unwrap_or(RUNS),
    };
    let controller = controller(test);
    let mut config = initialised(test);
    config.session_threads = SESSION_THREADS;
    config.call_deadline_ms = 300;
    let mut fired = HashMap::new();
    for seed in seeds {
        eprintln!("campaign: KEYREEVE_CAMPAIGN_SEED={seed} repeats this run");
        let mut run = Run::new(test, &controller, config.clone(), seed);
        run.rounds(&mut fired);
        run.served.host.stop();
    }
    for class in CLASSES {
        let times = fired.get(class).copied().unwrap_or(0);
        eprintln!("campaign: {class} fired {times} times");
        assert!(times > 0, "{class} never fired");
    }
}

const CLASSES: [&str; 13] = [
    "E1", "E2", "E3", "E4", "E5", "E6", "E7", "E8", "E9", "E10", "E11", "E12", "E13",
];
/// That a worker cures or answers; they may strike at any time.
const HARMLESS: [&str; 7] = ["E1", "E2", "E3", "E4", "E5", "E8", "E10"];

/// Faults of a class.
fn faults_of(class: &str) -> Vec<(Function, Fault)> {
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

struct Run<'a> {
    test: &'a TestModule,
    controller: &'a Controller,
    config: TokenConfig,
    served: Workers,
    dice: Dice,
    trace: Trace,
    made: Vec<Made>,
    next: u8,
    breaker: BreakerState,
}

/// A key that was acknowledged.
struct Made {
    place: Place,
    blob: Arc<Blob>,
    /// The first ones that were answered.
    keys: Option<MessageKeys>,
}

impl<'a> Run<'a> {
    fn new(test: &'a TestModule, controller: &'a Controller, config: TokenConfig, seed: u64) -> Self {
        controller.clear().unwrap();
        let mut run = Self {
            test,
            controller,
            served: workers(test, config.clone()).unwrap(),
            config,
            dice: Dice(seed),
            trace: Trace::new(test),
            made: vec![],
            next: 0,
            breaker: BreakerState::Closed,
        };
        while run.made.len() < 3 {
            run.operate(1);
        }
        run
    }

    fn rounds(&mut self, fired: &mut HashMap<&'static str, u32>) {
        let mut classes = CLASSES;
        for last in (1..classes.len()).rev() {
            classes.swap(last, self.dice.below(last + 1));
        }
        for class in classes {
            self.trace.read();
            let (function, fault) = *self.dice.one_of(&faults_of(class));
            let mut armed = self.arm(class, function, fault);
            let (mut done, mut struck) = (0, 0);
            while done < OPERATIONS_A_ROUND || struck == 0 {
                assert!(done < PATIENCE, "{class}: {fault:?} never struck {function}");
                let at_once = 1 + self.dice.below(4);
                self.operate(at_once);
                done += at_once;
                let is_it = |line: &&TraceLine| line.function == function && line.fault == Some(fault);
                struck += self.trace.read().iter().filter(is_it).count();
                if struck == 0 && self.served.host.workers().0 != Some(armed) {
                    self.mend(); // other faults ended that worker
                    armed = self.arm(class, function, fault);
                }
            }
            *fired.entry(class).or_default() += 1;
            self.mend();
            self.check_all();
        }
    }

    /// One fault for the worker at work, at one of its next calls; another that may strike any. Returns the worker's pid.
    fn arm(&mut self, class: &str, function: Function, fault: Fault) -> u32 {
        let active = self.wait_for(|run| run.served.host.workers().0);
        let nth = match class {
            "E9" => 1,
            _ => 1 + self.dice.below(8) as u64,
        };
        let mut schedule = Schedule::new(self.dice.roll());
        schedule = schedule.rule(Rule::on(function, fault).nth(nth).only(Only::Pid(active)));
        if class == "E9" {
            // Without it nobody logs in.
            let logout = Rule::on(Function::C_SignInit, Fault::Logout { when: When::Before });
            schedule = schedule.rule(logout.nth(3).only(Only::Pid(active)));
        }
        let harmless = *self.dice.one_of(&HARMLESS);
        let (function, fault) = *self.dice.one_of(&faults_of(harmless));
        schedule = schedule.rule(Rule::on(function, fault).calls(Calls::Chance(0.01)));
        self.controller.set(schedule).unwrap();
        active
    }

    /// So many random operations under way together.
    fn operate(&mut self, at_once: usize) {
        let mut waiting = vec![];
        for _ in 0..at_once {
            let (call, of) = self.any_call();
            let lane = keyreeve::token::Lane::of(None, ["a", "b", "c"][self.dice.below(3)]);
            waiting.push((of, submit(&self.served.host, call, lane, DEADLINE)));
        }
        let until = Instant::now() + DEADLINE + GRACE;
        for (of, mut answer) in waiting {
            let answer = loop {
                match answer.try_recv() {
                    Ok(answer) => break answer,
                    Err(oneshot::error::TryRecvError::Empty) => {
                        assert!(Instant::now() < until, "no answer by the deadline and its grace");
                        std::thread::sleep(Duration::from_micros(200));
                    }
                    Err(oneshot::error::TryRecvError::Closed) => panic!("a call was dropped without an answer"),
                }
            };
            self.judge(of, answer);
        }
        let state = self.served.host.status().breaker;
        assert!(
            self.breaker != BreakerState::Latched || state == BreakerState::Latched,
            "latched, then {state:?}"
        );
        self.breaker = state;
    }

    /// A call, and the key that it is of.
    fn any_call(&mut self) -> (Call, Of) {
        let key = self.dice.below(self.made.len().max(1));
        match (self.dice.below(10), self.made.get(key)) {
            (0, _) | (_, None) if self.next < 250 => {
                self.next += 1;
                let place = place(self.next);
                let call = Call::MakeEnvelopeKey {
                    place,
                    suite: keyreeve_envelope::Suite::PrfCommit,
                    residency: keyreeve::model::Residency::Wrapped,
                    created_ms: 1,
                };
                (call, Of::New(place))
            }
            (1 | 2, Some(made)) => (
                Call::Evict {
                    blob: *made.blob.sha256(),
                },
                Of::None,
            ),
            (3, _) => (Call::Random { length: 32 }, Of::None),
            (4, _) => (Call::Probe, Of::None),
            (5, Some(made)) => (
                Call::Attributes {
                    blob: Arc::clone(&made.blob),
                    place: made.place,
                },
                Of::None,
            ),
            (_, Some(made)) => {
                let items = 1 + self.dice.below(8);
                (keys_call(&made.blob, made.place, items), Of::Made(key))
            }
            (_, None) => (Call::Probe, Of::None),
        }
    }

    fn judge(&mut self, of: Of, answer: Result<Answer, TokenError>) {
        match (answer, of) {
            (Err(TokenError::BlobTag), _) => panic!("a blob that was acknowledged is called the store's fault"),
            (Err(_), _) => {}
            (Ok(Answer::EnvelopeKeys(keys)), Of::Made(key)) => {
                let made = &mut self.made[key];
                for now in keys {
                    match &made.keys {
                        Some(first) => assert_same(first, &now, made.place),
                        None => made.keys = Some(now),
                    }
                }
            }
            (Ok(Answer::MadeEnvelopeKey(new)), Of::New(place)) => self.made.push(Made {
                place,
                blob: Arc::new(new.blob),
                keys: None,
            }),
            (Ok(_), Of::None) => {}
            (Ok(_), _) => panic!("another answer"),
        }
    }

    /// Ends the faults; where the host ended its service, does what a supervisor and an operator would.
    fn mend(&mut self) {
        self.controller.clear().unwrap();
        // What the last fault leads to may still be on its way.
        self.wait_for(|run| {
            let status = run.served.host.status();
            (status.is_serving() || status.breaker == BreakerState::Latched).then_some(())
        });
        if self.served.host.status().breaker != BreakerState::Latched {
            return;
        }
        self.served.host.stop();
        let latch = Latch::of(&data(self.test), &self.served.host.status().serial);
        if latch.read().is_some() {
            self.trace.read();
            assert!(
                workers(self.test, self.config.clone()).is_err(),
                "it is latched on disk"
            );
            let login = |line: &&TraceLine| line.function == Function::C_Login;
            assert_eq!(
                self.trace.read().iter().find(login),
                None,
                "a PIN was tried under a latch"
            );
            latch.unlatch("the campaign", "it goes on").unwrap();
        }
        self.served = workers(self.test, self.config.clone()).unwrap();
        self.breaker = BreakerState::Closed;
    }

    /// Without faults everything works: every key that was ever acknowledged, and nothing is left over.
    fn check_all(&mut self) {
        for key in 0..self.made.len() {
            let call = keys_call(&self.made[key].blob, self.made[key].place, 1);
            let answer = submit(
                &self.served.host,
                call,
                keyreeve::token::Lane::of(None, "a"),
                DEADLINE + GRACE,
            );
            let answer = answer.blocking_recv().unwrap();
            if let Err(error) = &answer {
                panic!("without faults: {error}");
            }
            self.judge(Of::Made(key), answer);
        }
        self.trace.read();
        let active = self.served.host.workers().0.unwrap();
        let open = self.trace.open_sessions.get(&active);
        assert_eq!(open, Some(&(SESSION_THREADS as i64 + 1)), "sessions of the worker");
        assert!(self.trace.refused_logins <= 1, "a PIN was tried again");
        self.trace.refused_logins = 0;
    }

    fn wait_for<T>(&self, look: impl Fn(&Self) -> Option<T>) -> T {
        let until = Instant::now() + Duration::from_secs(60);
        loop {
            if let Some(found) = look(self) {
                return found;
            }
            assert!(
                Instant::now() < until,
                "it does not come: {:?}",
                self.served.host.status()
            );
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// What a call is of.
#[derive(Clone, Copy)]
enum Of {
    None,
    New(Place),
    Made(usize),
}

/// What the modules of all processes did.
struct Trace {
    path: PathBuf,
    read: u64,
    /// By process.
    open_sessions: HashMap<u32, i64>,
    /// Since the last look.
    refused_logins: u32,
}

impl Trace {
    fn new(test: &TestModule) -> Self {
        let mut trace = Self {
            path: test.directory.join(TRACE),
            read: 0,
            open_sessions: HashMap::new(),
            refused_logins: 0,
        };
        // Of the run before.
        trace.read();
        trace.refused_logins = 0;
        trace
    }

    /// The lines that came since the last time.
    fn read(&mut self) -> Vec<TraceLine> {
        let mut file = fs::File::open(&self.path).unwrap();
        file.seek(SeekFrom::Start(self.read)).unwrap();
        let mut text = String::new();
        file.read_to_string(&mut text).unwrap();
        // The last line may be in the making.
        text.truncate(text.rfind('\n').map_or(0, |end| end + 1));
        self.read += text.len() as u64;
        let lines = keyreeve_faultmod::read_trace(&text).unwrap();
        for line in &lines {
            let open = self.open_sessions.entry(line.pid).or_default();
            match (line.function, line.code) {
                (Function::C_OpenSession, Some(ReturnCode::OK)) => *open += 1,
                (Function::C_CloseSession, Some(_)) => *open -= 1,
                (Function::C_Login, Some(ReturnCode::PIN_INCORRECT)) => self.refused_logins += 1,
                _ => {}
            }
        }
        lines
    }
}

/// SplitMix64: the same choices with the same seed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.roll() % limit as u64) as usize
    }

    fn one_of<'t, T>(&mut self, of: &'t [T]) -> &'t T {
        &of[self.below(of.len())]
    }
}

//! Random faults by seed, on worker processes and on threads: whatever fails, no promise is broken.
//!
//! A schedule goes through five classes of E1 to E13. In each round one fault of that class strikes the worker at work, at a random
//! call, while harmless ones may strike any worker; forty operations run meanwhile. What must hold:
//! - every answer comes before its deadline and some grace;
//! - message keys of a key that was made open what earlier ones sealed, at the end of each round, too; random bytes never come twice;
//! - a blob that was acknowledged is never called the store's fault;
//! - a refused PIN is not tried again until an operator unlatches;
//! - no session is left over in a process that serves, and no object but the keys in its cache;
//! - a breaker makes no step that `src/token/breaker.rs` does not know, and one that is closed again serves.
//!
//! On threads all classes run but E11 and E12: the thread form cannot end a hung call, nor outlive an abort; its process ends for a
//! supervisor to start it again, and here that process is the test. E6 and E7 latch such a host in memory, and the test does what the
//! supervisor does: it makes another one. Steps of the breaker are seen there in its state only. Where a fault logs the token out, calls
//! come one by one: Kryoptic 1.5.4 deadlocks when C_Logout meets another thread's C_SignInit, which for a worker is one more E11.
//!
//! Classes are dealt from shuffled decks, so that any three schedules in a row meet each. Three a token by default, 500 in `make test`,
//! which takes four minutes on two cores. `KEYREEVE_CAMPAIGN=1000` makes a thousand a token, `KEYREEVE_CAMPAIGN_ON_THREADS=20` so many
//! on threads; `KEYREEVE_CAMPAIGN_SEED=7` repeats one.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use keyreeve::token::{BreakerState, Host, Isolation, Latch, TokenConfig};
use keyreeve_faultmod::{Calls, Controller, Fault, Function, Only, Rule, Schedule, TraceLine, When};

use crate::{
    contract,
    contract::by_workers,
    dice::Dice,
    faults::{CLASSES, HARMLESS, faults_of},
    fixture::{ISOLATION, TestHost, controller, data, initialised, serve},
    support::{self, TestModule},
    trace::Trace,
    transitions,
    workload::{GRACE, Workload},
};

contract! { steered through faultmod:
    random_faults_break_no_promise => by_workers(campaign);
    random_faults_break_no_promise_on_threads => campaign;
}

const SCHEDULES: u64 = 3;
/// Classes of one schedule.
const ROUNDS: usize = 5;
const OPERATIONS_A_ROUND: usize = 40;
/// After so many the fault must have struck.
const PATIENCE: usize = 400;
const SESSION_THREADS: usize = 2;
/// Of workers, so that E11 costs no more time than it must.
const CALL_DEADLINE_MS: u64 = 200;

/// How often each class struck, and what the whole was.
#[derive(Default)]
struct Tally {
    fired: BTreeMap<&'static str, u32>,
    schedules: u32,
    operations: usize,
    faults: usize,
}

fn campaign(test: &TestModule) {
    let in_workers = ISOLATION.get() == Some(&Isolation::Process);
    let (variable, classes) = match in_workers {
        true => ("KEYREEVE_CAMPAIGN", CLASSES.to_vec()),
        false => ("KEYREEVE_CAMPAIGN_ON_THREADS", on_threads()),
    };
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let seeds = match number("KEYREEVE_CAMPAIGN_SEED") {
        Some(seed) => seed..=seed,
        None => 1..=number(variable).unwrap_or(SCHEDULES),
    };
    let controller = controller(test);
    let mut config = initialised(test);
    config.session_threads = SESSION_THREADS;
    if in_workers {
        config.call_deadline_ms = CALL_DEADLINE_MS;
        transitions::watch();
    }
    let (began, mut tally) = (Instant::now(), Tally::default());
    for seed in seeds.clone() {
        eprintln!("campaign: KEYREEVE_CAMPAIGN_SEED={seed} repeats this schedule");
        let mut run = Run::new(test, &controller, config.clone(), seed);
        run.rounds(&dealt(seed, &classes), &mut tally);
        run.served.stop();
        run.check_breaker();
    }
    let Tally {
        fired,
        schedules,
        operations,
        faults,
    } = tally;
    let took = began.elapsed().as_secs_f64();
    eprintln!("campaign: {schedules} schedules, {operations} operations, {faults} faults in {took:.1} s");
    for class in classes {
        let times = fired.get(class).copied().unwrap_or(0);
        eprintln!("campaign: {class} fired {times} times");
        assert!(times > 0 || seeds.clone().count() < 3, "{class} never fired");
    }
}

/// All but those that only a supervisor of the process could answer.
fn on_threads() -> Vec<&'static str> {
    CLASSES
        .into_iter()
        .filter(|class| !["E11", "E12"].contains(class))
        .collect()
}

/// The classes of a schedule, from an endless row of shuffled decks.
fn dealt(seed: u64, classes: &[&'static str]) -> Vec<&'static str> {
    let first = (seed.wrapping_sub(1) as usize).wrapping_mul(ROUNDS);
    let card = |at: usize| {
        let mut deck = classes.to_vec();
        Dice((at / deck.len()) as u64).shuffle(&mut deck);
        deck[at % deck.len()]
    };
    (first..first + ROUNDS).map(card).collect()
}

struct Run<'a> {
    test: &'a TestModule,
    controller: &'a Controller,
    config: TokenConfig,
    served: TestHost,
    dice: Dice,
    trace: Trace,
    workload: Workload,
    breaker: BreakerState,
    /// Faults that struck.
    faults: usize,
}

impl<'a> Run<'a> {
    fn new(test: &'a TestModule, controller: &'a Controller, config: TokenConfig, seed: u64) -> Self {
        controller.clear().unwrap();
        let trace = Trace::new(test);
        let served = serve(test, config.clone()).unwrap();
        Self {
            test,
            controller,
            config,
            dice: Dice(seed),
            trace,
            workload: Workload::begin(&served),
            served,
            breaker: BreakerState::Closed,
            faults: 0,
        }
    }

    fn rounds(&mut self, classes: &[&'static str], tally: &mut Tally) {
        let mut operations = 0;
        for class in classes {
            operations += self.round(class);
            *tally.fired.entry(class).or_default() += 1;
        }
        assert!(operations >= 200 && self.faults >= ROUNDS);
        tally.schedules += 1;
        tally.operations += operations;
        tally.faults += self.faults;
    }

    /// Returns how many operations it took.
    fn round(&mut self, class: &str) -> usize {
        self.read_trace();
        let (function, fault) = *self.dice.one_of(&faults_of(class));
        let within = if class == "E9" { 1 } else { 8 };
        let (mut armed, mut together) = self.arm(class, (function, fault), within);
        let (mut done, mut struck) = (0, 0);
        while done < OPERATIONS_A_ROUND || struck == 0 {
            assert!(done < PATIENCE, "{class}: {fault:?} never struck {function}");
            let at_once = 1 + self.dice.below(together);
            self.workload.operate(&self.served, &mut self.dice, at_once);
            self.check_latched();
            done += at_once;
            let is_it = |line: &&TraceLine| line.function == function && line.fault == Some(fault);
            struck += self.read_trace().iter().filter(is_it).count();
            if struck == 0 && self.served.serving() != Some(armed) {
                self.mend(); // other faults ended that worker
                // Some functions are called so rarely that others could do so again and again.
                (armed, together) = self.arm(class, (function, fault), 1);
            }
        }
        self.mend();
        self.check_all();
        done
    }

    /// One fault for the worker at work, at one of so many of its next calls; another that may strike any. Returns the worker's pid, and
    /// how many operations may be under way together.
    fn arm(&mut self, class: &str, (function, fault): (Function, Fault), within: usize) -> (u32, usize) {
        let active = self.wait_for(|run| run.served.serving());
        let nth = 1 + self.dice.below(within) as u64;
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
        let logs_out = |rule: &Rule| matches!(rule.fault, Fault::Logout { .. });
        let in_threads = matches!(self.served, TestHost::Thread(_));
        let together = if in_threads && schedule.rules.iter().any(logs_out) {
            1
        } else {
            4
        };
        self.controller.set(schedule).unwrap();
        (active, together)
    }

    fn check_latched(&mut self) {
        let state = self.served.status().breaker;
        assert!(
            self.breaker != BreakerState::Latched || state == BreakerState::Latched,
            "latched, then {state:?}"
        );
        self.breaker = state;
    }

    /// Ends the faults; where the host ended its service, does what a supervisor and an operator would.
    fn mend(&mut self) {
        self.controller.clear().unwrap();
        // What the last fault leads to may still be on its way.
        self.wait_for(|run| {
            let status = run.served.status();
            (status.is_serving() || status.breaker == BreakerState::Latched).then_some(())
        });
        if self.served.status().breaker != BreakerState::Latched {
            return;
        }
        self.served.stop();
        self.check_breaker();
        let latch = Latch::of(&data(self.test), &self.served.status().serial);
        if latch.read().is_some() {
            self.read_trace();
            assert!(serve(self.test, self.config.clone()).is_err(), "it is latched on disk");
            let login = |line: &&TraceLine| line.function == Function::C_Login;
            assert_eq!(
                self.read_trace().iter().find(login),
                None,
                "a PIN was tried under a latch"
            );
            latch.unlatch("the campaign", "it goes on").unwrap();
        }
        self.served = serve(self.test, self.config.clone()).unwrap();
        self.breaker = BreakerState::Closed;
    }

    /// Without faults everything works, and nothing is left over.
    fn check_all(&mut self) {
        let mended = self.served.serving();
        if let Err(error) = self.workload.check_all(&self.served) {
            // Only of a worker that was failing already, which its host had not seen.
            eprintln!("campaign: without faults: {error}");
            self.wait_for(|run| (run.served.serving() != mended).then_some(()));
            self.mend();
            self.workload.check_all(&self.served).unwrap();
        }
        let active = self.served.serving().unwrap();
        // A worker is ready before the last of its threads has a session.
        let until = Instant::now() + GRACE;
        let wanted = SESSION_THREADS as i64 + 1;
        self.read_trace();
        while self.trace.sessions(active) < wanted && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(1));
            self.read_trace();
        }
        assert_eq!(self.trace.sessions(active), wanted, "sessions of the worker");
        let cached = self.served.status().cached_handles;
        assert_eq!(self.trace.objects(active), cached as i64, "objects of the worker");
        assert!(self.trace.refused_logins <= 1, "a PIN was tried again");
        self.trace.refused_logins = 0;
    }

    /// Of a host that was stopped.
    fn check_breaker(&self) {
        transitions::checked("closed".to_owned());
    }

    fn read_trace(&mut self) -> Vec<TraceLine> {
        let lines = self.trace.read();
        self.faults += lines.iter().filter(|line| line.fault.is_some()).count();
        lines
    }

    fn wait_for<T>(&self, look: impl Fn(&Self) -> Option<T>) -> T {
        let until = Instant::now() + Duration::from_secs(60);
        loop {
            if let Some(found) = look(self) {
                return found;
            }
            assert!(Instant::now() < until, "it does not come: {:?}", self.served.status());
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

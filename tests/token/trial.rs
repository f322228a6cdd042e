//! One fault in a token that serves: what the caller sees, whether the token is latched, and that the next call works where it should.

use std::sync::Arc;

use keyreeve::{
    model::{Blob, Residency, Suite},
    token::{Answer, BreakerState, Call, Host, Latch, OpenInput, SealInput, TokenConfig, TokenError},
};
use keyreeve_envelope::prf_commit::MessageKeys;
use keyreeve_faultmod::{Controller, Fault, Function, Rule, Schedule, TraceLine};
use metrics_exporter_prometheus::PrometheusHandle;
use zeroize::Zeroizing;

use crate::{
    consequence::{
        Seen::{self, Latched, Lost, Nothing, Overloaded, Refused, Unavailable},
        needed_for,
    },
    fixture::{
        TestHost, ask, assert_same, controller, data, initialised, keys, keys_call, make, make_of, place, serve,
    },
    support::TestModule,
    token_gcm::{open_all, seal_all},
    trace::Trace,
    workers::standby,
};

/// A fault, its class if it is counted as one, and what is seen of it.
#[derive(Clone, Copy, Debug)]
pub struct Expected {
    pub function: Function,
    pub fault: Fault,
    pub class: Option<&'static str>,
    pub seen: Seen,
}

/// Failures that are cured, after which a host is made anew: too many in a short time would end it.
const CURED: u32 = 3;

pub struct Trial<'a> {
    pub test: &'a TestModule,
    pub controller: Controller,
    pub config: TokenConfig,
    pub host: TestHost,
    pub trace: Trace,
    blob: Arc<Blob>,
    before: MessageKeys,
    /// Of suite 0001, and a message that was sealed with it.
    gcm: Arc<Blob>,
    envelope: Vec<u8>,
    /// Of this process, so in the thread form only.
    metrics: Option<PrometheusHandle>,
    /// Since the host started.
    cured: u32,
}

impl<'a> Trial<'a> {
    pub fn new(test: &'a TestModule, metrics: Option<PrometheusHandle>) -> Self {
        let controller = controller(test);
        let config = initialised(test);
        let trace = Trace::new(test);
        let host = serve(test, config.clone()).unwrap();
        let blob = Arc::new(make(&host, place(1)).blob);
        let gcm = Arc::new(make_of(&host, place(3), Suite::TokenGcm).blob);
        Trial {
            before: keys(&host, &blob, place(1)).unwrap(),
            envelope: seal_all(&host, &gcm, place(3), &[b"hello"]).unwrap().remove(0),
            test,
            controller,
            config,
            host,
            trace,
            blob,
            gcm,
            metrics,
            cured: 0,
        }
    }

    pub fn in_workers(&self) -> bool {
        matches!(self.host, TestHost::Process(_))
    }

    /// A call that calls `function` meets the fault once.
    pub fn run(&mut self, expected: Expected) {
        let Expected {
            function, class, seen, ..
        } = expected;
        let failures = self.failures(class.unwrap_or("none"));
        let (answer, lines) = self.meet(function, expected.fault);
        let as_expected = match (&answer, seen) {
            (Ok(Answer::Opened(opened)), Refused) => opened[0].is_none(),
            (Ok(_), Nothing) => true,
            (Ok(_), Lost) => self.in_workers(),
            (Err(TokenError::Refused(_)), Refused) => true,
            (Err(TokenError::Overloaded { .. }), Overloaded) => true,
            (Err(TokenError::Unavailable(_)), Unavailable) => true,
            (Err(TokenError::Unavailable(_)), Lost) => !self.in_workers(),
            (Err(TokenError::Unavailable(_) | TokenError::WrongAnswer(_)), Latched) => true,
            _ => false,
        };
        assert!(
            as_expected,
            "{expected:?}, but {:?}",
            answer.as_ref().map(|_| "answered")
        );
        self.check_answer(&answer);
        if self.metrics.is_some() && class.is_some() {
            assert!(
                self.failures(class.unwrap_or_default()) > failures,
                "not counted: {expected:?}"
            );
        }
        self.check_latched(expected);
        self.end_with(expected, &lines);
    }

    /// The answer, and what the modules did until then.
    pub fn meet(&mut self, function: Function, fault: Fault) -> (Result<Answer, TokenError>, Vec<TraceLine>) {
        for blob in [&self.blob, &self.gcm] {
            ask(&self.host, Call::Evict { blob: *blob.sha256() }).unwrap();
        }
        if let (TestHost::Process(workers), Function::C_Login) = (&self.host, function) {
            standby(workers); // which has logged in, too
        }
        self.trace.read();
        let schedule = needed_for(function).into_iter().fold(Schedule::new(1), Schedule::rule);
        let fault = Rule::on(function, fault).times(1);
        self.controller.set_for(self.host.pid(), schedule.rule(fault)).unwrap();
        let answer = ask(&self.host, self.call_with(function));
        (answer, self.trace.read())
    }

    /// Ends the fault, and sees that nothing is left of it.
    fn end_with(&mut self, expected: Expected, lines: &[TraceLine]) {
        let Expected {
            function,
            fault,
            class,
            seen,
        } = expected;
        let is_it = |line: &TraceLine| line.function == function && is_same(line.fault, fault);
        assert!(lines.iter().any(is_it), "it never struck: {expected:?}");
        self.controller.clear().unwrap();
        // Of the session or login that was lost on purpose, and of the fault itself.
        let needed = needed_for(function).is_some();
        self.cured += u32::from(needed) + u32::from(needed || matches!(class, Some("E3" | "E4" | "E5")));
        let is_code = matches!(fault, Fault::Return { .. });
        if matches!(seen, Lost | Latched) || self.cured >= CURED {
            self.restart();
        }
        let failures = self.failures("");
        self.check_all(&format!("{expected:?}"));
        assert!(
            !is_code || self.failures("") == failures,
            "something was left for the next call: {expected:?}"
        );
        if matches!(fault, Fault::DropSession { .. } | Fault::Logout { .. }) {
            self.restart(); // the next call found out, and cured more than one failure
        }
    }

    /// Both keys are what they were, and no session too many is open.
    pub fn check_all(&mut self, after: &str) {
        let keys = keys(&self.host, &self.blob, place(1)).unwrap_or_else(|error| panic!("{error}, after {after}"));
        assert_same(&self.before, &keys, place(1));
        let opened = open_all(&self.host, &self.gcm, place(3), vec![(self.envelope.clone(), [9; 32])]);
        let opened = opened.unwrap_or_else(|error| panic!("{error}, after {after}"));
        assert_eq!(opened[0].as_deref(), Some(b"hello".as_slice()), "after {after}");
        assert_eq!(self.host.status().fault, None, "after {after}");
        self.trace.read();
        let sessions = self.trace.sessions(self.host.pid());
        assert!(
            sessions <= self.config.session_threads as i64 + 1,
            "{sessions} sessions after {after}"
        );
    }

    /// What was answered is true.
    pub fn check_answer(&self, answer: &Result<Answer, TokenError>) {
        match answer {
            Ok(Answer::EnvelopeKeys(keys)) => assert_same(&self.before, &keys[0], place(1)),
            Ok(Answer::Opened(opened)) => {
                assert!(
                    opened[0]
                        .as_ref()
                        .is_none_or(|plaintext| plaintext.as_bytes() == b"hello")
                );
            }
            _ => {}
        }
    }

    fn check_latched(&self, expected: Expected) {
        let latched = self.latch().read().map(|latched| latched.class);
        let wanted = expected.class.filter(|_| expected.seen == Latched);
        assert_eq!(latched.as_deref(), wanted, "{expected:?}");
        let fails = match expected.seen {
            Latched => true,
            Lost => !self.in_workers(),
            Nothing | Refused | Overloaded | Unavailable => false,
        };
        let status = self.host.status();
        assert_eq!(status.fault.is_some(), fails, "{expected:?}");
        assert_eq!(status.breaker == BreakerState::Latched, fails, "{expected:?}");
    }

    pub fn latch(&self) -> Latch {
        Latch::of(&data(self.test), &self.host.status().serial)
    }

    /// As an operator does who found the cause, and as a supervisor does.
    pub fn restart(&mut self) {
        self.host.stop();
        self.trace.forget();
        if self.latch().read().is_some() {
            assert!(serve(self.test, self.config.clone()).is_err(), "it is latched");
            let lines = self.trace.read();
            let is_login = |line: &TraceLine| line.function == Function::C_Login;
            assert!(!lines.iter().any(is_login), "a PIN was tried under a latch");
            self.latch().unlatch("a test", "it goes on").unwrap();
        }
        let host = serve(self.test, self.config.clone()).unwrap();
        self.go_on_with(host);
    }

    pub fn go_on_with(&mut self, host: TestHost) {
        self.host = host;
        self.cured = 0;
    }

    /// After anything.
    pub fn begin_anew(&mut self) {
        self.controller.clear().unwrap();
        self.latch().unlatch("a test", "it goes on").unwrap();
        self.restart();
    }

    /// How often this class, or with an empty name any, has occurred in this process.
    pub fn failures(&self, class: &str) -> u64 {
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

    /// A call that calls `function`.
    fn call_with(&self, function: Function) -> Call {
        match function {
            Function::C_GenerateKey | Function::C_WrapKey | Function::C_DestroyObject => Call::MakeEnvelopeKey {
                place: place(2),
                suite: Suite::PrfCommit,
                residency: Residency::Wrapped,
                created_ms: 1,
            },
            Function::C_EncryptInit
            | Function::C_Encrypt
            | Function::C_MessageEncryptInit
            | Function::C_EncryptMessage
            | Function::C_MessageEncryptFinal => Call::Seal {
                blob: Arc::clone(&self.gcm),
                place: place(3),
                inputs: vec![SealInput {
                    data_key: false,
                    ec_hash: [9; 32],
                    plaintext: Zeroizing::new(b"hello".to_vec()).into(),
                }]
                .into(),
            },
            Function::C_DecryptInit | Function::C_Decrypt => Call::Open {
                blob: Arc::clone(&self.gcm),
                place: place(3),
                inputs: vec![OpenInput {
                    envelope: self.envelope.clone(),
                    ec_hash: [9; 32],
                }]
                .into(),
            },
            Function::C_GenerateRandom => Call::Random { length: 32 },
            Function::C_GetAttributeValue => Call::MasterKeyAttributes,
            _ => keys_call(&self.blob, place(1), 1),
        }
    }
}

/// A trace says which bit was flipped.
fn is_same(traced: Option<Fault>, fault: Fault) -> bool {
    match (traced, fault) {
        (Some(Fault::CorruptOutput { .. }), Fault::CorruptOutput { .. }) => true,
        (traced, fault) => traced == Some(fault),
    }
}

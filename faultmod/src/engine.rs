//! The state of a process: how often each function was called, the plan in force, the trace.

use crate::call::Call;
use crate::fault::Fault;
use crate::function::Function;
use crate::hang::Gate;
use crate::plan::Plan;
use crate::real::Real;
use crate::schedule::Schedule;
use crate::start;
use crate::trace::{Entry, Trace};
use crate::wire::{Counts, FunctionCounts};
use cryptoki_sys::{CK_RV, CKR_GENERAL_ERROR};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

/// Whether calls go through [`watch`]. True until the first C_Initialize has read the environment, and after that while
/// there is a schedule, a trace or a controller. The only thing that a call asks otherwise.
static WATCHING: AtomicBool = AtomicBool::new(true);

static ENGINE: OnceLock<Engine> = OnceLock::new();

pub struct Engine {
    calls: Vec<AtomicU64>,
    faults: Vec<AtomicU64>,
    plan: RwLock<Option<Arc<Plan>>>,
    pub(crate) gate: Gate,
    pub(crate) trace: Option<Trace>,
    /// The number of this process at its controller.
    pub(crate) connected: Option<u32>,
}

#[inline]
pub fn is_watching() -> bool {
    WATCHING.load(Relaxed)
}

/// The engine, once a C_Initialize has started it.
pub fn engine() -> Option<&'static Engine> {
    ENGINE.get()
}

/// Carries a call out under the schedule. The first C_Initialize starts the engine; calls before it go straight through.
#[cold]
#[inline(never)]
pub fn watch(call: &Call, real: &dyn Fn() -> CK_RV) -> CK_RV {
    let engine = match ENGINE.get() {
        Some(engine) => engine,
        None if call.function == Function::C_Initialize => match start::start(&ENGINE) {
            Ok(engine) => engine,
            Err(error) => {
                eprintln!("faultmod: {error}");
                return CKR_GENERAL_ERROR;
            }
        },
        None => return real(),
    };
    engine.run(call, real)
}

impl Engine {
    pub fn new(trace: Option<Trace>) -> Engine {
        let zeros = || Function::ALL.iter().map(|_| AtomicU64::new(0)).collect();
        Engine {
            calls: zeros(),
            faults: zeros(),
            plan: RwLock::new(None),
            gate: Gate::default(),
            trace,
            connected: None,
        }
    }

    fn run(&self, call: &Call, real: &dyn Fn() -> CK_RV) -> CK_RV {
        let count = self.calls[call.function as usize].fetch_add(1, Relaxed) + 1;
        let entry = self
            .trace
            .as_ref()
            .map(|trace| trace.enter(call, count, self.connected));
        // The plan is shared, not locked, while the call runs: a hung call keeps nobody from replacing it.
        let plan = self.plan.read().unwrap_or_else(PoisonError::into_inner).clone();
        let (rv, suffered) = match &plan {
            Some(plan) => self.under(plan, call, count, entry.as_ref(), real),
            None => (real(), None),
        };
        if let Some(entry) = entry {
            entry.leave(suffered, rv);
        }
        rv
    }

    /// The call under a plan: its code, and the fault that it suffered.
    fn under(
        &self,
        plan: &Plan,
        call: &Call,
        count: u64,
        entry: Option<&Entry<'_>>,
        real: &dyn Fn() -> CK_RV,
    ) -> (CK_RV, Option<Fault>) {
        if plan.token_is_gone() {
            return (call.refusal().unwrap_or_else(real), None);
        }
        let Some(strike) = plan.strike(call.function, count, self.connected) else {
            return (real(), None);
        };
        // Drawn before anybody can learn of the fault: who saw it, by counts or trace, can release it.
        let ticket = self.gate.ticket();
        let faults = &self.faults[call.function as usize];
        faults.fetch_add(1, Relaxed);
        let (rv, suffered) = self.inject(&strike, call, ticket, entry, real);
        if suffered.is_none() {
            strike.missed();
            faults.fetch_sub(1, Relaxed);
        }
        (rv, suffered)
    }

    /// Puts a schedule in force, or none. Either way the token is back, and calls are counted anew. Calls under way end
    /// under the plan that they began with.
    pub fn arm(&self, schedule: Option<Schedule>) {
        let counts = || self.calls.iter().map(|count| count.load(Relaxed)).collect();
        let plan = schedule.map(|schedule| Arc::new(Plan::new(schedule, counts())));
        *self.plan.write().unwrap_or_else(PoisonError::into_inner) = plan;
    }

    /// Lets calls through unwatched where nothing can come of watching them.
    pub fn settle(&self) {
        let armed = self.plan.read().unwrap_or_else(PoisonError::into_inner).is_some();
        WATCHING.store(armed || self.trace.is_some() || self.connected.is_some(), Relaxed);
    }

    pub fn counts(&self) -> Counts {
        let functions = Function::ALL.iter().zip(self.calls.iter().zip(&self.faults));
        functions
            .map(|(function, (calls, faults))| {
                let counts = FunctionCounts {
                    calls: calls.load(Relaxed),
                    faults: faults.load(Relaxed),
                };
                (*function, counts)
            })
            .filter(|(_, counts)| counts.calls > 0)
            .collect()
    }

    /// Really closes the session of the call.
    pub(crate) fn close_session(&self, call: &Call) {
        if let (Some(session), Some(close)) = (
            call.session(),
            Real::get().and_then(|real| real.functions.C_CloseSession),
        ) {
            // SAFETY: takes the handle by value; one that is not open is answered with an error.
            unsafe { close(session) };
        }
    }

    /// Really logs out of the token of the call's session.
    pub(crate) fn logout(&self, call: &Call) {
        if let (Some(session), Some(logout)) = (call.session(), Real::get().and_then(|real| real.functions.C_Logout)) {
            // SAFETY: takes the handle by value; one that is not open is answered with an error.
            unsafe { logout(session) };
        }
    }
}

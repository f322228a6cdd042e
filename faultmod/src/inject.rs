//! Carrying a fault out.

use crate::call::Call;
use crate::engine::Engine;
use crate::fault::{Fault, When};
use crate::hang::Ticket;
use crate::plan::Strike;
use crate::trace::Entry;
use cryptoki_sys::CK_RV;
use std::time::Duration;

impl Engine {
    /// Makes the call with the fault that struck it. Returns its code, and the fault as it was carried out, with everything
    /// that chance decided; `None` when there was nothing to strike.
    pub fn inject(
        &self,
        strike: &Strike<'_>,
        call: &Call,
        ticket: Ticket,
        entry: Option<&Entry<'_>>,
        real: &dyn Fn() -> CK_RV,
    ) -> (CK_RV, Option<Fault>) {
        let mut fault = strike.fault();
        let rv = match &mut fault {
            Fault::Delay { ms, when } => around(*when, real, || std::thread::sleep(Duration::from_millis(*ms))),
            Fault::Return { code, when } => {
                if *when == When::After {
                    real();
                }
                code.0 as CK_RV
            }
            // Hung and aborted calls may never come back, so their line is written as the fault begins.
            Fault::Hang { when } => around(*when, real, || {
                note(entry, strike.fault());
                self.gate.wait(&ticket);
            }),
            Fault::Abort { when } => around(*when, real, || {
                note(entry, strike.fault());
                std::process::abort();
            }),
            Fault::DropSession { when } => around(*when, real, || self.close_session(call)),
            Fault::Logout { when } => around(*when, real, || self.logout(call)),
            Fault::TokenGone => {
                strike.remove_token();
                call.refusal().unwrap_or_else(real)
            }
            Fault::CorruptOutput { bit } => {
                let room = call.output.room();
                let rv = real();
                *bit = call.output.flip(room, rv, bit.unwrap_or(strike.roll));
                if bit.is_none() {
                    return (rv, None);
                }
                rv
            }
            Fault::OverstateLength => {
                let room = call.output.room();
                let rv = real();
                if !call.output.overstate(room, rv) {
                    return (rv, None);
                }
                rv
            }
        };
        (rv, Some(fault))
    }
}

fn around(when: When, real: &dyn Fn() -> CK_RV, act: impl FnOnce()) -> CK_RV {
    match when {
        When::Before => {
            act();
            real()
        }
        When::After => {
            let rv = real();
            act();
            rv
        }
    }
}

fn note(entry: Option<&Entry<'_>>, fault: Fault) {
    if let Some(entry) = entry {
        entry.suffers(fault);
    }
}

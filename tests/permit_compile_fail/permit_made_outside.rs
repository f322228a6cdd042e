// fails: E0624
//! Only the gate makes a permit.
use keyreeve::{
    audit::{Draft, Slot},
    identity::Caller,
    policy::{Permit, System, action},
};

fn misuse(caller: Caller, slot: Slot, drafts: Vec<Draft>) -> Permit<action::WhoAmI> {
    Permit::new(System, caller, slot, drafts)
}

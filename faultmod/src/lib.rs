//! A PKCS#11 module that passes every call on to a real module and, by a seeded schedule, injects faults.
//!
//! The shared library (`libkeyreeve_faultmod.so`) is what an application loads in place of its module; `README.md` says how.
//! The Rust library is what a test needs to steer it: [`Schedule`], [`Controller`], [`module_path`].
//!
//! In scope: making calls late, lost, wrong or fatal, on purpose and again in the same way. Out of scope: a token of its
//! own, changing arguments, looking into data. Nothing here may stand between an application and a token that matters.
//!
//! | file | what |
//! |---|---|
//! | `schedule.rs`, `fault.rs` | what is to go wrong, and when: the types of the schedule file |
//! | `function.rs`, `class.rs`, `code.rs` | names of functions, groups of functions, return codes |
//! | `controller.rs`, `wire.rs` | the side of a test: listens for processes, gives orders; the lines they exchange |
//! | `replay.rs`, `trace.rs` | a trace becomes a schedule; what a line of a trace holds |
//! | `locate.rs`, `variable.rs` | where cargo puts the module; the environment variables it reads |
//! | `table.rs`, `forward.rs` | every function with its signature; one forwarder for each |
//! | `export.rs`, `real.rs` | the three symbols of the library and the lists they hand out; the module behind |
//! | `engine.rs`, `start.rs` | the state of a process: counters, plan, trace; what its first C_Initialize does |
//! | `plan.rs`, `dice.rs` | which rule strikes a call; chance that a seed repeats |
//! | `call.rs`, `inject.rs`, `hang.rs` | one call; carrying a fault out; where hung calls wait |
//! | `orders.rs` | the side of the module: connects to the controller and obeys |

#![deny(clippy::undocumented_unsafe_blocks)]

mod call;
mod class;
mod code;
mod controller;
mod dice;
mod engine;
mod export;
mod fault;
mod forward;
mod function;
mod hang;
mod inject;
mod locate;
mod orders;
mod plan;
mod real;
mod replay;
mod schedule;
mod start;
mod table;
mod trace;
pub mod variable;
mod wire;

pub use class::Class;
pub use code::ReturnCode;
pub use controller::{ControlError, Controller, Process};
pub use fault::{Fault, When};
pub use function::Function;
pub use locate::{NotBuilt, module_path};
pub use replay::ReplayError;
pub use schedule::{Calls, Functions, Only, Rule, Schedule, ScheduleError};
pub use trace::{TraceLine, read_trace};
pub use wire::{Counts, FunctionCounts};

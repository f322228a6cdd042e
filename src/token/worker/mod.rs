//! `isolation = "process"`: the module in a process of its own, which may crash, hang and be killed without the service.
//!
//! ```text
//! service: ProcessHost ─ queue ─ Link ═══ socket (the worker's standard input) ═══ Inbox ─ session threads :worker
//!            Supervisor: one worker at work, one ready to take over
//! ```
//!
//! What crosses the socket are the typed calls of [`super::host`]: nothing that works bytes of the service's choice with a key.
//! A call whose worker dies is handed to the next one, once; every call of the seam may be done twice without harm.
//!
//! | file | what |
//! |---|---|
//! | `frame.rs`, `codec.rs` | bytes on the socket: frames; calls, answers, errors |
//! | `start.rs` | what a worker is told at its start, and how it says that it is ready or why not |
//! | `inbox.rs`, `child.rs` | the worker's side: its threads read the socket themselves |
//! | `pulse.rs`, `counters.rs` | the sign of life: uses of keys, and what goes into the service's metrics |
//! | `sandbox.rs` | what a worker forbids itself before it loads the module |
//! | `link.rs`, `ticket.rs` | the service's side of one worker: calls under way |
//! | `process_host.rs`, `plan.rs`, `supervisor.rs` | the host; how a worker is started; watching and replacing workers |

mod child;
mod codec;
mod counters;
mod frame;
mod inbox;
mod link;
mod plan;
mod process_host;
mod pulse;
mod sandbox;
mod start;
mod supervisor;
mod ticket;

pub use child::run;
pub use process_host::{ProcessHost, Program};
pub use sandbox::{Attempt, Trial, TrialError};
pub use start::Trouble;

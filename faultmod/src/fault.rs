//! What can go wrong with a call.

use crate::code::ReturnCode;
use serde::{Deserialize, Serialize};

/// Before the real call or after it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum When {
    #[default]
    Before,
    After,
}

/// One fault. In JSON an object with its `kind`, such as `{"kind": "return", "code": "CKR_DEVICE_ERROR", "when": "after"}`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Fault {
    /// Waits `ms` milliseconds.
    Delay {
        ms: u64,
        #[serde(default)]
        when: When,
    },
    /// Answers `code`. Before: the real call is not made. After: it is made and its return code is lost; what it wrote into
    /// the caller's buffers stays, and so does its effect (an operation that an `…Init` began stays active).
    Return {
        code: ReturnCode,
        #[serde(default)]
        when: When,
    },
    /// Does not return until the controller releases the hung calls; without a controller, never.
    Hang {
        #[serde(default)]
        when: When,
    },
    /// Ends the process by SIGABRT.
    Abort {
        #[serde(default)]
        when: When,
    },
    /// Really closes the call's session. Before: the real module then answers for itself, as to any closed session.
    DropSession {
        #[serde(default)]
        when: When,
    },
    /// Really logs the process out of the call's token, whereupon its private session objects die.
    Logout {
        #[serde(default)]
        when: When,
    },
    /// From this call on the token is gone: no slots, CKR_TOKEN_NOT_PRESENT to calls that name a slot and
    /// CKR_DEVICE_REMOVED to calls that name a session, until the controller clears or replaces the schedule.
    TokenGone,
    /// Flips one bit of the bytes that the call returned, and leaves CKR_OK. Strikes only calls that returned some: neither
    /// size queries nor failed calls. `bit` counts from the first byte's lowest, modulo the length; without it the seed chooses.
    CorruptOutput {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        bit: Option<u64>,
    },
    /// Reports one byte more than the caller's buffer has room for, and leaves CKR_OK: the word of a broken module. Strikes the
    /// calls that `CorruptOutput` strikes, of functions that report a length.
    OverstateLength,
}

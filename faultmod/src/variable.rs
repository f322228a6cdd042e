//! The environment variables that the module reads, once per process.

/// Absolute path of the real module. Read when the application first asks for a function list.
pub const MODULE: &str = "FAULTMOD_MODULE";
/// A schedule file (JSON), in force from the first C_Initialize of the process on.
pub const SCHEDULE: &str = "FAULTMOD_SCHEDULE";
/// The unix socket of a [`Controller`](crate::Controller); the first C_Initialize connects and waits for a schedule.
pub const CONTROL: &str = "FAULTMOD_CONTROL";
/// A file to which every call adds a line.
pub const TRACE: &str = "FAULTMOD_TRACE";

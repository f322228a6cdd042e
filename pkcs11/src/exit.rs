//! Leaving a process in which a thread may be inside the module.

use std::ffi::c_int;

unsafe extern "C" {
    // POSIX: ends the process at once; runs no exit handler and no destructor.
    #[link_name = "_exit"]
    fn end_at_once(status: c_int) -> !;
}

/// Ends the process without exit handlers: SoftHSM's crash it (SIGSEGV) when they run while a thread is inside the module.
/// Nothing is flushed; write what must be read before.
pub fn exit_now(status: i32) -> ! {
    // SAFETY: `_exit` takes a number and touches no memory of this program.
    unsafe { end_at_once(status) }
}

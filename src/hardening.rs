//! What the process does to itself before it holds a secret: no core files, no debugger, no new privileges, no swap.

use rustix::{
    io::Errno,
    mm::{MlockAllFlags, mlockall},
    process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit},
    thread::set_no_new_privs,
};

use crate::config::LockMemory;

/// Why the process could not protect itself, with the next step.
#[derive(Debug, thiserror::Error)]
pub enum HardeningError {
    #[error("cannot switch off {what}: {source}; a sandbox may forbid it: allow prctl and setrlimit")]
    Refused {
        what: &'static str,
        #[source]
        source: Errno,
    },
    #[error(
        "cannot lock memory against swapping ({0}): raise the limit (LimitMEMLOCK=infinity, ulimit -l, or CAP_IPC_LOCK), or set [security] lock_memory = \"try\" and switch swap off or encrypt it"
    )]
    LockMemory(#[source] Errno),
}

/// What became of the memory lock; `try` leaves it to the caller to warn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Locked {
    Yes,
    /// Not wanted.
    Off,
    /// Wanted, and refused by the system.
    No,
}

/// To be called first in `main`'s work, before threads and secrets. Security design, section 10.3.
pub fn apply(lock_memory: LockMemory) -> Result<Locked, HardeningError> {
    forbid_dumps()?;
    // mlockall counts against RLIMIT_MEMLOCK as a whole: with a finite limit, MCL_FUTURE would make later allocations fail instead of
    // this call. CAP_IPC_LOCK lifts the limit; without it only an unlimited one is good enough.
    match lock_memory {
        LockMemory::Off => Ok(Locked::Off),
        LockMemory::Try => Ok(if lock().is_ok() { Locked::Yes } else { Locked::No }),
        LockMemory::Require => lock().map(|()| Locked::Yes).map_err(HardeningError::LockMemory),
    }
}

/// No core files, not dumpable (which also keeps other processes of the same user from reading /proc/PID/mem), no new privileges.
pub fn forbid_dumps() -> Result<(), HardeningError> {
    let refused = |what| move |source| HardeningError::Refused { what, source };
    let none = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    setrlimit(Resource::Core, none).map_err(refused("core files"))?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(refused("memory dumps"))?;
    set_no_new_privs(true).map_err(refused("new privileges"))
}

fn lock() -> Result<(), Errno> {
    if !may_lock_without_limit() {
        return Err(Errno::PERM);
    }
    mlockall(MlockAllFlags::CURRENT | MlockAllFlags::FUTURE)
}

/// Whether later allocations, too, will be lockable.
fn may_lock_without_limit() -> bool {
    const CAP_IPC_LOCK: u32 = 14;
    let unlimited = rustix::process::getrlimit(Resource::Memlock).current.is_none();
    unlimited
        || std::fs::read_to_string("/proc/self/status")
            .ok()
            .and_then(|status| effective_capabilities(&status))
            .is_some_and(|set| set & (1 << CAP_IPC_LOCK) != 0)
}

fn effective_capabilities(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(line.trim(), 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_process_leaves_no_core_and_gains_no_privilege() {
        forbid_dumps().unwrap();
        assert_eq!(rustix::process::getrlimit(Resource::Core).current, Some(0));
        assert_eq!(
            rustix::process::dumpable_behavior().unwrap(),
            DumpableBehavior::NotDumpable
        );
        assert!(rustix::thread::no_new_privs().unwrap());
    }

    #[test]
    fn capabilities_are_read_from_the_status() {
        assert_eq!(
            effective_capabilities("Name:\tx\nCapEff:\t0000000000004000\n"),
            Some(1 << 14)
        );
        assert_eq!(effective_capabilities("Name:\tx\n"), None);
    }
}

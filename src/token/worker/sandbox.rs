//! What a worker forbids itself before it loads the module (T21): files outside a short list, sockets unless the token is on the
//! network, starting programs, and system calls that no PKCS#11 module has a use for.
//!
//! Files: Landlock, as far as the kernel has it. System calls: seccomp; what is forbidden answers EPERM, so that a module that logs to
//! syslog, say, goes on without. Not in scope: a module sees the PIN and all that it works on.

mod attempt;
mod places;

use std::{
    collections::BTreeMap,
    fs::OpenOptions,
    io,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use landlock::{
    ABI, Access as _, AccessFs, CompatLevel, Compatible as _, Ruleset, RulesetAttr as _, RulesetCreatedAttr as _,
    RulesetStatus, Scope, path_beneath_rules,
};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, TargetArch};

pub use attempt::{Attempt, Trial, TrialError};

use crate::token::{Latch, Signatures, TokenConfig};

/// Scopes (signals, abstract sockets) came last of what is used here.
const LANDLOCK: ABI = ABI::V6;

/// System calls that stay forbidden to a module, whatever it is: to become or reach another process, another view of the file system,
/// more of the kernel. io_uring among them, since seccomp does not see what is asked through it.
const NEVER: &[i64] = &[
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_pidfd_getfd,
    libc::SYS_kcmp,
    libc::SYS_io_uring_setup,
    libc::SYS_userfaultfd,
    libc::SYS_perf_event_open,
    libc::SYS_bpf,
    libc::SYS_add_key,
    libc::SYS_keyctl,
    libc::SYS_request_key,
    libc::SYS_setns,
    libc::SYS_unshare,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_open_by_handle_at,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_reboot,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_acct,
    libc::SYS_quotactl,
    libc::SYS_clock_settime,
    libc::SYS_settimeofday,
];

/// What a worker may still do.
#[derive(Debug)]
pub struct Sandbox {
    /// Files, and directories with all in them.
    reads: Vec<PathBuf>,
    writes: Vec<PathBuf>,
    network: bool,
}

/// What of it holds on this host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Held {
    Whole,
    /// The kernel's Landlock is older: some ways to change files, or signals, are not held back.
    Partly,
    /// The kernel has no Landlock: system calls only.
    CallsOnly,
}

#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    #[error("cannot prepare `{path}` for the worker: {error}")]
    Prepare { path: String, error: io::Error },
    #[error("cannot shut the worker's files in: {0}")]
    Files(#[from] landlock::RulesetError),
    #[error("cannot forbid the worker system calls: {0}")]
    Calls(#[from] seccompiler::Error),
    #[error("cannot forbid the worker system calls: {0}")]
    Filter(#[from] seccompiler::BackendError),
}

impl Sandbox {
    /// For a worker of this configuration. Makes what it will need and may not make itself: the directory of latches, and the file of
    /// tombstones, since a rule holds for files that are there.
    pub fn prepare(config: &TokenConfig, data_directory: &Path, tombstones: &Path) -> Result<Self, SandboxError> {
        let failed = |path: &Path| {
            let path = path.display().to_string();
            move |error| SandboxError::Prepare { path, error }
        };
        let latches = Latch::directory(data_directory);
        match std::fs::DirBuilder::new().mode(0o700).create(&latches) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(failed(&latches)(error)),
            _ => {}
        }
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(tombstones);
        file.map_err(failed(tombstones))?;

        let mut reads = places::of_every_module(&config.module);
        let signatures = Signatures::beside(&config.manifest);
        reads.extend([config.manifest.clone(), signatures, tombstones.to_owned()]);
        let (configurations, storage) = places::of_known_modules(&config.module);
        reads.extend(configurations);
        reads.extend(config.module_reads.iter().cloned());
        let mut writes = vec![latches, PathBuf::from("/dev/null")];
        writes.extend(storage);
        writes.extend(config.module_writes.iter().cloned());
        Ok(Self {
            reads,
            writes,
            network: config.network,
        })
    }

    /// From here on, for this thread and all that it starts. There is no way back.
    pub fn enter(&self) -> Result<Held, SandboxError> {
        let held = self.shut_files_in()?;
        seccompiler::apply_filter(&self.filter()?)?;
        Ok(held)
    }

    fn shut_files_in(&self) -> Result<Held, SandboxError> {
        // No right to execute anywhere: loading a library needs none.
        let reading = AccessFs::ReadFile | AccessFs::ReadDir;
        let writing = AccessFs::from_all(LANDLOCK) & !AccessFs::Execute;
        let status = Ruleset::default()
            .set_compatibility(CompatLevel::BestEffort)
            .handle_access(AccessFs::from_all(LANDLOCK))?
            .scope(Scope::from_all(LANDLOCK))?
            .create()?
            .add_rules(path_beneath_rules(&self.reads, reading))?
            .add_rules(path_beneath_rules(&self.writes, writing))?
            .restrict_self()?;
        Ok(match status.ruleset {
            RulesetStatus::FullyEnforced => Held::Whole,
            RulesetStatus::PartiallyEnforced => Held::Partly,
            RulesetStatus::NotEnforced => Held::CallsOnly,
        })
    }

    fn filter(&self) -> Result<BpfProgram, SandboxError> {
        let mut forbidden = NEVER.to_vec();
        if !self.network {
            forbidden.push(libc::SYS_socket);
        }
        let rules: BTreeMap<_, _> = forbidden.into_iter().map(|call| (call, Vec::new())).collect();
        let refuse = SeccompAction::Errno(libc::EPERM as u32);
        let here = TargetArch::try_from(std::env::consts::ARCH)?;
        Ok(SeccompFilter::new(rules, SeccompAction::Allow, refuse, here)?.try_into()?)
    }
}

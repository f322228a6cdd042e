//! The trace: one JSON line for each call. Never an argument, a PIN, or data.

use crate::call::Call;
use crate::code::ReturnCode;
use crate::fault::Fault;
use crate::function::Function;
use cryptoki_sys::CK_RV;
use serde::{Deserialize, Serialize};
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Instant, SystemTime};

/// One call. A call that hangs or aborts has a line when the fault begins, without `code`; when a hung call returns, it gets
/// a second line with the same `seq`, without `fault`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TraceLine {
    /// Counts the calls of the process in the order in which they arrived, from 1. Lines are in the order of returning.
    pub seq: u64,
    pub pid: u32,
    /// The number of the process at its controller.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub connected: Option<u32>,
    /// Threads of the process, numbered from 1 as they first appear.
    pub thread: u64,
    /// When the call arrived, in microseconds since 1970.
    pub time_us: u64,
    pub function: Function,
    /// The call's number among the process's calls of this function, from 1.
    pub nth: u64,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub session: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub fault: Option<Fault>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub code: Option<ReturnCode>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub duration_us: Option<u64>,
}

/// Reads the text of a trace. A last line that a dying process left unfinished is left out.
pub fn read_trace(text: &str) -> Result<Vec<TraceLine>, serde_json::Error> {
    text.split_inclusive('\n')
        .filter(|line| line.ends_with('\n'))
        .map(serde_json::from_str)
        .collect()
}

pub struct Trace {
    file: File,
    calls: AtomicU64,
}

/// A call under way.
pub struct Entry<'a> {
    trace: &'a Trace,
    line: TraceLine,
    started: Instant,
}

impl Trace {
    /// Adds to the file at `path`, which several processes may share.
    pub fn open(path: &Path) -> io::Result<Trace> {
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        Ok(Trace {
            file,
            calls: AtomicU64::new(0),
        })
    }

    pub fn enter(&self, call: &Call, nth: u64, connected: Option<u32>) -> Entry<'_> {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        Entry {
            trace: self,
            line: TraceLine {
                seq: self.calls.fetch_add(1, Relaxed) + 1,
                pid: std::process::id(),
                connected,
                thread: thread_number(),
                time_us: now.unwrap_or_default().as_micros() as u64,
                function: call.function,
                nth,
                session: call.session(),
                fault: None,
                code: None,
                duration_us: None,
            },
            started: Instant::now(),
        }
    }

    /// One write for one line, so that lines of several threads and processes do not mix.
    fn write(&self, line: &TraceLine) {
        // A trace that cannot be written must not change what the application sees.
        if let Ok(mut text) = serde_json::to_vec(line) {
            text.push(b'\n');
            let _ = (&self.file).write_all(&text);
        }
    }
}

impl Entry<'_> {
    /// The call begins to suffer a fault from which it may not return.
    pub fn suffers(&self, fault: Fault) {
        let mut line = self.line.clone();
        line.fault = Some(fault);
        self.trace.write(&line);
    }

    pub fn leave(mut self, fault: Option<Fault>, rv: CK_RV) {
        self.line.fault = fault.filter(|fault| !matches!(fault, Fault::Hang { .. }));
        self.line.code = Some(ReturnCode(rv));
        self.line.duration_us = Some(self.started.elapsed().as_micros() as u64);
        self.trace.write(&self.line);
    }
}

fn thread_number() -> u64 {
    static SEEN: AtomicU64 = AtomicU64::new(0);
    thread_local! {
        static NUMBER: u64 = SEEN.fetch_add(1, Relaxed) + 1;
    }
    NUMBER.with(|number| *number)
}

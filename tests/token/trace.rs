//! What the modules of all processes did, by the trace that faultmod writes: sessions, keys, PINs that were tried, faults that struck.

use std::{
    collections::HashMap,
    fs::File,
    io::{Read, Seek, SeekFrom},
};

use keyreeve_faultmod::{Function, ReturnCode, TraceLine};

use crate::support::{TRACE, TestModule};

pub struct Trace {
    file: File,
    processes: HashMap<u32, Process>,
    /// Since somebody last set it to 0.
    pub refused_logins: u32,
}

/// What a process has open, as far as it was told of it.
#[derive(Default)]
struct Process {
    sessions: i64,
    /// Objects by the session that made them, with which they die.
    objects: HashMap<u64, i64>,
}

impl Trace {
    /// From here on, for which no session may be open. What is in the file is left out, and thrown away.
    pub fn new(test: &TestModule) -> Self {
        let path = test.directory.join(TRACE);
        let file = File::options().read(true).write(true).open(path).unwrap();
        file.set_len(0).unwrap(); // who has it open adds to its end
        Self {
            file,
            processes: HashMap::new(),
            refused_logins: 0,
        }
    }

    /// Throws away what is there, as `new` does: no session may be open.
    pub fn forget(&mut self) {
        self.file.set_len(0).unwrap();
        self.file.rewind().unwrap();
        // Another process may get the number of one that ended.
        self.processes.clear();
    }

    /// The lines that came since the last time, as far as they speak of sessions, objects, logins or faults.
    pub fn read(&mut self) -> Vec<TraceLine> {
        let mut text = String::new();
        let read = self.file.read_to_string(&mut text).unwrap();
        // The last line may be in the making.
        text.truncate(text.rfind('\n').map_or(0, |end| end + 1));
        let back = i64::try_from(read - text.len()).unwrap();
        self.file.seek(SeekFrom::Current(-back)).unwrap();
        // Most lines are of the known answers of a start, a thousand ivs among them.
        let of_interest: String = text.split_inclusive('\n').filter(|line| is_of_interest(line)).collect();
        let mut lines = keyreeve_faultmod::read_trace(&of_interest).unwrap();
        // A thread may write of the end of its call late: a key is destroyed in the session in which it lived, not in the one that followed.
        lines.sort_by_key(|line| (line.pid, line.seq));
        for line in &lines {
            if (line.function, line.code) == (Function::C_Login, Some(ReturnCode::PIN_INCORRECT)) {
                self.refused_logins += 1;
            }
            self.processes.entry(line.pid).or_default().note(line);
        }
        lines
    }

    /// Open sessions of a process.
    pub fn sessions(&self, process: u32) -> i64 {
        self.processes.get(&process).map_or(0, |process| process.sessions)
    }

    /// Objects that a process has made and not destroyed, in sessions that are open.
    pub fn objects(&self, process: u32) -> i64 {
        self.processes
            .get(&process)
            .map_or(0, |process| process.objects.values().sum())
    }
}

fn is_of_interest(line: &str) -> bool {
    let (_, function) = line.split_once("\"function\":\"").unwrap_or_default();
    let (function, rest) = function.split_once('"').unwrap_or_default();
    let noted = [
        Function::C_OpenSession,
        Function::C_CloseSession,
        Function::C_Login,
        Function::C_CreateObject,
        Function::C_GenerateKey,
        Function::C_UnwrapKey,
        Function::C_DestroyObject,
    ];
    rest.contains("\"fault\":") || noted.iter().any(|noted| noted.name() == function)
}

impl Process {
    fn note(&mut self, line: &TraceLine) {
        let session = line.session.unwrap_or_default();
        match (line.function, line.code) {
            (Function::C_OpenSession, Some(ReturnCode::OK)) => self.sessions += 1,
            // The answer does not matter: the session may be gone already.
            (Function::C_CloseSession, Some(_)) => {
                self.sessions -= 1;
                self.objects.remove(&session);
            }
            (Function::C_CreateObject | Function::C_GenerateKey | Function::C_UnwrapKey, Some(ReturnCode::OK)) => {
                *self.objects.entry(session).or_default() += 1
            }
            (Function::C_DestroyObject, Some(ReturnCode::OK)) => self.destroyed(session),
            _ => {}
        }
    }

    /// A thread destroys what it made itself, or else a version key of the keeper's, which has the most.
    fn destroyed(&mut self, session: u64) {
        let own = self.objects.get(&session).copied().unwrap_or(0) > 0;
        let most = || {
            self.objects
                .iter()
                .max_by_key(|(_, count)| **count)
                .map(|(keeper, _)| *keeper)
        };
        let of = if own { Some(session) } else { most() };
        if let Some(count) = of.and_then(|of| self.objects.get_mut(&of)) {
            *count -= 1;
        }
    }
}

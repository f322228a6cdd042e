//! The side of a test: listens for the processes that load the module, and gives them orders. Plain threads, no runtime.

use crate::schedule::{Schedule, ScheduleError};
use crate::wire::{Answer, Command, Counts, Hello, Line, Order, PATIENCE};
use std::io::{self, Read};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    #[error("the control socket")]
    Socket(#[source] io::Error),
    #[error(transparent)]
    Schedule(#[from] ScheduleError),
    #[error("process {pid} gave no answer")]
    NoAnswer { pid: u32, source: io::Error },
    #[error("process {pid} did not obey: {reason}")]
    Refused { pid: u32, reason: String },
    #[error("no process {0} is connected")]
    Unknown(u32),
    #[error("{seen} of {wanted} processes connected in time")]
    TooFew { wanted: usize, seen: usize },
}

/// A process that loaded the module and called C_Initialize.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Process {
    pub pid: u32,
    /// Its place in the order of connecting, from 1; what `Only::Connected` names.
    pub connected: u32,
}

/// Listens on a unix socket, which `FAULTMOD_CONTROL` must name for the processes to be steered.
///
/// Every method that gives an order returns when those it went to have acknowledged it, so that the next call of the
/// application comes under it. Processes that have ended are no error; one that is there and does not answer is.
pub struct Controller {
    path: PathBuf,
    shared: Arc<Shared>,
    accepting: Option<JoinHandle<()>>,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    closed: AtomicBool,
}

struct State {
    /// What a process that connects from now on is told first.
    schedule: Schedule,
    connections: Vec<Connection>,
    connected: u32,
    commands: u64,
}

struct Connection {
    process: Process,
    line: Line,
}

impl Controller {
    /// Listens at `path`, which must not exist yet. Every process that connects gets `schedule`, until another is set.
    pub fn listen(path: &Path, schedule: Schedule) -> Result<Controller, ControlError> {
        schedule.check()?;
        let listener = UnixListener::bind(path).map_err(ControlError::Socket)?;
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                schedule,
                connections: Vec::new(),
                connected: 0,
                commands: 0,
            }),
            changed: Condvar::new(),
            closed: AtomicBool::new(false),
        });
        let accepting = std::thread::Builder::new().name("faultmod-accept".to_owned()).spawn({
            let shared = Arc::clone(&shared);
            move || accept(&listener, &shared)
        });
        Ok(Controller {
            path: path.to_owned(),
            shared,
            accepting: Some(accepting.map_err(ControlError::Socket)?),
        })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The processes that are connected now.
    pub fn processes(&self) -> Vec<Process> {
        let mut state = self.shared.lock();
        state.connections.retain(Connection::is_alive);
        state.connections.iter().map(|connection| connection.process).collect()
    }

    /// Waits until so many processes have connected, counting those that have ended since. Returns those that are there.
    pub fn wait_for(&self, wanted: usize, patience: Duration) -> Result<Vec<Process>, ControlError> {
        let deadline = Instant::now() + patience;
        let mut state = self.shared.lock();
        while (state.connected as usize) < wanted {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let seen = state.connected as usize;
                return Err(ControlError::TooFew { wanted, seen });
            }
            let waited = self.shared.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        drop(state);
        Ok(self.processes())
    }

    /// Sets the schedule of all processes, those to come included.
    pub fn set(&self, schedule: Schedule) -> Result<(), ControlError> {
        schedule.check()?;
        let mut state = self.shared.lock();
        state.schedule = schedule.clone();
        state.order_all(|process| Order::Schedule {
            connected: process.connected,
            schedule: schedule.clone(),
        })
    }

    /// Sets the schedule of one process.
    pub fn set_for(&self, pid: u32, schedule: Schedule) -> Result<(), ControlError> {
        schedule.check()?;
        let mut state = self.shared.lock();
        let connected = state.find(pid)?.process.connected;
        state.order_one(pid, Order::Schedule { connected, schedule })?;
        Ok(())
    }

    /// Ends all faults, for those to come too: the token is back, no rule strikes. Calls that hang go on hanging.
    pub fn clear(&self) -> Result<(), ControlError> {
        let mut state = self.shared.lock();
        state.schedule = Schedule::default();
        state.order_all(|_| Order::Clear)
    }

    /// Lets every call that hangs now go on.
    pub fn release(&self) -> Result<(), ControlError> {
        self.shared.lock().order_all(|_| Order::Release)
    }

    /// How often the process called each function, and how many of those calls suffered a fault.
    pub fn counts(&self, pid: u32) -> Result<Counts, ControlError> {
        let answer = self.shared.lock().order_one(pid, Order::Counts)?;
        Ok(answer.counts.unwrap_or_default())
    }
}

impl Drop for Controller {
    fn drop(&mut self) {
        self.shared.closed.store(true, Relaxed);
        // The accepting thread sees `closed` when it wakes: this connection wakes it.
        let woken = UnixStream::connect(&self.path).is_ok();
        if let (Some(accepting), true) = (self.accepting.take(), woken) {
            let _ = accepting.join();
        }
        let _ = std::fs::remove_file(&self.path);
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn accept(listener: &UnixListener, shared: &Arc<Shared>) {
    for stream in listener.incoming() {
        if shared.closed.load(Relaxed) {
            return;
        }
        let Ok(stream) = stream else { continue };
        let shared = Arc::clone(shared);
        // A process that connects and says nothing keeps only this thread waiting.
        std::thread::spawn(move || {
            // A process that goes away meanwhile, or talks nonsense, has failed its own C_Initialize.
            let _ = welcome(stream, &shared);
        });
    }
}

/// Hello, then the first schedule. The state is locked over the second, so that no order can pass the process by.
fn welcome(stream: UnixStream, shared: &Shared) -> Result<(), ControlError> {
    stream.set_read_timeout(Some(PATIENCE)).map_err(ControlError::Socket)?;
    let mut line = Line::over(stream);
    let hello = line.receive().map_err(ControlError::Socket)?;
    let hello: Hello = serde_json::from_str(&hello).map_err(|error| ControlError::Socket(error.into()))?;
    let mut state = shared.lock();
    let process = Process {
        pid: hello.pid,
        connected: state.connected + 1,
    };
    let order = Order::Schedule {
        connected: process.connected,
        schedule: state.schedule.clone(),
    };
    state.commands += 1;
    let mut connection = Connection { process, line };
    connection.ask(state.commands, order)?;
    state.connected += 1;
    state.connections.push(connection);
    shared.changed.notify_all();
    Ok(())
}

impl State {
    fn find(&mut self, pid: u32) -> Result<&mut Connection, ControlError> {
        let found = self.connections.iter_mut().find(|one| one.process.pid == pid);
        found.ok_or(ControlError::Unknown(pid))
    }

    fn order_one(&mut self, pid: u32, order: Order) -> Result<Answer, ControlError> {
        self.commands += 1;
        let id = self.commands;
        self.find(pid)?.ask(id, order)
    }

    /// Gives an order to all that are there. All hear of it, even after one of them failed.
    fn order_all(&mut self, order: impl Fn(Process) -> Order) -> Result<(), ControlError> {
        let mut result = Ok(());
        for connection in &mut self.connections {
            self.commands += 1;
            match connection.ask(self.commands, order(connection.process)) {
                Ok(_) => {}
                Err(ControlError::NoAnswer { source, .. }) if has_ended(&source) => {}
                Err(error) => result = Err(error),
            }
        }
        self.connections.retain(Connection::is_alive);
        result
    }
}

/// Whether the other side is gone, rather than silent.
fn has_ended(error: &io::Error) -> bool {
    !matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

impl Connection {
    fn ask(&mut self, id: u64, order: Order) -> Result<Answer, ControlError> {
        let pid = self.process.pid;
        let unanswered = |source| ControlError::NoAnswer { pid, source };
        self.line.send(&Command { id, order }).map_err(unanswered)?;
        let text = self.line.receive().map_err(unanswered)?;
        let answer: Answer = serde_json::from_str(&text).map_err(|error| unanswered(error.into()))?;
        match answer.error {
            Some(reason) => Err(ControlError::Refused { pid, reason }),
            None if answer.id == id => Ok(answer),
            None => Err(unanswered(io::Error::other("it answered another order"))),
        }
    }

    /// A process says nothing unasked, so reading finds nothing while it lives, and the end when it is gone. One whose answer
    /// came too late to be read where it belonged is given up as well.
    fn is_alive(&self) -> bool {
        let mut stream = self.line.stream();
        if stream.set_nonblocking(true).is_err() {
            return false;
        }
        let read = stream.read(&mut [0; 1]);
        stream.set_nonblocking(false).is_ok() && matches!(read, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }
}

//! What the first C_Initialize of a process does before its real call: reads the environment, once.

use crate::engine::Engine;
use crate::orders;
use crate::schedule::{Schedule, ScheduleError};
use crate::trace::Trace;
use crate::variable;
use std::io;
use std::path::PathBuf;
use std::sync::{Mutex, OnceLock, PoisonError};

#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("{}=`{}` cannot be opened: {source}", variable::TRACE, path.display())]
    Trace { path: PathBuf, source: io::Error },
    #[error("{}=`{}` cannot be read: {source}", variable::SCHEDULE, path.display())]
    Unreadable { path: PathBuf, source: io::Error },
    #[error("{}=`{}`: {source}", variable::SCHEDULE, path.display())]
    Schedule { path: PathBuf, source: ScheduleError },
    #[error("{}=`{}`: no first order from a controller: {source}", variable::CONTROL, path.display())]
    Control { path: PathBuf, source: io::Error },
}

static STARTING: Mutex<()> = Mutex::new(());

/// Starts the engine, or returns the one that another thread started. After a failure the next C_Initialize tries again.
pub fn start(slot: &'static OnceLock<Engine>) -> Result<&'static Engine, StartError> {
    let _one_at_a_time = STARTING.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(engine) = slot.get() {
        return Ok(engine);
    }
    let path = |name| std::env::var_os(name).map(PathBuf::from);

    let trace = match path(variable::TRACE) {
        Some(path) => Some(Trace::open(&path).map_err(|source| StartError::Trace { path, source })?),
        None => None,
    };
    let mut engine = Engine::new(trace);
    if let Some(path) = path(variable::SCHEDULE) {
        engine.arm(Some(read(path)?));
    }
    let line = match path(variable::CONTROL) {
        Some(path) => match orders::connect(&path, &mut engine) {
            Ok(line) => Some((path, line)),
            Err(source) => return Err(StartError::Control { path, source }),
        },
        None => None,
    };
    let engine = slot.get_or_init(|| engine);
    engine.settle();
    if let Some((path, line)) = line {
        orders::listen(line).map_err(|source| StartError::Control { path, source })?;
    }
    Ok(engine)
}

fn read(path: PathBuf) -> Result<Schedule, StartError> {
    match std::fs::read_to_string(&path) {
        Ok(text) => Schedule::parse(&text).map_err(|source| StartError::Schedule { path, source }),
        Err(source) => Err(StartError::Unreadable { path, source }),
    }
}

//! The lines between a controller and the processes that it steers: JSON, one message a line. Reference in `README.md`.

use crate::function::Function;
use crate::schedule::Schedule;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// How long either side waits for the other where an answer is due.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// The process's first line.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hello {
    pub pid: u32,
}

/// From the controller.
#[derive(Debug, Serialize, Deserialize)]
pub struct Command {
    pub id: u64,
    #[serde(flatten)]
    pub order: Order,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "order", rename_all = "snake_case")]
pub enum Order {
    /// Replaces the schedule; the token, if it was gone, is back. `connected` tells the process its number.
    Schedule { connected: u32, schedule: Schedule },
    /// Ends all faults but calls that hang already; the token, if it was gone, is back.
    Clear,
    /// Lets the calls that hang now go on.
    Release,
    /// Asks for the counts.
    Counts,
}

/// From the process, one for each command.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Answer {
    pub id: u64,
    /// Why the order was not obeyed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub counts: Option<Counts>,
}

/// The functions that were called.
pub type Counts = BTreeMap<Function, FunctionCounts>;

/// Since the process's first C_Initialize.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FunctionCounts {
    pub calls: u64,
    pub faults: u64,
}

/// A connection that carries lines.
pub struct Line {
    reader: BufReader<UnixStream>,
}

impl Line {
    pub fn over(stream: UnixStream) -> Line {
        Line {
            reader: BufReader::new(stream),
        }
    }

    pub fn stream(&self) -> &UnixStream {
        self.reader.get_ref()
    }

    pub fn send(&self, message: &impl Serialize) -> io::Result<()> {
        let mut text = serde_json::to_vec(message)?;
        text.push(b'\n');
        self.stream().write_all(&text)
    }

    /// The next line as text; `UnexpectedEof` when the other side is gone.
    pub fn receive(&mut self) -> io::Result<String> {
        let mut text = String::new();
        if self.reader.read_line(&mut text)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(text)
    }
}

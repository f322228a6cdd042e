//! The worker's end of the socket: session threads read it themselves.
//!
//! Leader and followers: one thread reads, takes its share of what has come, and lets the next one read while it works. No reader
//! thread and no queue stand between the socket and the token, so a call costs no wake-up more than it must.

use std::{
    io::{self, Read as _, Write as _},
    os::unix::net::UnixStream,
    sync::Mutex,
    time::Instant,
};

use super::{
    codec,
    frame::{Frames, Malformed},
    start::{self, News},
};
use crate::token::{Call, thread_host::lock};

/// Calls that one thread takes at once at most: it answers them together.
const AT_ONCE: usize = 8;

/// A call, to be answered under its id.
pub struct Taken {
    pub id: u64,
    pub call: Call,
    pub deadline: Instant,
}

pub struct Inbox {
    stream: UnixStream,
    frames: Mutex<Frames>,
    /// Held while answers are written: they do not mix. The number of unwrapped keys that was told last.
    writing: Mutex<u64>,
    threads: usize,
}

impl Inbox {
    pub fn new(stream: UnixStream, threads: usize) -> Self {
        Self {
            stream,
            frames: Mutex::new(Frames::new()),
            writing: Mutex::new(0),
            threads,
        }
    }

    /// Waits for calls and moves a fair share of them into `taken`. `false` once the service has closed its end.
    pub fn take(&self, taken: &mut Vec<Taken>) -> io::Result<bool> {
        let mut frames = lock(&self.frames);
        loop {
            let here = frames.whole(AT_ONCE * self.threads)?;
            if here > 0 {
                // One is left for who comes next: a thread that had taken all would let the service wait until all of it is done.
                for _ in 0..(here / self.threads).min(here - 1).clamp(1, AT_ONCE) {
                    let frame = frames.next()?.ok_or(Malformed)?;
                    let (id, (call, left)) = (frame.id, codec::call(frame)?);
                    taken.push(Taken {
                        id,
                        call,
                        deadline: Instant::now() + left,
                    });
                }
                return Ok(true);
            }
            match frames.fill(|room| (&self.stream).read(room)) {
                Ok(0) => return Ok(false),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // The service was killed: the same as closed.
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(false),
                Err(error) => return Err(error),
            }
        }
    }

    /// Sends the answers in `out`, and before them the number of unwrapped keys, if it has changed: nobody who has an answer sees an
    /// older one.
    pub fn answer(&self, out: &[u8], unwrapped: impl FnOnce() -> u64) -> io::Result<()> {
        let mut told = lock(&self.writing);
        let unwrapped = unwrapped();
        if *told != unwrapped {
            *told = unwrapped;
            let mut news = Vec::new();
            start::put_news(&mut news, &News::Handles(unwrapped));
            (&self.stream).write_all(&news)?;
        }
        (&self.stream).write_all(out)
    }

    /// Sends `out` whole.
    pub fn send(&self, out: &[u8]) -> io::Result<()> {
        let _writing = lock(&self.writing);
        (&self.stream).write_all(out)
    }
}

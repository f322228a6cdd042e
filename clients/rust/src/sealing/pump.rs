//! Large streams and values over all cores, in bounded memory.
//!
//! Each thread reads a batch, works it, and writes it when its turn has come; reading is in order because one thread reads at a time.
//! So the core that read a batch seals it, no batch is handed from thread to thread, and no more than one per thread exists: memory is
//! threads × 256 KiB, whatever the size. What fits into one batch starts no thread.

use std::{
    io::{self, Read, Write},
    num::NonZero,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    thread,
};

use super::{
    batch::{BATCH_CHUNKS, OpenBatch, SealBatch},
    message::ChunkKey,
};
use crate::ClientError;

/// More threads than this do not help: reading and writing are one after the other.
const MAX_THREADS: usize = 32;

/// How many threads a large stream gets: the cores that this process may use.
pub(super) fn all_cores() -> usize {
    thread::available_parallelism().map_or(1, NonZero::get).min(MAX_THREADS)
}

/// One buffer of chunks that goes round.
pub(super) trait Batch: Send {
    fn new() -> Self;
    fn start_at(&mut self, index: u64);
    /// True if `input` ended.
    fn fill(&mut self, input: &mut impl Read) -> io::Result<bool>;
    /// `ended`: this is the last batch.
    fn work(&mut self, key: &ChunkKey, ended: bool) -> Result<(), ClientError>;
    fn write(&mut self, output: &mut impl Write) -> io::Result<()>;
}

impl Batch for SealBatch {
    fn new() -> Self {
        Self::new()
    }

    fn start_at(&mut self, index: u64) {
        self.start_at(index);
    }

    fn fill(&mut self, input: &mut impl Read) -> io::Result<bool> {
        self.fill(input)
    }

    fn work(&mut self, key: &ChunkKey, ended: bool) -> Result<(), ClientError> {
        self.seal(key, ended).map(|_| ())
    }

    fn write(&mut self, output: &mut impl Write) -> io::Result<()> {
        output.write_all(self.ready())
    }
}

impl Batch for OpenBatch {
    fn new() -> Self {
        Self::new()
    }

    fn start_at(&mut self, index: u64) {
        self.start_at(index);
    }

    fn fill(&mut self, input: &mut impl Read) -> io::Result<bool> {
        self.fill(input)
    }

    fn work(&mut self, key: &ChunkKey, ended: bool) -> Result<(), ClientError> {
        self.open(key, ended)
    }

    fn write(&mut self, output: &mut impl Write) -> io::Result<()> {
        while !self.piece().is_empty() {
            let length = self.piece().len();
            output.write_all(self.piece())?;
            self.take(length);
        }
        Ok(())
    }
}

struct Input<R> {
    reader: R,
    /// Number of the batch that is read next.
    next: u64,
    ended: bool,
}

struct Output<W> {
    writer: W,
    /// Number of the batch that is written next.
    next: u64,
    failed: Option<ClientError>,
}

struct Pump<'a, R, W> {
    key: &'a ChunkKey,
    input: Mutex<Input<R>>,
    output: Mutex<Output<W>>,
    turn: Condvar,
}

/// Works the chunks of `reader` into `writer` on at most `threads` threads, this one included.
///
/// Ends when `reader` does. On an error some batches may be written: of a message that is opened, verified ones.
pub(super) fn stream<B: Batch, R: Read + Send, W: Write + Send>(
    key: &ChunkKey,
    reader: R,
    writer: W,
    threads: usize,
) -> Result<W, ClientError> {
    let pump = Pump {
        key,
        input: Mutex::new(Input {
            reader,
            next: 0,
            ended: false,
        }),
        output: Mutex::new(Output {
            writer,
            next: 0,
            failed: None,
        }),
        turn: Condvar::new(),
    };
    let mut first = B::new();
    let (number, ended) = pump.read(&mut first)?.expect("no batch was read before");
    if ended {
        pump.finish(&mut first, number, true)?;
    } else {
        thread::scope(|scope| {
            for _ in 1..threads {
                // Where the system has no more threads, fewer do the same.
                let more = thread::Builder::new().spawn_scoped(scope, || pump.run(&mut B::new(), None));
                if more.is_err() {
                    break;
                }
            }
            pump.run(&mut first, Some(number));
        });
    }
    let mut output = pump.output.into_inner().unwrap_or_else(PoisonError::into_inner);
    match output.failed {
        Some(error) => Err(error),
        None => {
            output.writer.flush().map_err(ClientError::from_io)?;
            Ok(output.writer)
        }
    }
}

/// A thread that panics, in a caller's reader or writer, must not leave the others waiting for its turn.
struct GiveUp<'a, R: Read + Send, W: Write + Send>(&'a Pump<'a, R, W>);

impl<R: Read + Send, W: Write + Send> Drop for GiveUp<'_, R, W> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.give_up(ClientError::unfinished());
        }
    }
}

impl<R: Read + Send, W: Write + Send> Pump<'_, R, W> {
    /// Goes round until there is nothing left or something failed. `filled`: the batch holds that one already.
    fn run<B: Batch>(&self, batch: &mut B, filled: Option<u64>) {
        let mut round = || -> Result<(), ClientError> {
            if let Some(number) = filled {
                self.finish(batch, number, false)?;
            }
            while let Some((number, ended)) = self.read(batch)? {
                self.finish(batch, number, ended)?;
            }
            Ok(())
        };
        let guard = GiveUp(self);
        if let Err(error) = round() {
            self.give_up(error);
        }
        drop(guard);
    }

    /// Makes the other threads end: what they wait for will not come.
    fn give_up(&self, error: ClientError) {
        locked(&self.input).ended = true;
        locked(&self.output).failed.get_or_insert(error);
        self.turn.notify_all();
    }

    /// The next batch's number, and whether it is the last. `None`: there is none.
    fn read<B: Batch>(&self, batch: &mut B) -> Result<Option<(u64, bool)>, ClientError> {
        let mut input = locked(&self.input);
        if input.ended {
            return Ok(None);
        }
        let number = input.next;
        batch.start_at(number * BATCH_CHUNKS as u64);
        let filled = batch.fill(&mut input.reader);
        input.next += 1;
        // Nobody reads on behind what could not be read.
        input.ended = !matches!(filled, Ok(false));
        Ok(Some((number, filled.map_err(ClientError::from_io)?)))
    }

    /// Works a batch, and writes it after those before it.
    fn finish<B: Batch>(&self, batch: &mut B, number: u64, ended: bool) -> Result<(), ClientError> {
        batch.work(self.key, ended)?;
        let mut output = self
            .turn
            .wait_while(locked(&self.output), |output| {
                output.next != number && output.failed.is_none()
            })
            .unwrap_or_else(PoisonError::into_inner);
        if output.failed.is_none() {
            batch.write(&mut output.writer).map_err(ClientError::from_io)?;
            output.next += 1;
            drop(output);
            self.turn.notify_all();
        }
        Ok(())
    }
}

/// A panic goes on where the scope ends; until then the others need what it left.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Values from this size on are worked by several threads.
const LARGE: usize = 1 << 20;

/// Works each chunk of `input` into its place in `output`; a chunk has `from` bytes here and `to` bytes there, the last one fewer.
pub(super) fn chunks<E: Send>(
    input: &[u8],
    from: usize,
    output: &mut [u8],
    to: usize,
    work: impl Fn(u64, &[u8], &mut [u8]) -> Result<(), E> + Sync,
) -> Result<(), E> {
    let count = input.len().div_ceil(from).max(output.len().div_ceil(to));
    let threads = if input.len() < LARGE { 1 } else { all_cores() };
    let share = count.div_ceil(threads);
    let part = |first: usize, output: &mut [u8]| {
        let mut rest = output;
        for index in first..count.min(first + share) {
            let (text, after) = rest.split_at_mut(to.min(rest.len()));
            let at = (index * from).min(input.len());
            work(index as u64, &input[at..input.len().min(at + from)], text)?;
            rest = after;
        }
        Ok(())
    };
    if threads == 1 {
        return part(0, output);
    }
    let (mut parts, mut rest) = (Vec::new(), output);
    for first in (0..count).step_by(share) {
        let (own, after) = rest.split_at_mut((share * to).min(rest.len()));
        parts.push((first, own));
        rest = after;
    }
    let (parts, result) = (Mutex::new(parts), Mutex::new(Ok(())));
    let take = || locked(&parts).pop();
    let run = || {
        while let Some((first, own)) = take() {
            if let Err(error) = part(first, own) {
                *locked(&result) = Err(error);
            }
        }
    };
    thread::scope(|scope| {
        for _ in 1..threads {
            // As above: this thread does what no other one takes.
            if thread::Builder::new().spawn_scoped(scope, run).is_err() {
                break;
            }
        }
        run();
    });
    result.into_inner().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
#[path = "pump_tests.rs"]
mod tests;

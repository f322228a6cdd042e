//! Large streams and values over all cores, in bounded memory.
//!
//! The first MiB is worked by the calling thread, in 256 KiB of memory; what is longer starts threads. Each of them reads a batch, works
//! it, and writes it when its turn has come; reading is in order because one thread reads at a time. So the core that read a batch seals
//! it, no batch is handed from thread to thread, and no more than one per thread exists: memory is threads × 512 KiB, whatever the size.

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

/// Batches that the calling thread works before it starts others.
const BATCHES_ALONE: usize = 4;

/// Chunks of a batch where several threads work: twice as many, so that half as often one waits for another.
const SHARED_BATCH_CHUNKS: usize = 2 * BATCH_CHUNKS;

/// How often a thread that waits for another gives its core away before it sleeps: some 50 µs if nobody wants the core.
///
/// Most waits are shorter than it takes to fall asleep and be woken. Measured on two cores that were not busy, before and after: CPU less by a
/// tenth, the best rounds faster by a sixth (`docs/benchmarks.md`, local sealing).
const YIELDS: usize = 100;

/// How many threads a large stream gets: the cores that this process may use.
pub(super) fn all_cores() -> usize {
    thread::available_parallelism().map_or(1, NonZero::get).min(MAX_THREADS)
}

/// One buffer of chunks that goes round.
pub(super) trait Batch: Send {
    /// For so many chunks at a time.
    fn of(chunks: usize) -> Self;
    fn start_at(&mut self, index: u64);
    /// True if `input` ended.
    fn fill(&mut self, input: &mut impl Read) -> io::Result<bool>;
    /// `ended`: this is the last batch.
    fn work(&mut self, key: &ChunkKey, ended: bool) -> Result<(), ClientError>;
    fn write(&mut self, output: &mut impl Write) -> io::Result<()>;
}

impl Batch for SealBatch {
    fn of(chunks: usize) -> Self {
        Self::of(chunks)
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
    fn of(chunks: usize) -> Self {
        Self::of(chunks)
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
    mut reader: R,
    mut writer: W,
    threads: usize,
) -> Result<W, ClientError> {
    let alone = if threads > 1 { BATCHES_ALONE } else { usize::MAX };
    if !stream_alone::<B>(key, &mut reader, &mut writer, alone)? {
        writer = stream_together::<B, _, _>(key, reader, writer, threads)?;
    }
    writer.flush().map_err(ClientError::from_io)?;
    Ok(writer)
}

/// Works at most so many batches, from the first one on. True if `reader` ended.
fn stream_alone<B: Batch>(
    key: &ChunkKey,
    reader: &mut impl Read,
    writer: &mut impl Write,
    batches: usize,
) -> Result<bool, ClientError> {
    let mut batch = B::of(BATCH_CHUNKS);
    for number in 0..batches {
        batch.start_at((number * BATCH_CHUNKS) as u64);
        let ended = batch.fill(reader).map_err(ClientError::from_io)?;
        batch.work(key, ended)?;
        batch.write(writer).map_err(ClientError::from_io)?;
        if ended {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Works what follows after that, on several threads.
fn stream_together<B: Batch, R: Read + Send, W: Write + Send>(
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
    on_threads(threads, thread::Builder::new, || pump.run::<B>());
    let output = pump.output.into_inner().unwrap_or_else(PoisonError::into_inner);
    match output.failed {
        Some(error) => Err(error),
        None => Ok(output.writer),
    }
}

/// Runs `work` on so many threads, this one included. `builder`: of each. Where the system has no more threads, fewer do the same.
fn on_threads(threads: usize, builder: impl Fn() -> thread::Builder, work: impl Fn() + Sync) {
    thread::scope(|scope| {
        for _ in 1..threads {
            if builder().spawn_scoped(scope, &work).is_err() {
                break;
            }
        }
        work();
    });
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
    /// Goes round until there is nothing left or something failed.
    fn run<B: Batch>(&self) {
        let mut batch = B::of(SHARED_BATCH_CHUNKS);
        let mut round = || -> Result<(), ClientError> {
            while let Some((number, ended)) = self.read(&mut batch)? {
                self.finish(&mut batch, number, ended)?;
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
        let mut input = yielding(|| self.input.try_lock().ok()).unwrap_or_else(|| locked(&self.input));
        if input.ended {
            return Ok(None);
        }
        let number = input.next;
        batch.start_at((BATCHES_ALONE * BATCH_CHUNKS) as u64 + number * SHARED_BATCH_CHUNKS as u64);
        let filled = batch.fill(&mut input.reader);
        input.next += 1;
        // Nobody reads on behind what could not be read.
        input.ended = !matches!(filled, Ok(false));
        Ok(Some((number, filled.map_err(ClientError::from_io)?)))
    }

    /// Works a batch, and writes it after those before it.
    fn finish<B: Batch>(&self, batch: &mut B, number: u64, ended: bool) -> Result<(), ClientError> {
        batch.work(self.key, ended)?;
        let mut output = self.turn_of(number);
        if output.failed.is_none() {
            batch.write(&mut output.writer).map_err(ClientError::from_io)?;
            output.next += 1;
            drop(output);
            self.turn.notify_all();
        }
        Ok(())
    }

    /// Waits until this batch is the next one, or something failed.
    fn turn_of(&self, number: u64) -> MutexGuard<'_, Output<W>> {
        let waits = |output: &Output<W>| output.next != number && output.failed.is_none();
        let now = || self.output.try_lock().ok().filter(|output| !waits(output));
        yielding(now).unwrap_or_else(|| {
            let waited = self.turn.wait_while(locked(&self.output), |output| waits(output));
            waited.unwrap_or_else(PoisonError::into_inner)
        })
    }
}

/// Tries again while others go on; `None` if it takes them longer.
fn yielding<T>(mut attempt: impl FnMut() -> Option<T>) -> Option<T> {
    for _ in 0..YIELDS {
        let done = attempt();
        if done.is_some() {
            return done;
        }
        thread::yield_now();
    }
    None
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
    on_threads(threads, thread::Builder::new, run);
    result.into_inner().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
#[path = "pump_tests.rs"]
mod tests;

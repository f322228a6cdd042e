use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::sealing::{
    Sealer,
    double::{Double, ORDERS, context},
};

static BUFFERS: AtomicUsize = AtomicUsize::new(0);
static CHUNKS: AtomicUsize = AtomicUsize::new(0);

/// A batch that is counted.
struct Counted(SealBatch);

impl Batch for Counted {
    fn of(chunks: usize) -> Self {
        BUFFERS.fetch_add(1, Ordering::SeqCst);
        CHUNKS.fetch_add(chunks, Ordering::SeqCst);
        Self(SealBatch::of(chunks))
    }

    fn start_at(&mut self, index: u64) {
        self.0.start_at(index);
    }

    fn fill(&mut self, input: &mut impl Read) -> io::Result<bool> {
        self.0.fill(input)
    }

    fn work(&mut self, key: &ChunkKey, ended: bool) -> Result<(), ClientError> {
        Batch::work(&mut self.0, key, ended)
    }

    fn write(&mut self, output: &mut impl Write) -> io::Result<()> {
        Batch::write(&mut self.0, output)
    }
}

#[tokio::test]
async fn memory_does_not_grow_with_the_message() {
    let sealer = Sealer::new(Double::new(), ORDERS);
    let key = sealer.begin(&context(&[])).await.unwrap().key;
    // What is short, and what one thread works, has one buffer; others come only when several threads run.
    let mib = 1 << 20;
    for (length, threads, most) in [
        (0, 8, [1, 16]),
        (mib - 1, 8, [1, 16]),
        (100 * mib, 1, [1, 16]),
        (100 * mib, 4, [5, 16 + 4 * 32]),
    ] {
        BUFFERS.store(0, Ordering::SeqCst);
        CHUNKS.store(0, Ordering::SeqCst);
        let input = io::repeat(7).take(length);
        stream::<Counted, _, _>(&key, input, io::sink(), threads).unwrap();
        let made = [&BUFFERS, &CHUNKS].map(|count| count.load(Ordering::SeqCst));
        assert_eq!(made, most, "{length} on {threads}");
    }
}

/// The one that fails after so many threads asks for a stack that no machine has.
#[test]
fn where_the_system_has_no_more_threads_fewer_do_the_work() {
    for started in [0, 2] {
        let (asked, ran) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let builder = || match asked.fetch_add(1, Ordering::SeqCst) < started {
            true => thread::Builder::new(),
            false => thread::Builder::new().stack_size(1 << 60),
        };
        on_threads(5, builder, || {
            ran.fetch_add(1, Ordering::SeqCst);
        });
        assert_eq!(ran.into_inner(), started + 1, "this one too");
        assert_eq!(asked.into_inner(), started + 1, "no further one is tried");
    }
}

/// Panics after so many reads or writes.
struct Panicking(usize);

impl Panicking {
    fn used(&mut self) {
        self.0 = self.0.checked_sub(1).expect("this stream is defective");
    }
}

impl Read for Panicking {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.used();
        into.fill(0);
        Ok(into.len())
    }
}

impl Write for Panicking {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.used();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A batch whose writer panicked is never written: the threads behind it would wait for their turn for ever.
#[tokio::test]
async fn a_stream_that_panics_leaves_no_thread_waiting() {
    let sealer = Sealer::new(Double::new(), ORDERS);
    let key = sealer.begin(&context(&[])).await.unwrap().key;
    let panics = |work: &dyn Fn()| {
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
        assert!(result.is_err(), "the panic goes on");
    };
    for uses in [0, 1, 100] {
        panics(&|| drop(stream::<SealBatch, _, _>(&key, Panicking(uses), io::sink(), 4)));
        panics(&|| drop(stream::<SealBatch, _, _>(&key, io::repeat(7), Panicking(uses), 4)));
    }
}

#[test]
fn chunks_of_unequal_sides_meet_at_their_index() {
    // Two bytes of input a chunk, three of output; large enough for all cores.
    let input: Vec<u8> = (0..2 * LARGE).map(|at| (at / 2) as u8).collect();
    let mut output = vec![0; 3 * LARGE + 1];
    let seen = Mutex::new(0);
    chunks(&input, 2, &mut output, 3, |index, from, to| {
        *seen.lock().unwrap() += 1;
        if index == LARGE as u64 {
            assert!(from.is_empty() && to.len() == 1, "the last one has output only");
        } else {
            assert_eq!((from, to.len()), (&[index as u8, index as u8][..], 3));
        }
        to.fill(index as u8);
        Ok::<_, ()>(())
    })
    .unwrap();
    assert_eq!(seen.into_inner().unwrap(), LARGE + 1);
    assert!((0..output.len()).all(|at| output[at] == (at / 3) as u8));
}

#[test]
fn a_chunk_that_fails_fails_the_whole() {
    let mut output = vec![0; 4 * LARGE];
    let result = chunks(&vec![0; 4 * LARGE], 16, &mut output, 16, |index, _, _| match index {
        200_000 => Err("this one"),
        _ => Ok(()),
    });
    assert_eq!(result, Err("this one"));
}

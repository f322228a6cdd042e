//! Streams of every kind, over readers and writers that take as little as they can.

use std::{
    io::{Cursor, Read, Write},
    pin::Pin,
    task::{Context, Poll},
};

use super::*;
use crate::sealing::{
    Expectation, Opener,
    double::{Double, ORDERS, context, plaintext},
};
use keyreeve_envelope::sealed::{CHUNK_LEN, SEALED_CHUNK_LEN};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};

const BATCH: usize = 16 * CHUNK_LEN;
const LENGTHS: [usize; 16] = [
    0,
    1,
    CHUNK_LEN - 1,
    CHUNK_LEN,
    CHUNK_LEN + 1,
    3 * CHUNK_LEN + 7,
    BATCH - 1,
    BATCH,
    BATCH + 1,
    2 * BATCH,
    3 * BATCH + CHUNK_LEN,
    5 * BATCH + 12_345,
    // Where other threads start, and where their batches end.
    4 * BATCH - 1,
    4 * BATCH,
    6 * BATCH,
    13 * BATCH + 777,
];

/// Passes on `1 ..= most` bytes at a time, and as a tokio stream is not ready every third time.
struct Trickle<T> {
    inner: T,
    most: usize,
    turn: usize,
}

impl<T> Trickle<T> {
    fn new(inner: T, most: usize) -> Self {
        Self { inner, most, turn: 0 }
    }

    fn share(&mut self, asked: usize) -> usize {
        self.turn += 1;
        asked.min(1 + (self.turn * 7_919) % self.most)
    }

    fn waits(&mut self, cx: &Context<'_>) -> bool {
        self.turn += 1;
        if self.turn.is_multiple_of(3) {
            cx.waker().wake_by_ref();
        }
        self.turn.is_multiple_of(3)
    }
}

impl<T: Read> Read for Trickle<T> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let share = self.share(into.len());
        self.inner.read(&mut into[..share])
    }
}

impl<T: Write> Write for Trickle<T> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let share = self.share(bytes.len());
        self.inner.write(&bytes[..share])
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

impl<T: Read + Unpin> AsyncRead for Trickle<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.waits(cx) {
            return Poll::Pending;
        }
        let share = self.share(into.remaining());
        let length = self.inner.read(into.initialize_unfilled_to(share))?;
        into.advance(length);
        Poll::Ready(Ok(()))
    }
}

impl<T: Write + Unpin> AsyncWrite for Trickle<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.waits(cx) {
            return Poll::Pending;
        }
        let share = self.share(bytes.len());
        Poll::Ready(self.inner.write(&bytes[..share]))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.waits(cx) {
            true => Poll::Pending,
            false => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.waits(cx) {
            true => Poll::Pending,
            false => Poll::Ready(Ok(())),
        }
    }
}

fn both() -> (Sealer, Opener) {
    let double = Double::new();
    (Sealer::new(double.clone(), ORDERS), Opener::new(double, ORDERS))
}

fn expected() -> Expectation {
    Expectation::context(context(&[]))
}

#[tokio::test]
async fn a_written_stream_opens_as_a_value_and_as_a_read_stream() {
    let (sealer, opener) = both();
    for length in LENGTHS {
        let plaintext = plaintext(length);
        for step in [usize::MAX, 40_000, 997] {
            let mut writer = sealer
                .writer(Trickle::new(Vec::new(), 30_000), &context(&[]))
                .await
                .unwrap();
            for piece in plaintext.chunks(step) {
                writer.write_all(piece).unwrap();
            }
            let sealed = writer.finish().unwrap().inner;
            let opened = opener.open(&sealed, &expected()).await.unwrap();
            assert!(opened.as_bytes() == plaintext, "{length} in pieces of {step}");

            let mut read = Vec::new();
            let mut reader = opener
                .reader(Trickle::new(&sealed[..], step.min(50_000)), &expected())
                .await
                .unwrap();
            reader.read_to_end(&mut read).unwrap();
            assert!(read == plaintext, "{length} read");
            assert_eq!(reader.read(&mut [0; 9]).unwrap(), 0, "the end stays the end");
        }
    }
}

#[tokio::test]
async fn a_flush_gives_out_whole_chunks_and_changes_nothing_else() {
    let (sealer, opener) = both();
    let plaintext = plaintext(3 * CHUNK_LEN + 100);
    let mut writer = sealer.writer(Vec::new(), &context(&[])).await.unwrap();
    for piece in plaintext.chunks(10_000) {
        writer.write_all(piece).unwrap();
        writer.flush().unwrap();
    }
    let sealed = writer.finish().unwrap();
    assert!(opener.open(&sealed, &expected()).await.unwrap().as_bytes() == plaintext);
}

#[tokio::test]
async fn an_asynchronous_stream_makes_and_opens_the_same_messages() {
    let (sealer, opener) = both();
    for length in LENGTHS {
        let plaintext = plaintext(length);
        let output = Trickle::new(Vec::new(), 30_000);
        let mut writer = sealer.async_writer(output, &context(&[])).await.unwrap();
        for (turn, piece) in plaintext.chunks(70_001).enumerate() {
            writer.write_all(piece).await.unwrap();
            if turn % 2 == 1 {
                writer.flush().await.unwrap();
            }
        }
        writer.shutdown().await.unwrap();
        assert!(writer.write_all(b"more").await.is_err(), "it was ended");
        let sealed = writer.into_inner().inner;
        assert!(
            opener.open(&sealed, &expected()).await.unwrap().as_bytes() == plaintext,
            "{length}"
        );

        let input = Trickle::new(&sealed[..], 50_000);
        let mut reader = opener.async_reader(input, &expected()).await.unwrap();
        let mut read = Vec::new();
        reader.read_to_end(&mut read).await.unwrap();
        assert!(read == plaintext, "{length} read");
    }
}

#[tokio::test]
async fn a_stream_on_many_threads_is_in_order() {
    let (sealer, opener) = both();
    for length in LENGTHS {
        let plaintext = plaintext(length);
        for threads in [1, 2, 7] {
            let message = sealer.begin(&context(&[])).await.unwrap();
            let sealed = message.stream_on(threads, &plaintext[..], Vec::new()).unwrap();
            assert!(opener.open(&sealed, &expected()).await.unwrap().as_bytes() == plaintext);
            let (front, chunks) = crate::sealing::front::Front::split(&sealed).unwrap();
            let unlocked = opener.unlock(&front, &expected()).await.unwrap();
            let opened = unlocked.stream_on(threads, chunks, Vec::new()).unwrap();
            assert!(opened == plaintext, "{length} on {threads}");
        }
    }
}

#[tokio::test]
async fn a_message_whose_writer_was_dropped_does_not_open() {
    let (sealer, opener) = both();
    for length in [0, 100, CHUNK_LEN, 2 * BATCH] {
        let mut sealed = Vec::new();
        let mut writer = sealer.writer(&mut sealed, &context(&[])).await.unwrap();
        writer.write_all(&plaintext(length)).unwrap();
        writer.flush().unwrap();
        drop(writer);
        assert_eq!(
            opener.open(&sealed, &expected()).await.err().unwrap().reason,
            "DECRYPT_FAILED"
        );
    }
}

/// Cut anywhere, and whatever reads it: only verified bytes, in order, and then an error that stays.
#[tokio::test]
async fn a_cut_or_changed_stream_gives_a_verified_prefix_and_an_error_that_stays() {
    let (sealer, opener) = both();
    // Longer than what the calling thread works alone.
    let plaintext = plaintext(7 * BATCH + 3 * CHUNK_LEN + 50);
    let sealed = sealer.seal(&plaintext, &context(&[])).await.unwrap();
    let front = sealed.len() - (7 * 16 + 3) * SEALED_CHUNK_LEN - 66;
    let ends = (0..=115).step_by(5).map(|chunk| front + chunk * SEALED_CHUNK_LEN);
    let cuts = ends
        .flat_map(|end| [end, end + 1, end + 15, end + 16, end + 40])
        .filter(|cut| *cut < sealed.len());
    let mut damaged: Vec<Vec<u8>> = cuts.map(|cut| sealed[..cut].to_vec()).collect();
    for at in [
        front,
        front + 20 * SEALED_CHUNK_LEN + 5,
        front + 80 * SEALED_CHUNK_LEN,
        sealed.len() - 1,
    ] {
        let mut changed = sealed.clone();
        changed[at] ^= 1;
        damaged.push(changed);
    }
    damaged.push([&sealed[..], b"!"].concat());
    for message in damaged {
        let check = |got: &[u8], error: io::Error| {
            assert!(plaintext.starts_with(got));
            assert_eq!(ClientError::from_io(error).reason, "DECRYPT_FAILED");
        };
        let mut got = Vec::new();
        let mut reader = opener.reader(&message[..], &expected()).await.unwrap();
        let error = reader.read_to_end(&mut got).unwrap_err();
        check(&got, error);
        check(&got, reader.read(&mut [0; 1]).unwrap_err());

        let mut got = Vec::new();
        let mut reader = opener.async_reader(&message[..], &expected()).await.unwrap();
        let error = reader.read_to_end(&mut got).await.unwrap_err();
        check(&got, error);
        check(&got, reader.read_u8().await.unwrap_err());

        for threads in [1, 3] {
            let mut got = Vec::new();
            let mut input = &message[..];
            let front = crate::sealing::front::Front::read(&mut input).unwrap();
            let unlocked = opener.unlock(&front, &expected()).await.unwrap();
            let error = unlocked.stream_on(threads, input, &mut got).err().unwrap();
            check(&got, error.into());
        }
    }
}

/// Takes some bytes, then no more.
struct FullDisk(usize);

impl Write for FullDisk {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(self.0);
        self.0 -= taken;
        match taken {
            0 => Err(io::ErrorKind::StorageFull.into()),
            taken => Ok(taken),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn a_full_disk_is_an_error_and_a_writer_that_failed_cannot_be_ended() {
    let (sealer, _) = both();
    let plaintext = plaintext(9 * BATCH);
    let mut writer = sealer.writer(FullDisk(BATCH), &context(&[])).await.unwrap();
    assert_eq!(
        writer.write_all(&plaintext).unwrap_err().kind(),
        io::ErrorKind::StorageFull
    );
    assert!(writer.write(b"x").is_err() && writer.flush().is_err());
    assert_eq!(writer.finish().err().unwrap().reason, "UNFINISHED");

    for (threads, room) in [(1, BATCH), (4, BATCH), (4, 7 * BATCH)] {
        let message = sealer.begin(&context(&[])).await.unwrap();
        let error = message
            .stream_on(threads, &plaintext[..], FullDisk(room))
            .err()
            .unwrap();
        assert_eq!(error.reason, "IO");
    }
}

#[tokio::test]
async fn an_input_that_fails_is_an_error_and_no_end() {
    struct Failing(usize);
    impl Read for Failing {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            match self.0.checked_sub(into.len()) {
                Some(left) => self.0 = left,
                None => return Err(io::Error::other("the cable was pulled")),
            }
            Ok(into.len())
        }
    }
    let (sealer, _) = both();
    for threads in [1, 3] {
        for length in [0, 3 * BATCH, 7 * BATCH] {
            let message = sealer.begin(&context(&[])).await.unwrap();
            let error = message.stream_on(threads, Failing(length), Vec::new()).err().unwrap();
            assert!(error.reason == "IO" && error.message.contains("cable"), "{error}");
        }
    }
}

#[tokio::test]
async fn a_stream_that_ends_before_its_chunks_does_not_open() {
    let (sealer, opener) = both();
    let sealed = sealer.seal(b"hello", &context(&[])).await.unwrap();
    for length in [0, 31, 32, 100, sealed.len() - 22] {
        let reason = opener
            .reader(Cursor::new(&sealed[..length]), &expected())
            .await
            .err()
            .unwrap()
            .reason;
        assert_eq!(reason, "DECRYPT_FAILED", "{length}");
        let reason = opener
            .async_reader(&sealed[..length], &expected())
            .await
            .err()
            .unwrap()
            .reason;
        assert_eq!(reason, "DECRYPT_FAILED", "{length}");
    }
}

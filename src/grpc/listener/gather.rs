//! Gathers the answers of one turn of the runtime into one TLS record and one system call.
//!
//! Answers become ready one by one, as token and log finish them, and HTTP/2 would flush each by itself: a record to encrypt and a system
//! call for every call. Here a flush steps back once to the end of the run queue, so that answers that are ready, too, join it.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What is gathered at most: one TLS record.
const GATHERED: usize = 16 * 1024;

/// A stream whose writes wait for the flush, and whose flush waits a turn.
pub(super) struct Gathering<S> {
    stream: S,
    gathered: Vec<u8>,
    /// Bytes of `gathered` that the stream has taken.
    taken: usize,
    stepped_back: bool,
}

impl<S: AsyncWrite + Unpin> Gathering<S> {
    pub fn new(stream: S) -> Self {
        Self {
            stream,
            gathered: Vec::new(),
            taken: 0,
            stepped_back: false,
        }
    }

    /// Hands everything gathered to the stream.
    fn poll_hand_over(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.taken < self.gathered.len() {
            let taken = ready!(Pin::new(&mut self.stream).poll_write(context, &self.gathered[self.taken..]))?;
            if taken == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.taken += taken;
        }
        self.gathered.clear();
        self.taken = 0;
        Poll::Ready(Ok(()))
    }

    /// Room for at least one byte; hands over first if there is none.
    fn poll_room(&mut self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.gathered.len() >= GATHERED {
            ready!(self.poll_hand_over(context))?;
        }
        Poll::Ready(Ok(GATHERED - self.gathered.len()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Gathering<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let room = ready!(self.poll_room(context))?;
        let bytes = &bytes[..bytes.len().min(room)];
        self.gathered.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut room = ready!(self.poll_room(context))?;
        let mut written = 0;
        for slice in slices {
            let bytes = &slice[..slice.len().min(room)];
            self.gathered.extend_from_slice(bytes);
            written += bytes.len();
            room -= bytes.len();
        }
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.gathered.is_empty() && !self.stepped_back {
            self.stepped_back = true;
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        ready!(self.poll_hand_over(context))?;
        self.stepped_back = false;
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_hand_over(context))?;
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Gathering<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn what_is_written_in_one_turn_leaves_together_and_whole() {
        let (near, mut far) = tokio::io::duplex(1 << 20);
        let mut stream = Gathering::new(near);
        let sent: Vec<u8> = (0..50_000_u32).map(|i| i as u8).collect();
        stream.write_all(&sent[..10]).await.unwrap();
        stream.write_all(&sent[10..]).await.unwrap();
        stream.flush().await.unwrap();
        let mut received = vec![0; sent.len()];
        far.read_exact(&mut received).await.unwrap();
        assert_eq!(received, sent);
    }

    #[tokio::test]
    async fn a_flush_lets_others_add_to_it_once() {
        let (near, mut far) = tokio::io::duplex(1 << 16);
        let mut stream = Gathering::new(near);
        stream.write_all(b"one ").await.unwrap();
        let first = std::future::poll_fn(|context| Poll::Ready(Pin::new(&mut stream).poll_flush(context)));
        assert!(first.await.is_pending());
        stream.write_all(b"two").await.unwrap();
        stream.flush().await.unwrap();
        let mut received = [0; 16];
        let length = far.read(&mut received).await.unwrap();
        assert_eq!(&received[..length], b"one two");
    }

    #[tokio::test]
    async fn shutting_down_sends_what_was_gathered() {
        let (near, mut far) = tokio::io::duplex(1 << 16);
        let mut stream = Gathering::new(near);
        stream.write_all(b"last").await.unwrap();
        stream.shutdown().await.unwrap();
        let mut received = Vec::new();
        far.read_to_end(&mut received).await.unwrap();
        assert_eq!(received, b"last");
    }
}

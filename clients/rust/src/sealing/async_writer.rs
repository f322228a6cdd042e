//! Seals what is written to a tokio stream.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use keyreeve_envelope::{EncryptionContext, sealed::Identity};
use tokio::io::{AsyncWrite, AsyncWriteExt};

use super::{
    Sealer,
    batch::SealBatch,
    message::{ChunkKey, MessageSealer},
};
use crate::ClientError;

/// An `AsyncWrite` that seals into another. The message is whole only after `shutdown`: one that was given up does not open.
pub struct AsyncSealingWriter<W> {
    output: W,
    key: ChunkKey,
    batch: SealBatch,
    /// Bytes of the batch that were written, while it is on its way.
    written: Option<usize>,
    state: State,
}

#[derive(PartialEq, Eq)]
enum State {
    Open,
    /// The last chunk is sealed, and perhaps not yet written.
    Sealed,
    Failed,
}

impl Sealer {
    /// As [`Self::writer`], for a tokio stream.
    pub async fn async_writer<W: AsyncWrite + Unpin>(
        &self,
        output: W,
        context: &EncryptionContext,
    ) -> Result<AsyncSealingWriter<W>, ClientError> {
        self.begin(context).await?.async_writer(output).await
    }
}

impl MessageSealer {
    /// Writes what stands before the chunks; then plaintext can be written. 256 KiB are sealed at a time, in some 50 µs.
    pub async fn async_writer<W: AsyncWrite + Unpin>(
        self,
        mut output: W,
    ) -> Result<AsyncSealingWriter<W>, ClientError> {
        output.write_all(&self.front).await.map_err(ClientError::from_io)?;
        Ok(AsyncSealingWriter {
            output,
            key: self.key,
            batch: SealBatch::new(),
            written: None,
            state: State::Open,
        })
    }
}

impl<W> AsyncSealingWriter<W> {
    /// Names the message.
    pub fn identity(&self) -> Identity {
        self.key.identity()
    }

    /// The stream that was sealed into, after `shutdown`.
    pub fn into_inner(self) -> W {
        self.output
    }
}

impl<W: AsyncWrite + Unpin> AsyncSealingWriter<W> {
    /// Seals what is there, and begins to write it.
    fn seal(&mut self, last: bool) -> io::Result<()> {
        if let Err(error) = self.batch.seal(&self.key, last) {
            self.state = State::Failed;
            return Err(error.into());
        }
        self.written = Some(0);
        Ok(())
    }

    /// Writes on until nothing is on its way.
    fn poll_written(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(written) = self.written {
            let rest = &self.batch.ready()[written..];
            if rest.is_empty() {
                self.written = None;
                self.batch.next();
                break;
            }
            let result = match ready!(Pin::new(&mut self.output).poll_write(cx, rest)) {
                Ok(0) => Err(io::ErrorKind::WriteZero.into()),
                other => other,
            };
            match result {
                Ok(length) => self.written = Some(written + length),
                Err(error) => {
                    self.state = State::Failed;
                    return Poll::Ready(Err(error));
                }
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl<W: AsyncWrite + Unpin> AsyncWrite for AsyncSealingWriter<W> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, plaintext: &[u8]) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        if this.state != State::Open {
            return Poll::Ready(Err(ClientError::unfinished().into()));
        }
        if this.written.is_none() && this.batch.is_full() {
            this.seal(false)?;
        }
        ready!(this.poll_written(cx))?;
        Poll::Ready(Ok(this.batch.push(&this.key, plaintext)?))
    }

    /// Writes the chunks that are full. What is not yet a chunk waits for more plaintext, or for `shutdown`.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.state == State::Failed {
            return Poll::Ready(Err(ClientError::unfinished().into()));
        }
        if this.state == State::Open && this.written.is_none() {
            this.seal(false)?;
        }
        ready!(this.poll_written(cx))?;
        Pin::new(&mut this.output).poll_flush(cx)
    }

    /// Seals and writes the last chunk, then shuts the output down.
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.state == State::Failed {
            return Poll::Ready(Err(ClientError::unfinished().into()));
        }
        // What a flush or a write began to write comes first: it holds full chunks only.
        ready!(this.poll_written(cx))?;
        if this.state == State::Open {
            this.seal(true)?;
            this.state = State::Sealed;
            ready!(this.poll_written(cx))?;
        }
        ready!(Pin::new(&mut this.output).poll_flush(cx))?;
        Pin::new(&mut this.output).poll_shutdown(cx)
    }
}

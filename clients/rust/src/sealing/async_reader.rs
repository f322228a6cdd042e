//! Opens what is read from a tokio stream.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use keyreeve_envelope::{EncryptionContext, sealed::Identity};
use tokio::io::{AsyncRead, ReadBuf};

use super::{
    Expectation, Opener,
    batch::OpenBatch,
    front::Front,
    message::{ChunkKey, MessageOpener},
};
use crate::ClientError;

/// An `AsyncRead` that opens another. Its end is reported only after the message's last chunk verified: whoever reads to the end without
/// an error has the whole message. What was read before an error is a verified prefix, and no more than that.
pub struct AsyncOpeningReader<R> {
    input: R,
    key: ChunkKey,
    context: EncryptionContext,
    batch: OpenBatch,
    state: State,
}

enum State {
    /// The batch is being filled.
    Filling,
    /// The batch is opened.
    Opened,
    /// The last chunk verified.
    Ended,
    Failed(ClientError),
}

impl Opener {
    /// As [`Self::reader`], for a tokio stream.
    pub async fn async_reader<R: AsyncRead + Unpin>(
        &self,
        mut input: R,
        expected: &Expectation,
    ) -> Result<AsyncOpeningReader<R>, ClientError> {
        let front = Front::read_async(&mut input).await?;
        Ok(self.unlock(&front, expected).await?.async_reader(input))
    }
}

impl MessageOpener {
    /// Opens the chunks of `input`, which stands at the first of them.
    pub fn async_reader<R: AsyncRead + Unpin>(self, input: R) -> AsyncOpeningReader<R> {
        AsyncOpeningReader {
            input,
            context: self.context().clone(),
            key: self.key,
            batch: OpenBatch::new(),
            state: State::Filling,
        }
    }
}

impl<R> AsyncOpeningReader<R> {
    /// Message id and commitment, confirmed.
    pub fn identity(&self) -> Identity {
        self.key.identity()
    }

    /// The context that the message is bound to.
    pub fn context(&self) -> &EncryptionContext {
        &self.context
    }
}

impl<R: AsyncRead + Unpin> AsyncOpeningReader<R> {
    /// Fills the batch and opens it; true if the input ended.
    fn poll_open(&mut self, cx: &mut Context<'_>) -> Poll<Result<bool, ClientError>> {
        let mut ended = false;
        while !ended && !self.batch.room().is_empty() {
            let mut room = ReadBuf::new(self.batch.room());
            ready!(Pin::new(&mut self.input).poll_read(cx, &mut room)).map_err(ClientError::from_io)?;
            let length = room.filled().len();
            self.batch.advance(length);
            ended = length == 0;
        }
        self.batch.open(&self.key, ended)?;
        Poll::Ready(Ok(ended))
    }
}

impl<R: AsyncRead + Unpin> AsyncRead for AsyncOpeningReader<R> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        while this.batch.piece().is_empty() {
            match &this.state {
                State::Ended => return Poll::Ready(Ok(())),
                State::Failed(error) => return Poll::Ready(Err(error.clone().into())),
                State::Opened => {
                    this.batch.next();
                    this.state = State::Filling;
                }
                State::Filling => {}
            }
            this.state = match ready!(this.poll_open(cx)) {
                Ok(true) => State::Ended,
                Ok(false) => State::Opened,
                Err(error) => {
                    this.batch.next();
                    State::Failed(error)
                }
            };
        }
        let length = this.batch.piece().len().min(into.remaining());
        into.put_slice(&this.batch.piece()[..length]);
        this.batch.take(length);
        Poll::Ready(Ok(()))
    }
}

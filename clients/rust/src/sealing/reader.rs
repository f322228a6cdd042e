//! Opens what is read.

use std::io::{self, Read, Write};

use keyreeve_envelope::{EncryptionContext, sealed::Identity};

use super::{
    Expectation, Opener,
    batch::OpenBatch,
    front::Front,
    message::{ChunkKey, MessageOpener},
    pump,
};
use crate::ClientError;

/// A `Read` that opens another. Its end is reported only after the message's last chunk verified: whoever reads to the end without an
/// error has the whole message. What was read before an error is a verified prefix, and no more than that.
pub struct OpeningReader<R> {
    input: R,
    key: ChunkKey,
    context: EncryptionContext,
    batch: OpenBatch,
    state: State,
}

enum State {
    Open,
    /// The last chunk verified.
    Ended,
    Failed(ClientError),
}

impl Opener {
    /// Reads what stands before the chunks and unlocks the message; then plaintext can be read.
    pub async fn reader<R: Read>(&self, mut input: R, expected: &Expectation) -> Result<OpeningReader<R>, ClientError> {
        let front = Front::read(&mut input)?;
        Ok(self.unlock(&front, expected).await?.reader(input))
    }
}

impl MessageOpener {
    /// Opens the chunks of `input`, which stands at the first of them.
    pub fn reader<R: Read>(self, input: R) -> OpeningReader<R> {
        OpeningReader {
            input,
            context: self.context().clone(),
            key: self.key,
            batch: OpenBatch::new(),
            state: State::Open,
        }
    }

    /// Opens all chunks of `input` into `output`, and flushes it. Large inputs are opened on all cores, in memory that does not depend
    /// on their size; the calling thread is busy meanwhile. On an error `output` may have got a verified prefix: it must not be taken
    /// for the message.
    pub fn stream<W: Write + Send>(&self, input: impl Read + Send, output: W) -> Result<W, ClientError> {
        self.stream_on(pump::all_cores(), input, output)
    }

    /// As [`Self::stream`], on so many threads, the calling one included.
    pub fn stream_on<W: Write + Send>(
        &self,
        threads: usize,
        input: impl Read + Send,
        output: W,
    ) -> Result<W, ClientError> {
        pump::stream::<OpenBatch, _, _>(&self.key, input, output, threads)
    }
}

impl<R> OpeningReader<R> {
    /// Message id and commitment, confirmed.
    pub fn identity(&self) -> Identity {
        self.key.identity()
    }

    /// The context that the message is bound to.
    pub fn context(&self) -> &EncryptionContext {
        &self.context
    }
}

impl<R: Read> OpeningReader<R> {
    fn refill(&mut self) -> Result<(), ClientError> {
        self.batch.next();
        let ended = self.batch.fill(&mut self.input).map_err(ClientError::from_io)?;
        self.batch.open(&self.key, ended)?;
        if ended {
            self.state = State::Ended;
        }
        Ok(())
    }
}

impl<R: Read> Read for OpeningReader<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.batch.piece().is_empty() && !into.is_empty() {
            match &self.state {
                State::Ended => return Ok(0),
                State::Failed(error) => return Err(error.clone().into()),
                State::Open => {}
            }
            if let Err(error) = self.refill() {
                self.batch.next();
                self.state = State::Failed(error);
            }
        }
        let length = self.batch.piece().len().min(into.len());
        into[..length].copy_from_slice(&self.batch.piece()[..length]);
        self.batch.take(length);
        Ok(length)
    }
}

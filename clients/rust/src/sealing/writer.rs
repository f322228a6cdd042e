//! Seals what is written.

use std::io::{self, Read, Write};

use keyreeve_envelope::sealed::Identity;

use super::{
    Sealer,
    batch::SealBatch,
    message::{ChunkKey, MessageSealer},
    pump,
};
use crate::{ClientError, EncryptionContext};

/// A `Write` that seals into another. The message is whole only after [`Self::finish`]: one that was given up does not open.
pub struct SealingWriter<W> {
    output: W,
    key: ChunkKey,
    batch: SealBatch,
    /// A write failed: what reached the output is unknown.
    failed: bool,
}

impl Sealer {
    /// Begins a message and writes what stands before its chunks; then plaintext can be written.
    pub async fn writer<W: Write>(
        &self,
        output: W,
        context: &EncryptionContext,
    ) -> Result<SealingWriter<W>, ClientError> {
        self.begin(context).await?.writer(output)
    }
}

impl MessageSealer {
    /// Writes what stands before the chunks; then plaintext can be written.
    pub fn writer<W: Write>(self, mut output: W) -> Result<SealingWriter<W>, ClientError> {
        output.write_all(&self.front).map_err(ClientError::from_io)?;
        Ok(SealingWriter {
            output,
            key: self.key,
            batch: SealBatch::new(),
            failed: false,
        })
    }

    /// Seals all of `input` into `output`, and flushes it. Large inputs are sealed on all cores, in memory that does not depend on their
    /// size; the calling thread is busy meanwhile.
    pub fn stream<W: Write + Send>(self, input: impl Read + Send, output: W) -> Result<W, ClientError> {
        self.stream_on(pump::all_cores(), input, output)
    }

    /// As [`Self::stream`], on so many threads, the calling one included.
    pub fn stream_on<W: Write + Send>(
        self,
        threads: usize,
        input: impl Read + Send,
        mut output: W,
    ) -> Result<W, ClientError> {
        output.write_all(&self.front).map_err(ClientError::from_io)?;
        pump::stream::<SealBatch, _, _>(&self.key, input, output, threads)
    }
}

impl<W: Write> SealingWriter<W> {
    /// Names the message.
    pub fn identity(&self) -> Identity {
        self.key.identity()
    }

    /// Seals the last chunk, flushes, and returns the output. Without it the message does not open.
    pub fn finish(mut self) -> Result<W, ClientError> {
        if self.failed {
            return Err(ClientError::unfinished());
        }
        let ready = self.batch.seal(&self.key, true)?;
        self.output.write_all(ready).map_err(ClientError::from_io)?;
        self.output.flush().map_err(ClientError::from_io)?;
        Ok(self.output)
    }

    fn write_ready(&mut self) -> io::Result<()> {
        self.failed = true;
        let ready = self.batch.seal(&self.key, false)?;
        self.output.write_all(ready)?;
        self.batch.next();
        self.failed = false;
        Ok(())
    }
}

impl<W: Write> Write for SealingWriter<W> {
    fn write(&mut self, plaintext: &[u8]) -> io::Result<usize> {
        if self.failed {
            return Err(ClientError::unfinished().into());
        }
        // Written before there is more to take, so that an error is about bytes that were taken earlier, as with any buffer.
        if self.batch.is_full() {
            self.write_ready()?;
        }
        Ok(self.batch.push(&self.key, plaintext)?)
    }

    /// Writes the chunks that are full. What is not yet a chunk waits for more plaintext, or for [`Self::finish`].
    fn flush(&mut self) -> io::Result<()> {
        if self.failed {
            return Err(ClientError::unfinished().into());
        }
        self.write_ready()?;
        self.output.flush()
    }
}

#[cfg(test)]
#[path = "stream_tests.rs"]
mod tests;

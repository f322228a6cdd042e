//! Any offset of a message whose bytes can be read at any offset.

use std::{
    fmt,
    io::{self, Read, Seek, SeekFrom},
};

use keyreeve_envelope::{
    DecryptFailed, EncryptionContext,
    sealed::{CHUNK_LEN, Extent, Identity, SEALED_CHUNK_LEN},
};
use zeroize::Zeroizing;

use super::{
    Expectation, Opener,
    front::Front,
    message::{ChunkKey, MessageOpener},
};
use crate::ClientError;

/// A `Read + Seek` that opens the chunks that are asked for, one at a time.
///
/// What is read is verified, and is where it belongs. That the message goes on, and where it ends, is known only once its last chunk was
/// opened: [`Self::prove_complete`] does so, and so do reading to the end and seeking from it. [`Self::completeness`] says which it is.
pub struct RandomAccess<R> {
    input: R,
    key: ChunkKey,
    context: EncryptionContext,
    /// Offset of the first chunk in `input`.
    base: u64,
    /// Offset in the plaintext.
    at: u64,
    /// Plaintext length, once the last chunk was opened.
    proved: Option<u64>,
    /// The chunk in the buffer, and how much plaintext it has.
    held: Option<(u64, usize)>,
    buffer: Zeroizing<Vec<u8>>,
}

/// What may be said of a message that was read at some offsets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Completeness {
    /// Its last chunk was opened.
    Proved {
        /// Bytes of plaintext.
        length: u64,
    },
    /// It may have been cut off after what was read.
    Prefix,
}

impl fmt::Display for Completeness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Proved { length } => write!(f, "complete, {length} bytes"),
            Self::Prefix => f.write_str("prefix, not proved complete"),
        }
    }
}

impl Opener {
    /// Reads what stands before the chunks and unlocks the message. `input` stands at the start of the message.
    pub async fn random_access<R: Read + Seek>(
        &self,
        mut input: R,
        expected: &Expectation,
    ) -> Result<RandomAccess<R>, ClientError> {
        let start = input.stream_position().map_err(ClientError::from_io)?;
        let front = Front::read(&mut input)?;
        let message = self.unlock(&front, expected).await?;
        Ok(message.random_access(input, start + front.encoded_len() as u64))
    }
}

impl MessageOpener {
    /// Opens chunks of `input`; the first of them is at offset `base`.
    pub fn random_access<R: Read + Seek>(self, input: R, base: u64) -> RandomAccess<R> {
        RandomAccess {
            input,
            context: self.context().clone(),
            key: self.key,
            base,
            at: 0,
            proved: None,
            held: None,
            buffer: Zeroizing::new(vec![0; SEALED_CHUNK_LEN]),
        }
    }
}

impl<R: Read + Seek> RandomAccess<R> {
    /// Opens the last chunk. Returns the length of the plaintext.
    pub fn prove_complete(&mut self) -> Result<u64, ClientError> {
        if let Some(length) = self.proved {
            return Ok(length);
        }
        let end = self.input.seek(SeekFrom::End(0)).map_err(ClientError::from_io)?;
        let extent = Extent::of_sealed(end.checked_sub(self.base).ok_or(DecryptFailed)?)?;
        self.hold(extent.last_index())?;
        // A message that grew in between ends elsewhere.
        self.proved.ok_or_else(ClientError::decrypt_failed)
    }

    /// What is known by now.
    pub fn completeness(&self) -> Completeness {
        self.proved
            .map_or(Completeness::Prefix, |length| Completeness::Proved { length })
    }

    /// Message id and commitment, confirmed.
    pub fn identity(&self) -> Identity {
        self.key.identity()
    }

    /// The context that the message is bound to.
    pub fn context(&self) -> &EncryptionContext {
        &self.context
    }

    /// Brings a chunk into the buffer. A short one that opens is the last, and proves the length.
    fn hold(&mut self, index: u64) -> Result<usize, ClientError> {
        if let Some((held, length)) = self.held
            && held == index
        {
            return Ok(length);
        }
        self.held = None;
        let offset = self.base + index * SEALED_CHUNK_LEN as u64;
        self.input.seek(SeekFrom::Start(offset)).map_err(ClientError::from_io)?;
        let filled = fill(&mut self.input, &mut self.buffer).map_err(ClientError::from_io)?;
        let length = self.key.open(index, &mut self.buffer[..filled])?.len();
        if length < CHUNK_LEN {
            self.proved = Some(index * CHUNK_LEN as u64 + length as u64);
        }
        self.held = Some((index, length));
        Ok(length)
    }

    fn read_here(&mut self, into: &mut [u8]) -> Result<usize, ClientError> {
        // Beyond the end there is nothing, but that this is the end must be proved.
        if self.proved.is_none() && !self.is_held() && self.is_beyond_what_is_there()? {
            self.prove_complete()?;
        }
        if into.is_empty() || self.proved.is_some_and(|length| self.at >= length) {
            return Ok(0);
        }
        let (index, within) = (self.at / CHUNK_LEN as u64, (self.at % CHUNK_LEN as u64) as usize);
        let length = self.hold(index)?;
        let piece = &self.buffer[within.min(length)..length];
        let taken = piece.len().min(into.len());
        into[..taken].copy_from_slice(&piece[..taken]);
        self.at += taken as u64;
        Ok(taken)
    }

    fn is_held(&self) -> bool {
        self.held.is_some_and(|(index, _)| index == self.at / CHUNK_LEN as u64)
    }

    /// Whether the chunk of this offset starts at or after the end of the input.
    fn is_beyond_what_is_there(&mut self) -> Result<bool, ClientError> {
        let end = self.input.seek(SeekFrom::End(0)).map_err(ClientError::from_io)?;
        let offset = (self.at / CHUNK_LEN as u64).checked_mul(SEALED_CHUNK_LEN as u64);
        let offset = offset.and_then(|offset| offset.checked_add(self.base));
        Ok(offset.is_none_or(|offset| offset >= end))
    }
}

impl<R: Read + Seek> Read for RandomAccess<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        Ok(self.read_here(into)?)
    }
}

impl<R: Read + Seek> Seek for RandomAccess<R> {
    /// From the end only once the last chunk was opened, which this does. An offset beyond the end is allowed, as in files.
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let target = match to {
            SeekFrom::Start(offset) => Some(offset),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
            SeekFrom::End(by) => self.prove_complete()?.checked_add_signed(by),
        };
        self.at = target.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "offset before the start"))?;
        Ok(self.at)
    }
}

/// Reads until `into` is full or the input ends.
fn fill(input: &mut impl Read, into: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < into.len() {
        match input.read(&mut into[filled..]) {
            Ok(0) => break,
            Ok(length) => filled += length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

#[cfg(test)]
#[path = "random_access_tests.rs"]
mod tests;

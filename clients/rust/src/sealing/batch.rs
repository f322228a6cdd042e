//! A few chunks in one buffer: filled from outside, sealed or opened in place, emptied. What all streams are made of.

use std::io::{self, Read};

use keyreeve_envelope::sealed::{CHUNK_LEN, SEALED_CHUNK_LEN, TAG_LEN};
use zeroize::Zeroizing;

use super::message::ChunkKey;
use crate::ClientError;

/// Chunks of a batch where nothing says otherwise. 16 of them, 256 KiB, stay in a core's cache between reading, sealing and writing.
pub(super) const BATCH_CHUNKS: usize = 16;

fn buffer(length: usize) -> Zeroizing<Vec<u8>> {
    Zeroizing::new(vec![0; length])
}

/// Chunks on their way to be sealed. Each has a slot of 16,400 bytes, so that its tag has room when the plaintext is there.
pub(super) struct SealBatch {
    buffer: Zeroizing<Vec<u8>>,
    /// Slots in it.
    chunks: usize,
    /// Index of the first chunk.
    first: u64,
    /// Slots that are sealed, and slots that are full.
    sealed: usize,
    full: usize,
    /// Bytes of plaintext in the slot after the full ones.
    at: usize,
    /// Bytes of the message that are ready.
    ready: usize,
}

impl SealBatch {
    pub fn new() -> Self {
        Self::of(BATCH_CHUNKS)
    }

    /// For so many chunks at a time.
    pub fn of(chunks: usize) -> Self {
        Self {
            // An empty last chunk fits behind full ones.
            buffer: buffer(chunks * SEALED_CHUNK_LEN + TAG_LEN),
            chunks,
            first: 0,
            sealed: 0,
            full: 0,
            at: 0,
            ready: 0,
        }
    }

    pub fn is_full(&self) -> bool {
        self.full == self.chunks
    }

    /// Copies as much of `plaintext` as fits, and says how much that was. Whole chunks are sealed on the way, without a copy.
    pub fn push(&mut self, key: &ChunkKey, plaintext: &[u8]) -> Result<usize, ClientError> {
        let mut rest = plaintext;
        while !rest.is_empty() && !self.is_full() {
            if let Some((chunk, after)) = rest.split_first_chunk::<CHUNK_LEN>()
                && self.at == 0
                && self.sealed == self.full
            {
                let slot = self.full * SEALED_CHUNK_LEN;
                let sealed = &mut self.buffer[slot..slot + SEALED_CHUNK_LEN];
                key.seal_into(self.first + self.full as u64, chunk, sealed)?;
                self.full += 1;
                self.sealed += 1;
                self.ready = self.sealed * SEALED_CHUNK_LEN;
                rest = after;
                continue;
            }
            let room = self.room();
            let taken = room.len().min(rest.len());
            room[..taken].copy_from_slice(&rest[..taken]);
            rest = &rest[taken..];
            self.advance(taken);
        }
        Ok(plaintext.len() - rest.len())
    }

    /// Reads until the batch is full or `input` ends; true if it ended.
    pub fn fill(&mut self, input: &mut impl Read) -> io::Result<bool> {
        while !self.is_full() {
            match input.read(self.room()) {
                Ok(0) => return Ok(true),
                Ok(length) => self.advance(length),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(false)
    }

    /// Seals the full chunks, and with `last` the short one after them, which ends the message.
    pub fn seal(&mut self, key: &ChunkKey, last: bool) -> Result<&[u8], ClientError> {
        let slots = self.sealed * SEALED_CHUNK_LEN..self.full * SEALED_CHUNK_LEN;
        key.seal_all(self.first + self.sealed as u64, &mut self.buffer[slots])?;
        self.sealed = self.full;
        self.ready = self.sealed * SEALED_CHUNK_LEN;
        if last {
            let slot = self.ready..self.ready + self.at + TAG_LEN;
            let index = self.first + self.sealed as u64;
            key.seal(index, &mut self.buffer[slot.clone()])?;
            self.ready = slot.end;
            self.at = 0;
        }
        Ok(self.ready())
    }

    /// What is sealed.
    pub fn ready(&self) -> &[u8] {
        &self.buffer[..self.ready]
    }

    /// Goes on with the chunk after the sealed ones, once what was ready is written. A started one is kept.
    pub fn next(&mut self) {
        let started = self.full * SEALED_CHUNK_LEN;
        self.buffer.copy_within(started..started + self.at, 0);
        let at = self.at;
        self.start_at(self.first + self.sealed as u64);
        self.at = at;
    }

    /// Begins anew with the chunk of this index.
    pub fn start_at(&mut self, index: u64) {
        (self.first, self.sealed, self.full, self.at, self.ready) = (index, 0, 0, 0, 0);
    }

    /// Where the plaintext goes on. Not empty unless the batch is full.
    fn room(&mut self) -> &mut [u8] {
        let slot = self.full * SEALED_CHUNK_LEN;
        &mut self.buffer[slot + self.at..slot + CHUNK_LEN]
    }

    fn advance(&mut self, length: usize) {
        self.at += length;
        if self.at == CHUNK_LEN {
            self.at = 0;
            self.full += 1;
        }
    }
}

/// Chunks on their way to be opened.
pub(super) struct OpenBatch {
    buffer: Zeroizing<Vec<u8>>,
    /// Index of the first chunk.
    first: u64,
    /// Bytes of the message in the buffer.
    filled: usize,
    /// Where the plaintext goes on, and where it ends: offsets in the buffer, tags included.
    at: usize,
    end: usize,
}

impl OpenBatch {
    pub fn new() -> Self {
        Self::of(BATCH_CHUNKS)
    }

    /// For so many chunks at a time.
    pub fn of(chunks: usize) -> Self {
        Self {
            buffer: buffer(chunks * SEALED_CHUNK_LEN),
            first: 0,
            filled: 0,
            at: 0,
            end: 0,
        }
    }

    /// Where the sealed bytes go on; empty if the batch is full.
    pub fn room(&mut self) -> &mut [u8] {
        &mut self.buffer[self.filled..]
    }

    pub fn advance(&mut self, length: usize) {
        self.filled += length;
    }

    /// Reads until the batch is full or `input` ends; true if it ended.
    pub fn fill(&mut self, input: &mut impl Read) -> io::Result<bool> {
        while self.filled < self.buffer.len() {
            match input.read(self.room()) {
                Ok(0) => return Ok(true),
                Ok(length) => self.advance(length),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(false)
    }

    /// Opens all that is there. `ended`: nothing follows, so the last chunk must be a short one; otherwise all are full.
    pub fn open(&mut self, key: &ChunkKey, ended: bool) -> Result<(), ClientError> {
        let rest = self.filled % SEALED_CHUNK_LEN;
        if ended && rest < TAG_LEN {
            return Err(ClientError::decrypt_failed());
        }
        key.open_all(self.first, &mut self.buffer[..self.filled])?;
        (self.at, self.end) = (0, self.filled);
        Ok(())
    }

    /// The next piece of plaintext, up to the end of its chunk; empty when all was taken.
    pub fn piece(&self) -> &[u8] {
        let chunk = self.at / SEALED_CHUNK_LEN * SEALED_CHUNK_LEN;
        let end = (chunk + SEALED_CHUNK_LEN).min(self.end).saturating_sub(TAG_LEN);
        &self.buffer[self.at.min(end)..end]
    }

    pub fn take(&mut self, length: usize) {
        self.at += length;
        if self.at % SEALED_CHUNK_LEN == CHUNK_LEN {
            self.at += TAG_LEN;
        }
    }

    /// Goes on with the chunk after those that are here: a full batch, or none yet.
    pub fn next(&mut self) {
        self.start_at(self.first + (self.filled / SEALED_CHUNK_LEN) as u64);
    }

    pub fn start_at(&mut self, index: u64) {
        (self.first, self.filled, self.at, self.end) = (index, 0, 0, 0);
    }
}

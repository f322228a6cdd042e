//! One message: its chunks counted and sealed or opened, and whole values.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use keyreeve_envelope::{
    DecryptFailed, EncryptionContext, Plaintext,
    sealed::{CHUNK_LEN, Extent, Header, Identity, PayloadKey, SEALED_CHUNK_LEN, SealError, Sealing},
};
use zeroize::Zeroizing;

use super::pump;
use crate::ClientError;

/// The keys of one message, and the account of its data key, if that is kept in a cache.
pub(super) struct ChunkKey {
    key: PayloadKey,
    /// Where bytes worked under the data key are counted.
    bytes: Vec<Arc<AtomicU64>>,
}

impl ChunkKey {
    pub fn new(key: PayloadKey, bytes: Vec<Arc<AtomicU64>>) -> Self {
        Self { key, bytes }
    }

    pub fn identity(&self) -> Identity {
        self.key.identity()
    }

    pub fn seal(&self, index: u64, slot: &mut [u8]) -> Result<(), SealError> {
        self.count(slot.len());
        self.key.seal_chunk(index, slot)
    }

    /// Seals slots of whole chunks in place, counted at once: threads that count each chunk get into each other's way.
    pub fn seal_all(&self, first: u64, slots: &mut [u8]) -> Result<(), SealError> {
        self.count(slots.len());
        let mut slots = (first..).zip(slots.chunks_exact_mut(SEALED_CHUNK_LEN));
        slots.try_for_each(|(index, slot)| self.key.seal_chunk(index, slot))
    }

    pub fn seal_into(&self, index: u64, plaintext: &[u8], sealed: &mut [u8]) -> Result<(), SealError> {
        self.count(plaintext.len());
        self.key.seal_chunk_into(index, plaintext, sealed)
    }

    pub fn open<'a>(&self, index: u64, sealed: &'a mut [u8]) -> Result<&'a mut [u8], DecryptFailed> {
        self.count(sealed.len());
        self.key.open_chunk(index, sealed)
    }

    /// Opens chunks where they lie, the last one perhaps a short one; counted as by [`Self::seal_all`].
    pub fn open_all(&self, first: u64, sealed: &mut [u8]) -> Result<(), DecryptFailed> {
        self.count(sealed.len());
        let mut chunks = (first..).zip(sealed.chunks_mut(SEALED_CHUNK_LEN));
        chunks.try_for_each(|(index, chunk)| self.key.open_chunk(index, chunk).map(|_| ()))
    }

    pub fn open_into(&self, index: u64, sealed: &[u8], plaintext: &mut [u8]) -> Result<(), DecryptFailed> {
        self.count(sealed.len());
        self.key.open_chunk_into(index, sealed, plaintext)
    }

    fn count(&self, length: usize) {
        for bytes in &self.bytes {
            bytes.fetch_add(length as u64, Ordering::Relaxed);
        }
    }
}

/// A message that was begun and waits for its plaintext. Needs the service no more.
pub struct MessageSealer {
    pub(super) front: Vec<u8>,
    pub(super) key: ChunkKey,
    header: Header,
    offline: bool,
}

impl MessageSealer {
    pub(super) fn new(sealing: Sealing, bytes: Vec<Arc<AtomicU64>>, offline: bool) -> Self {
        Self {
            front: sealing.front(),
            header: sealing.header().clone(),
            key: ChunkKey::new(sealing.into_key(), bytes),
            offline,
        }
    }

    /// Names the message: to be kept by who wants to know later that he opens this one and no older one.
    pub fn identity(&self) -> Identity {
        self.key.identity()
    }

    /// The header, with the wrapped keys.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Whether its data key came out of the cache because the service was not there.
    pub fn is_offline(&self) -> bool {
        self.offline
    }

    /// The whole message. Values of some MiB are sealed on all cores; the calling thread is busy meanwhile.
    pub fn seal(self, plaintext: &[u8]) -> Result<Vec<u8>, ClientError> {
        let extent = Extent::of_plaintext(plaintext.len() as u64).ok_or(SealError::TooLong)?;
        let sealed_len = usize::try_from(extent.sealed_len()).map_err(|_| SealError::TooLong)?;
        // Zeroed memory comes from the system untouched, and is written once: there is no copy of the plaintext.
        let mut message = vec![0; self.front.len() + sealed_len];
        let (front, chunks) = message.split_at_mut(self.front.len());
        front.copy_from_slice(&self.front);
        pump::chunks(plaintext, CHUNK_LEN, chunks, SEALED_CHUNK_LEN, |index, text, sealed| {
            self.key.seal_into(index, text, sealed)
        })?;
        Ok(message)
    }
}

/// A message that is unlocked: data key, context and commitment are right. Each chunk still has to verify.
pub struct MessageOpener {
    pub(super) key: ChunkKey,
    context: EncryptionContext,
}

impl MessageOpener {
    pub(super) fn new(key: ChunkKey, context: EncryptionContext) -> Self {
        Self { key, context }
    }

    /// Message id and commitment, confirmed.
    pub fn identity(&self) -> Identity {
        self.key.identity()
    }

    /// The context that the message is bound to.
    pub fn context(&self) -> &EncryptionContext {
        &self.context
    }

    /// Opens all chunks of a message; none of the plaintext is given out unless all of it verified.
    pub fn open(&self, chunks: &[u8]) -> Result<Plaintext, ClientError> {
        let extent = Extent::of_sealed(chunks.len() as u64)?;
        // Shorter than what is in memory already.
        let mut plaintext = Zeroizing::new(vec![0; extent.plaintext_len() as usize]);
        pump::chunks(
            chunks,
            SEALED_CHUNK_LEN,
            &mut plaintext,
            CHUNK_LEN,
            |index, sealed, text| self.key.open_into(index, sealed, text),
        )?;
        Ok(plaintext.into())
    }
}

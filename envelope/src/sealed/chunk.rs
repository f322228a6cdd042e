//! One chunk, by its index: AES-256-GCM under nonce = base XOR index (12 bytes, big-endian), no associated data.
//!
//! A chunk of 16,384 bytes is never the last; a shorter one always is. So a short chunk that opens at index k proves that the
//! message ends there, and a message without one was cut off. Each index is sealed once: the caller counts.

use super::{CHUNK_LEN, CipherFailed, MAX_CHUNKS, PayloadKey, SEALED_CHUNK_LEN, SealError, TAG_LEN};
use crate::DecryptFailed;
use aws_lc_rs::aead::{Aad, Nonce};
use zeroize::Zeroize;

impl PayloadKey {
    /// Seals in place. `slot`: the plaintext, then 16 bytes for the tag; so 16,400 bytes, or fewer for the last chunk.
    ///
    /// Errors: too long, an index beyond the last, or a full chunk at the last; a cipher that fails. `slot` is then wiped.
    pub fn seal_chunk(&self, index: u64, slot: &mut [u8]) -> Result<(), SealError> {
        let plaintext_len = slot.len().checked_sub(TAG_LEN).ok_or(SealError::TooLong)?;
        check_place(index, plaintext_len)?;
        let (text, tag) = slot.split_at_mut(plaintext_len);
        match self
            .cipher
            .seal_in_place_separate_tag(self.nonce(index), Aad::empty(), text)
        {
            Ok(made) => {
                tag.copy_from_slice(made.as_ref());
                Ok(())
            }
            Err(_) => {
                slot.zeroize();
                Err(CipherFailed.into())
            }
        }
    }

    /// Seals `plaintext` into `sealed`, which is 16 bytes longer. Errors: as [`Self::seal_chunk`], and lengths that do not fit.
    pub fn seal_chunk_into(&self, index: u64, plaintext: &[u8], sealed: &mut [u8]) -> Result<(), SealError> {
        check_place(index, plaintext.len())?;
        if sealed.len() != plaintext.len() + TAG_LEN {
            return Err(SealError::TooLong);
        }
        let (text, tag) = sealed.split_at_mut(plaintext.len());
        self.cipher
            .seal_out_of_place_scatter(self.nonce(index), Aad::empty(), plaintext, text, &[], tag)
            .map_err(|_| CipherFailed.into())
    }

    /// Opens in place; the answer is the plaintext at the front of `sealed`. On the one error `sealed` is wiped, since
    /// nothing of a chunk may be seen that did not verify.
    pub fn open_chunk<'a>(&self, index: u64, sealed: &'a mut [u8]) -> Result<&'a mut [u8], DecryptFailed> {
        let length = sealed.len().checked_sub(TAG_LEN).ok_or(DecryptFailed)?;
        check_place(index, length).map_err(|_| DecryptFailed)?;
        if self
            .cipher
            .open_in_place(self.nonce(index), Aad::empty(), sealed)
            .is_err()
        {
            sealed.zeroize();
            return Err(DecryptFailed);
        }
        Ok(&mut sealed[..length])
    }

    /// Opens `sealed` into `plaintext`, which is 16 bytes shorter. On the one error `plaintext` is wiped.
    pub fn open_chunk_into(&self, index: u64, sealed: &[u8], plaintext: &mut [u8]) -> Result<(), DecryptFailed> {
        let (text, tag) = sealed.split_last_chunk::<TAG_LEN>().ok_or(DecryptFailed)?;
        check_place(index, text.len()).map_err(|_| DecryptFailed)?;
        if text.len() != plaintext.len() {
            return Err(DecryptFailed);
        }
        let opened = self
            .cipher
            .open_separate_gather(self.nonce(index), Aad::empty(), text, tag, plaintext);
        opened.map_err(|_| {
            plaintext.zeroize();
            DecryptFailed
        })
    }

    fn nonce(&self, index: u64) -> Nonce {
        let mut nonce = *self.base;
        for (byte, index) in nonce[4..].iter_mut().zip(index.to_be_bytes()) {
            *byte ^= index;
        }
        Nonce::assume_unique_for_key(nonce)
    }
}

/// The last possible chunk is short, as every last one.
fn check_place(index: u64, plaintext_len: usize) -> Result<(), SealError> {
    let full = plaintext_len == CHUNK_LEN;
    if plaintext_len > CHUNK_LEN || index >= MAX_CHUNKS || (full && index == MAX_CHUNKS - 1) {
        return Err(SealError::TooLong);
    }
    Ok(())
}

const _: () = assert!(SEALED_CHUNK_LEN == CHUNK_LEN + TAG_LEN);

#[cfg(test)]
#[path = "chunk_tests.rs"]
mod tests;

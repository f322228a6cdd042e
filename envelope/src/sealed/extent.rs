//! Lengths of a payload: arithmetic on what a file system says, which proves nothing until the last chunk opened.

use super::{CHUNK_LEN, MAX_CHUNKS, SEALED_CHUNK_LEN, TAG_LEN};
use crate::DecryptFailed;

/// How a message's chunks lie, as far as their length in bytes tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    full_chunks: u64,
    last_len: usize,
}

impl Extent {
    /// Of a plaintext of `length` bytes. `None`: more than 2^32 chunks.
    pub const fn of_plaintext(length: u64) -> Option<Self> {
        let full_chunks = length / CHUNK_LEN as u64;
        if full_chunks >= MAX_CHUNKS {
            return None;
        }
        let last_len = (length % CHUNK_LEN as u64) as usize;
        Some(Self { full_chunks, last_len })
    }

    /// Of chunks that take `length` bytes in the message. Errors: no such chunks exist, as after a cut at the end of one.
    pub const fn of_sealed(length: u64) -> Result<Self, DecryptFailed> {
        let full_chunks = length / SEALED_CHUNK_LEN as u64;
        let rest = (length % SEALED_CHUNK_LEN as u64) as usize;
        if rest < TAG_LEN || full_chunks >= MAX_CHUNKS {
            return Err(DecryptFailed);
        }
        let last_len = rest - TAG_LEN;
        Ok(Self { full_chunks, last_len })
    }

    /// Index of the last chunk, the only short one.
    pub const fn last_index(&self) -> u64 {
        self.full_chunks
    }

    /// Bytes of plaintext in the last chunk: 0 to 16,383.
    pub const fn last_len(&self) -> usize {
        self.last_len
    }

    /// Bytes of plaintext in all.
    pub const fn plaintext_len(&self) -> u64 {
        self.full_chunks * CHUNK_LEN as u64 + self.last_len as u64
    }

    /// Bytes of all chunks in the message.
    pub const fn sealed_len(&self) -> u64 {
        self.full_chunks * SEALED_CHUNK_LEN as u64 + (self.last_len + TAG_LEN) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_cut_at_the_end_of_a_chunk_is_no_extent() {
        for length in [
            0,
            15,
            SEALED_CHUNK_LEN as u64,
            SEALED_CHUNK_LEN as u64 + 15,
            3 * SEALED_CHUNK_LEN as u64,
        ] {
            assert_eq!(Extent::of_sealed(length), Err(DecryptFailed), "{length}");
        }
    }

    #[test]
    fn a_whole_number_of_chunks_has_an_empty_one_after_it() {
        let extent = Extent::of_plaintext(CHUNK_LEN as u64).unwrap();
        assert_eq!((extent.last_index(), extent.last_len()), (1, 0));
        assert_eq!(extent.sealed_len(), (SEALED_CHUNK_LEN + TAG_LEN) as u64);
    }

    #[test]
    fn there_are_at_most_two_to_the_32_chunks() {
        let most = MAX_CHUNKS * CHUNK_LEN as u64 - 1;
        let extent = Extent::of_plaintext(most).unwrap();
        assert_eq!(extent.last_index(), MAX_CHUNKS - 1);
        assert_eq!(Extent::of_plaintext(most + 1), None);
        assert_eq!(Extent::of_sealed(extent.sealed_len()), Ok(extent));
        assert_eq!(Extent::of_sealed(extent.sealed_len() + 17), Err(DecryptFailed));
        assert_eq!(Extent::of_sealed(u64::MAX), Err(DecryptFailed));
    }

    proptest! {
        #[test]
        fn both_directions_agree(length in 0u64..1 << 45) {
            let extent = Extent::of_plaintext(length).unwrap();
            prop_assert_eq!(extent.plaintext_len(), length);
            prop_assert_eq!(Extent::of_sealed(extent.sealed_len()), Ok(extent));
        }
    }
}

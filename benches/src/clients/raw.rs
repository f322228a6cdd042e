//! The ceilings of local sealing: AES-256-GCM of aws-lc-rs over chunks of 16 KiB in memory. In place, and nothing else; and as whoever
//! writes the loop by hand must do it, whose input has to be read into a buffer. Of small messages: a key derived for each.

use std::{hint::black_box, thread};

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey},
    error::Unspecified,
    hkdf::{HKDF_SHA512, Prk},
    rand,
};

use crate::Failure;

const CHUNK: usize = 16_384;
const SLOT: usize = CHUNK + 16;
/// Salt and message id have so many random bytes.
const SALT: usize = 40;

pub struct Raw {
    key: LessSafeKey,
    /// Sealed in place, again and again.
    working: Vec<u8>,
    /// Sealed once, to be read.
    sealed: Vec<u8>,
}

impl Raw {
    /// As many whole chunks as `length` has.
    pub fn new(length: usize) -> Result<Self, Failure> {
        let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &[7; 32]).map_err(|_| "no key")?);
        let mut sealed = vec![7; length / CHUNK * SLOT];
        for (index, slot) in sealed.chunks_mut(SLOT).enumerate() {
            seal(&key, index, slot).map_err(|_| "not sealed")?;
        }
        Ok(Self {
            key,
            working: sealed.clone(),
            sealed,
        })
    }

    /// Seals all chunks in place.
    pub fn seal(&mut self, threads: usize) -> Result<(), Failure> {
        let key = &self.key;
        let share = shared(self.working.len(), threads);
        let parts = self.working.chunks_mut(share).enumerate();
        on_threads(parts.map(|(part, slots)| {
            move || {
                let mut slots = slots.chunks_mut(SLOT).enumerate();
                slots.try_for_each(|(index, slot)| seal(key, part * share / SLOT + index, slot))
            }
        }))
    }

    /// Seals each chunk into memory that is taken from the system for it, as whoever gives a value back must.
    pub fn seal_fresh(&self, threads: usize) -> Result<(), Failure> {
        let share = shared(self.sealed.len(), threads);
        let mut fresh = vec![0; self.sealed.len()];
        let parts = self.sealed.chunks(share).zip(fresh.chunks_mut(share)).enumerate();
        on_threads(parts.map(|(part, (from, to))| {
            move || {
                let mut slots = from.chunks(SLOT).zip(to.chunks_mut(SLOT)).enumerate();
                slots.try_for_each(|(index, (from, to))| {
                    let (text, tag) = to.split_at_mut(CHUNK);
                    let nonce = nonce(part * share / SLOT + index);
                    self.key
                        .seal_out_of_place_scatter(nonce, Aad::empty(), &from[..CHUNK], text, &[], tag)
                })
            }
        }))?;
        black_box(fresh);
        Ok(())
    }

    /// Copies each chunk into a buffer, and seals it there.
    pub fn read_and_seal(&self, threads: usize) -> Result<(), Failure> {
        self.in_buffers(threads, seal)
    }

    /// Copies each chunk into a buffer, and opens it there.
    pub fn read_and_open(&self, threads: usize) -> Result<(), Failure> {
        self.in_buffers(threads, |key, index, slot| {
            key.open_in_place(nonce(index), Aad::empty(), slot).map(|_| ())
        })
    }

    /// Opens each chunk where it lies into a buffer.
    pub fn open(&self, threads: usize) -> Result<(), Failure> {
        let share = shared(self.sealed.len(), threads);
        let parts = self.sealed.chunks(share).enumerate();
        on_threads(parts.map(|(part, slots)| {
            move || {
                let mut text = vec![0; CHUNK];
                slots.chunks(SLOT).enumerate().try_for_each(|(index, slot)| {
                    let (sealed, tag) = slot.split_at(CHUNK);
                    let nonce = nonce(part * share / SLOT + index);
                    self.key
                        .open_separate_gather(nonce, Aad::empty(), sealed, tag, &mut text)
                })
            }
        }))
    }

    fn in_buffers(
        &self,
        threads: usize,
        work: fn(&LessSafeKey, usize, &mut [u8]) -> Result<(), Unspecified>,
    ) -> Result<(), Failure> {
        let share = shared(self.sealed.len(), threads);
        let parts = self.sealed.chunks(share).enumerate();
        on_threads(parts.map(|(part, slots)| {
            move || {
                let mut buffer = vec![0; SLOT];
                slots.chunks(SLOT).enumerate().try_for_each(|(index, slot)| {
                    buffer.copy_from_slice(slot);
                    work(&self.key, part * share / SLOT + index, &mut buffer)
                })
            }
        }))
    }
}

/// A message of its own key, by HKDF-SHA-512 of the data key with a random salt; answers in memory of their own.
pub struct Small(Prk);

impl Small {
    pub fn new() -> Self {
        Self(Prk::new_less_safe(HKDF_SHA512, &[7; 32]))
    }

    pub fn seal(&self, text: &[u8]) -> Result<Vec<u8>, Failure> {
        let mut message = vec![0; SALT + text.len() + 16];
        let (salt, slot) = message.split_at_mut(SALT);
        rand::fill(salt).map_err(|_| "no random bytes")?;
        slot[..text.len()].copy_from_slice(text);
        let (body, tag) = slot.split_at_mut(text.len());
        let sealed = self.key(salt)?.seal_in_place_separate_tag(nonce(0), Aad::empty(), body);
        tag.copy_from_slice(sealed.map_err(|_| "not sealed")?.as_ref());
        Ok(message)
    }

    pub fn open(&self, message: &[u8]) -> Result<Vec<u8>, Failure> {
        let (salt, sealed) = message.split_at(SALT);
        let mut text = sealed.to_vec();
        let opened = self.key(salt)?.open_in_place(nonce(0), Aad::empty(), &mut text);
        let length = opened.map_err(|_| "not opened")?.len();
        text.truncate(length);
        Ok(text)
    }

    fn key(&self, salt: &[u8]) -> Result<LessSafeKey, Failure> {
        let mut key = [0; 32];
        let info = [b"seal.v1", salt];
        let derived = self
            .0
            .expand(&info, &AES_256_GCM)
            .and_then(|output| output.fill(&mut key));
        derived.map_err(|_| "no key")?;
        Ok(LessSafeKey::new(
            UnboundKey::new(&AES_256_GCM, &key).map_err(|_| "no key")?,
        ))
    }
}

/// One piece of work a thread, the last one on this.
fn on_threads<F: FnOnce() -> Result<(), Unspecified> + Send>(work: impl Iterator<Item = F>) -> Result<(), Failure> {
    let mut work: Vec<F> = work.collect();
    let own = work.pop();
    let done = thread::scope(|scope| {
        let running: Vec<_> = work.into_iter().map(|work| scope.spawn(work)).collect();
        let own = own.is_none_or(|work| work().is_ok());
        running
            .into_iter()
            .all(|thread| thread.join().is_ok_and(|done| done.is_ok()))
            && own
    });
    done.then_some(()).ok_or_else(|| "the cipher failed".into())
}

fn seal(key: &LessSafeKey, index: usize, slot: &mut [u8]) -> Result<(), Unspecified> {
    let (text, tag) = slot.split_at_mut(CHUNK);
    tag.copy_from_slice(
        key.seal_in_place_separate_tag(nonce(index), Aad::empty(), text)?
            .as_ref(),
    );
    Ok(())
}

fn nonce(index: usize) -> Nonce {
    let mut nonce = [0; 12];
    nonce[4..].copy_from_slice(&(index as u64).to_be_bytes());
    Nonce::assume_unique_for_key(nonce)
}

/// Bytes of whole slots for each thread.
fn shared(length: usize, threads: usize) -> usize {
    (length / SLOT).div_ceil(threads).max(1) * SLOT
}

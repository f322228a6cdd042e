//! Frames between the service and a worker: `u32 length || u64 id || u8 kind || body`, integers big-endian, length without itself.
//!
//! Both ends are the same binary, so there is no version in them. The id is the caller's; an answer carries that of its call.

use std::io::{self, Read};

use zeroize::{Zeroize as _, Zeroizing};

/// Length, id and kind.
const HEADER: usize = 4 + 8 + 1;
/// Sixteen messages of 8 KiB to be sealed in the token, with what belongs to them: half of it.
const MAX_BODY: usize = 256 * 1024;
/// Room kept for reading.
const ROOM: usize = 64 * 1024;

/// One frame, as it stands in the buffer.
#[derive(Clone, Copy)]
pub struct Frame<'a> {
    pub id: u64,
    pub kind: u8,
    pub body: &'a [u8],
}

/// Bytes that are no frames: the other end is not what it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the other end of the worker's socket does not speak its protocol")]
pub struct Malformed;

/// Appends a frame whose body `write` appends.
pub fn put(out: &mut Vec<u8>, id: u64, kind: u8, write: impl FnOnce(&mut Vec<u8>)) {
    let at = out.len();
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&id.to_be_bytes());
    out.push(kind);
    write(out);
    extend(out, at, &[]);
}

/// Appends to the body of the frame that begins at `at` and ends with `out`.
pub fn extend(out: &mut Vec<u8>, at: usize, more: &[u8]) {
    out.extend_from_slice(more);
    let length = u32::try_from(out.len() - at - 4).expect("bodies are far below 4 GiB");
    out[at..at + 4].copy_from_slice(&length.to_be_bytes());
}

/// What was read and is not taken yet. Wiped once it is taken, and when dropped: plaintexts and keys go through it.
pub struct Frames {
    bytes: Zeroizing<Vec<u8>>,
    start: usize,
    end: usize,
}

impl Frames {
    pub fn new() -> Self {
        Self {
            bytes: Zeroizing::new(vec![0; ROOM]),
            start: 0,
            end: 0,
        }
    }

    /// Fills the buffer by one `read`. Returns what it read: 0 at the end of the stream.
    pub fn fill(&mut self, read: impl FnOnce(&mut [u8]) -> io::Result<usize>) -> io::Result<usize> {
        self.make_room();
        let read = read(&mut self.bytes[self.end..])?;
        self.end += read;
        Ok(read)
    }

    /// Reads from `stream` until a frame is whole; `None` at the end of the stream.
    pub fn read_one(&mut self, stream: &mut impl Read) -> io::Result<Option<Frame<'_>>> {
        while self.whole(1)? == 0 {
            if self.fill(|room| stream.read(room))? == 0 {
                return Ok(None);
            }
        }
        Ok(self.next()?)
    }

    /// The next whole frame, if there is one.
    pub fn next(&mut self) -> Result<Option<Frame<'_>>, Malformed> {
        let Some(length) = self.length_at(self.start)? else {
            return Ok(None);
        };
        let frame = &self.bytes[self.start + 4..self.start + 4 + length];
        self.start += 4 + length;
        let (id, rest) = frame.split_first_chunk().ok_or(Malformed)?;
        let (kind, body) = rest.split_first().ok_or(Malformed)?;
        Ok(Some(Frame {
            id: u64::from_be_bytes(*id),
            kind: *kind,
            body,
        }))
    }

    /// How many frames are whole, counting to `most`.
    pub fn whole(&self, most: usize) -> Result<usize, Malformed> {
        let (mut at, mut count) = (self.start, 0);
        while count < most
            && let Some(length) = self.length_at(at)?
        {
            at += 4 + length;
            count += 1;
        }
        Ok(count)
    }

    /// The length of the frame at `at`, if all of it is there.
    fn length_at(&self, at: usize) -> Result<Option<usize>, Malformed> {
        let Some(length) = self.bytes[at..self.end].first_chunk() else {
            return Ok(None);
        };
        let length = u32::from_be_bytes(*length) as usize;
        if !(HEADER - 4..=MAX_BODY).contains(&length) {
            return Err(Malformed);
        }
        Ok((self.end - at >= 4 + length).then_some(length))
    }

    fn make_room(&mut self) {
        if self.start == self.end {
            self.bytes[..self.end].zeroize();
            (self.start, self.end) = (0, 0);
        }
        if self.bytes.len() - self.end < ROOM / 2 {
            self.bytes.copy_within(self.start..self.end, 0);
            let left = self.end - self.start;
            self.bytes[left..self.end].zeroize();
            (self.start, self.end) = (0, left);
            if self.bytes.len() - self.end < ROOM / 2 {
                let mut larger = Zeroizing::new(vec![0; self.bytes.len() + ROOM]);
                larger[..self.end].copy_from_slice(&self.bytes[..self.end]);
                self.bytes = larger;
            }
        }
    }
}

impl From<Malformed> for io::Error {
    fn from(malformed: Malformed) -> Self {
        Self::new(io::ErrorKind::InvalidData, malformed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_that_arrive_in_any_pieces_are_read_whole_and_in_order() {
        let mut sent = Vec::new();
        for id in 0..500_u64 {
            put(&mut sent, id, id as u8, |out| {
                out.extend(vec![7; (id * 13 % 900) as usize])
            });
        }
        for piece in [1, 7, 4096, sent.len()] {
            let mut frames = Frames::new();
            let mut seen = 0;
            for piece in sent.chunks(piece) {
                let mut left = piece;
                while !left.is_empty() {
                    frames.fill(|room| left.read(room)).unwrap();
                    while let Some(frame) = frames.next().unwrap() {
                        assert_eq!((frame.id, frame.kind), (seen, seen as u8));
                        assert_eq!(frame.body.len() as u64, seen * 13 % 900);
                        seen += 1;
                    }
                }
            }
            assert_eq!(seen, 500, "in pieces of {piece}");
        }
    }

    #[test]
    fn what_was_taken_is_wiped_before_more_is_read() {
        let mut sent = Vec::new();
        put(&mut sent, 1, 1, |out| out.extend([7; 900]));
        for cut in [sent.len(), 100] {
            let mut frames = Frames::new();
            frames.fill(|room| (&sent[..]).read(room)).unwrap();
            frames.next().unwrap().unwrap();
            frames.fill(|room| (&sent[..cut]).read(room)).unwrap();
            assert!(frames.bytes[cut..].iter().all(|byte| *byte == 0), "cut at {cut}");
        }
    }

    #[test]
    fn a_length_that_no_frame_has_is_refused_before_anything_is_kept_for_it() {
        for length in [0_u32, 8, (MAX_BODY + 1) as u32, u32::MAX] {
            let bytes = length.to_be_bytes();
            let mut frames = Frames::new();
            frames.fill(|room| (&bytes[..]).read(room)).unwrap();
            assert!(frames.next().is_err(), "{length}");
        }
    }
}

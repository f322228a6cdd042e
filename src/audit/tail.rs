//! The growing end of the log: gives every record its number and its `prev`, and puts it into the segments.

use std::{io, path::Path};

use super::{
    Draft, leaf,
    record::{Formatter, Place},
    recover::Found,
    segment::{Segments, frame},
};
use crate::{clock::Timestamp, store::Applied};

/// Records that wait for one write; a longer batch is written (and synced, where batches are) in pieces.
pub(super) const BATCH_BYTES: usize = 1024 * 1024;

pub(super) struct Tail {
    formatter: Formatter,
    segments: Segments,
    seq: u64,
    prev: [u8; 32],
    /// The record last formatted.
    record: Vec<u8>,
    /// Frames not yet written.
    frames: Vec<u8>,
    /// Sync what is written in pieces, too.
    syncs: bool,
}

impl Tail {
    /// Goes on behind what was found, or starts the first segment.
    pub fn open(directory: &Path, bytes: u64, found: &Found, formatter: Formatter, syncs: bool) -> io::Result<Self> {
        let segments = match &found.end {
            Some((last, offset)) => Segments::open(directory, bytes, last, *offset)?,
            None => Segments::create(directory, bytes, found.seq)?,
        };
        Ok(Self {
            formatter,
            segments,
            seq: found.seq,
            prev: found.prev,
            record: Vec::with_capacity(4_096),
            frames: Vec::with_capacity(64 * 1024),
            syncs,
        })
    }

    /// Number of the next record.
    pub fn seq(&self) -> u64 {
        self.seq
    }

    /// Gives the record of `draft` its place. It is not in the log yet: [`Tail::append`] it once it may be.
    pub fn place(&mut self, draft: &Draft, chg: Option<Applied>, now: Timestamp) -> (u64, &[u8]) {
        let place = Place {
            seq: self.seq,
            prev: self.prev,
            chg,
        };
        self.record.clear();
        self.formatter.write(&mut self.record, draft, &place, now);
        self.prev = leaf(&self.record);
        self.seq += 1;
        (place.seq, &self.record)
    }

    /// Places a record and puts it in line for the next [`Tail::flush`].
    pub fn push(&mut self, draft: &Draft, now: Timestamp) -> io::Result<()> {
        let (seq, _) = self.place(draft, None, now);
        let record = std::mem::take(&mut self.record);
        let appended = self.append(seq, &record);
        self.record = record;
        appended
    }

    /// Puts a placed record in line.
    pub fn append(&mut self, seq: u64, record: &[u8]) -> io::Result<()> {
        let needed = 2 + record.len() as u64;
        if self.frames.len() as u64 + needed > self.segments.room() {
            self.flush()?;
            self.segments.rotate(seq)?;
        } else if self.frames.len() >= BATCH_BYTES {
            self.flush()?;
            if self.syncs {
                self.segments.sync()?;
            }
        }
        frame(&mut self.frames, record);
        Ok(())
    }

    /// Appends a record that has its place already, from the store's outbox.
    pub fn adopt(&mut self, seq: u64, record: &[u8]) -> io::Result<()> {
        self.append(seq, record)?;
        self.prev = leaf(record);
        self.seq = seq + 1;
        Ok(())
    }

    /// Hands everything in line to the operating system.
    pub fn flush(&mut self) -> io::Result<()> {
        if !self.frames.is_empty() {
            self.segments.append(&self.frames)?;
            self.frames.clear();
        }
        Ok(())
    }

    /// Makes everything flushed survive a power cut.
    pub fn sync(&mut self) -> io::Result<()> {
        self.segments.sync()
    }
}

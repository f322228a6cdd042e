//! Reading a log, also while it is written: in order from any record, the last ones, and on as it grows. Checks nothing (`verify` does).

use std::{
    collections::VecDeque,
    fs, io,
    path::{Path, PathBuf},
};

use super::{
    Record, RecordError,
    segment::{Frame, Frames, SegmentFile, list},
};

/// One record as it lies in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// Its place, counted from the name of its segment.
    pub seq: u64,
    /// Its exact bytes: one line of JSON.
    pub bytes: Vec<u8>,
}

impl Stored {
    pub fn record(&self) -> Result<Record<'_>, RecordError> {
        Record::parse(&self.bytes)
    }
}

/// A log cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error("cannot read `{path}`: check that it is the directory of a log, and who may read it")]
    File {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("there is no log in `{0}`: name the directory of one epoch, such as `audit/000001`")]
    NoLog(PathBuf),
    #[error("`{path}` is damaged at byte {offset}, record {seq}: run `keyreeve audit verify` to see what is intact")]
    Damaged { path: PathBuf, offset: u64, seq: u64 },
}

/// Epochs that have a log below `directory`, ascending. Each is a directory named by its number.
pub fn epochs(directory: &Path) -> Result<Vec<u64>, ReadError> {
    let failed = |source| file(directory, source);
    let mut epochs = Vec::new();
    for entry in fs::read_dir(directory).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        epochs.extend(name.to_str().and_then(|name| name.parse::<u64>().ok()));
    }
    epochs.sort_unstable();
    Ok(epochs)
}

/// Where the log of `epoch` is kept below `directory`.
pub fn epoch_directory(directory: &Path, epoch: u64) -> PathBuf {
    directory.join(format!("{epoch:06}"))
}

/// Reads the log of one epoch in order.
pub struct LogReader {
    directory: PathBuf,
    waiting: VecDeque<SegmentFile>,
    path: PathBuf,
    frames: Frames,
    seq: u64,
}

impl LogReader {
    /// From the first record that is still there.
    pub fn open(directory: &Path) -> Result<Self, ReadError> {
        Self::open_at(directory, 0)
    }

    /// From the start of the segment that holds `seq`.
    pub(super) fn open_at(directory: &Path, seq: u64) -> Result<Self, ReadError> {
        let mut waiting: VecDeque<_> = list(directory).map_err(|source| file(directory, source))?.into();
        while waiting.get(1).is_some_and(|later| later.first_seq <= seq) {
            waiting.pop_front();
        }
        let first = waiting
            .pop_front()
            .ok_or_else(|| ReadError::NoLog(directory.to_owned()))?;
        Ok(Self {
            directory: directory.to_owned(),
            waiting,
            frames: Frames::open(&first.path).map_err(|source| file(&first.path, source))?,
            path: first.path,
            seq: first.first_seq,
        })
    }

    /// From record `seq` on.
    pub fn from_seq(directory: &Path, seq: u64) -> Result<Self, ReadError> {
        let mut reader = Self::open_at(directory, seq)?;
        while reader.seq < seq && reader.advance()?.is_some() {}
        Ok(reader)
    }

    /// The next record; `None` at the end, for now: a later call sees what was written meanwhile.
    pub fn advance(&mut self) -> Result<Option<Stored>, ReadError> {
        let mut bytes = Vec::new();
        loop {
            let mut frame = self.frame(&mut bytes)?;
            if frame != Frame::Record {
                // At the end, or in the middle of a write, unless the writer has moved on.
                if self.waiting.is_empty() && !self.refresh()? {
                    return Ok(None);
                }
                // Read again: it may have written here before it moved on.
                frame = self.frame(&mut bytes)?;
            }
            match frame {
                Frame::Record => {
                    let seq = self.seq;
                    self.seq += 1;
                    return Ok(Some(Stored { seq, bytes }));
                }
                Frame::End => self.next_segment()?,
                Frame::Torn => return Err(self.damaged(self.seq)),
            }
        }
    }

    /// Damage at the place last read.
    pub(super) fn damaged(&self, seq: u64) -> ReadError {
        ReadError::Damaged {
            path: self.path.clone(),
            offset: self.frames.offset(),
            seq,
        }
    }

    fn frame(&mut self, bytes: &mut Vec<u8>) -> Result<Frame, ReadError> {
        self.frames.advance(bytes).map_err(|source| file(&self.path, source))
    }

    fn next_segment(&mut self) -> Result<(), ReadError> {
        if let Some(next) = self.waiting.pop_front() {
            self.frames = Frames::open(&next.path).map_err(|source| file(&next.path, source))?;
            self.seq = next.first_seq;
            self.path = next.path;
        }
        Ok(())
    }

    /// Looks for segments made since; true if there are any.
    fn refresh(&mut self) -> Result<bool, ReadError> {
        let all = list(&self.directory).map_err(|source| file(&self.directory, source))?;
        self.waiting = all.into_iter().filter(|segment| segment.path > self.path).collect();
        Ok(!self.waiting.is_empty())
    }
}

/// The last `count` records, oldest first, and a reader that goes on behind them.
pub fn tail(directory: &Path, count: usize) -> Result<(Vec<Stored>, LogReader), ReadError> {
    let segments = list(directory).map_err(|source| file(directory, source))?;
    let mut start = segments.len().saturating_sub(1);
    loop {
        let first = segments.get(start).map_or(0, |segment| segment.first_seq);
        let mut reader = LogReader::open_at(directory, first)?;
        let mut last = VecDeque::with_capacity(count.min(4_096) + 1);
        while let Some(stored) = reader.advance()? {
            last.push_back(stored);
            if last.len() > count {
                last.pop_front();
            }
        }
        if last.len() >= count || start == 0 {
            return Ok((last.into(), reader));
        }
        start -= 1;
    }
}

fn file(path: &Path, source: io::Error) -> ReadError {
    ReadError::File {
        path: path.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::sample::{edit, frames, write};

    fn log(records: u64) -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        write(directory.path(), records);
        directory
    }

    fn numbers(stored: &[Stored]) -> Vec<u64> {
        stored.iter().map(|stored| stored.record().unwrap().seq).collect()
    }

    #[test]
    fn the_tail_is_the_last_records_over_segments() {
        let directory = log(300);
        let last_segment = list(directory.path()).unwrap().pop().unwrap().first_seq;
        let count = usize::try_from(300 - last_segment + 5).unwrap();
        let (last, _) = tail(directory.path(), count).unwrap();
        assert_eq!(numbers(&last), (last_segment - 5..300).collect::<Vec<_>>());
        let (all, _) = tail(directory.path(), 1_000).unwrap();
        assert_eq!(numbers(&all), (0..300).collect::<Vec<_>>());
        assert!(tail(directory.path(), 0).unwrap().0.is_empty());
    }

    #[test]
    fn a_reader_follows_the_writer_into_new_segments() {
        let directory = log(3);
        let (_, mut reader) = tail(directory.path(), 1).unwrap();
        assert_eq!(reader.advance().unwrap(), None);
        write(directory.path(), 400);
        let mut seen = Vec::new();
        while let Some(stored) = reader.advance().unwrap() {
            seen.push(stored);
        }
        assert_eq!(numbers(&seen), (3..403).collect::<Vec<_>>());
    }

    #[test]
    fn reading_can_start_at_any_record() {
        let directory = log(300);
        for seq in [0, 1, 150, 299] {
            let mut reader = LogReader::from_seq(directory.path(), seq).unwrap();
            assert_eq!(reader.advance().unwrap().unwrap().record().unwrap().seq, seq);
        }
        let mut behind = LogReader::from_seq(directory.path(), 300).unwrap();
        assert_eq!(behind.advance().unwrap(), None);
    }

    #[test]
    fn a_write_under_way_is_not_read_and_damage_in_an_older_segment_is_an_error() {
        let directory = log(300);
        let all = frames(directory.path());
        let (path, start, length) = all.last().unwrap().clone();
        edit(&path, |bytes| bytes[start + length / 2..start + length].fill(0));
        assert_eq!(numbers(&tail(directory.path(), 1).unwrap().0), [298]);

        let (path, start, length) = all[10].clone();
        edit(&path, |bytes| bytes[start + length / 2..start + length].fill(0));
        let mut reader = LogReader::open(directory.path()).unwrap();
        for _ in 0..10 {
            reader.advance().unwrap().unwrap();
        }
        assert!(matches!(reader.advance(), Err(ReadError::Damaged { seq: 10, .. })));
    }

    #[test]
    fn a_directory_without_a_log_is_named_in_the_error() {
        let directory = tempfile::tempdir().unwrap();
        assert!(matches!(LogReader::open(directory.path()), Err(ReadError::NoLog(_))));
        assert!(matches!(
            epochs(&directory.path().join("absent")),
            Err(ReadError::File { .. })
        ));
        fs::create_dir(epoch_directory(directory.path(), 2)).unwrap();
        fs::create_dir(epoch_directory(directory.path(), 10)).unwrap();
        assert_eq!(epochs(directory.path()).unwrap(), [2, 10]);
    }
}

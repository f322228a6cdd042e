//! What a start finds in a log: where it ends, and whether its last write was cut.
//!
//! A cut write leaves zeros where text should be, since segments are born as zeros and disks lose whole sectors. Only that is cut off, and
//! what is cut is kept beside the log (`cut-SEQ-….bin`) and recorded. Anything else that is wrong is damage: the log does not start.
//! The last two segments are read: the writer has synced all before them (`segment`).

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Seek, SeekFrom},
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use super::{
    AuditError, Fault, Finding, Record, leaf,
    record::NO_PREV,
    segment::{Frame, Frames, SegmentFile, list, used_after},
    tail::BATCH_BYTES,
    writer::START,
};
use crate::store::Applied;

/// A log as the writer finds it.
#[derive(Debug)]
pub(super) struct Found {
    /// Number of the next record, and its `prev`.
    pub seq: u64,
    pub prev: [u8; 32],
    /// The last segment and where its records end; `None`: there is no log yet.
    pub end: Option<(PathBuf, u64)>,
    /// Highest head of the chain of changes in the log.
    pub change: Option<Applied>,
    pub cut: Option<Cut>,
}

/// What was cut off, and where it is kept.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Cut {
    pub bytes: u64,
    pub files: Vec<String>,
}

/// In a log that syncs every batch no cut write is longer: a batch, and up to a second of records that the outbox still holds.
const LONGEST_CUT: u64 = 16 * BATCH_BYTES as u64;
/// Smallest unit that a disk writes whole.
const SECTOR: u64 = 512;

/// Reads the end of the log in `directory` and cuts off a torn last write. `log`: its origin.
pub(super) fn recover(directory: &Path, log: &str) -> Result<Found, AuditError> {
    let failed = |source| AuditError::Directory {
        path: directory.to_owned(),
        source,
    };
    let segments = list(directory).map_err(failed)?;
    let start = segments.len().saturating_sub(2);
    let mut scan = Scan {
        log,
        seq: segments.get(start).map_or(0, |segment| segment.first_seq),
        prev: None,
        change: None,
        syncs: false,
    };
    let mut found_end = None;
    let mut cut = None;
    for (index, segment) in segments.iter().enumerate().skip(start) {
        let next = segments.get(index + 1);
        let (offset, torn) = scan.segment(segment, next).map_err(|fault| fault.at(segment, failed))?;
        found_end = Some((segment.path.clone(), offset));
        if torn {
            let bytes = torn_bytes(&segments[index..], offset).map_err(failed)?;
            if scan.syncs && bytes > LONGEST_CUT {
                return Err(damaged(segment, offset, scan.seq, Fault::AfterEnd(bytes)));
            }
            cut = Some(cut_off(directory, &segments[index..], offset, scan.seq, bytes).map_err(failed)?);
            break;
        }
    }
    let change = match scan.change {
        Some(change) => Some(change),
        None => last_change(&segments[..start]).map_err(failed)?,
    };
    Ok(Found {
        seq: scan.seq,
        prev: scan.prev.unwrap_or(NO_PREV),
        end: found_end,
        change,
        cut,
    })
}

struct Scan<'a> {
    log: &'a str,
    seq: u64,
    /// `None` until the first record was read: what stands before the last two segments is not.
    prev: Option<[u8; 32]>,
    change: Option<Applied>,
    /// The last start record says that every batch is synced.
    syncs: bool,
}

enum ScanError {
    Io(io::Error),
    Fault { offset: u64, seq: u64, fault: Fault },
}

impl From<io::Error> for ScanError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl ScanError {
    fn at(self, segment: &SegmentFile, failed: impl Fn(io::Error) -> AuditError) -> AuditError {
        match self {
            Self::Io(error) => failed(error),
            Self::Fault { offset, seq, fault } => damaged(segment, offset, seq, fault),
        }
    }
}

impl Scan<'_> {
    /// Where the records of `segment` end, and whether a write was torn there.
    fn segment(&mut self, segment: &SegmentFile, next: Option<&SegmentFile>) -> Result<(u64, bool), ScanError> {
        let mut frames = Frames::open(&segment.path)?;
        if self.seq == 0 {
            self.prev = Some(NO_PREV);
        }
        let mut bytes = Vec::new();
        loop {
            let offset = frames.offset();
            match frames.advance(&mut bytes)? {
                Frame::Record => match self.record(&bytes) {
                    Ok(()) => {}
                    // The length itself was torn in two: its first byte is lost, its second is not.
                    Err(_) if offset % SECTOR == SECTOR - 1 => return Ok((offset, true)),
                    Err(fault) => {
                        return Err(ScanError::Fault {
                            offset,
                            seq: self.seq,
                            fault,
                        });
                    }
                },
                Frame::Torn => return Ok((offset, true)),
                Frame::End => {
                    // A next segment that starts later: the end of this one was lost, whole sectors of it.
                    let torn = frames.leftover()? > 0 || next.is_some_and(|next| next.first_seq > self.seq);
                    return match next {
                        Some(next) if next.first_seq < self.seq => Err(ScanError::Fault {
                            offset,
                            seq: self.seq,
                            fault: Fault::Segment(next.first_seq),
                        }),
                        _ => Ok((offset, torn)),
                    };
                }
            }
        }
    }

    fn record(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        let record = Record::parse(bytes).map_err(|error| Fault::NotARecord(error.to_string()))?;
        if record.seq != self.seq {
            return Err(Fault::Number(record.seq));
        }
        if record.log != self.log {
            return Err(Fault::OtherLog(record.log.into_owned()));
        }
        if self
            .prev
            .is_some_and(|prev| data_encoding::HEXLOWER.encode(&prev) != record.prev)
        {
            return Err(Fault::Prev);
        }
        if record.op == START {
            self.syncs = record.object.contains("durability=fsync");
        }
        self.change = record.change().or(self.change);
        self.prev = Some(leaf(bytes));
        self.seq += 1;
        Ok(())
    }
}

fn damaged(segment: &SegmentFile, offset: u64, seq: u64, fault: Fault) -> AuditError {
    AuditError::Damaged(Box::new(Finding {
        path: segment.path.clone(),
        offset,
        seq,
        fault,
    }))
}

/// The head that the newest of `segments` knows.
fn last_change(segments: &[SegmentFile]) -> io::Result<Option<Applied>> {
    for segment in segments.iter().rev() {
        let mut frames = Frames::open(&segment.path)?;
        let (mut bytes, mut change) = (Vec::new(), None);
        while frames.advance(&mut bytes)? == Frame::Record {
            change = Record::parse(&bytes).ok().and_then(|record| record.change()).or(change);
        }
        if change.is_some() {
            return Ok(change);
        }
    }
    Ok(None)
}

/// Bytes from `offset` of the first segment to the last one that is not zero, over all of them.
fn torn_bytes(segments: &[SegmentFile], offset: u64) -> io::Result<u64> {
    let mut bytes = 0;
    for (index, segment) in segments.iter().enumerate() {
        let mut file = File::open(&segment.path)?;
        bytes += used_after(&mut file, if index == 0 { offset } else { 0 })?;
    }
    Ok(bytes)
}

/// Keeps what is torn in files of their own, then makes the log end at `offset` of the first segment.
fn cut_off(directory: &Path, segments: &[SegmentFile], offset: u64, seq: u64, bytes: u64) -> io::Result<Cut> {
    let mut files = Vec::new();
    let Some((first, later)) = segments.split_first() else {
        return Ok(Cut { bytes, files });
    };
    let mut torn = File::open(&first.path)?;
    let length = used_after(&mut torn, offset)?;
    if length > 0 {
        let (name, mut kept) = unused_name(directory, seq)?;
        torn.seek(SeekFrom::Start(offset))?;
        io::copy(&mut Read::by_ref(&mut torn).take(length), &mut kept)?;
        kept.sync_all()?;
        files.push(name);
    }
    for segment in later {
        let (name, _) = unused_name(directory, segment.first_seq)?;
        fs::rename(&segment.path, directory.join(&name))?;
        files.push(name);
    }
    // The copies are safe before anything is wiped.
    File::open(directory)?.sync_all()?;
    let file = OpenOptions::new().write(true).open(&first.path)?;
    let zeros = vec![0; 64 * 1024];
    let mut done = 0;
    while done < length {
        let step = (length - done).min(zeros.len() as u64);
        file.write_all_at(&zeros[..usize::try_from(step).unwrap_or(zeros.len())], offset + done)?;
        done += step;
    }
    file.sync_all()?;
    Ok(Cut { bytes, files })
}

fn unused_name(directory: &Path, seq: u64) -> io::Result<(String, File)> {
    let mut number = 0;
    loop {
        let name = format!("cut-{seq:020}-{number}.bin");
        let made = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(directory.join(&name));
        match made {
            Ok(file) => return Ok((name, file)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => number += 1,
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::{
        sample::{LOG, edit, frames, write},
        verify,
    };

    fn log(records: u64) -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        write(directory.path(), records);
        directory
    }

    #[test]
    fn an_empty_directory_is_a_new_log_and_a_whole_log_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let found = recover(directory.path(), LOG).unwrap();
        assert_eq!(
            (found.seq, found.prev, found.end, found.change),
            (0, NO_PREV, None, None)
        );

        let directory = log(300);
        let found = recover(directory.path(), LOG).unwrap();
        let report = verify(directory.path()).unwrap();
        assert_eq!((found.seq, found.prev), (300, report.last_leaf));
        assert_eq!((found.change, found.cut), (report.change, None));
    }

    #[test]
    fn a_torn_last_write_is_cut_and_kept_and_the_log_goes_on() {
        // Every way to lose the tail of the last record, from its length to its last byte; and a hole with a whole record behind it.
        let length = frames(log(20).path())[18].2;
        for lost in [0, 1, 2, 3, 100, length - 1] {
            let directory = log(20);
            let (path, start, length) = frames(directory.path())[18].clone();
            edit(&path, |bytes| bytes[start + lost..start + length].fill(0));
            let torn = std::fs::read(&path).unwrap()[start..].to_vec();

            let found = recover(directory.path(), LOG).unwrap();
            assert_eq!(found.seq, 18, "{lost}");
            let cut = found.cut.unwrap();
            let kept = std::fs::read(directory.path().join(&cut.files[0])).unwrap();
            assert_eq!(kept.len() as u64, cut.bytes);
            assert_eq!(torn[..kept.len()], kept);
            assert!(torn[kept.len()..].iter().all(|byte| *byte == 0));

            write(directory.path(), 5);
            let report = verify(directory.path()).unwrap();
            assert_eq!((report.records, report.finding), (23, None));
        }
    }

    #[test]
    fn a_lost_end_of_the_last_segment_but_one_cuts_the_last_one_too() {
        let directory = log(300);
        let segments = list(directory.path()).unwrap();
        let path = &segments[segments.len() - 2].path;
        let last = frames(directory.path())
            .into_iter()
            .rfind(|frame| frame.0 == *path)
            .unwrap();
        edit(path, |bytes| bytes[last.1..].fill(0));
        let kept_last = std::fs::read(&segments.last().unwrap().path).unwrap();

        let found = recover(directory.path(), LOG).unwrap();
        let cut = found.cut.unwrap();
        assert_eq!(found.seq, segments.last().unwrap().first_seq - 1);
        assert_eq!(std::fs::read(directory.path().join(&cut.files[0])).unwrap(), kept_last);
        write(directory.path(), 300);
        assert_eq!(verify(directory.path()).unwrap().finding, None);
    }

    #[test]
    fn an_edited_record_is_damage_and_nothing_is_cut() {
        let directory = log(20);
        let (path, start, _) = frames(directory.path())[10].clone();
        edit(&path, |bytes| bytes[start + 200] ^= 1);
        let before = std::fs::read(&path).unwrap();
        let error = recover(directory.path(), LOG).unwrap_err();
        assert!(matches!(error, AuditError::Damaged(_)), "{error}");
        assert_eq!(std::fs::read(&path).unwrap(), before);
    }

    #[test]
    fn a_log_of_another_name_is_not_continued() {
        let directory = log(2);
        let error = recover(directory.path(), "test/audit/node-2/1").unwrap_err();
        assert!(matches!(error, AuditError::Damaged(found) if matches!(found.fault, Fault::OtherLog(_))));
    }

    #[test]
    fn the_head_of_changes_is_found_in_older_segments_too() {
        let directory = log(300);
        let segments = list(directory.path()).unwrap();
        assert_eq!(last_change(&segments).unwrap().unwrap().seq, 291);
        assert_eq!(last_change(&[]).unwrap(), None);
    }
}

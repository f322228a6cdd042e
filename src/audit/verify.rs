//! Offline verification of a log: no service, no store, no network, only the files of one epoch.
//!
//! Every record is parsed, hashed and held against its neighbours: number, `prev`, name of the log, chain of changes, segment names.
//! So an edited byte, and a record that was deleted, swapped or inserted, shows where it stands, unless it is at the very end: the
//! newest records can be cut off unseen until checkpoints are signed (`docs/formats.md`, section 8).

use std::{
    fmt, io,
    path::{Path, PathBuf},
};

use super::{
    Record, Tree, leaf,
    record::NO_PREV,
    segment::{Frame, Frames, SegmentFile, list},
};
use crate::store::Applied;

/// What was found in a log.
#[derive(Debug, Clone)]
pub struct Report {
    /// The name the log gives itself.
    pub log: Option<String>,
    /// Intact records, from number 0 without a gap.
    pub records: u64,
    /// Merkle root over the intact records (RFC 6962), and the leaf of the last.
    pub root: [u8; 32],
    pub last_leaf: [u8; 32],
    /// Times of the first and the last intact record.
    pub first_time: Option<String>,
    pub last_time: Option<String>,
    /// Highest head of the chain of changes that an intact record names.
    pub change: Option<Applied>,
    pub segments: usize,
    /// What is wrong, at the first place where something is. `None`: the log is intact.
    pub finding: Option<Finding>,
}

/// The first fault of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    pub path: PathBuf,
    /// Byte of the segment at which the frame in question starts.
    pub offset: u64,
    /// Number that the record there should have.
    pub seq: u64,
    pub fault: Fault,
}

/// What is wrong with a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// The bytes are not a record, with the parser's words.
    NotARecord(String),
    /// It has the number of another place: records were deleted, inserted or swapped here.
    Number(u64),
    /// It does not follow the record before: that one was edited, or a record between them is gone.
    Prev,
    /// It is of another log.
    OtherLog(String),
    /// Its head of the chain of changes is lower than one before, or differs from one of the same number.
    Change,
    /// Bytes that are not zero follow the end of the records, as many as said.
    AfterEnd(u64),
    /// Only part of a record is there: a write that was cut (at the tail, repaired by the next start), or an edit.
    Torn,
    /// The next segment starts with another number than it should: one was removed, renamed, or its records cut off.
    Segment(u64),
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "`{}`, byte {}, record {}: {}",
            self.path.display(),
            self.offset,
            self.seq,
            self.fault
        )
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotARecord(problem) => f.write_str(problem),
            Self::Number(found) => write!(f, "the record here says it is number {found}: records were deleted, inserted or swapped"),
            Self::Prev => f.write_str(
                "the record here does not follow the one before: that one was edited, or records were deleted, inserted or swapped",
            ),
            Self::OtherLog(log) => write!(f, "the record here belongs to the log `{log}`"),
            Self::Change => f.write_str("the chain of changes goes back here"),
            Self::AfterEnd(bytes) => write!(f, "the records end here, but {bytes} bytes follow"),
            Self::Torn => f.write_str("only part of a record is here"),
            Self::Segment(found) => write!(f, "the segment starts with record {found}: one before it is missing or was cut"),
        }
    }
}

/// Verifies the log in `directory` (of one epoch). Errors: the directory cannot be read; a fault of the log is in the report.
pub fn verify(directory: &Path) -> io::Result<Report> {
    let segments = list(directory)?;
    let mut check = Check::default();
    let mut bytes = Vec::new();
    let mut finding = None;
    for segment in &segments {
        finding = check.segment(segment, &mut bytes)?;
        if finding.is_some() {
            break;
        }
    }
    Ok(Report {
        log: check.log,
        records: check.tree.size(),
        root: check.tree.root(),
        last_leaf: check.prev,
        first_time: check.first_time,
        last_time: check.last_time,
        change: check.change,
        segments: segments.len(),
        finding,
    })
}

struct Check {
    tree: Tree,
    prev: [u8; 32],
    log: Option<String>,
    change: Option<Applied>,
    first_time: Option<String>,
    last_time: Option<String>,
}

impl Default for Check {
    fn default() -> Self {
        Self {
            tree: Tree::default(),
            prev: NO_PREV,
            log: None,
            change: None,
            first_time: None,
            last_time: None,
        }
    }
}

impl Check {
    fn segment(&mut self, segment: &SegmentFile, bytes: &mut Vec<u8>) -> io::Result<Option<Finding>> {
        let mut frames = Frames::open(&segment.path)?;
        let finding = |offset, seq, fault| {
            Ok(Some(Finding {
                path: segment.path.clone(),
                offset,
                seq,
                fault,
            }))
        };
        if segment.first_seq != self.tree.size() {
            return finding(0, self.tree.size(), Fault::Segment(segment.first_seq));
        }
        loop {
            let (offset, seq) = (frames.offset(), self.tree.size());
            match frames.advance(bytes)? {
                Frame::Record => {
                    if let Err(fault) = self.record(bytes) {
                        return finding(offset, seq, fault);
                    }
                }
                Frame::Torn => return finding(offset, seq, Fault::Torn),
                Frame::End => {
                    return match frames.leftover()? {
                        0 => Ok(None),
                        left => finding(offset, seq, Fault::AfterEnd(left)),
                    };
                }
            }
        }
    }

    fn record(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        let record = Record::parse(bytes).map_err(|error| Fault::NotARecord(error.to_string()))?;
        if record.seq != self.tree.size() {
            return Err(Fault::Number(record.seq));
        }
        let mut prev = [0; 64];
        data_encoding::HEXLOWER.encode_mut(&self.prev, &mut prev);
        if record.prev.as_bytes() != prev {
            return Err(Fault::Prev);
        }
        match &self.log {
            Some(log) if *log != record.log => return Err(Fault::OtherLog(record.log.into_owned())),
            Some(_) => {}
            None => self.log = Some(record.log.clone().into_owned()),
        }
        self.change(&record)?;
        if self.first_time.is_none() {
            self.first_time = Some(record.ts.clone().into_owned());
        }
        let last = self.last_time.get_or_insert_default();
        last.clear();
        last.push_str(&record.ts);
        self.prev = leaf(bytes);
        self.tree.push(self.prev);
        Ok(())
    }

    fn change(&mut self, record: &Record<'_>) -> Result<(), Fault> {
        if record.chg.is_none() {
            return Ok(());
        }
        let change = record.change().ok_or(Fault::Change)?;
        match self.change {
            Some(before) if change.seq < before.seq => Err(Fault::Change),
            Some(before) if change.seq == before.seq && change.link != before.link => Err(Fault::Change),
            _ => {
                self.change = Some(change);
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::sample::{edit, frames, write};

    const RECORDS: u64 = 300; // over two segments of the smallest size

    fn log() -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        write(directory.path(), RECORDS);
        assert!(list(directory.path()).unwrap().len() > 1);
        directory
    }

    fn finding(directory: &tempfile::TempDir) -> (Report, Finding) {
        let report = verify(directory.path()).unwrap();
        let finding = report.finding.clone().expect("the damage is found");
        (report, finding)
    }

    #[test]
    fn an_intact_log_verifies_and_its_root_is_that_of_its_leaves() {
        let directory = log();
        let report = verify(directory.path()).unwrap();
        assert_eq!(report.finding, None);
        assert_eq!(report.records, RECORDS);
        assert_eq!(report.change.unwrap().seq, 291);
        assert_eq!(report.first_time.unwrap(), "2023-11-14T22:13:20.000Z");

        let mut tree = Tree::default();
        for (path, start, length) in frames(directory.path()) {
            tree.push(leaf(&std::fs::read(path).unwrap()[start + 2..start + length]));
        }
        assert_eq!((report.root, report.records), (tree.root(), tree.size()));
    }

    #[test]
    fn every_flipped_byte_of_a_record_is_found_at_that_record_or_the_next() {
        let directory = log();
        let (path, start, length) = frames(directory.path())[3].clone();
        for offset in start..start + length {
            edit(&path, |bytes| bytes[offset] ^= 0x01);
            let (report, finding) = finding(&directory);
            assert!((3..=4).contains(&finding.seq), "byte {offset}: {finding}");
            assert_eq!(report.records, finding.seq);
            edit(&path, |bytes| bytes[offset] ^= 0x01);
        }
        assert_eq!(verify(directory.path()).unwrap().finding, None);
    }

    #[test]
    fn a_deleted_record_is_found_where_it_was() {
        let directory = log();
        let (path, start, length) = frames(directory.path())[40].clone();
        edit(&path, |bytes| drop(bytes.drain(start..start + length)));
        let (report, finding) = finding(&directory);
        assert_eq!((finding.seq, finding.fault), (40, Fault::Number(41)));
        assert_eq!((report.records, finding.offset), (40, start as u64));
    }

    #[test]
    fn swapped_records_are_found_at_the_first() {
        let directory = log();
        let all = frames(directory.path());
        let ((path, first, first_length), (_, second, second_length)) = (all[40].clone(), all[41].clone());
        edit(&path, |bytes| {
            let mut swapped = bytes[second..second + second_length].to_vec();
            swapped.extend_from_slice(&bytes[first..first + first_length]);
            bytes[first..second + second_length].copy_from_slice(&swapped);
        });
        assert_eq!(finding(&directory).1.fault, Fault::Number(41));
    }

    #[test]
    fn an_inserted_record_is_found_even_if_it_fits_before_itself() {
        let directory = log();
        let all = frames(directory.path());
        // A forger makes record 40 anew with another object: number and `prev` fit, but 41 follows the true one.
        let (path, start, length) = all[40].clone();
        edit(&path, |bytes| {
            let text = String::from_utf8(bytes[start + 2..start + length].to_vec()).unwrap();
            let forged = text.replace("teams/shop", "teams/shed");
            assert_ne!(text, forged);
            bytes[start + 2..start + length].copy_from_slice(forged.as_bytes());
        });
        let found = finding(&directory).1;
        assert_eq!((found.seq, found.fault), (41, Fault::Prev));
        // And a copy put in again.
        let directory = log();
        let (path, start, length) = frames(directory.path())[40].clone();
        edit(&path, |bytes| {
            let copy = bytes[start..start + length].to_vec();
            bytes.splice(start..start, copy);
        });
        let found = finding(&directory).1;
        assert_eq!((found.seq, found.fault), (41, Fault::Number(40)));
    }

    #[test]
    fn records_cut_off_a_segment_that_is_not_the_last_are_found() {
        let directory = log();
        let first = list(directory.path()).unwrap().remove(0).path;
        let last_in_first = frames(directory.path())
            .into_iter()
            .rfind(|frame| frame.0 == first)
            .unwrap();
        edit(&first, |bytes| bytes[last_in_first.1..].fill(0));
        let (report, found) = finding(&directory);
        assert_eq!(found.fault, Fault::Segment(report.records + 1));
    }

    #[test]
    fn a_missing_segment_is_found() {
        let directory = log();
        std::fs::remove_file(&list(directory.path()).unwrap()[0].path).unwrap();
        let (report, finding) = finding(&directory);
        assert_eq!((report.records, finding.offset), (0, 0));
        assert!(matches!(finding.fault, Fault::Segment(_)));
    }

    #[test]
    fn a_length_set_to_zero_hides_nothing() {
        let directory = log();
        let (path, start, _) = frames(directory.path())[40].clone();
        edit(&path, |bytes| bytes[start..start + 2].fill(0));
        let (report, finding) = finding(&directory);
        assert_eq!(report.records, 40);
        assert!(matches!(finding.fault, Fault::AfterEnd(_)), "{finding}");
    }

    #[test]
    fn a_chain_of_changes_that_goes_back_is_found_even_in_a_chain_of_records_that_fits() {
        use crate::{audit::sample, clock::Timestamp};
        let directory = tempfile::tempdir().unwrap();
        let found = super::super::recover::recover(directory.path(), sample::LOG).unwrap();
        let mut tail = sample::tail(directory.path(), &found);
        for seq in [5, 6, 6, 4] {
            let change = Applied { seq, link: [1; 32] };
            let (number, record) = tail.place(&sample::draft(seq), Some(change), Timestamp::from_unix_ms(0));
            let record = record.to_vec();
            tail.append(number, &record).unwrap();
        }
        tail.flush().unwrap();
        let found = finding(&directory).1;
        assert_eq!((found.seq, found.fault), (3, Fault::Change));
    }
}

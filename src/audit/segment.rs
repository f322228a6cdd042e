//! The files of a log: preallocated segments of `u16 length || record`, written in place.
//!
//! ```text
//! DIRECTORY/00000000000000000000.seg    named after the seq of its first record, so names sort as the log does
//!           00000000000000131072.seg    full length from birth; a length of zero, or the end of the file, is the end
//!           next.tmp                    the next one, prepared ahead by a thread, so that rotation only renames
//! ```
//!
//! Zeros are written, not reserved with fallocate: a sync of an unwritten extent also commits file-system metadata.
//! Everything goes through `std::fs` (positioned writes, `sync_data`), which the power-cut test can watch.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufReader, Read, Seek, SeekFrom, Write},
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
    thread::JoinHandle,
};

use super::record;

/// Smallest useful segment: two records of full length.
pub(super) const MIN_BYTES: u64 = 2 * FRAME_BYTES;
/// A record of full length with its own length before it.
const FRAME_BYTES: u64 = record::MAX_BYTES as u64 + 2;
const NEXT: &str = "next.tmp";

/// One segment on disk.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct SegmentFile {
    /// Seq of its first record, from its name.
    pub first_seq: u64,
    pub path: PathBuf,
}

/// The segments of a directory, in order of the log. Other files are not looked at.
pub fn list(directory: &Path) -> io::Result<Vec<SegmentFile>> {
    let mut segments = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let first_seq = path
            .file_name()
            .and_then(|name| name.to_str()?.strip_suffix(".seg")?.parse().ok());
        if let Some(first_seq) = first_seq {
            segments.push(SegmentFile { first_seq, path });
        }
    }
    segments.sort();
    Ok(segments)
}

/// The end that grows. Used by the writer alone.
pub(super) struct Segments {
    directory: PathBuf,
    /// Length of the segments to come.
    bytes: u64,
    file: File,
    /// Length of the current segment, and how much of it is used.
    length: u64,
    offset: u64,
    /// Full segments that no sync of ours has covered yet.
    retired: Vec<File>,
    /// A rename that no sync of the directory has covered yet.
    renamed: bool,
    next: Option<JoinHandle<io::Result<File>>>,
}

impl Segments {
    /// A new log's first segment.
    pub fn create(directory: &Path, bytes: u64, first_seq: u64) -> io::Result<Self> {
        let bytes = bytes.max(MIN_BYTES);
        let file = prepare(directory, bytes)?;
        let mut segments = Self::around(directory, bytes, file, bytes, 0);
        segments.name(first_seq)?;
        segments.sync()?;
        segments.prepare_next(None);
        Ok(segments)
    }

    /// The last segment of a log, whose records end at `offset`; what follows must be zeros.
    pub fn open(directory: &Path, bytes: u64, last: &Path, offset: u64) -> io::Result<Self> {
        let file = OpenOptions::new().write(true).open(last)?;
        let length = file.metadata()?.len();
        let mut segments = Self::around(directory, bytes.max(MIN_BYTES), file, length, offset);
        segments.prepare_next(None);
        Ok(segments)
    }

    fn around(directory: &Path, bytes: u64, file: File, length: u64, offset: u64) -> Self {
        Self {
            directory: directory.to_owned(),
            bytes,
            file,
            length,
            offset,
            retired: Vec::new(),
            renamed: false,
            next: None,
        }
    }

    /// Bytes that fit before the next [`Segments::rotate`].
    pub fn room(&self) -> u64 {
        self.length.saturating_sub(self.offset)
    }

    /// Writes whole frames, not more than [`Segments::room`]. Not synced.
    pub fn append(&mut self, frames: &[u8]) -> io::Result<()> {
        self.file.write_all_at(frames, self.offset)?;
        self.offset += frames.len() as u64;
        Ok(())
    }

    /// Starts the segment whose first record is `first_seq`. The full one is synced by the thread that prepares the next but one.
    pub fn rotate(&mut self, first_seq: u64) -> io::Result<()> {
        let file = match self.next.take() {
            Some(next) => match next.join() {
                Ok(prepared) => prepared,
                Err(_) => Err(io::Error::other("the thread that prepares segments panicked")),
            },
            None => Err(io::Error::other("no segment was prepared")),
        };
        // A disk that was full when the segment was to be prepared may have room again.
        let file = file.or_else(|_| prepare(&self.directory, self.bytes))?;
        let full = std::mem::replace(&mut self.file, file);
        (self.length, self.offset) = (self.bytes, 0);
        self.name(first_seq)?;
        let to_sync = full.try_clone()?;
        self.retired.push(full);
        self.prepare_next(Some(to_sync));
        Ok(())
    }

    /// Makes everything appended survive a power cut.
    pub fn sync(&mut self) -> io::Result<()> {
        for full in &self.retired {
            full.sync_data()?;
        }
        self.retired.clear();
        if self.renamed {
            File::open(&self.directory)?.sync_all()?;
            self.renamed = false;
        }
        self.file.sync_data()
    }

    fn name(&mut self, first_seq: u64) -> io::Result<()> {
        let path = self.directory.join(format!("{first_seq:020}.seg"));
        fs::rename(self.directory.join(NEXT), path)?;
        self.renamed = true;
        Ok(())
    }

    fn prepare_next(&mut self, full: Option<File>) {
        let (directory, bytes) = (self.directory.clone(), self.bytes);
        let thread = std::thread::Builder::new().name("audit-segment".into()).spawn(move || {
            if let Some(full) = full {
                full.sync_data()?;
            }
            prepare(&directory, bytes)
        });
        // Without a thread the segment is made when it is needed.
        self.next = thread.ok();
    }
}

impl Drop for Segments {
    fn drop(&mut self) {
        // The thread writes into the directory: whoever opens the log next must not meet it there.
        if let Some(next) = self.next.take() {
            let _ = next.join();
        }
    }
}

/// Writes and syncs a segment of zeros under its working name.
fn prepare(directory: &Path, bytes: u64) -> io::Result<File> {
    static ZEROS: [u8; 256 * 1024] = [0; 256 * 1024];
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(directory.join(NEXT))?;
    let mut left = bytes;
    while left > 0 {
        let step = left.min(ZEROS.len() as u64);
        file.write_all(&ZEROS[..usize::try_from(step).unwrap_or(ZEROS.len())])?;
        left -= step;
    }
    file.sync_all()?;
    Ok(file)
}

/// Appends `record` with its length before it.
pub(super) fn frame(out: &mut Vec<u8>, record: &[u8]) {
    let length = u16::try_from(record.len()).expect("the formatter keeps records below 64 KiB");
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(record);
}

/// What stands at a place in a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Frame {
    Record,
    /// A length of zero, or the end of the file.
    End,
    /// Not all of the record is there: the file ends, or zeros stand where text should. A write that was cut, or one not finished yet.
    Torn,
}

/// Reads a segment frame by frame.
pub(super) struct Frames {
    file: BufReader<File>,
    offset: u64,
}

impl Frames {
    pub fn open(path: &Path) -> io::Result<Self> {
        Ok(Self {
            file: BufReader::with_capacity(256 * 1024, File::open(path)?),
            offset: 0,
        })
    }

    /// Where the next frame starts.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// The next frame; `record` gets its bytes. After `End` or `Torn` the same place is read anew.
    pub fn advance(&mut self, record: &mut Vec<u8>) -> io::Result<Frame> {
        record.clear();
        let mut length = [0; 2];
        let frame = match fill(&mut self.file, &mut length)? {
            2 if length != [0, 0] => {
                record.resize(usize::from(u16::from_be_bytes(length)), 0);
                let whole = fill(&mut self.file, record)? == record.len();
                if whole && !record.contains(&0) {
                    Frame::Record
                } else {
                    Frame::Torn
                }
            }
            _ => Frame::End,
        };
        if frame == Frame::Record {
            self.offset += 2 + record.len() as u64;
        } else {
            self.file.seek(SeekFrom::Start(self.offset))?;
        }
        Ok(frame)
    }

    /// How many bytes follow up to the last that is not zero: none behind a proper end.
    pub fn leftover(&mut self) -> io::Result<u64> {
        let last = used_after(self.file.get_mut(), self.offset)?;
        self.file.seek(SeekFrom::Start(self.offset))?;
        Ok(last)
    }
}

/// How many bytes of `file` follow `offset`, up to the last that is not zero.
pub(super) fn used_after(file: &mut File, offset: u64) -> io::Result<u64> {
    file.seek(SeekFrom::Start(offset))?;
    let (mut seen, mut last) = (0_u64, 0_u64);
    let mut chunk = vec![0; 256 * 1024];
    loop {
        let read = fill(file, &mut chunk)?;
        if read == 0 {
            return Ok(last);
        }
        if let Some(index) = chunk[..read].iter().rposition(|byte| *byte != 0) {
            last = seen + index as u64 + 1;
        }
        seen += read as u64;
    }
}

/// Reads until `buffer` is full or the file ends.
fn fill(file: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(path: &Path) -> (Vec<Vec<u8>>, Frame) {
        let mut frames = Frames::open(path).unwrap();
        let (mut all, mut record) = (Vec::new(), Vec::new());
        loop {
            match frames.advance(&mut record).unwrap() {
                Frame::Record => all.push(record.clone()),
                end => return (all, end),
            }
        }
    }

    fn framed(record: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        frame(&mut out, record);
        out
    }

    #[test]
    fn segments_keep_their_length_and_sort_by_their_first_record() {
        let directory = tempfile::tempdir().unwrap();
        let mut segments = Segments::create(directory.path(), 0, 0).unwrap();
        segments.append(&framed(b"a")).unwrap();
        segments.append(&framed(b"bc")).unwrap();
        segments.rotate(2).unwrap();
        segments.append(&framed(b"d")).unwrap();
        segments.rotate(30).unwrap();
        segments.sync().unwrap();
        drop(segments);

        let files = list(directory.path()).unwrap();
        assert_eq!(files.iter().map(|file| file.first_seq).collect::<Vec<_>>(), [0, 2, 30]);
        assert_eq!(read(&files[0].path), (vec![b"a".to_vec(), b"bc".to_vec()], Frame::End));
        assert_eq!(read(&files[1].path), (vec![b"d".to_vec()], Frame::End));
        for file in files {
            assert_eq!(fs::metadata(file.path).unwrap().len(), MIN_BYTES);
        }
    }

    #[test]
    fn an_opened_segment_goes_on_where_it_ended() {
        let directory = tempfile::tempdir().unwrap();
        Segments::create(directory.path(), 0, 0)
            .unwrap()
            .append(&framed(b"a"))
            .unwrap();
        let path = list(directory.path()).unwrap().remove(0).path;
        let mut segments = Segments::open(directory.path(), 0, &path, 3).unwrap();
        assert_eq!(segments.room(), MIN_BYTES - 3);
        segments.append(&framed(b"b")).unwrap();
        assert_eq!(read(&path), (vec![b"a".to_vec(), b"b".to_vec()], Frame::End));
    }

    #[test]
    fn a_record_with_a_hole_is_torn_and_what_follows_an_end_is_counted() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.seg");
        fs::write(&path, b"\0\x01a\0\x04b\0\0c\0\0").unwrap();
        assert_eq!(read(&path), (vec![b"a".to_vec()], Frame::Torn));
        fs::write(&path, b"\0\x01a\0\x04b").unwrap();
        assert_eq!(read(&path), (vec![b"a".to_vec()], Frame::Torn));

        fs::write(&path, b"\0\x01a\0\0\0x\0").unwrap();
        let mut frames = Frames::open(&path).unwrap();
        let mut record = Vec::new();
        assert_eq!(frames.advance(&mut record).unwrap(), Frame::Record);
        assert_eq!(frames.advance(&mut record).unwrap(), Frame::End);
        assert_eq!(frames.leftover().unwrap(), 4);
    }

    #[test]
    fn a_reader_at_the_end_sees_what_is_written_later() {
        let directory = tempfile::tempdir().unwrap();
        let mut segments = Segments::create(directory.path(), 0, 0).unwrap();
        let path = list(directory.path()).unwrap().remove(0).path;
        let mut frames = Frames::open(&path).unwrap();
        let mut record = Vec::new();
        assert_eq!(frames.advance(&mut record).unwrap(), Frame::End);
        segments.append(&framed(b"later")).unwrap();
        assert_eq!(frames.advance(&mut record).unwrap(), Frame::Record);
        assert_eq!(record, b"later");
    }
}

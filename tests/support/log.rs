//! The audit log as it lies on the disk, read by code of the tests' own: `u16 length || record`, ended by zeros.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::TestServer;

/// One record: its bytes, and what they say.
#[derive(Debug, Clone)]
pub struct Record {
    pub bytes: Vec<u8>,
    pub json: Value,
}

/// Where one record lies.
#[derive(Debug, Clone)]
pub struct Frame {
    pub path: PathBuf,
    /// Of its length field.
    pub offset: usize,
    pub record: Record,
}

impl Record {
    fn text(&self, pointer: &str) -> &str {
        self.json.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
    }

    pub fn seq(&self) -> u64 {
        self.json["seq"].as_u64().expect("every record has a number")
    }

    /// The request id under which the caller's call ran.
    pub fn request(&self) -> &str {
        self.text("/req")
    }

    pub fn operation(&self) -> &str {
        self.text("/op")
    }

    pub fn result(&self) -> &str {
        self.text("/result")
    }

    /// The part of `code` that programs compare; what follows a colon is for people.
    pub fn code(&self) -> &str {
        let code = self.text("/code");
        code.split_once(": ").map_or(code, |(reason, _)| reason)
    }

    pub fn actor(&self) -> &str {
        self.text("/actor/id")
    }

    pub fn object(&self) -> &str {
        self.text("/object")
    }

    /// Serial number of the token that worked; empty if none did.
    pub fn token(&self) -> &str {
        self.text("/token/serial")
    }

    /// UUID of the key that was worked on; empty if none was.
    pub fn key_id(&self) -> &str {
        self.text("/key/id")
    }

    pub fn rule(&self) -> &str {
        self.text("/decision/rule")
    }

    pub fn number(&self, field: &str) -> u64 {
        self.json[field]
            .as_u64()
            .unwrap_or_else(|| panic!("{field} of {}", self.json))
    }
}

impl TestServer {
    /// The directory of the log's newest epoch.
    pub fn log_directory(&self) -> PathBuf {
        let segments = segments_below(&self.data().join("audit"));
        let newest = segments.last().expect("the log has a segment");
        newest.parent().expect("a segment is in a directory").to_path_buf()
    }

    /// Every record of the newest epoch, in order. What is not a record ends it, as a reader after a crash would see it.
    pub fn records(&self) -> Vec<Record> {
        frames(&self.log_directory())
            .into_iter()
            .map(|frame| frame.record)
            .collect()
    }

    /// The records of one call.
    pub fn records_of(&self, request: &str) -> Vec<Record> {
        let mut records = self.records();
        records.retain(|record| record.request() == request);
        records
    }

    /// `keyreeve audit verify`, of the log alone: whether all is well, and what it said.
    pub fn verify_log(&self) -> (bool, String) {
        let output = self.run("audit verify", &[]);
        (output.status.success(), super::text(&output))
    }

    /// The same, of the store's rows, too.
    pub fn verify(&self) -> (bool, String) {
        let output = self.run("audit verify", &["--with-token"]);
        (output.status.success(), super::text(&output))
    }

    /// The same, which must find nothing.
    #[track_caller]
    pub fn verifies(&self) {
        let (well, said) = self.verify();
        assert!(well, "{said}");
    }
}

/// Every record of one epoch with its place.
pub fn frames(directory: &Path) -> Vec<Frame> {
    let mut frames = Vec::new();
    for path in segments_below(directory) {
        let bytes = fs::read(&path).unwrap();
        let mut offset = 0;
        while let Some(length) = bytes.get(offset..offset + 2) {
            let length = usize::from(u16::from_be_bytes([length[0], length[1]]));
            let Some(record) = bytes.get(offset + 2..offset + 2 + length).filter(|_| length > 0) else {
                break;
            };
            let Ok(json) = serde_json::from_slice(record) else {
                break;
            };
            frames.push(Frame {
                path: path.clone(),
                offset,
                record: Record {
                    bytes: record.to_vec(),
                    json,
                },
            });
            offset += 2 + length;
        }
    }
    frames
}

/// The segment files, the oldest first: their names sort as the log does.
pub fn segments_below(directory: &Path) -> Vec<PathBuf> {
    let mut segments = Vec::new();
    let mut waiting = vec![directory.to_path_buf()];
    while let Some(directory) = waiting.pop() {
        for entry in fs::read_dir(directory).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                waiting.push(path);
            } else if path.extension().is_some_and(|extension| extension == "seg") {
                segments.push(path);
            }
        }
    }
    segments.sort();
    segments
}

/// Checks numbers and `prev` of a whole log: SHA-256(00 || record) of the one before, zeros for the first.
#[track_caller]
pub fn assert_chained(records: &[Record]) {
    let mut prev = "0".repeat(64);
    for (seq, record) in records.iter().enumerate() {
        assert_eq!(record.seq(), seq as u64);
        assert_eq!(record.text("/prev"), prev, "record {seq}");
        let leaf = [&[0], record.bytes.as_slice()].concat();
        let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &leaf);
        prev = data_encoding::HEXLOWER.encode(hash.as_ref());
    }
}

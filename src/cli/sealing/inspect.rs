//! `inspect`: what anyone can see of a sealed file. Needs no service and proves nothing.

use std::{
    fs::File,
    io::stdin,
    path::{Path, PathBuf},
};

use clap::Args;
use data_encoding::HEXLOWER;
use keyreeve_client::{
    sealed::{Extent, WrappedKey},
    sealing::front::Front,
};
use serde::Serialize;

use super::{is_stdin, of_file};
use crate::cli::{
    failure::{Failure, Outcome},
    output::{self, Format, Shown, Table},
};

#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  keyreeve inspect dump.sql.sealed

What is shown is what the file says; only opening it confirms that.")]
pub struct Inspect {
    /// A sealed file; `-`: standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

#[derive(Serialize)]
struct Seen {
    message_id: String,
    commitment: String,
    header_bytes: usize,
    /// Absent: not stored.
    #[serde(skip_serializing_if = "Option::is_none")]
    stored_context: Option<Vec<(String, String)>>,
    wrapped_keys: Vec<Wrapped>,
    /// By the length of the file. Absent: it is cut off, or its length is unknown.
    #[serde(skip_serializing_if = "Option::is_none")]
    plaintext_bytes: Option<u64>,
    #[serde(skip)]
    length: Length,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Length {
    Known,
    Unknown,
    CutOff,
}

#[derive(Serialize)]
struct Wrapped {
    kind: u8,
    bytes: usize,
    #[serde(flatten)]
    key: Option<Key>,
}

#[derive(Serialize)]
struct Key {
    key_id: String,
    key_version: u32,
    suite: String,
}

impl Inspect {
    pub fn run(self, format: Format) -> Outcome {
        let seen = match is_stdin(&self.file) {
            true => {
                let front = Front::read(&mut stdin().lock()).map_err(|error| of_file("standard input", error))?;
                Seen::of(&front, None)
            }
            false => seen(&self.file)?,
        };
        output::print(format, &seen)
    }
}

fn seen(path: &Path) -> Result<Seen, Failure> {
    let failed = |error: &_| Failure::file("read", path, error);
    let mut file = File::open(path).map_err(|error| failed(&error))?;
    let length = file.metadata().map_err(|error| failed(&error))?.len();
    let front = Front::read(&mut file).map_err(|_| {
        let said = "this is not a sealed file, or not a whole header of one";
        Failure::failed(format!("`{}`: {said}", path.display()))
    })?;
    Ok(Seen::of(&front, length.checked_sub(front.encoded_len() as u64)))
}

impl Seen {
    /// `chunks`: bytes after the front, if that is known.
    fn of(front: &Front, chunks: Option<u64>) -> Self {
        let (header, identity) = (front.header(), front.identity());
        let extent = chunks.map(Extent::of_sealed);
        let pair = |(key, value): (&str, &str)| (key.to_owned(), value.to_owned());
        Self {
            message_id: identity.message_id.to_string(),
            commitment: HEXLOWER.encode(&identity.commitment),
            header_bytes: header.encoded_len(),
            stored_context: header
                .stored_context()
                .map(|context| context.pairs().map(pair).collect()),
            wrapped_keys: header.wrapped_keys().iter().map(Wrapped::of).collect(),
            plaintext_bytes: extent.and_then(Result::ok).map(|extent| extent.plaintext_len()),
            length: match extent {
                None => Length::Unknown,
                Some(Ok(_)) => Length::Known,
                Some(Err(_)) => Length::CutOff,
            },
        }
    }
}

impl Wrapped {
    fn of(wrapped: &WrappedKey) -> Self {
        Self {
            kind: wrapped.kind(),
            bytes: wrapped.as_bytes().len(),
            key: wrapped.envelope_header().map(|header| Key {
                key_id: header.key_id().to_string(),
                key_version: header.key_version().number(),
                suite: format!("{:04x}", header.suite().number()),
            }),
        }
    }
}

impl Shown for Seen {
    fn table(&self) -> Table {
        let mut table = Table::facts();
        table
            .fact("message id", &self.message_id)
            .fact("commitment", &self.commitment);
        match &self.stored_context {
            None => table.fact("context", "not stored"),
            Some(pairs) if pairs.is_empty() => table.fact("context", "stored, no pairs"),
            Some(pairs) => {
                let each = |(key, value): &(String, String)| format!("{key}={value}");
                table.fact("context", pairs.iter().map(each).collect::<Vec<_>>().join(" "))
            }
        };
        for wrapped in &self.wrapped_keys {
            let said = match &wrapped.key {
                Some(key) => format!("key {} version {}, suite {}", key.key_id, key.key_version, key.suite),
                None => format!("kind {}, {} bytes: not known here", wrapped.kind, wrapped.bytes),
            };
            table.fact("wrapped", said);
        }
        let length = match (self.length, self.plaintext_bytes) {
            (Length::CutOff, _) => "cut off: it will not open".to_owned(),
            (_, Some(bytes)) => format!("{bytes} bytes, by the length of the file"),
            (_, None) => "not known: it is a stream".to_owned(),
        };
        table.fact("plaintext", length);
        table
    }
}

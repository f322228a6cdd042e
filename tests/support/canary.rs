//! Planted canaries: values that must never leave a server's memory, and the search for them in everything it left behind.
//!
//! A leak seldom shows the bytes as they are: a `Debug` of a byte string, a hex dump, a base64 column, a list of numbers.
//! So each canary is looked for in every form that such a place would give it. What a leak could do to a value and this
//! does not see: compress it, encrypt it, cut it shorter than the whole.

use std::fs;
use std::path::{Path, PathBuf};

use aho_corasick::AhoCorasick;
use data_encoding::{BASE64_NOPAD, BASE64URL_NOPAD, HEXLOWER, HEXUPPER};

/// Shorter values would be found by chance.
const SHORTEST: usize = 12;

/// Canaries, ready to be looked for.
pub struct Hunt {
    forms: Vec<Form>,
    finder: AhoCorasick,
}

/// One canary in one disguise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Form {
    pub canary: String,
    pub disguise: String,
    pub bytes: Vec<u8>,
}

/// Where a canary was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sighting {
    pub canary: String,
    pub disguise: String,
    pub place: String,
}

impl Hunt {
    /// `canaries`: a name for messages, and the value.
    pub fn new<N: Into<String>>(canaries: impl IntoIterator<Item = (N, Vec<u8>)>) -> Self {
        let forms: Vec<Form> = canaries
            .into_iter()
            .flat_map(|(name, value)| forms(&name.into(), &value))
            .collect();
        let finder = AhoCorasick::new(forms.iter().map(|form| &form.bytes)).unwrap();
        Self { forms, finder }
    }

    pub fn forms(&self) -> &[Form] {
        &self.forms
    }

    /// Each canary at most once per disguise and place.
    pub fn in_bytes(&self, place: &str, bytes: &[u8]) -> Vec<Sighting> {
        let mut found = Vec::new();
        // A pretty-printed list and a wrapped dump have white space inside the value.
        let joined: Vec<u8> = bytes
            .iter()
            .copied()
            .filter(|byte| !byte.is_ascii_whitespace())
            .collect();
        for text in [bytes, &joined] {
            for hit in self.finder.find_overlapping_iter(text) {
                let form = &self.forms[hit.pattern().as_usize()];
                let sighting = Sighting {
                    canary: form.canary.clone(),
                    disguise: form.disguise.clone(),
                    place: place.to_owned(),
                };
                if !found.contains(&sighting) {
                    found.push(sighting);
                }
            }
        }
        found
    }

    /// Every file below `directory` but those in `except`, their names included. Returns how many files were read, too.
    pub fn in_files(&self, directory: &Path, except: &[PathBuf]) -> (usize, Vec<Sighting>) {
        let (mut read, mut found) = (0, Vec::new());
        let mut waiting = vec![directory.to_path_buf()];
        while let Some(path) = waiting.pop() {
            if except.contains(&path) {
                continue;
            }
            let place = path.display().to_string();
            found.extend(self.in_bytes(&format!("the name {place}"), place.as_bytes()));
            let kind = fs::symlink_metadata(&path).unwrap().file_type();
            if kind.is_dir() {
                waiting.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            } else if kind.is_file() {
                read += 1;
                found.extend(self.in_bytes(&place, &fs::read(&path).unwrap()));
            }
        }
        (read, found)
    }
}

fn forms(name: &str, value: &[u8]) -> Vec<Form> {
    assert!(value.len() >= SHORTEST, "{name} is too short to be a canary");
    let mut forms: Vec<Form> = Vec::new();
    let mut add = |disguise: &str, bytes: Vec<u8>| {
        // Two disguises may look the same, e.g. both alphabets of base64.
        if forms.iter().all(|form| form.bytes != bytes) {
            forms.push(Form {
                canary: name.to_owned(),
                disguise: disguise.to_owned(),
                bytes,
            });
        }
    };
    add("raw", value.to_vec());
    add("hex", HEXLOWER.encode(value).into_bytes());
    add("HEX", HEXUPPER.encode(value).into_bytes());
    for offset in 0..3 {
        add(
            &format!("base64 at {offset}"),
            base64_inside(value, offset, &BASE64_NOPAD),
        );
        add(
            &format!("base64url at {offset}"),
            base64_inside(value, offset, &BASE64URL_NOPAD),
        );
    }
    let numbers: Vec<String> = value.iter().map(u8::to_string).collect();
    add("numbers", numbers.join(",").into_bytes());
    add("numbers, spaced", numbers.join(", ").into_bytes());
    // `Debug` of byte strings and of the crate `bytes`, which differ; the same as raw for plain ASCII.
    add("escaped", value.escape_ascii().to_string().into_bytes());
    add("escaped like Bytes", escaped_like_bytes(value));
    forms
}

fn escaped_like_bytes(value: &[u8]) -> Vec<u8> {
    let mut text = Vec::new();
    for byte in value {
        match byte {
            b'\n' => text.extend_from_slice(br"\n"),
            b'\r' => text.extend_from_slice(br"\r"),
            b'\t' => text.extend_from_slice(br"\t"),
            b'\0' => text.extend_from_slice(br"\0"),
            b'\\' | b'"' => text.extend_from_slice(&[b'\\', *byte]),
            0x20..0x7f => text.push(*byte),
            _ => text.extend_from_slice(format!("\\x{byte:02x}").as_bytes()),
        }
    }
    text
}

/// The characters that base64 gives `value` wherever it stands, when `offset` more bytes (modulo 3) stand before it:
/// those that also depend on its neighbours are left out.
fn base64_inside(value: &[u8], offset: usize, alphabet: &data_encoding::Encoding) -> Vec<u8> {
    let mut bytes = vec![0; offset];
    bytes.extend_from_slice(value);
    let text = alphabet.encode(&bytes);
    let first = (offset * 8).div_ceil(6);
    let end = bytes.len() * 8 / 6;
    text.as_bytes()[first..end].to_vec()
}

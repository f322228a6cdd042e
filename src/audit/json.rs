//! JSON by hand into a byte buffer: strings, numbers, hex. No allocation, no intermediate value.
//!
//! Over-long parts are cut so that a record fits its frame: a cut string ends in `…`, a cut list has `"…"` as its last element.

/// What a cut leaves behind: U+2026, 3 bytes.
pub(super) const CUT: &str = "…";

/// Appends `text` as a JSON string whose inside takes at most `budget` bytes after escaping (RFC 8259, section 7).
pub(super) fn string(out: &mut Vec<u8>, text: &str, budget: usize) {
    out.push(b'"');
    // Looks at every byte on purpose: without an early end the loop becomes a few vector instructions.
    let plain = text.bytes().fold(true, |plain, byte| plain & (escaped_len(byte) == 1));
    if plain && text.len() <= budget {
        out.extend_from_slice(text.as_bytes());
    } else {
        escaped(out, text, budget);
    }
    out.push(b'"');
}

/// The same, or `null`.
pub(super) fn optional(out: &mut Vec<u8>, text: Option<&str>, budget: usize) {
    match text {
        Some(text) => string(out, text, budget),
        None => out.extend_from_slice(b"null"),
    }
}

/// Appends a list of strings that takes at most `budget` bytes, brackets not counted.
pub(super) fn strings(out: &mut Vec<u8>, texts: &[String], budget: usize) {
    // Quotes and comma around each, and the mark itself.
    const MARK: usize = 3 + CUT.len();
    let whole: usize = texts.iter().map(|text| escaped_size(text) + 3).sum();
    let limit = if whole <= budget { budget } else { budget - MARK };
    out.push(b'[');
    let mut used = 0;
    for (index, text) in texts.iter().enumerate() {
        used += escaped_size(text) + 3;
        if index > 0 {
            out.push(b',');
        }
        if used > limit {
            string(out, CUT, CUT.len());
            break;
        }
        string(out, text, budget);
    }
    out.push(b']');
}

pub(super) fn number(out: &mut Vec<u8>, mut number: u64) {
    let mut digits = [0; 20]; // u64::MAX has 20 digits
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

/// Appends `bytes` in lower-case hex, without quotes.
pub(super) fn hex(out: &mut Vec<u8>, bytes: &[u8]) {
    let start = out.len();
    out.resize(start + bytes.len() * 2, 0);
    data_encoding::HEXLOWER.encode_mut(bytes, &mut out[start..]);
}

fn escaped(out: &mut Vec<u8>, text: &str, budget: usize) {
    let whole = escaped_size(text);
    let limit = if whole <= budget { budget } else { budget - CUT.len() };
    let mut used = 0;
    let mut utf8 = [0; 4];
    for character in text.chars() {
        let bytes = character.encode_utf8(&mut utf8).as_bytes();
        used += bytes.iter().map(|byte| escaped_len(*byte)).sum::<usize>();
        if used > limit {
            out.extend_from_slice(CUT.as_bytes());
            return;
        }
        match bytes {
            [b'"'] => out.extend_from_slice(b"\\\""),
            [b'\\'] => out.extend_from_slice(b"\\\\"),
            [control @ 0..0x20] => {
                out.extend_from_slice(b"\\u00");
                hex(out, &[*control]);
            }
            plain => out.extend_from_slice(plain),
        }
    }
}

fn escaped_size(text: &str) -> usize {
    text.bytes().map(escaped_len).sum()
}

const fn escaped_len(byte: u8) -> usize {
    match byte {
        0..0x20 => 6,
        b'"' | b'\\' => 2,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn written(write: impl Fn(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    proptest! {
        #[test]
        fn every_string_reads_back_as_it_was(text in ".*|[\\x00-\\x7f]*") {
            let json = written(|out| string(out, &text, 1 << 20));
            prop_assert_eq!(serde_json::from_str::<String>(&json).unwrap(), text);
        }

        #[test]
        fn no_string_outgrows_its_budget(text in ".{0,64}|[\\x00-\\x22]{0,64}", budget in 3_usize..80) {
            let json = written(|out| string(out, &text, budget));
            prop_assert!(json.len() <= budget + 2);
            let read: String = serde_json::from_str(&json).unwrap();
            prop_assert!(read == text || (read.ends_with(CUT) && text.starts_with(read.trim_end_matches(CUT))));
        }

        #[test]
        fn every_number_reads_back_as_it_was(value: u64) {
            prop_assert_eq!(written(|out| number(out, value)), value.to_string());
        }

        #[test]
        fn no_list_outgrows_its_budget(texts in proptest::collection::vec("[a-z\"\n]{0,9}", 0..20), budget in 6_usize..120) {
            let json = written(|out| strings(out, &texts, budget));
            let read: Vec<String> = serde_json::from_str(&json).unwrap();
            prop_assert!(json.len() <= budget + 2, "{}", json);
            let cut = read.last().is_some_and(|last| last == CUT);
            prop_assert!(read == texts || cut);
        }
    }
}

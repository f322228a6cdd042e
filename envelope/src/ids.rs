//! Ids of the whole workspace: sixteen UUID bytes each, one type per kind, and the number of a key version.
//!
//! Ids are made elsewhere and enter by `from_bytes` or by parsing; this module only carries and prints them.
//! Text form: RFC 9562, 36 characters with hyphens, printed in lower case, read in either.

use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;

/// The text is not a UUID with hyphens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an id: write it as 8-4-4-4-12 hexadecimal digits")]
pub struct ParseIdError;

/// Key versions count from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a key version: write a number from 1 to 4294967295")]
pub struct KeyVersionError;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; 16]);

        impl $name {
            /// From the sixteen bytes of a UUID, in the order they are printed.
            pub const fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(bytes)
            }

            /// The sixteen bytes as the byte formats carry them.
            pub const fn as_bytes(&self) -> &[u8; 16] {
                &self.0
            }

            /// As [`Self::as_bytes`], by value.
            pub const fn to_bytes(self) -> [u8; 16] {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let text = uuid_text(&self.0);
                f.pad(std::str::from_utf8(&text).expect("hex digits and hyphens are ASCII"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;

            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                parse_uuid(text).map(Self)
            }
        }
    };
}

id! {
    /// An environment: the isolation boundary. Bound into every wrapped key blob.
    EnvironmentId
}
id! {
    /// A team: owns keys and secrets within an environment.
    TeamId
}
id! {
    /// A key, over all its versions. Unique over all environments, never reused.
    KeyId
}
id! {
    /// A key-encryption key of a token group. Random, new for every epoch.
    KekId
}

id! {
    /// A sealed message: sixteen random bytes, which no rewrap changes.
    MessageId
}

/// Number of a key version: from 1, never reused.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyVersion(NonZeroU32);

impl KeyVersion {
    /// The version that a new key starts with.
    pub const FIRST: Self = Self(NonZeroU32::MIN);

    /// `None` for 0, which is no version.
    pub const fn new(number: u32) -> Option<Self> {
        match NonZeroU32::new(number) {
            Some(number) => Some(Self(number)),
            None => None,
        }
    }

    /// The number, from 1.
    pub const fn number(self) -> u32 {
        self.0.get()
    }

    /// The version after this one; `None` at the end of u32.
    pub const fn next(self) -> Option<Self> {
        match self.0.checked_add(1) {
            Some(number) => Some(Self(number)),
            None => None,
        }
    }
}

impl TryFrom<u32> for KeyVersion {
    type Error = KeyVersionError;

    fn try_from(number: u32) -> Result<Self, KeyVersionError> {
        Self::new(number).ok_or(KeyVersionError)
    }
}

impl From<KeyVersion> for u32 {
    fn from(version: KeyVersion) -> u32 {
        version.number()
    }
}

impl fmt::Display for KeyVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for KeyVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyVersion({})", self.0)
    }
}

impl FromStr for KeyVersion {
    type Err = KeyVersionError;

    /// Decimal digits only: no sign, no leading zero, so that one version has one spelling.
    fn from_str(text: &str) -> Result<Self, KeyVersionError> {
        if !text.starts_with(|c: char| matches!(c, '1'..='9')) {
            return Err(KeyVersionError);
        }
        text.parse().ok().and_then(Self::new).ok_or(KeyVersionError)
    }
}

/// Offsets of the hyphens in the text form.
const HYPHENS: [usize; 4] = [8, 13, 18, 23];

fn uuid_text(bytes: &[u8; 16]) -> [u8; 36] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = [b'-'; 36];
    let mut at = 0;
    for byte in bytes {
        if HYPHENS.contains(&at) {
            at += 1;
        }
        text[at] = DIGITS[usize::from(byte >> 4)];
        text[at + 1] = DIGITS[usize::from(byte & 15)];
        at += 2;
    }
    text
}

fn parse_uuid(text: &str) -> Result<[u8; 16], ParseIdError> {
    let text: &[u8; 36] = text.as_bytes().try_into().map_err(|_| ParseIdError)?;
    let mut bytes = [0; 16];
    let mut at = 0;
    for byte in &mut bytes {
        if HYPHENS.contains(&at) {
            if text[at] != b'-' {
                return Err(ParseIdError);
            }
            at += 1;
        }
        *byte = (hex_digit(text[at])? << 4) | hex_digit(text[at + 1])?;
        at += 2;
    }
    Ok(bytes)
}

fn hex_digit(digit: u8) -> Result<u8, ParseIdError> {
    match digit {
        b'0'..=b'9' => Ok(digit - b'0'),
        b'a'..=b'f' => Ok(digit - b'a' + 10),
        b'A'..=b'F' => Ok(digit - b'A' + 10),
        _ => Err(ParseIdError),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TEXT: &str = "00112233-4455-6677-8899-aabbccddeeff";

    #[test]
    fn an_id_prints_as_a_uuid_with_hyphens() {
        let mut bytes = [0; 16];
        for (i, byte) in bytes.iter_mut().enumerate() {
            *byte = 0x11 * i as u8;
        }
        let id = KeyId::from_bytes(bytes);
        assert_eq!(id.to_string(), TEXT);
        assert_eq!(format!("{id:?}"), format!("KeyId({TEXT})"));
        assert_eq!(TEXT.parse::<KeyId>().unwrap(), id);
        assert_eq!(TEXT.to_uppercase().parse::<KeyId>().unwrap(), id);
    }

    #[test]
    fn text_that_is_no_uuid_is_refused() {
        for text in [
            "",
            "00112233445566778899aabbccddeeff",
            "00112233-4455-6677-8899-aabbccddeef",
            "00112233-4455-6677-8899-aabbccddeefff",
            "00112233-4455-6677-8899-aabbccddeefg",
            "001122334-455-6677-8899-aabbccddeeff",
            "{0112233-4455-6677-8899-aabbccddeef}",
            "00112233_4455_6677_8899_aabbccddeeff",
            " 0112233-4455-6677-8899-aabbccddeeff",
        ] {
            assert_eq!(text.parse::<KeyId>(), Err(ParseIdError), "{text}");
        }
    }

    #[test]
    fn key_versions_count_from_one() {
        assert_eq!(KeyVersion::new(0), None);
        assert_eq!(KeyVersion::FIRST.number(), 1);
        assert_eq!(KeyVersion::FIRST.next().unwrap().to_string(), "2");
        assert_eq!(KeyVersion::new(u32::MAX).unwrap().next(), None);
        assert_eq!("7".parse(), Ok(KeyVersion::new(7).unwrap()));
        for text in ["", "0", "07", "+7", "-1", " 7", "4294967296"] {
            assert_eq!(text.parse::<KeyVersion>(), Err(KeyVersionError), "{text}");
        }
    }

    proptest! {
        #[test]
        fn every_id_survives_its_text(bytes: [u8; 16]) {
            let id = EnvironmentId::from_bytes(bytes);
            prop_assert_eq!(id.to_string().parse::<EnvironmentId>().unwrap(), id);
        }

        #[test]
        fn reading_an_id_never_panics(text in "\\PC{30,40}") {
            let _ = text.parse::<TeamId>();
        }
    }
}

//! A statement of a token, signed by its AUDIT key. Two lines of text, so that people can read what they carry:
//! the statement as compact JSON, and `label signature`, the signature in hex over `label || \0 || SHA-256(first line)`.

use std::{io, marker::PhantomData, path::Path};

use data_encoding::HEXLOWER;
use serde::{Serialize, de::DeserializeOwned};

use crate::token::{
    files,
    manifest::sha256_hex,
    public_key::{PublicKey, statement},
};

/// Largest file: an enrolment request with a vendor's attestation.
const MAX_BYTES: u64 = 256 * 1024;

/// What can be signed.
pub trait Statement: Serialize + DeserializeOwned {
    /// `enrol.v1`, `transfer.v1`, `receipt.v1`.
    const LABEL: &'static str;

    /// What the types cannot say. The error says what is wrong.
    fn check(&self) -> Result<(), String>;
}

/// A statement, its exact bytes and its signature, which nobody has verified yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signed<S> {
    pub said: S,
    bytes: Vec<u8>,
    signature: Vec<u8>,
    _statement: PhantomData<S>,
}

#[derive(Debug, thiserror::Error)]
pub enum SignedError {
    #[error("cannot read `{path}`: {error}")]
    Unreadable { path: String, error: io::Error },
    #[error("`{path}` is no {label} file: {problem}")]
    Malformed {
        path: String,
        label: &'static str,
        problem: String,
    },
}

impl<S: Statement> Signed<S> {
    /// `sign`: the AUDIT key's signature of the bytes under a label.
    pub(super) fn new<E>(said: S, sign: impl FnOnce(&str, &[u8]) -> Result<Vec<u8>, E>) -> Result<Self, E> {
        let bytes = serde_json::to_vec(&said).expect("strings and numbers always serialise");
        let signature = sign(S::LABEL, &bytes)?;
        Ok(Self {
            said,
            bytes,
            signature,
            _statement: PhantomData,
        })
    }

    /// Reads the two lines. The error says what is wrong with them.
    pub fn parse(text: &[u8]) -> Result<Self, String> {
        let mut lines = text.split(|byte| *byte == b'\n');
        let (Some(bytes), Some(signature), Some(b""), None) = (lines.next(), lines.next(), lines.next(), lines.next())
        else {
            return Err("it has not exactly two lines".into());
        };
        let said: S = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        said.check()?;
        if serde_json::to_vec(&said).ok().as_deref() != Some(bytes) {
            return Err("its first line is not written as Keyreeve writes it".into());
        }
        let signature = signature
            .strip_prefix(S::LABEL.as_bytes())
            .and_then(|rest| rest.strip_prefix(b" "))
            .and_then(|hex| HEXLOWER.decode(hex).ok())
            .ok_or_else(|| format!("its second line is not `{}` and a signature in hex", S::LABEL))?;
        Ok(Self {
            said,
            bytes: bytes.to_vec(),
            signature,
            _statement: PhantomData,
        })
    }

    pub fn read(path: &Path) -> Result<Self, SignedError> {
        let name = || path.display().to_string();
        let text = files::read(path, MAX_BYTES).map_err(|error| SignedError::Unreadable { path: name(), error })?;
        Self::parse(&text).map_err(|problem| SignedError::Malformed {
            path: name(),
            label: S::LABEL,
            problem,
        })
    }

    /// Never over another file; for this user alone.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        files::create(path, &self.text())
    }

    pub fn text(&self) -> Vec<u8> {
        let end = format!("\n{} {}\n", S::LABEL, HEXLOWER.encode(&self.signature));
        [&self.bytes, end.as_bytes()].concat()
    }

    /// SHA-256 of the statement's bytes, hex: what people compare.
    pub fn sha256(&self) -> String {
        sha256_hex(&self.bytes)
    }

    pub fn is_by(&self, key: &PublicKey) -> bool {
        key.verifies(&statement(S::LABEL, &self.bytes), &self.signature)
    }
}

/// Statements signed by keys of tests.
#[cfg(test)]
pub(super) mod testing {
    use super::*;
    use crate::token::public_key::testing::Signer;

    pub fn signed<S: Statement>(said: &S, signer: &Signer) -> Signed<S> {
        let line = serde_json::to_string(said).unwrap();
        let signature = signer.sign(&statement(S::LABEL, line.as_bytes()));
        let text = format!("{line}\n{} {}\n", S::LABEL, HEXLOWER.encode(&signature));
        Signed::parse(text.as_bytes()).unwrap()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{testing::signed, *};
    use crate::token::{
        ceremony::statements::{EnrolRequest, Receipt, Transfer, WrappedKeys},
        manifest::{Checks, OaepHash},
        public_key::testing::Signer,
    };

    fn transfer() -> Transfer {
        Transfer {
            v: 1,
            manifest: "aa".repeat(32),
            group: "bb".repeat(16),
            epoch: 1,
            kek_id: "cc".repeat(16),
            from: "1".into(),
            to: "2".into(),
            to_spki_sha256: "dd".repeat(32),
            oaep_hash: OaepHash::Sha1,
            wrapped: WrappedKeys {
                kek: "ee".repeat(384),
                bind: "ee".repeat(384),
                svc: None,
            },
            check: Checks {
                kek: "ff".repeat(16),
                bind: "ff".repeat(16),
                svc: "ff".repeat(16),
            },
        }
    }

    #[test]
    fn a_file_is_read_as_it_was_written_and_verifies_for_its_signer_alone() {
        let signer = Signer::p256();
        let file = signed(&transfer(), &signer);
        let read = Signed::<Transfer>::parse(&file.text()).unwrap();
        assert_eq!(read, file);
        assert!(read.is_by(&signer.public));
        assert!(!read.is_by(&Signer::p256().public));
    }

    #[test]
    fn one_kind_of_statement_does_not_pass_for_another() {
        let signer = Signer::ed25519();
        let text = String::from_utf8(signed(&transfer(), &signer).text()).unwrap();
        assert!(Signed::<Receipt>::parse(text.as_bytes()).is_err());
        // Even where the words are changed, the label is what was signed.
        let relabelled = text.replace("transfer.v1", "receipt.v1");
        assert!(Signed::<Transfer>::parse(relabelled.as_bytes()).is_err());
    }

    #[test]
    fn what_is_not_exactly_two_lines_of_the_schema_is_refused() {
        let text = String::from_utf8(signed(&transfer(), &Signer::ed25519()).text()).unwrap();
        for (from, to) in [
            ("{\"v\":1", "{\"v\":2"),
            ("{\"v\":1", "{\"v\":1,\"more\":1"),
            ("{\"v\":1", "{\"v\":1,\"v\":1"),
            ("SHA-1", "MD5"),
            ("bbbb", "BBBB"),
            ("cccc", "cc"),
            ("transfer.v1 ", "transfer.v1  "),
            ("transfer.v1 ", "transfer.v1 A"),
            ("}\n", "}\r\n"),
            ("}\n", "}\n\n"),
        ] {
            let changed = text.replacen(from, to, 1);
            assert_ne!(changed, text, "{from}");
            assert!(Signed::<Transfer>::parse(changed.as_bytes()).is_err(), "{to}");
        }
        assert!(Signed::<Transfer>::parse(format!("{text}x").as_bytes()).is_err());
        assert!(Signed::<Transfer>::parse(text.trim_end().as_bytes()).is_err());
    }

    #[test]
    fn a_file_over_the_limit_is_refused_unread() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        std::fs::write(&path, vec![b' '; 256 * 1024 + 1]).unwrap();
        let error = Signed::<Transfer>::read(&path).unwrap_err();
        assert!(matches!(error, SignedError::Unreadable { .. }), "{error}");
    }

    proptest! {
        #[test]
        fn any_changed_byte_is_refused_or_no_longer_verifies(place in 0.., byte: u8) {
            let signer = Signer::ed25519();
            let mut text = signed(&transfer(), &signer).text();
            let place = place as usize % text.len();
            prop_assume!(text[place] != byte);
            text[place] = byte;
            let stands = Signed::<Transfer>::parse(&text).is_ok_and(|file| file.is_by(&signer.public));
            prop_assert!(!stands);
        }

        #[test]
        fn no_bytes_break_a_parser(bytes: Vec<u8>, line in ".*", signature in "[0-9a-f]*") {
            let _ = Signed::<Transfer>::parse(&bytes);
            let _ = crate::token::manifest::Manifest::parse(&bytes);
            for label in ["enrol.v1", "receipt.v1"] {
                let text = format!("{line}\n{label} {signature}\n");
                let _ = Signed::<EnrolRequest>::parse(text.as_bytes());
                let _ = Signed::<Receipt>::parse(text.as_bytes());
            }
        }
    }
}

//! Sealing and opening under suite 0002: what the service does before and after the token's one HMAC.
//!
//! Source: `docs/formats.md`, suite 0002; SP 800-108 (counter mode, one block), SP 800-38D.

use aws_lc_rs::{error::Unspecified, rand};
use keyreeve_envelope::{
    DecryptFailed, Header, Suite,
    prf_commit::{self, Envelope, HedgeKey, MessageKeys, Plaintext},
};
use subtle::ConstantTimeEq;

use super::{Sealed, input::Opening};
use crate::{
    Error, Result,
    model::{Key, Version},
    token::EnvelopeInput,
};

/// What the body of an envelope is; a flag of the header, bound like all of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Body {
    Message,
    DataKey,
}

/// All of an envelope that is chosen before the token is asked.
pub(super) struct Prepared {
    header: Header,
    salt: [u8; 32],
    iv: [u8; 12],
    ec_hash: [u8; 32],
}

impl Prepared {
    /// Header, hedged salt and iv for `plaintext` under `version`. Errors: `Internal` if the generator fails.
    pub(super) fn new(
        hedge: &HedgeKey,
        version: &Version,
        body: Body,
        ec_hash: &[u8; 32],
        plaintext: &[u8],
    ) -> Result<Self> {
        let data_key = body == Body::DataKey;
        let header = Header::new(Suite::PrfCommit, version.key, version.number, data_key, plaintext.len())
            .map_err(|error| Error::invalid("plaintext", error))?;
        // The nonce is made here: one draw for the salt's r[32] and the iv[12].
        let mut fresh = [0; 44];
        rand::fill(&mut fresh).map_err(generator_failed)?;
        let (r, iv) = fresh.split_first_chunk().expect("44 is more than 32");
        Ok(Self {
            header,
            salt: hedge.salt(r, ec_hash, plaintext),
            iv: iv.try_into().expect("44 less 32 is 12"),
            ec_hash: *ec_hash,
        })
    }

    pub(super) fn input(&self) -> EnvelopeInput {
        EnvelopeInput {
            header: self.header.encode(),
            salt: self.salt,
            ec_hash: self.ec_hash,
        }
    }

    /// The envelope, under the message keys that the token made of [`Self::input`].
    pub(super) fn seal(&self, keys: &MessageKeys, plaintext: &[u8]) -> Result<Sealed> {
        let mut ciphertext = Vec::new();
        prf_commit::seal(
            keys,
            &self.header,
            &self.salt,
            &self.iv,
            &self.ec_hash,
            plaintext,
            &mut ciphertext,
        )
        .map_err(Error::internal)?;
        let link = Envelope::parse(&ciphertext).map_err(Error::internal)?.audit_link();
        Ok(Sealed {
            ciphertext,
            key: self.header.key_id(),
            version: self.header.key_version(),
            plaintext_len: plaintext.len(),
            link,
        })
    }

    /// Opens `sealed` with message keys that were computed a second time, and compares. `false`: one of the two answers of the token
    /// is wrong, so nothing sealed with either may be given out.
    pub(super) fn verifies(&self, again: &MessageKeys, sealed: &Sealed, plaintext: &[u8]) -> bool {
        let opened =
            Envelope::parse(&sealed.ciphertext).and_then(|envelope| prf_commit::open(again, &envelope, &self.ec_hash));
        opened.is_ok_and(|opened| opened.as_bytes().ct_eq(plaintext).into())
    }
}

/// An envelope of the named key, taken apart, whose version may process.
pub(super) struct Parsed<'a, 'k> {
    envelope: Envelope<'a>,
    pub(super) version: &'k Version,
    ec_hash: &'a [u8; 32],
}

impl<'a, 'k> Parsed<'a, 'k> {
    /// Errors: `DecryptFailed` for all that is wrong with the envelope; `StateForbids` only if it names an existing version of `key`.
    pub(super) fn new(key: &'k Key, opening: &'a Opening, body: Body, operation: &'static str) -> Result<Self> {
        let parsed = Self::of_any_body(key, opening, operation)?;
        if parsed.body() == body {
            Ok(parsed)
        } else {
            Err(Error::DecryptFailed)
        }
    }

    /// The same, whether or not the body is a data key.
    pub(super) fn of_any_body(key: &'k Key, opening: &'a Opening, operation: &'static str) -> Result<Self> {
        let envelope = Envelope::parse(opening.ciphertext())?;
        if envelope.header().key_id() != key.id {
            return Err(Error::DecryptFailed);
        }
        let version = key.processing(envelope.header().key_version(), operation)?;
        Ok(Self {
            envelope,
            version,
            ec_hash: opening.ec_hash(),
        })
    }

    pub(super) fn body(&self) -> Body {
        if self.envelope.header().is_data_key() {
            Body::DataKey
        } else {
            Body::Message
        }
    }

    pub(super) fn input(&self) -> EnvelopeInput {
        EnvelopeInput {
            header: self.envelope.header().encode(),
            salt: *self.envelope.salt(),
            ec_hash: *self.ec_hash,
        }
    }

    pub(super) fn open(&self, keys: &MessageKeys) -> Result<Plaintext> {
        Ok(prf_commit::open(keys, &self.envelope, self.ec_hash)?)
    }

    pub(super) fn audit_link(&self) -> [u8; 16] {
        self.envelope.audit_link()
    }
}

impl From<DecryptFailed> for Error {
    fn from(_: DecryptFailed) -> Self {
        Self::DecryptFailed
    }
}

/// No work without randomness (`SECURITY.md`).
pub(super) fn generator_failed(error: Unspecified) -> Error {
    Error::internal(error)
}

//! Opening envelopes of a named key, in the way of their suite.
//!
//! Source: `docs/formats.md`, section 3, "Opening".

use keyreeve_envelope::{
    DecryptFailed, Header, Plaintext, Suite,
    prf_commit::{self, Envelope},
    token_gcm,
};

use super::{Opened, Operations, input::Opening, sealing::Body};
use crate::{
    Error, Result,
    model::{Key, Use, Version},
    policy::{Permit, UsesKey},
    token::{EnvelopeInput, OpenInput},
};

/// An envelope of the named key and of the suite of its version, which may process.
pub(super) struct Parsed<'a, 'k> {
    opening: &'a Opening,
    pub(super) version: &'k Version,
    pub(super) body: Body,
    link: [u8; 16],
}

impl<'a, 'k> Parsed<'a, 'k> {
    /// Errors: `DecryptFailed` for all that is wrong with the envelope; `StateForbids` only if it names an existing version of `key`.
    pub(super) fn new(key: &'k Key, opening: &'a Opening, body: Body, operation: &'static str) -> Result<Self> {
        let parsed = Self::of_any_body(key, opening, operation)?;
        if parsed.body == body {
            Ok(parsed)
        } else {
            Err(Error::DecryptFailed)
        }
    }

    /// The same, whether or not the body is a data key.
    pub(super) fn of_any_body(key: &'k Key, opening: &'a Opening, operation: &'static str) -> Result<Self> {
        let header = Header::parse(opening.ciphertext())?;
        if header.key_id() != key.id {
            return Err(Error::DecryptFailed);
        }
        let version = key.processing(header.key_version(), operation)?;
        if header.suite() != version.suite {
            return Err(Error::DecryptFailed);
        }
        Ok(Self {
            opening,
            version,
            body: match header.is_data_key() {
                true => Body::DataKey,
                false => Body::Message,
            },
            link: match header.suite() {
                Suite::PrfCommit => Envelope::parse(opening.ciphertext())?.audit_link(),
                Suite::TokenGcm => token_gcm::Envelope::parse(opening.ciphertext())?.audit_link(),
            },
        })
    }

    pub(super) fn opened(&self, plaintext: Plaintext) -> Opened {
        Opened {
            plaintext,
            key: self.version.key,
            version: self.version.number,
            envelope_len: self.opening.ciphertext().len(),
            link: self.link,
        }
    }
}

impl Operations {
    /// Opens one envelope of the permit's key.
    pub(super) async fn open_parsed<A: UsesKey>(&self, permit: &Permit<A>, parsed: &Parsed<'_, '_>) -> Result<Opened> {
        let mut opened = self.open_all_of(permit, parsed.version, &[parsed]).await?;
        opened.pop().expect("there is a result for each envelope")
    }

    /// Opens envelopes of one version, in order; each fails alone. Errors: those of the token, for all of them.
    pub(super) async fn open_all_of<A: UsesKey>(
        &self,
        permit: &Permit<A>,
        version: &Version,
        parsed: &[&Parsed<'_, '_>],
    ) -> Result<Vec<Result<Opened>>> {
        let token = self.token_of(permit.on())?;
        let plaintexts: Vec<Option<Plaintext>> = match version.suite {
            Suite::PrfCommit => {
                let envelopes = parsed.iter().map(|parsed| Envelope::parse(parsed.opening.ciphertext()));
                let envelopes: Vec<Envelope<'_>> = envelopes.collect::<Result<_, _>>()?;
                let inputs = envelopes.iter().zip(parsed).map(|(envelope, parsed)| EnvelopeInput {
                    header: envelope.header().encode(),
                    salt: *envelope.salt(),
                    ec_hash: *parsed.opening.ec_hash(),
                });
                let keys = token.envelope_keys(permit, version, Use::Process, inputs.collect());
                let opened = keys.await?.into_iter().zip(envelopes).zip(parsed);
                opened
                    .map(|((keys, envelope), parsed)| prf_commit::open(&keys, &envelope, parsed.opening.ec_hash()).ok())
                    .collect()
            }
            Suite::TokenGcm => {
                let inputs = parsed.iter().map(|parsed| OpenInput {
                    envelope: parsed.opening.ciphertext().to_vec(),
                    ec_hash: *parsed.opening.ec_hash(),
                });
                token.open(permit, version, inputs.collect()).await?
            }
        };
        let opened = plaintexts.into_iter().zip(parsed);
        Ok(opened
            .map(|(plaintext, parsed)| plaintext.map(|bytes| parsed.opened(bytes)).ok_or(Error::DecryptFailed))
            .collect())
    }
}

impl From<DecryptFailed> for Error {
    fn from(_: DecryptFailed) -> Self {
        Self::DecryptFailed
    }
}

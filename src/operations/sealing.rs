//! Sealing under a version of a key, in the way of its suite: what the service does before and after the token.
//!
//! Source: `docs/formats.md`, section 3; SP 800-108 (counter mode, one block), SP 800-38D.

use aws_lc_rs::{error::Unspecified, rand};
use keyreeve_envelope::{
    Header, Plaintext, Suite,
    prf_commit::{self, Envelope, HedgeKey, MessageKeys},
    token_gcm,
};
use subtle::ConstantTimeEq;

use super::{Operations, Sealed, data_key::DOES_NOT_OPEN};
use crate::{
    Error, Result,
    model::{Use, Version},
    policy::{Permit, UsesKey},
    token::{EnvelopeInput, OpenInput, SealInput},
};

/// What the body of an envelope is; a flag of the header, bound like all of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Body {
    Message,
    DataKey,
}

/// One plaintext, and the hash of the context that it is bound to.
#[derive(Clone, Copy)]
pub(super) struct ToSeal<'a> {
    pub(super) ec_hash: &'a [u8; 32],
    pub(super) plaintext: &'a [u8],
}

impl Operations {
    /// The envelope of one plaintext. Errors: `InvalidArgument` if it is longer than the suite allows; those of the token.
    pub(super) async fn seal_under<A: UsesKey>(
        &self,
        permit: &Permit<A>,
        version: &Version,
        body: Body,
        ec_hash: &[u8; 32],
        plaintext: &[u8],
    ) -> Result<Sealed> {
        let items = [ToSeal { ec_hash, plaintext }];
        let mut sealed = self.seal_all_under(permit, version, body, &items).await?;
        sealed.pop().expect("there is a result for each item")
    }

    /// Envelopes of `items` under `version`, in order; one that is too long for the suite fails alone. Data keys are opened again, with
    /// another answer of the token, before they are given out: their loss would cost all that they seal.
    pub(super) async fn seal_all_under<A: UsesKey>(
        &self,
        permit: &Permit<A>,
        version: &Version,
        body: Body,
        items: &[ToSeal<'_>],
    ) -> Result<Vec<Result<Sealed>>> {
        let limit = version.suite.max_plaintext_len();
        let fits = |item: &&ToSeal<'_>| item.plaintext.len() <= limit;
        let fitting: Vec<ToSeal<'_>> = items.iter().filter(fits).copied().collect();
        let sealed = match version.suite {
            _ if fitting.is_empty() => Vec::new(),
            Suite::PrfCommit => self.seal_by_message_keys(permit, version, body, &fitting).await?,
            Suite::TokenGcm => self.seal_in_token(permit, version, body, &fitting).await?,
        };
        let mut sealed = sealed.into_iter();
        let results = items.iter().map(|item| match fits(&item) {
            true => sealed.next().expect("there is a result for each item that fits"),
            false => Err(Error::invalid(
                "plaintext",
                format_args!(
                    "it has {} bytes, at most {limit} are allowed under the key's suite: seal larger data with a data key",
                    item.plaintext.len()
                ),
            )),
        });
        Ok(results.collect())
    }

    /// Suite 0002.
    async fn seal_by_message_keys<A: UsesKey>(
        &self,
        permit: &Permit<A>,
        version: &Version,
        body: Body,
        items: &[ToSeal<'_>],
    ) -> Result<Vec<Result<Sealed>>> {
        let token = self.token_of(permit.on())?;
        let prepare = |item| Prepared::new(&self.hedge, version, body, item);
        let prepared: Vec<Prepared> = items.iter().map(prepare).collect::<Result<_>>()?;
        let ask = || {
            let inputs = prepared.iter().map(Prepared::input).collect();
            token.envelope_keys(permit, version, Use::Protect, inputs)
        };
        let (keys, again) = if self.verifies(body) {
            // Both calls wait in the queue at the same time, so that two sessions work them where there are two.
            let (keys, again) = tokio::try_join!(ask(), ask())?;
            (keys, Some(again))
        } else {
            (ask().await?, None)
        };
        let seal = |(at, item): (usize, &ToSeal<'_>)| {
            let sealed = prepared[at].seal(&keys[at], item.plaintext)?;
            match &again {
                Some(again) if !prepared[at].verifies(&again[at], &sealed, item.plaintext) => {
                    Err(token.gave_wrong_answer(permit, DOES_NOT_OPEN))
                }
                _ => Ok(sealed),
            }
        };
        Ok(items.iter().enumerate().map(seal).collect())
    }

    /// Suite 0001.
    async fn seal_in_token<A: UsesKey>(
        &self,
        permit: &Permit<A>,
        version: &Version,
        body: Body,
        items: &[ToSeal<'_>],
    ) -> Result<Vec<Result<Sealed>>> {
        let token = self.token_of(permit.on())?;
        let inputs = items.iter().map(|item| SealInput {
            data_key: body == Body::DataKey,
            ec_hash: *item.ec_hash,
            plaintext: Plaintext::new(item.plaintext.to_vec()),
        });
        let uses = self
            .uses
            .take(permit.caller(), permit.on(), version, items.len())
            .await?;
        let envelopes = token.seal(permit, version, uses, inputs.collect()).await?;
        let opened = if self.verifies(body) {
            let again = items.iter().zip(&envelopes).map(|(item, envelope)| OpenInput {
                envelope: envelope.clone(),
                ec_hash: *item.ec_hash,
            });
            Some(token.open(permit, version, again.collect()).await?)
        } else {
            None
        };
        let sealed = envelopes
            .into_iter()
            .zip(items)
            .enumerate()
            .map(|(at, (ciphertext, item))| {
                let is_same = |again: &Plaintext| again.as_bytes().ct_eq(item.plaintext).into();
                if let Some(opened) = &opened
                    && !opened[at].as_ref().is_some_and(is_same)
                {
                    return Err(token.gave_wrong_answer(permit, DOES_NOT_OPEN));
                }
                let link = token_gcm::Envelope::parse(&ciphertext)
                    .map_err(Error::internal)?
                    .audit_link();
                Ok(Sealed {
                    ciphertext,
                    key: version.key,
                    version: version.number,
                    plaintext_len: item.plaintext.len(),
                    link,
                })
            });
        Ok(sealed.collect())
    }

    fn verifies(&self, body: Body) -> bool {
        body == Body::DataKey && self.settings.verify_data_keys
    }
}

/// All of an envelope of suite 0002 that is chosen before the token is asked.
struct Prepared {
    header: Header,
    salt: [u8; 32],
    iv: [u8; 12],
    ec_hash: [u8; 32],
}

impl Prepared {
    /// Header, hedged salt and iv for `item` under `version`. Errors: `Internal` if the generator fails.
    fn new(hedge: &HedgeKey, version: &Version, body: Body, item: &ToSeal<'_>) -> Result<Self> {
        let (data_key, length) = (body == Body::DataKey, item.plaintext.len());
        let header = Header::new(Suite::PrfCommit, version.key, version.number, data_key, length)
            .map_err(|error| Error::invalid("plaintext", error))?;
        // The nonce is made here: one draw for the salt's r[32] and the iv[12].
        let mut fresh = [0; 44];
        rand::fill(&mut fresh).map_err(generator_failed)?;
        let (r, iv) = fresh.split_first_chunk().expect("44 is more than 32");
        Ok(Self {
            header,
            salt: hedge.salt(r, item.ec_hash, item.plaintext),
            iv: iv.try_into().expect("44 less 32 is 12"),
            ec_hash: *item.ec_hash,
        })
    }

    fn input(&self) -> EnvelopeInput {
        EnvelopeInput {
            header: self.header.encode(),
            salt: self.salt,
            ec_hash: self.ec_hash,
        }
    }

    /// The envelope, under the message keys that the token made of [`Self::input`].
    fn seal(&self, keys: &MessageKeys, plaintext: &[u8]) -> Result<Sealed> {
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
    fn verifies(&self, again: &MessageKeys, sealed: &Sealed, plaintext: &[u8]) -> bool {
        let opened =
            Envelope::parse(&sealed.ciphertext).and_then(|envelope| prf_commit::open(again, &envelope, &self.ec_hash));
        opened.is_ok_and(|opened| opened.as_bytes().ct_eq(plaintext).into())
    }
}

/// No work without randomness (`SECURITY.md`).
pub(super) fn generator_failed(error: Unspecified) -> Error {
    Error::internal(error)
}

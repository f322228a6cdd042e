//! Suite 0001: sealing and opening inside the token; nothing derived from the key leaves it.
//!
//! Who calls says what is sealed, for which context, and whether it is a data key. Header, associated data and iv are made here and in
//! the token: there is no call that encrypts given bytes under a given iv. Source: `docs/formats.md`, suite 0001.

use std::sync::Arc;

use futures_util::future::try_join_all;
use keyreeve_envelope::{Header, Plaintext, Suite, blob::KeyType, token_gcm};
use keyreeve_pkcs11::{Class, Function};

use super::{
    Answer, Call, OpenInput, SealInput, Token, TokenError,
    counted_uses::CountedUses,
    handles::UnwrappedKey,
    host::Place,
    iv,
    recovery::Fault,
    session_thread::SessionThread,
    token::{blob_of, misuse, place_of, wrong_answer},
};
use crate::{
    Result,
    model::{Blob, IvSource, Use, Version},
    policy::{Permit, UsesKey},
};

/// Items of one call. What a worker is sent at once stays far below the limit of a frame, and several threads share a long batch.
const PART: usize = 16;

impl Token {
    /// Envelopes of `inputs` under `version`, in order. `uses`: one for each of `inputs`, which have at most 8,192 B.
    ///
    /// A call that is repeated for a token that failed is not counted again: what the first attempt may have sealed was given to nobody.
    /// Errors: as [`Self::envelope_keys`].
    pub async fn seal<A: UsesKey>(
        &self,
        permit: &Permit<A>,
        version: &Version,
        uses: CountedUses,
        inputs: Vec<SealInput>,
    ) -> Result<Vec<Vec<u8>>> {
        let expected = inputs.len();
        if !uses.cover(version, expected) {
            return Err(misuse("uses of another version or number"));
        }
        let part = |answer| match answer {
            Answer::Sealed(envelopes) => Some(envelopes),
            _ => None,
        };
        let call = |blob, place, inputs: Vec<_>| Call::Seal {
            blob,
            place,
            inputs: inputs.into(),
        };
        let sealed = self.in_parts(permit, version, Use::Protect, inputs, call, part).await?;
        match sealed.len() == expected {
            true => Ok(sealed),
            false => Err(wrong_answer("envelopes of another number")),
        }
    }

    /// What `inputs` hold, in order; `None` for one that does not open. Errors: as [`Self::envelope_keys`].
    pub async fn open<A: UsesKey>(
        &self,
        permit: &Permit<A>,
        version: &Version,
        inputs: Vec<OpenInput>,
    ) -> Result<Vec<Option<Plaintext>>> {
        let expected = inputs.len();
        let part = |answer| match answer {
            Answer::Opened(opened) => Some(opened),
            _ => None,
        };
        let call = |blob, place, inputs: Vec<_>| Call::Open {
            blob,
            place,
            inputs: inputs.into(),
        };
        let opened = self.in_parts(permit, version, Use::Process, inputs, call, part).await?;
        match opened.len() == expected {
            true => Ok(opened),
            false => Err(wrong_answer("plaintexts of another number")),
        }
    }

    /// `inputs` as several calls where they are many, and the answers in order.
    async fn in_parts<A: UsesKey, I, O>(
        &self,
        permit: &Permit<A>,
        version: &Version,
        purpose: Use,
        mut inputs: Vec<I>,
        call: impl Fn(Arc<Blob>, Place, Vec<I>) -> Call,
        part: impl Fn(Answer) -> Option<Vec<O>>,
    ) -> Result<Vec<O>> {
        let (blob, place) = (blob_of(permit, version)?, place_of(permit, version));
        let mut calls = Vec::with_capacity(inputs.len().div_ceil(PART));
        while !inputs.is_empty() {
            let rest = inputs.split_off(inputs.len().min(PART));
            let call = call(blob.clone(), place, std::mem::replace(&mut inputs, rest));
            calls.push(self.work(permit, version, purpose, call));
        }
        let mut all = Vec::new();
        for answer in try_join_all(calls).await? {
            all.extend(part(answer).ok_or_else(|| wrong_answer("another answer than to the call"))?);
        }
        Ok(all)
    }
}

impl SessionThread {
    /// Two PKCS#11 calls for each input once the key is in the cache, and one more for its iv.
    pub fn seal(&mut self, blob: &Blob, place: Place, inputs: &[SealInput]) -> Result<Vec<Vec<u8>>, TokenError> {
        self.recovering(|thread| {
            let source = thread.iv_source()?;
            let key = thread.unwrapped_as(KeyType::Aes256, blob, place)?;
            let sealed = inputs
                .iter()
                .map(|input| thread.seal_one(source, &key, input))
                .collect();
            thread.let_go(key);
            sealed
        })
    }

    /// Two PKCS#11 calls for each input.
    pub fn open(
        &mut self,
        blob: &Blob,
        place: Place,
        inputs: &[OpenInput],
    ) -> Result<Vec<Option<Plaintext>>, TokenError> {
        inputs.iter().map(|input| self.open_one(blob, place, input)).collect()
    }

    pub fn iv_source(&self) -> Result<IvSource, Fault> {
        self.shared.iv_source.ok_or_else(|| {
            let why = "the token does not offer AES-GCM and AES-CMAC, which suite 0001 needs";
            Fault::Answer(TokenError::Refused(why.into()))
        })
    }

    fn seal_one(&self, source: IvSource, key: &UnwrappedKey, input: &SealInput) -> Result<Vec<u8>, Fault> {
        let plaintext = input.plaintext.as_bytes();
        let (id, version) = (key.place.key, key.place.version);
        self.charge(key, plaintext.len())?;
        let header = Header::new(Suite::TokenGcm, id, version, input.data_key, plaintext.len())
            .map_err(|error| Fault::Answer(TokenError::Refused(error.to_string().into())))?;
        token_gcm::seal_with(&header, &input.ec_hash, |aad, iv, out| {
            self.timed(|session| iv::seal(session, source, key.handle, iv, aad, plaintext, out))?;
            match *iv == [0; 12] {
                true => Err(Fault::WrongAnswer("sealed without an iv".into())),
                false => Ok(()),
            }
        })
    }

    /// `None` for whatever is wrong with the envelope. A token that refuses to decrypt, and then answers its known question, is well.
    fn open_one(&mut self, blob: &Blob, place: Place, input: &OpenInput) -> Result<Option<Plaintext>, TokenError> {
        let mut does_not_open = false;
        let opened = self.recovering(|thread| {
            let Ok(envelope) = token_gcm::Envelope::parse(&input.envelope) else {
                return Ok(None);
            };
            let header = envelope.header();
            if (header.key_id(), header.key_version()) != (place.key, place.version) {
                return Ok(None);
            }
            let (iv, aad) = (envelope.iv(), envelope.associated_data(&input.ec_hash));
            let key = thread.unwrapped_as(KeyType::Aes256, blob, place)?;
            let ciphertext = envelope.ciphertext_and_tag();
            let opened = thread.charge(&key, ciphertext.len()).and_then(|()| {
                let opened = thread.timed(|session| session.gcm_open(key.handle, iv, &aad, ciphertext));
                opened.map_err(Fault::Call)
            });
            thread.let_go(key);
            does_not_open = opened.as_ref().is_err_and(|fault| match fault {
                Fault::Call(error) => {
                    error.function == Function::C_Decrypt
                        && matches!(thread.shared.class_of(error), Class::Caller | Class::Ambiguous)
                }
                _ => false,
            });
            opened.map(Some)
        });
        match opened {
            Ok(plaintext) => Ok(plaintext.map(Plaintext::from)),
            Err(TokenError::Refused(_)) if does_not_open => Ok(None),
            Err(error) => Err(error),
        }
    }
}

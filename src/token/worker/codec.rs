//! Calls, answers and errors as the bytes of frames.

use std::{sync::Arc, time::Duration};

use keyreeve_envelope::{
    EnvironmentId, KeyId, KeyVersion, Plaintext, Suite, prf_commit::MessageKeys, subkey::SubkeyBytes,
};
use zeroize::Zeroizing;

use super::frame::{self, Frame, Malformed, put};
use crate::{
    model::{Blob, IvSource, Residency, TokenAttributes},
    token::{
        Answer, Call, EnvelopeInput, OpenInput, SealInput, TokenError,
        host::{MadeKey, Place, SubkeyLabel},
    },
};

/// Kinds of frames. Calls and what goes with them to the worker are below 0x80, what comes back is above.
mod kind {
    pub const ENVELOPE_KEYS: u8 = 0x01;
    pub const MAKE: u8 = 0x02;
    pub const ATTRIBUTES: u8 = 0x03;
    pub const MASTER_KEY_ATTRIBUTES: u8 = 0x04;
    pub const RANDOM: u8 = 0x05;
    pub const SUBKEY: u8 = 0x06;
    pub const EVICT: u8 = 0x07;
    pub const PROBE: u8 = 0x08;
    pub const SEAL: u8 = 0x09;
    pub const OPEN: u8 = 0x0a;
    pub const REMOVE: u8 = 0x0b;
    pub const CHECK: u8 = 0x0c;

    pub const KEYS: u8 = 0x81;
    pub const MADE: u8 = 0x82;
    pub const REPORTED: u8 = 0x83;
    pub const BYTES: u8 = 0x84;
    pub const SUBKEY_BYTES: u8 = 0x85;
    pub const DONE: u8 = 0x86;
    pub const SEALED: u8 = 0x87;
    pub const OPENED: u8 = 0x88;
    pub const OCCUPIED: u8 = 0x89;

    pub const OVERLOADED: u8 = 0xc1;
    pub const EXPIRED: u8 = 0xc2;
    pub const UNAVAILABLE: u8 = 0xc3;
    pub const REFUSED: u8 = 0xc4;
    pub const BLOB_TAG: u8 = 0xc5;
    pub const WRONG_ANSWER: u8 = 0xc6;
    pub const KEY_CEILING: u8 = 0xc7;
}

/// What an answer's frame says.
pub type Outcome = Result<Answer, TokenError>;

/// A call. `left`: the time until its deadline; it ends the body.
pub fn put_call(out: &mut Vec<u8>, id: u64, call: &Call, left: Duration) {
    let at = out.len();
    put_bare_call(out, id, call);
    put_left(out, at, left);
}

/// Message keys to make, as a part of a larger batch.
pub fn put_part(out: &mut Vec<u8>, id: u64, blob: &Blob, place: Place, inputs: &[EnvelopeInput], left: Duration) {
    let at = out.len();
    put_envelope_keys(out, id, blob, place, inputs);
    put_left(out, at, left);
}

fn put_left(out: &mut Vec<u8>, at: usize, left: Duration) {
    let micros = u32::try_from(left.as_micros()).unwrap_or(u32::MAX);
    frame::extend(out, at, &micros.to_be_bytes());
}

fn put_envelope_keys(out: &mut Vec<u8>, id: u64, blob: &Blob, place: Place, inputs: &[EnvelopeInput]) {
    put(out, id, kind::ENVELOPE_KEYS, |out| {
        put_place(out, place);
        put_bytes(out, blob.bytes());
        for input in inputs {
            out.extend_from_slice(&input.header);
            out.extend_from_slice(&input.salt);
            out.extend_from_slice(&input.ec_hash);
        }
    });
}

fn put_bare_call(out: &mut Vec<u8>, id: u64, call: &Call) {
    match call {
        Call::EnvelopeKeys { blob, place, inputs } => put_envelope_keys(out, id, blob, *place, inputs),
        Call::Seal { blob, place, inputs } => put(out, id, kind::SEAL, |out| {
            put_place(out, *place);
            put_bytes(out, blob.bytes());
            for input in inputs.iter() {
                out.push(u8::from(input.data_key));
                out.extend_from_slice(&input.ec_hash);
                put_bytes(out, input.plaintext.as_bytes());
            }
        }),
        Call::Open { blob, place, inputs } => put(out, id, kind::OPEN, |out| {
            put_place(out, *place);
            put_bytes(out, blob.bytes());
            for input in inputs.iter() {
                out.extend_from_slice(&input.ec_hash);
                put_bytes(out, &input.envelope);
            }
        }),
        Call::MakeEnvelopeKey {
            place,
            suite,
            residency,
            created_ms,
        } => put(out, id, kind::MAKE, |out| {
            put_place(out, *place);
            out.extend_from_slice(&suite.number().to_be_bytes());
            out.push(match residency {
                Residency::Wrapped => 0,
                Residency::TokenResident => 1,
            });
            out.extend_from_slice(&created_ms.to_be_bytes());
        }),
        Call::Attributes { blob, place } => put(out, id, kind::ATTRIBUTES, |out| {
            put_place(out, *place);
            put_bytes(out, blob.bytes());
        }),
        Call::Check { blob, place } => put(out, id, kind::CHECK, |out| {
            put_place(out, *place);
            put_bytes(out, blob.bytes());
        }),
        Call::MasterKeyAttributes => put(out, id, kind::MASTER_KEY_ATTRIBUTES, |_| {}),
        Call::Random { length } => put(out, id, kind::RANDOM, |out| {
            out.extend_from_slice(&(*length as u64).to_be_bytes());
        }),
        Call::Subkey(label) => put(out, id, kind::SUBKEY, |out| put_label(out, label)),
        Call::Remove { blob } => put(out, id, kind::REMOVE, |out| put_bytes(out, blob.bytes())),
        Call::Evict { blob } => put(out, id, kind::EVICT, |out| out.extend_from_slice(blob)),
        Call::Probe => put(out, id, kind::PROBE, |_| {}),
    }
}

/// A call, and the time until its deadline.
pub fn call(frame: Frame<'_>) -> Result<(Call, Duration), Malformed> {
    let (body, micros) = frame.body.split_last_chunk().ok_or(Malformed)?;
    let left = Duration::from_micros(u32::from_be_bytes(*micros).into());
    let mut body = Body(body);
    let call = match frame.kind {
        kind::ENVELOPE_KEYS => Call::EnvelopeKeys {
            place: body.place()?,
            blob: Arc::new(Blob::new(body.bytes()?.to_vec())),
            inputs: body.inputs()?,
        },
        kind::SEAL => Call::Seal {
            place: body.place()?,
            blob: Arc::new(Blob::new(body.bytes()?.to_vec())),
            inputs: body
                .all(|body| {
                    Ok(SealInput {
                        data_key: body.flag()?,
                        ec_hash: body.array()?,
                        plaintext: Plaintext::new(body.bytes()?.to_vec()),
                    })
                })?
                .into(),
        },
        kind::OPEN => Call::Open {
            place: body.place()?,
            blob: Arc::new(Blob::new(body.bytes()?.to_vec())),
            inputs: body
                .all(|body| {
                    Ok(OpenInput {
                        ec_hash: body.array()?,
                        envelope: body.bytes()?.to_vec(),
                    })
                })?
                .into(),
        },
        kind::MAKE => Call::MakeEnvelopeKey {
            place: body.place()?,
            suite: Suite::from_number(u16::from_be_bytes(body.array()?)).ok_or(Malformed)?,
            residency: match body.array()? {
                [0] => Residency::Wrapped,
                [1] => Residency::TokenResident,
                _ => return Err(Malformed),
            },
            created_ms: body.u64()?,
        },
        kind::ATTRIBUTES => Call::Attributes {
            place: body.place()?,
            blob: Arc::new(Blob::new(body.bytes()?.to_vec())),
        },
        kind::CHECK => Call::Check {
            place: body.place()?,
            blob: Arc::new(Blob::new(body.bytes()?.to_vec())),
        },
        kind::MASTER_KEY_ATTRIBUTES => Call::MasterKeyAttributes,
        kind::RANDOM => Call::Random {
            length: usize::try_from(body.u64()?).map_err(|_| Malformed)?,
        },
        kind::SUBKEY => Call::Subkey(body.label()?),
        kind::REMOVE => Call::Remove {
            blob: Arc::new(Blob::new(body.bytes()?.to_vec())),
        },
        kind::EVICT => Call::Evict { blob: body.array()? },
        kind::PROBE => Call::Probe,
        _ => return Err(Malformed),
    };
    body.end()?;
    Ok((call, left))
}

/// `took`: the time of the call in the token; it ends the body.
pub fn put_outcome(out: &mut Vec<u8>, id: u64, outcome: &Outcome, took: Duration) {
    let at = out.len();
    put_bare_outcome(out, id, outcome);
    let nanos = u32::try_from(took.as_nanos()).unwrap_or(u32::MAX);
    frame::extend(out, at, &nanos.to_be_bytes());
}

fn put_bare_outcome(out: &mut Vec<u8>, id: u64, outcome: &Outcome) {
    match outcome {
        Ok(answer) => put_answer(out, id, answer),
        Err(TokenError::Overloaded { retry_after }) => put_delay(out, id, kind::OVERLOADED, *retry_after),
        Err(TokenError::KeyCeiling { retry_after }) => put_delay(out, id, kind::KEY_CEILING, *retry_after),
        Err(TokenError::Expired) => put(out, id, kind::EXPIRED, |_| {}),
        Err(TokenError::Unavailable(text)) => put_text(out, id, kind::UNAVAILABLE, text),
        Err(TokenError::Refused(text)) => put_text(out, id, kind::REFUSED, text),
        Err(TokenError::BlobTag) => put(out, id, kind::BLOB_TAG, |_| {}),
        Err(TokenError::WrongAnswer(text)) => put_text(out, id, kind::WRONG_ANSWER, text),
    }
}

/// What became of a call, and how long it took in the token.
pub fn outcome(frame: Frame<'_>) -> Result<(Outcome, Duration), Malformed> {
    let (body, nanos) = frame.body.split_last_chunk().ok_or(Malformed)?;
    let took = Duration::from_nanos(u32::from_be_bytes(*nanos).into());
    let mut body = Body(body);
    let outcome = match frame.kind {
        kind::KEYS => Ok(Answer::EnvelopeKeys(body.message_keys()?)),
        kind::SEALED => Ok(Answer::Sealed(body.all(|body| Ok(body.bytes()?.to_vec()))?)),
        kind::OPENED => Ok(Answer::Opened(body.all(|body| {
            let opens = body.flag()?;
            let plaintext = Plaintext::new(body.bytes()?.to_vec());
            Ok(opens.then_some(plaintext))
        })?)),
        kind::MADE => Ok(Answer::MadeEnvelopeKey(Box::new(MadeKey {
            iv_source: body.iv_source()?,
            at_birth: body.attributes()?,
            blob: Blob::new(body.rest().to_vec()),
        }))),
        kind::REPORTED => Ok(Answer::Attributes(body.attributes()?)),
        kind::BYTES => Ok(Answer::Random(Zeroizing::new(body.rest().to_vec()))),
        kind::SUBKEY_BYTES => {
            let (mut padded, subkey) = (Zeroizing::new([0; 64]), body.rest());
            if subkey.len() != 32 {
                return Err(Malformed);
            }
            padded[..32].copy_from_slice(subkey);
            Ok(Answer::Subkey(SubkeyBytes::from_hmac_output(&padded)))
        }
        kind::OCCUPIED => Ok(Answer::Occupied),
        kind::DONE => Ok(Answer::Done),
        kind::OVERLOADED => Err(TokenError::Overloaded {
            retry_after: Duration::from_millis(body.u64()?),
        }),
        kind::KEY_CEILING => Err(TokenError::KeyCeiling {
            retry_after: Duration::from_millis(body.u64()?),
        }),
        kind::EXPIRED => Err(TokenError::Expired),
        kind::UNAVAILABLE => Err(TokenError::Unavailable(body.text()?)),
        kind::REFUSED => Err(TokenError::Refused(body.text()?)),
        kind::BLOB_TAG => Err(TokenError::BlobTag),
        kind::WRONG_ANSWER => Err(TokenError::WrongAnswer(body.text()?)),
        _ => return Err(Malformed),
    };
    body.end()?;
    Ok((outcome, took))
}

fn put_delay(out: &mut Vec<u8>, id: u64, kind: u8, delay: Duration) {
    let ms = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
    put(out, id, kind, |out| out.extend_from_slice(&ms.to_be_bytes()));
}

fn put_answer(out: &mut Vec<u8>, id: u64, answer: &Answer) {
    match answer {
        Answer::EnvelopeKeys(keys) => put(out, id, kind::KEYS, |out| {
            for keys in keys {
                out.extend_from_slice(keys.prf_output());
            }
        }),
        Answer::Sealed(envelopes) => put(out, id, kind::SEALED, |out| {
            for envelope in envelopes {
                put_bytes(out, envelope);
            }
        }),
        Answer::Opened(opened) => put(out, id, kind::OPENED, |out| {
            for plaintext in opened {
                out.push(u8::from(plaintext.is_some()));
                put_bytes(out, plaintext.as_ref().map_or(&[], Plaintext::as_bytes));
            }
        }),
        Answer::MadeEnvelopeKey(made) => put(out, id, kind::MADE, |out| {
            out.push(match made.iv_source {
                None => 0,
                Some(IvSource::TokenMessage) => 1,
                Some(IvSource::TokenRandom) => 2,
            });
            put_attributes(out, &made.at_birth);
            out.extend_from_slice(made.blob.bytes());
        }),
        Answer::Attributes(attributes) => put(out, id, kind::REPORTED, |out| put_attributes(out, attributes)),
        Answer::Random(bytes) => put(out, id, kind::BYTES, |out| out.extend_from_slice(bytes)),
        Answer::Subkey(subkey) => put(out, id, kind::SUBKEY_BYTES, |out| {
            out.extend_from_slice(subkey.as_bytes());
        }),
        Answer::Occupied => put(out, id, kind::OCCUPIED, |_| {}),
        Answer::Done => put(out, id, kind::DONE, |_| {}),
    }
}

fn put_text(out: &mut Vec<u8>, id: u64, kind: u8, text: &str) {
    put(out, id, kind, |out| out.extend_from_slice(text.as_bytes()));
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    let length = u32::try_from(bytes.len()).expect("blobs and envelopes are short");
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(bytes);
}

fn put_place(out: &mut Vec<u8>, place: Place) {
    out.extend_from_slice(place.environment.as_bytes());
    out.extend_from_slice(place.key.as_bytes());
    out.extend_from_slice(&place.version.number().to_be_bytes());
}

fn put_label(out: &mut Vec<u8>, label: &SubkeyLabel) {
    match label {
        SubkeyLabel::Row => out.push(1),
        SubkeyLabel::Cred => out.push(2),
        SubkeyLabel::Page => out.push(3),
        SubkeyLabel::Hedge => out.push(4),
        SubkeyLabel::Redact { log_origin } => {
            out.push(5);
            out.extend_from_slice(log_origin.as_bytes());
        }
    }
}

fn put_attributes(out: &mut Vec<u8>, attributes: &TokenAttributes) {
    let flags = [
        attributes.local,
        attributes.always_sensitive,
        attributes.never_extractable,
        attributes.sensitive,
        attributes.extractable,
        attributes.modifiable,
        attributes.copyable,
    ];
    out.extend(flags.map(u8::from));
    out.extend_from_slice(&attributes.observed.to_be_bytes());
}

/// What is left of a body.
struct Body<'a>(&'a [u8]);

impl<'a> Body<'a> {
    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (array, rest) = self.0.split_first_chunk().ok_or(Malformed)?;
        self.0 = rest;
        Ok(*array)
    }

    fn u64(&mut self) -> Result<u64, Malformed> {
        self.array().map(u64::from_be_bytes)
    }

    fn bytes(&mut self) -> Result<&'a [u8], Malformed> {
        let length = u32::from_be_bytes(self.array()?) as usize;
        let (bytes, rest) = self.0.split_at_checked(length).ok_or(Malformed)?;
        self.0 = rest;
        Ok(bytes)
    }

    fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.0)
    }

    fn text(&mut self) -> Result<Arc<str>, Malformed> {
        std::str::from_utf8(self.rest()).map(Arc::from).map_err(|_| Malformed)
    }

    fn flag(&mut self) -> Result<bool, Malformed> {
        Ok(self.array::<1>()? != [0])
    }

    fn place(&mut self) -> Result<Place, Malformed> {
        Ok(Place {
            environment: EnvironmentId::from_bytes(self.array()?),
            key: KeyId::from_bytes(self.array()?),
            version: KeyVersion::new(u32::from_be_bytes(self.array()?)).ok_or(Malformed)?,
        })
    }

    /// What is left, as values of one form.
    fn all<T>(&mut self, one: impl Fn(&mut Self) -> Result<T, Malformed>) -> Result<Vec<T>, Malformed> {
        let mut all = Vec::new();
        while !self.0.is_empty() {
            all.push(one(self)?);
        }
        Ok(all)
    }

    fn iv_source(&mut self) -> Result<Option<IvSource>, Malformed> {
        Ok(match self.array()? {
            [0] => None,
            [1] => Some(IvSource::TokenMessage),
            [2] => Some(IvSource::TokenRandom),
            _ => return Err(Malformed),
        })
    }

    fn inputs(&mut self) -> Result<Vec<EnvelopeInput>, Malformed> {
        let mut inputs = Vec::with_capacity(self.0.len() / 96);
        while !self.0.is_empty() {
            inputs.push(EnvelopeInput {
                header: self.array()?,
                salt: self.array()?,
                ec_hash: self.array()?,
            });
        }
        Ok(inputs)
    }

    fn label(&mut self) -> Result<SubkeyLabel, Malformed> {
        Ok(match self.array()? {
            [1] => SubkeyLabel::Row,
            [2] => SubkeyLabel::Cred,
            [3] => SubkeyLabel::Page,
            [4] => SubkeyLabel::Hedge,
            [5] => SubkeyLabel::Redact {
                log_origin: self.text()?,
            },
            _ => return Err(Malformed),
        })
    }

    fn message_keys(&mut self) -> Result<Vec<MessageKeys>, Malformed> {
        let (keys, rest) = self.rest().as_chunks();
        if !rest.is_empty() {
            return Err(Malformed);
        }
        Ok(keys.iter().map(MessageKeys::from_prf_output).collect())
    }

    fn attributes(&mut self) -> Result<TokenAttributes, Malformed> {
        Ok(TokenAttributes {
            local: self.flag()?,
            always_sensitive: self.flag()?,
            never_extractable: self.flag()?,
            sensitive: self.flag()?,
            extractable: self.flag()?,
            modifiable: self.flag()?,
            copyable: self.flag()?,
            observed: i64::from_be_bytes(self.array()?),
        })
    }

    fn end(&self) -> Result<(), Malformed> {
        if self.0.is_empty() { Ok(()) } else { Err(Malformed) }
    }
}

#[cfg(test)]
mod tests;

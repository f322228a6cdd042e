//! Batches: one permit and one record for up to 1,000 items or 1 MiB under one key, a result for each item.
//!
//! All inputs of one version go to the token as one job. What would fail every item alike (policy, the key's state, the token) fails the call.

use keyreeve_envelope::prf_commit::MessageKeys;

use super::{
    DataKey, Opened, Operations, Sealed,
    data_key::{DOES_NOT_OPEN, GENERATE, UNWRAP, fresh_data_keys},
    input::{BoundContext, Message, Opening},
    sealing::{Body, Parsed, Prepared},
    tally::{self, Tally},
};
use crate::{
    Error, Result,
    audit::{Draft, Outcome},
    model::{KeyName, Use, Version},
    policy::{Context, Permit, Recorded, UsesKey, action},
    token::{EnvelopeInput, Token},
};

/// Most items of one batch.
pub const MAX_ITEMS: usize = 1_000;

/// Most bytes of one batch: payload, context and associated data of all items.
pub const MAX_BYTES: usize = 1 << 20;

/// The items of a batch: those that are right, and what is wrong with the others.
pub struct Items<T>(Vec<Result<T>>);

impl<T> Items<T> {
    /// Parses `raw` once the whole is within its limits. Errors: `InvalidArgument` on `items`; a bad item is no error of the batch.
    pub fn parse<R>(raw: Vec<R>, size: impl Fn(&R) -> usize, parse: impl Fn(R) -> Result<T>) -> Result<Self> {
        let too_much = |problem: String| Err(Error::invalid("items", problem));
        if raw.is_empty() {
            return too_much("there are none: send 1 to 1000".to_owned());
        }
        if raw.len() > MAX_ITEMS {
            return too_much(format!(
                "there are {}: at most {MAX_ITEMS} are allowed in a batch",
                raw.len()
            ));
        }
        let bytes: usize = raw.iter().map(size).sum();
        if bytes > MAX_BYTES {
            return too_much(format!(
                "they have {bytes} bytes: at most {MAX_BYTES} are allowed in a batch"
            ));
        }
        Ok(Self(raw.into_iter().map(parse).collect()))
    }

    /// The items that are right, in order.
    pub fn good(&self) -> impl Iterator<Item = &T> {
        self.0.iter().flatten()
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Puts `results`, one for each good item in order, among the errors of the others.
    fn merge<U>(self, results: impl IntoIterator<Item = Result<U>>) -> Batch<U> {
        let mut results = results.into_iter();
        let merged = self
            .0
            .into_iter()
            .map(|item| item.and_then(|_| results.next().expect("there is a result for each good item")));
        Batch(merged.collect())
    }
}

/// Results in the order of the items.
pub struct Batch<T>(pub Vec<Result<T>>);

impl<T: Tally> Outcome for Batch<T> {
    fn describe(&self, draft: &mut Draft) {
        tally::all(&self.0, draft);
    }
}

pub struct BatchEncrypt {
    pub key: KeyName,
    pub items: Items<Message>,
}

impl BatchEncrypt {
    /// What the gate and the record may know.
    pub fn facts(&self) -> Context {
        Context::of_items(self.items.good().map(Message::context))
            .plaintext(self.items.good().map(|item| item.plaintext().len()).sum())
    }
}

pub struct BatchDecrypt {
    pub key: KeyName,
    pub items: Items<Opening>,
}

impl BatchDecrypt {
    /// What the gate and the record may know.
    pub fn facts(&self) -> Context {
        Context::of_items(self.items.good().map(Opening::context))
    }
}

pub struct BatchGenerateDataKey {
    pub key: KeyName,
    pub items: Items<BoundContext>,
}

impl BatchGenerateDataKey {
    /// What the gate and the record may know.
    pub fn facts(&self) -> Context {
        Context::of_items(self.items.good().map(BoundContext::context))
    }
}

pub struct BatchUnwrapDataKey {
    pub key: KeyName,
    pub items: Items<Opening>,
}

impl BatchUnwrapDataKey {
    /// What the gate and the record may know.
    pub fn facts(&self) -> Context {
        Context::of_items(self.items.good().map(Opening::context))
    }
}

impl Operations {
    /// Encrypt for each item. Errors: `StateForbids` and those of the token, for the whole call.
    pub async fn batch_encrypt(
        &self,
        permit: Permit<action::Encrypt>,
        request: BatchEncrypt,
    ) -> Result<Recorded<Batch<Sealed>>> {
        let result = self.seal_all(&permit, request.items).await;
        permit.complete(result).await
    }

    /// Decrypt for each item. Each item fails alone.
    pub async fn batch_decrypt(
        &self,
        permit: Permit<action::Decrypt>,
        request: BatchDecrypt,
    ) -> Result<Recorded<Batch<Opened>>> {
        let result = self.open_all(&permit, request.items, Body::Message, "decrypt").await;
        permit.complete(result).await
    }

    /// GenerateDataKey for each item. Errors: `StateForbids` and those of the token, for the whole call.
    pub async fn batch_generate_data_key(
        &self,
        permit: Permit<action::GenerateDataKey>,
        request: BatchGenerateDataKey,
    ) -> Result<Recorded<Batch<DataKey>>> {
        let result = self.make_data_keys(&permit, request.items).await;
        permit.complete(result).await
    }

    /// UnwrapDataKey for each item. Each item fails alone.
    pub async fn batch_unwrap_data_key(
        &self,
        permit: Permit<action::UnwrapDataKey>,
        request: BatchUnwrapDataKey,
    ) -> Result<Recorded<Batch<Opened>>> {
        let result = self.open_all(&permit, request.items, Body::DataKey, UNWRAP).await;
        permit.complete(result).await
    }

    async fn seal_all(&self, permit: &Permit<action::Encrypt>, items: Items<Message>) -> Result<Batch<Sealed>> {
        let version = permit.on().protecting("encrypt")?;
        let token = self.token_of(permit.on())?;
        let prepare =
            |item: &Message| Prepared::new(&self.hedge, version, Body::Message, item.ec_hash(), item.plaintext());
        let prepared: Vec<Prepared> = items.good().map(prepare).collect::<Result<_>>()?;
        let keys = keys_of(token, permit, version, &prepared).await?;
        let sealed: Vec<Result<Sealed>> = items
            .good()
            .zip(prepared.iter().zip(&keys))
            .map(|(item, (prepared, keys))| prepared.seal(keys, item.plaintext()))
            .collect();
        Ok(items.merge(sealed))
    }

    async fn make_data_keys(
        &self,
        permit: &Permit<action::GenerateDataKey>,
        items: Items<BoundContext>,
    ) -> Result<Batch<DataKey>> {
        let version = permit.on().protecting(GENERATE)?;
        let token = self.token_of(permit.on())?;
        let plaintexts = fresh_data_keys(token, permit, items.good().count()).await?;
        let prepared: Vec<Prepared> = items
            .good()
            .zip(&plaintexts)
            .map(|(context, key)| Prepared::new(&self.hedge, version, Body::DataKey, context.hash(), key.as_bytes()))
            .collect::<Result<_>>()?;
        let (keys, again) = if self.settings.verify_data_keys {
            let first = keys_of(token, permit, version, &prepared);
            let (keys, again) = tokio::try_join!(first, keys_of(token, permit, version, &prepared))?;
            (keys, Some(again))
        } else {
            (keys_of(token, permit, version, &prepared).await?, None)
        };
        let made = plaintexts.into_iter().enumerate().map(|(at, plaintext)| {
            let sealed = prepared[at].seal(&keys[at], plaintext.as_bytes())?;
            if let Some(again) = &again
                && !prepared[at].verifies(&again[at], &sealed, plaintext.as_bytes())
            {
                return Err(token.gave_wrong_answer(permit, DOES_NOT_OPEN));
            }
            Ok(DataKey { plaintext, sealed })
        });
        let made: Vec<Result<DataKey>> = made.collect();
        Ok(items.merge(made))
    }

    async fn open_all<A: UsesKey>(
        &self,
        permit: &Permit<A>,
        items: Items<Opening>,
        body: Body,
        operation: &'static str,
    ) -> Result<Batch<Opened>> {
        let key = permit.on();
        let token = self.token_of(key)?;
        let openings: Vec<&Opening> = items.good().collect();
        let parsed: Vec<Result<Parsed<'_, '_>>> = openings
            .iter()
            .map(|opening| Parsed::new(key, opening, body, operation))
            .collect();
        // One job for each version that occurs; most often one.
        let versions = key.versions.iter().map(|version| {
            let of_version = |parsed: &&Parsed<'_, '_>| parsed.version.number == version.number;
            let inputs: Vec<EnvelopeInput> = parsed.iter().flatten().filter(of_version).map(Parsed::input).collect();
            (version, inputs)
        });
        let jobs = versions
            .filter(|(_, inputs)| !inputs.is_empty())
            .map(async |(version, inputs)| {
                (
                    version.number,
                    token.envelope_keys(permit, version, Use::Process, inputs).await,
                )
            });
        let mut answers: Vec<_> = futures_util::future::join_all(jobs)
            .await
            .into_iter()
            .map(|(version, keys)| (version, keys.map(Vec::into_iter)))
            .collect();
        let mut next_keys = |version: &Version| -> Result<MessageKeys> {
            let (_, keys) = answers
                .iter_mut()
                .find(|(number, _)| *number == version.number)
                .expect("there is an answer for each version that occurs");
            match keys {
                Ok(keys) => Ok(keys.next().expect("there are keys for each input")),
                Err(error) => Err(error.clone()),
            }
        };
        let opened: Vec<Result<Opened>> = parsed
            .into_iter()
            .zip(&openings)
            .map(|(parsed, opening)| {
                let parsed = parsed?;
                let keys = next_keys(parsed.version)?;
                Opened::new(&parsed, opening, parsed.open(&keys)?)
            })
            .collect();
        Ok(items.merge(opened))
    }
}

/// Message keys of each of `prepared`; the token is not troubled for none.
async fn keys_of<A: UsesKey>(
    token: &Token,
    permit: &Permit<A>,
    version: &Version,
    prepared: &[Prepared],
) -> Result<Vec<MessageKeys>> {
    if prepared.is_empty() {
        return Ok(Vec::new());
    }
    let inputs = prepared.iter().map(Prepared::input).collect();
    token.envelope_keys(permit, version, Use::Protect, inputs).await
}

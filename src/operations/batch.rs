//! Batches: one permit and one record for up to 1,000 items or 1 MiB under one key, a result for each item.
//!
//! All inputs of one version go to the token as one job. What would fail every item alike (policy, the key's state, the token) fails the call.

use super::{
    DataKey, Opened, Operations, Sealed,
    data_key::{GENERATE, UNWRAP, fresh_data_keys},
    input::{BoundContext, Message, Opening},
    opening::Parsed,
    sealing::{Body, ToSeal},
    tally::{self, Tally},
};
use crate::{
    Error, Result,
    audit::{Draft, Outcome},
    model::{KeyName, Version},
    policy::{Context, Permit, Recorded, UsesKey, action},
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
        let to_seal: Vec<ToSeal<'_>> = items
            .good()
            .map(|item| ToSeal {
                ec_hash: item.ec_hash(),
                plaintext: item.plaintext(),
            })
            .collect();
        let sealed = self.seal_all_under(permit, version, Body::Message, &to_seal).await?;
        Ok(items.merge(sealed))
    }

    async fn make_data_keys(
        &self,
        permit: &Permit<action::GenerateDataKey>,
        items: Items<BoundContext>,
    ) -> Result<Batch<DataKey>> {
        let version = permit.on().protecting(GENERATE)?;
        let plaintexts = fresh_data_keys(self.token_of(permit.on())?, permit, items.good().count()).await?;
        let to_seal: Vec<ToSeal<'_>> = items
            .good()
            .zip(&plaintexts)
            .map(|(context, key)| ToSeal {
                ec_hash: context.hash(),
                plaintext: key.as_bytes(),
            })
            .collect();
        let sealed = self.seal_all_under(permit, version, Body::DataKey, &to_seal).await?;
        let made = plaintexts
            .into_iter()
            .zip(sealed)
            .map(|(plaintext, sealed)| sealed.map(|sealed| DataKey { plaintext, sealed }));
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
        let parsed = items.good().map(|opening| Parsed::new(key, opening, body, operation));
        let parsed: Vec<Result<Parsed<'_, '_>>> = parsed.collect();
        // Together for each version that occurs; most often one.
        let of = |version: &Version| -> Vec<&Parsed<'_, '_>> {
            let of_version = |parsed: &&Parsed<'_, '_>| parsed.version.number == version.number;
            parsed.iter().flatten().filter(of_version).collect()
        };
        let jobs = key
            .versions
            .iter()
            .map(|version| (version, of(version)))
            .filter(|(_, parsed)| !parsed.is_empty())
            .map(async |(version, parsed)| {
                let opened = self.open_all_of(permit, version, &parsed).await;
                (version.number, opened.map(Vec::into_iter))
            });
        let mut answers = futures_util::future::join_all(jobs).await;
        let mut next = |version: &Version| -> Result<Opened> {
            let (_, opened) = answers
                .iter_mut()
                .find(|(number, _)| *number == version.number)
                .expect("there is an answer for each version that occurs");
            match opened {
                Ok(opened) => opened.next().expect("there is a result for each envelope"),
                Err(error) => Err(error.clone()),
            }
        };
        let opened = parsed.iter().map(|parsed| match parsed {
            Ok(parsed) => next(parsed.version),
            Err(error) => Err(error.clone()),
        });
        let opened: Vec<Result<Opened>> = opened.collect();
        Ok(items.merge(opened))
    }
}

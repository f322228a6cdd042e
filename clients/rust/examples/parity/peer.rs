//! What is asked for, done by the client as an application would.

use std::collections::BTreeMap;

use keyreeve_client::{
    CacheLimits, ClientError, EncryptionContext, Expectation, KeyId, Opener, Sealer, sealing::front::Front,
};

use crate::{Failure, keys::Keys};

/// Sealers and openers with a cache stay, as they would in an application.
#[derive(Default)]
pub struct Peer {
    keys: Keys,
    sealers: BTreeMap<(String, bool), Sealer>,
    openers: BTreeMap<String, Opener>,
}

impl Peer {
    pub async fn answer(&mut self, request: &[Vec<u8>]) -> Result<Vec<Vec<u8>>, Failure> {
        let (operation, rest) = request.split_first().ok_or("a frame without fields")?;
        match (&operation[..], rest) {
            (b"key", [name, id, version_key]) => {
                let id = KeyId::from_bytes(id[..].try_into()?);
                self.keys.add(text(name)?, id, version_key.clone());
                Ok(Vec::new())
            }
            (b"seal", [way, kept, stored, names, plaintext, context @ ..]) => {
                let (context, names) = (pairs(context)?, text(names)?);
                let (kept, stored) = (kept == b"kept", stored == b"stored");
                let sealed = self.seal(way, kept, stored, &names, plaintext, &context).await?;
                Ok(vec![b"sealed".to_vec(), self.calls(), sealed])
            }
            (b"open", [way, kept, expected, names, message, context @ ..]) => {
                let context = pairs(context)?;
                let expected = match &expected[..] {
                    b"whole" => Expectation::context(context),
                    b"required" => Expectation::context_including(context),
                    _ => Expectation::accept_stored_context(),
                };
                let opened = self.open(way, kept == b"kept", &text(names)?, message, &expected).await;
                let calls = self.calls();
                Ok(match opened {
                    Ok(plaintext) => vec![b"opened".to_vec(), calls, plaintext],
                    Err(error) => vec![
                        b"refused".to_vec(),
                        calls,
                        format!("{}: {error}", error.reason).into_bytes(),
                    ],
                })
            }
            _ => Err(format!("`{}` with {} fields is no request", text(operation)?, rest.len()).into()),
        }
    }

    async fn seal(
        &mut self,
        way: &[u8],
        kept: bool,
        stored: bool,
        names: &str,
        plaintext: &[u8],
        context: &EncryptionContext,
    ) -> Result<Vec<u8>, ClientError> {
        let fresh;
        let sealer = if kept {
            let place = (names.to_owned(), stored);
            if !self.sealers.contains_key(&place) {
                let sealer = self.sealer(names, stored).with_cache(CacheLimits::default())?;
                self.sealers.insert(place.clone(), sealer);
            }
            &self.sealers[&place]
        } else {
            fresh = self.sealer(names, stored);
            &fresh
        };
        if way == b"stream" {
            return sealer.begin(context).await?.stream(plaintext, Vec::new());
        }
        sealer.seal(plaintext, context).await
    }

    async fn open(
        &mut self,
        way: &[u8],
        kept: bool,
        names: &str,
        message: &[u8],
        expected: &Expectation,
    ) -> Result<Vec<u8>, ClientError> {
        let fresh;
        let opener = if kept {
            if !self.openers.contains_key(names) {
                let opener = self.opener(names).with_cache(CacheLimits::default())?;
                self.openers.insert(names.to_owned(), opener);
            }
            &self.openers[names]
        } else {
            fresh = self.opener(names);
            &fresh
        };
        if way == b"stream" {
            let mut input = message;
            let front = Front::read(&mut input)?;
            return opener.unlock(&front, expected).await?.stream(input, Vec::new());
        }
        Ok(opener.open(message, expected).await?.as_bytes().to_vec())
    }

    fn sealer(&self, names: &str, stored: bool) -> Sealer {
        let mut names = names.split('\n');
        let sealer = Sealer::new(self.keys.clone(), names.next().unwrap_or_default());
        let sealer = names.fold(sealer, Sealer::and);
        if stored { sealer.storing_context() } else { sealer }
    }

    fn opener(&self, names: &str) -> Opener {
        let mut names = names.split('\n');
        let opener = Opener::new(self.keys.clone(), names.next().unwrap_or_default());
        names.fold(opener, Opener::or)
    }

    fn calls(&self) -> Vec<u8> {
        let (generated, unwrapped) = self.keys.calls();
        format!("{generated} {unwrapped}").into_bytes()
    }
}

fn text(bytes: &[u8]) -> Result<String, Failure> {
    Ok(String::from_utf8(bytes.to_vec())?)
}

fn pairs(fields: &[Vec<u8>]) -> Result<EncryptionContext, Failure> {
    let texts = fields.iter().map(|field| Ok(std::str::from_utf8(field)?));
    let texts = texts.collect::<Result<Vec<_>, Failure>>()?;
    Ok(EncryptionContext::from_pairs(
        texts.chunks_exact(2).map(|pair| (pair[0], pair[1])),
    )?)
}

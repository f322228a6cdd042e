//! Other wrapped keys before the same payload: after a rotation, for a further reader, or to take one away.
//!
//! The service makes a new envelope out of an old one, so that neither data key nor plaintext is seen here. Wrapping anew is not
//! revocation: who had the data key keeps it.

use keyreeve_envelope::sealed::{Header, WrappedKey};

use super::{Expectation, Opener, front::Front};
use crate::ClientError;

/// What becomes of the wrapped keys that are there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Existing {
    /// They go: only the new ones open the message.
    Replace,
    /// They stay, but those of a key that is wrapped to anew.
    Keep,
}

impl Opener {
    /// A whole message with other wrapped keys. See [`Self::rewrap_header`].
    pub async fn rewrap(
        &self,
        message: &[u8],
        expected: &Expectation,
        keys: &[&str],
        existing: Existing,
    ) -> Result<Vec<u8>, ClientError> {
        let (front, _) = Front::split(message)?;
        let header = self.rewrap_header(&front, expected, keys, existing).await?;
        let payload = &message[front.header.encoded_len()..];
        Ok([&header.encode(), payload].concat())
    }

    /// The header that takes the place of the old one; the payload follows it unchanged.
    ///
    /// `keys`: names of keys of the same service, under whose primary versions the data key is wrapped. That the old wrapped key holds the
    /// data key that the message commits to is seen when it is opened. Needs `ReEncryptFrom` on the key of this opener that matches, and
    /// `ReEncryptTo` on `keys`.
    pub async fn rewrap_header(
        &self,
        front: &Front,
        expected: &Expectation,
        keys: &[&str],
        existing: Existing,
    ) -> Result<Header, ClientError> {
        let context = expected.check(&front.header, front.commitment())?;
        let (key, old, _) = self.first_match(front).await?;
        let mut new = Vec::with_capacity(keys.len());
        for to in keys {
            let wrapped = key.source.wrap_anew(&key.name, old, to, &context).await;
            new.push(wrapped.map_err(ClientError::of_unwrapping)?);
        }
        let wrapped_keys = match existing {
            Existing::Replace => new,
            Existing::Keep => {
                let old = front.header.wrapped_keys().iter();
                let kept = old.filter(|old| !new.iter().any(|new| same_key(old, new)));
                kept.cloned().collect::<Vec<_>>().into_iter().chain(new).collect()
            }
        };
        Ok(front.header.with_wrapped_keys(wrapped_keys)?)
    }
}

/// Whether both are under one key, of whatever version.
fn same_key(a: &WrappedKey, b: &WrappedKey) -> bool {
    let id = |wrapped: &WrappedKey| Some(wrapped.envelope_header()?.key_id());
    id(a).is_some_and(|a| Some(a) == id(b))
}

#[cfg(test)]
#[path = "rewrap_tests.rs"]
mod tests;

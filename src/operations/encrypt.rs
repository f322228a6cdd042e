//! Encrypt: seals a message under the primary version of a key.

use keyreeve_envelope::{KeyId, KeyVersion};
use static_assertions::assert_not_impl_any;

use super::{
    Operations,
    input::Message,
    sealing::Body,
    tally::{self, Tally},
};
use crate::{
    Result,
    audit::{Draft, Outcome},
    model::KeyName,
    policy::{Context, Permit, Recorded, action},
};

/// A request to encrypt.
pub struct Encrypt {
    pub key: KeyName,
    pub message: Message,
}

assert_not_impl_any!(Encrypt: std::fmt::Debug, Clone, PartialEq);

/// An envelope as it was made.
pub struct Sealed {
    pub ciphertext: Vec<u8>,
    pub key: KeyId,
    pub version: KeyVersion,
    pub(super) plaintext_len: usize,
    pub(super) link: [u8; 16],
}

impl Encrypt {
    /// What the gate and the record may know.
    pub fn facts(&self) -> Context {
        Context::of(self.message.context()).plaintext(self.message.plaintext().len())
    }
}

impl Operations {
    /// Encrypts under the primary version of the permit's key.
    ///
    /// Returns an envelope: 32 B header, then salt, commitment, iv, ciphertext, tag (124 B more than the plaintext); under suite 0001
    /// header, iv, ciphertext, tag (60 B more, of at most 8,192).
    /// Errors: `StateForbids` unless the primary version is Active; `InvalidArgument` for what is longer than the suite allows; those of
    /// [`crate::token::Token::envelope_keys`].
    /// Source: NIST SP 800-108 (counter mode, HMAC-SHA-512), SP 800-38D; `docs/formats.md`.
    pub async fn encrypt(&self, permit: Permit<action::Encrypt>, request: Encrypt) -> Result<Recorded<Sealed>> {
        let result = self.seal(&permit, &request.message).await;
        permit.complete(result).await
    }

    async fn seal(&self, permit: &Permit<action::Encrypt>, message: &Message) -> Result<Sealed> {
        let version = permit.on().protecting("encrypt")?;
        let sealed = self.seal_under(permit, version, Body::Message, message.ec_hash(), message.plaintext());
        sealed.await
    }
}

impl Outcome for Sealed {
    fn describe(&self, draft: &mut Draft) {
        tally::alone(self, draft);
    }
}

impl Tally for Sealed {
    fn add_to(&self, draft: &mut Draft) {
        draft.key = Some((self.key, self.version.number()));
        draft.items += 1;
        draft.bytes_in += self.plaintext_len as u64;
        draft.bytes_out += self.ciphertext.len() as u64;
        draft.ciphertexts.push(self.link);
    }
}

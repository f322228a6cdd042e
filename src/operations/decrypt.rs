//! Decrypt: opens a message that Encrypt or ReEncrypt sealed. Data keys are opened by UnwrapDataKey only.

use keyreeve_envelope::{KeyId, KeyVersion, Plaintext};
use static_assertions::assert_not_impl_any;

use super::{
    Operations,
    input::Opening,
    opening::Parsed,
    sealing::Body,
    tally::{self, Tally},
};
use crate::{
    Result,
    audit::{Draft, Outcome},
    model::KeyName,
    policy::{Context, Permit, Recorded, UsesKey, action},
};

/// A request to decrypt. The key is named: authorisation is on that name, before the envelope is looked at.
pub struct Decrypt {
    pub key: KeyName,
    pub opening: Opening,
}

/// An opened envelope. The plaintext is wiped on drop.
pub struct Opened {
    pub plaintext: Plaintext,
    pub key: KeyId,
    pub version: KeyVersion,
    pub(super) envelope_len: usize,
    pub(super) link: [u8; 16],
}

assert_not_impl_any!(Opened: std::fmt::Debug, std::fmt::Display, Clone, PartialEq);

impl Decrypt {
    /// What the gate and the record may know.
    pub fn facts(&self) -> Context {
        Context::of(self.opening.context())
    }
}

impl Operations {
    /// Opens an envelope of the permit's key.
    ///
    /// Errors: `DecryptFailed`, one and the same, for another key, an unknown version, a data key, another suite, length, commitment,
    /// tag or context; `StateForbids` if the version exists and may not process; those of [`crate::token::Token::envelope_keys`].
    pub async fn decrypt(&self, permit: Permit<action::Decrypt>, request: Decrypt) -> Result<Recorded<Opened>> {
        let result = self.open(&permit, &request.opening).await;
        permit.complete(result).await
    }

    async fn open(&self, permit: &Permit<action::Decrypt>, opening: &Opening) -> Result<Opened> {
        self.open_body(permit, opening, Body::Message, "decrypt").await
    }

    pub(super) async fn open_body<A: UsesKey>(
        &self,
        permit: &Permit<A>,
        opening: &Opening,
        body: Body,
        operation: &'static str,
    ) -> Result<Opened> {
        let parsed = Parsed::new(permit.on(), opening, body, operation)?;
        self.open_parsed(permit, &parsed).await
    }
}

impl Outcome for Opened {
    fn describe(&self, draft: &mut Draft) {
        tally::alone(self, draft);
    }
}

impl Tally for Opened {
    fn add_to(&self, draft: &mut Draft) {
        draft.key = Some((self.key, self.version.number()));
        draft.items += 1;
        draft.bytes_in += self.envelope_len as u64;
        draft.bytes_out += self.plaintext.as_bytes().len() as u64;
        draft.ciphertexts.push(self.link);
    }
}

//! ReEncrypt: opens under one key and context and seals under another in one call; no plaintext is returned.

use super::{
    Operations, Sealed,
    input::{BoundContext, Opening},
    opening::Parsed,
};
use crate::{
    Result,
    audit::{Draft, Outcome},
    model::KeyName,
    policy::{Action, Context, Permit, Recorded, action, complete_pair},
};

/// A request to re-encrypt. Both keys may be the same: the result is then under its primary version.
pub struct ReEncrypt {
    pub source: KeyName,
    pub opening: Opening,
    pub destination: KeyName,
    pub context: BoundContext,
}

/// The new envelope, and what it was made of.
pub struct ReEncrypted {
    pub sealed: Sealed,
    pub source_version: keyreeve_envelope::KeyVersion,
    source: keyreeve_envelope::KeyId,
    source_len: usize,
    source_link: [u8; 16],
}

impl ReEncrypt {
    /// What the gate and the records may know: of the source, of the destination.
    pub fn facts(&self) -> (Context, Context) {
        (Context::of(self.opening.context()), Context::of(self.context.context()))
    }
}

impl Operations {
    /// Opens under the first permit's key and seals under the primary version of the second's. The data-key flag is kept.
    ///
    /// Two records in one commit, one for each key. Errors: those of Decrypt for the source, those of Encrypt for the destination.
    pub async fn reencrypt(
        &self,
        from: Permit<action::ReEncryptFrom>,
        to: Permit<action::ReEncryptTo>,
        request: ReEncrypt,
    ) -> Result<Recorded<ReEncrypted>> {
        let result = self.reseal(&from, &to, &request).await;
        complete_pair(from, to, result).await
    }

    async fn reseal(
        &self,
        from: &Permit<action::ReEncryptFrom>,
        to: &Permit<action::ReEncryptTo>,
        request: &ReEncrypt,
    ) -> Result<ReEncrypted> {
        let parsed = Parsed::of_any_body(from.on(), &request.opening, "decrypt")?;
        let version = to.on().protecting("encrypt")?;
        let opened = self.open_parsed(from, &parsed).await?;
        let (ec_hash, plaintext) = (request.context.hash(), opened.plaintext.as_bytes());
        let sealed = self.seal_under(to, version, parsed.body, ec_hash, plaintext).await?;
        Ok(ReEncrypted {
            sealed,
            source_version: opened.version,
            source: opened.key,
            source_len: opened.envelope_len,
            source_link: opened.link,
        })
    }
}

impl Outcome for ReEncrypted {
    /// Each record speaks of its own key; both link the old envelope to the new one.
    fn describe(&self, draft: &mut Draft) {
        let (key, version) = if draft.operation == action::ReEncryptFrom::NAME {
            (self.source, self.source_version)
        } else {
            (self.sealed.key, self.sealed.version)
        };
        draft.key = Some((key, version.number()));
        draft.items = 1;
        draft.bytes_in = self.source_len as u64;
        draft.bytes_out = self.sealed.ciphertext.len() as u64;
        draft.ciphertexts.extend([self.source_link, self.sealed.link]);
    }
}

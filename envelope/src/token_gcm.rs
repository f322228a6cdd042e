//! Suite 0001, TOKEN-GCM: AES-256-GCM inside the token; nothing derived from the key leaves it.
//!
//! Body: `iv[12] || ciphertext[n] || tag[16]`, so an envelope is 60 bytes longer than its plaintext of at most 8,192.
//! Associated data: `header || SHA-256(context)`. The suite does not commit to its key: not for places where one
//! ciphertext must never open under two keys. Layout only; the token seals and opens.
//! Source: SP 800-38D; `docs/formats.md`, suite 0001.

use crate::DecryptFailed;
use crate::header::{Header, Suite};
use crate::limits::HEADER_LEN;

/// The associated data that the token is given: `header || ec_hash`.
pub fn associated_data(header: &[u8; 32], ec_hash: &[u8; 32]) -> [u8; 64] {
    let mut aad = [0; 64];
    aad[..32].copy_from_slice(header);
    aad[32..].copy_from_slice(ec_hash);
    aad
}

/// A whole envelope of suite 0001, taken apart and not yet believed.
#[derive(Clone, Copy)]
pub struct Envelope<'a> {
    header: Header,
    header_bytes: &'a [u8; 32],
    iv: &'a [u8; 12],
    ciphertext_and_tag: &'a [u8],
}

impl<'a> Envelope<'a> {
    /// Takes `bytes` apart; they must be one envelope and nothing more. Errors: the one error, also for other suites.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, DecryptFailed> {
        let header = Header::parse(bytes)?;
        if header.suite() != Suite::TokenGcm {
            return Err(DecryptFailed);
        }
        let (header_bytes, rest) = bytes.split_first_chunk::<HEADER_LEN>().ok_or(DecryptFailed)?;
        let (iv, ciphertext_and_tag) = rest.split_first_chunk().ok_or(DecryptFailed)?;
        Ok(Self {
            header,
            header_bytes,
            iv,
            ciphertext_and_tag,
        })
    }

    /// The header.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The 96-bit IV, made by the token.
    pub fn iv(&self) -> &'a [u8; 12] {
        self.iv
    }

    /// Ciphertext and 16-byte tag in one, as PKCS#11 takes them.
    pub fn ciphertext_and_tag(&self) -> &'a [u8] {
        self.ciphertext_and_tag
    }

    /// [`associated_data`] of this envelope.
    pub fn associated_data(&self, ec_hash: &[u8; 32]) -> [u8; 64] {
        associated_data(self.header_bytes, ec_hash)
    }

    /// The tag: what an audit record keeps, to link a Decrypt to its Encrypt.
    pub fn audit_link(&self) -> [u8; 16] {
        *self
            .ciphertext_and_tag
            .last_chunk()
            .expect("the header's length leaves room for the tag")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{KeyId, KeyVersion};
    use crate::sha256;
    use crate::vectors::{array, bytes, section};
    use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
    use proptest::prelude::*;

    #[test]
    fn the_published_envelope_comes_out_byte_for_byte() {
        let vector = section("envelope_token_gcm");
        let (plaintext, iv) = (bytes(&vector["plaintext"]), array::<12>(&vector["iv"]));
        let key_id = KeyId::from_bytes(array(&vector["key_id"]));
        let version = KeyVersion::new(vector["key_version"].as_u64().unwrap() as u32).unwrap();
        let header = Header::new(Suite::TokenGcm, key_id, version, false, plaintext.len()).unwrap();
        let ec_hash = array(&section("encryption_context")["sha256"]);

        // What the token does.
        let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &bytes(&vector["key"])).unwrap());
        let aad = associated_data(&header.encode(), &ec_hash);
        let mut body = plaintext.clone();
        key.seal_in_place_append_tag(Nonce::assume_unique_for_key(iv), Aad::from(aad), &mut body)
            .unwrap();
        let envelope = [&header.encode()[..], &iv, &body].concat();

        assert_eq!(envelope, bytes(&vector["envelope"]));
        assert_eq!(envelope.len() as u64, vector["length"].as_u64().unwrap());
        assert_eq!(sha256(&envelope), array::<32>(&vector["sha256"]));

        let parsed = Envelope::parse(&envelope).unwrap();
        assert_eq!((parsed.header(), parsed.iv()), (&header, &iv));
        assert_eq!(parsed.ciphertext_and_tag(), body);
        assert_eq!(parsed.associated_data(&ec_hash), aad);
        assert_eq!(parsed.audit_link(), body[14..]);
    }

    #[test]
    fn envelopes_of_suite_0002_are_refused() {
        let envelope = bytes(&section("envelope_prf_commit")["envelope"]);
        assert!(Envelope::parse(&envelope).is_err());
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..200), fix: bool) {
            if fix && bytes.len() >= 32 {
                bytes[..8].copy_from_slice(&[0xe5, 0x45, 0x4e, 0x56, 1, 0, 0, 1]);
                let body = (bytes.len() - 32) as u32;
                bytes[28..32].copy_from_slice(&body.to_be_bytes());
            }
            if let Ok(envelope) = Envelope::parse(&bytes) {
                prop_assert_eq!(&envelope.audit_link()[..], &bytes[bytes.len() - 16..]);
            }
        }
    }
}

//! Suite 0001, TOKEN-GCM: AES-256-GCM inside the token; nothing derived from the key leaves it.
//!
//! Body: `iv[12] || ciphertext[n] || tag[16]`, so an envelope is 60 bytes longer than its plaintext of at most 8,192.
//! Associated data: `header || SHA-256(context)`. The suite does not commit to its key: not for places where one
//! ciphertext must never open under two keys. Layout only: the token seals and opens, and makes the iv.
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

/// A whole envelope around what the token writes. `seal` is given the associated data, and fills the iv and the ciphertext with its tag
/// (16 bytes more than the plaintext). `header`: of suite 0001, made with the length of the plaintext. Errors: those of `seal`.
pub fn seal_with<E>(
    header: &Header,
    ec_hash: &[u8; 32],
    seal: impl FnOnce(&[u8; 64], &mut [u8; 12], &mut [u8]) -> Result<(), E>,
) -> Result<Vec<u8>, E> {
    debug_assert_eq!(header.suite(), Suite::TokenGcm);
    let header_bytes = header.encode();
    let mut envelope = vec![0; header.envelope_len()];
    envelope[..HEADER_LEN].copy_from_slice(&header_bytes);
    let (iv, sealed) = envelope[HEADER_LEN..]
        .split_first_chunk_mut()
        .expect("a body is longer than its iv");
    seal(&associated_data(&header_bytes, ec_hash), iv, sealed)?;
    Ok(envelope)
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

    fn key(bytes: &[u8]) -> LessSafeKey {
        LessSafeKey::new(UnboundKey::new(&AES_256_GCM, bytes).unwrap())
    }

    /// What the token does.
    fn seal(key: &LessSafeKey, header: &Header, ec_hash: &[u8; 32], iv: [u8; 12], plaintext: &[u8]) -> Vec<u8> {
        seal_with(header, ec_hash, |aad, iv_place, out| {
            *iv_place = iv;
            let mut sealed = plaintext.to_vec();
            key.seal_in_place_append_tag(Nonce::assume_unique_for_key(iv), Aad::from(*aad), &mut sealed)?;
            out.copy_from_slice(&sealed);
            Ok::<_, aws_lc_rs::error::Unspecified>(())
        })
        .unwrap()
    }

    /// What service and token do: parse, compare the key, open.
    fn open(key: &LessSafeKey, of: &Header, envelope: &[u8], ec_hash: &[u8; 32]) -> Result<Vec<u8>, DecryptFailed> {
        let envelope = Envelope::parse(envelope)?;
        let named = |header: &Header| (header.key_id(), header.key_version(), header.is_data_key());
        if named(envelope.header()) != named(of) {
            return Err(DecryptFailed);
        }
        let (nonce, mut body) = (
            Nonce::assume_unique_for_key(*envelope.iv()),
            envelope.ciphertext_and_tag().to_vec(),
        );
        let opened = key.open_in_place(nonce, Aad::from(envelope.associated_data(ec_hash)), &mut body);
        opened.map(|plaintext| plaintext.to_vec()).map_err(|_| DecryptFailed)
    }

    #[test]
    fn the_published_envelope_comes_out_byte_for_byte() {
        let vector = section("envelope_token_gcm");
        let (plaintext, iv) = (bytes(&vector["plaintext"]), array::<12>(&vector["iv"]));
        let key_id = KeyId::from_bytes(array(&vector["key_id"]));
        let version = KeyVersion::new(vector["key_version"].as_u64().unwrap() as u32).unwrap();
        let header = Header::new(Suite::TokenGcm, key_id, version, false, plaintext.len()).unwrap();
        let ec_hash = array(&section("encryption_context")["sha256"]);
        let envelope = seal(&key(&bytes(&vector["key"])), &header, &ec_hash, iv, &plaintext);

        assert_eq!(envelope, bytes(&vector["envelope"]));
        assert_eq!(envelope.len() as u64, vector["length"].as_u64().unwrap());
        assert_eq!(sha256(&envelope), array::<32>(&vector["sha256"]));

        let parsed = Envelope::parse(&envelope).unwrap();
        assert_eq!((parsed.header(), parsed.iv()), (&header, &iv));
        assert_eq!(
            parsed.associated_data(&ec_hash),
            associated_data(&header.encode(), &ec_hash)
        );
        assert_eq!(parsed.audit_link(), envelope[58..]);
    }

    #[test]
    fn every_single_bit_flip_and_another_context_fail_with_the_one_error() {
        let (key, ec_hash) = (key(&[1; 32]), [9; 32]);
        for data_key in [false, true] {
            let id = KeyId::from_bytes([3; 16]);
            let header = Header::new(Suite::TokenGcm, id, KeyVersion::FIRST, data_key, 5).unwrap();
            let envelope = seal(&key, &header, &ec_hash, [7; 12], b"hello");
            assert_eq!(open(&key, &header, &envelope, &ec_hash).unwrap(), b"hello");
            assert!(open(&key, &header, &envelope, &[8; 32]).is_err());
            for bit in 0..envelope.len() * 8 {
                let mut flipped = envelope.clone();
                flipped[bit / 8] ^= 1 << (bit % 8);
                assert_eq!(open(&key, &header, &flipped, &ec_hash), Err(DecryptFailed), "bit {bit}");
            }
        }
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

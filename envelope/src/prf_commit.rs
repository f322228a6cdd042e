//! Suite 0002, PRF-COMMIT: one HMAC in the token gives a message key and a commitment; AES-256-GCM runs here.
//!
//! Body: `salt[32] || commitment[32] || iv[12] || ciphertext[n] || tag[16]`, so an envelope is 124 bytes longer than its
//! plaintext. `T = HMAC-SHA-512(version key, kdf_input)`, message key = `T[0..32]`, commitment = `T[32..64]`, associated
//! data = `header || salt || commitment || SHA-256(context)`. Commits to key, header and context; 256 bits of strength.
//!
//! Not here: the HMAC itself (in the token), and random bytes (salt and iv enter from outside).
//! Source: SP 800-108r1 (counter mode, one block), SP 800-38D; `docs/formats.md`, suite 0002.

use crate::DecryptFailed;
use crate::header::{Header, Suite};
use crate::limits::{HEADER_LEN, PRF_COMMIT_BODY_OVERHEAD};
use crate::secret::SecretBytes;
use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::hmac;
use static_assertions::assert_not_impl_any;
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, Zeroizing};

/// What the token is asked to HMAC: 111 bytes, one block of SHA-512 with its padding.
///
/// `u32(1) || "env.v1" || 00 || header || salt || ec_hash || u32(512)`.
pub fn kdf_input(header: &[u8; 32], salt: &[u8; 32], ec_hash: &[u8; 32]) -> [u8; 111] {
    let mut input = [0; 111];
    input[..11].copy_from_slice(b"\x00\x00\x00\x01env.v1\x00");
    input[11..43].copy_from_slice(header);
    input[43..75].copy_from_slice(salt);
    input[75..107].copy_from_slice(ec_hash);
    input[107..].copy_from_slice(&512_u32.to_be_bytes());
    input
}

/// The 64 bytes that the token answers: message key, then commitment. Good for one envelope. Wiped on drop;
/// no `Debug`, `Display`, `Clone`, `PartialEq`.
pub struct MessageKeys(SecretBytes<64>);

assert_not_impl_any!(MessageKeys: std::fmt::Debug, std::fmt::Display, Clone, PartialEq);

impl MessageKeys {
    /// Copies the token's answer to [`kdf_input`]; the caller wipes his own copy.
    pub fn from_prf_output(output: &[u8; 64]) -> Self {
        Self(SecretBytes::copied(output))
    }

    /// Lets `prf` write the token's answer in place, so that no second copy is made. Errors: those of `prf`.
    pub fn fill_with<E>(prf: impl FnOnce(&mut [u8; 64]) -> Result<(), E>) -> Result<Self, E> {
        SecretBytes::fill_with(prf).map(Self)
    }

    /// The 64 bytes as the token answered them, to be carried between the processes of one service and nowhere else.
    pub fn prf_output(&self) -> &[u8; 64] {
        self.0.as_bytes()
    }

    fn split(&self) -> (&[u8; 32], &[u8; 32]) {
        let (key, commitment) = self.0.as_bytes().split_first_chunk().expect("64 is more than 32");
        (key, commitment.try_into().expect("64 less 32 is 32"))
    }

    fn cipher(&self) -> Option<LessSafeKey> {
        // Key schedule and GCM table, once per message: about 0.3 µs. AWS-LC wipes them when it frees them.
        UnboundKey::new(&AES_256_GCM, self.split().0).ok().map(LessSafeKey::new)
    }
}

/// Nothing was sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// The header is for another suite or another length.
    #[error("header does not belong to this plaintext: make it with its length and suite 0002")]
    WrongHeader,
    /// AES-256-GCM refused.
    #[error("aes-256-gcm failed: treat this host as faulty")]
    Cipher,
}

/// Appends the whole envelope of `plaintext` to `out`: header, salt, commitment, iv, ciphertext, tag.
///
/// `keys`: from the PRF over [`kdf_input`] of the same `header`, `salt` and `ec_hash`. `salt`: from [`HedgeKey::salt`].
/// `iv`: 12 fresh random bytes. Allocates once at most, and not at all if `out` has room for the plaintext and 124 bytes.
/// Errors: see [`SealError`]; `out` is then as it was.
pub fn seal(
    keys: &MessageKeys,
    header: &Header,
    salt: &[u8; 32],
    iv: &[u8; 12],
    ec_hash: &[u8; 32],
    plaintext: &[u8],
    out: &mut Vec<u8>,
) -> Result<(), SealError> {
    if header.suite() != Suite::PrfCommit || header.plaintext_len() != plaintext.len() {
        return Err(SealError::WrongHeader);
    }
    let header_bytes = header.encode();
    let (_, commitment) = keys.split();
    let cipher = keys.cipher().ok_or(SealError::Cipher)?;
    let start = out.len();
    out.reserve_exact(header.envelope_len());
    for part in [&header_bytes[..], salt, commitment, iv, plaintext] {
        out.extend_from_slice(part);
    }
    let at = out.len() - plaintext.len();
    let aad = Aad::from(associated_data(&header_bytes, salt, commitment, ec_hash));
    match cipher.seal_in_place_separate_tag(Nonce::assume_unique_for_key(*iv), aad, &mut out[at..]) {
        Ok(tag) => {
            out.extend_from_slice(tag.as_ref());
            Ok(())
        }
        Err(_) => {
            out[at..].zeroize();
            out.truncate(start);
            Err(SealError::Cipher)
        }
    }
}

/// A whole envelope of suite 0002, taken apart and not yet believed.
#[derive(Clone, Copy)]
pub struct Envelope<'a> {
    header: Header,
    header_bytes: &'a [u8; 32],
    salt: &'a [u8; 32],
    commitment: &'a [u8; 32],
    iv: &'a [u8; 12],
    ciphertext: &'a [u8],
    tag: &'a [u8; 16],
}

impl<'a> Envelope<'a> {
    /// Takes `bytes` apart; they must be one envelope and nothing more. Errors: the one error, also for other suites.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, DecryptFailed> {
        let header = Header::parse(bytes)?;
        if header.suite() != Suite::PrfCommit {
            return Err(DecryptFailed);
        }
        let (header_bytes, rest) = bytes.split_first_chunk::<HEADER_LEN>().ok_or(DecryptFailed)?;
        let (salt, rest) = rest.split_first_chunk().ok_or(DecryptFailed)?;
        let (commitment, rest) = rest.split_first_chunk().ok_or(DecryptFailed)?;
        let (iv, rest) = rest.split_first_chunk().ok_or(DecryptFailed)?;
        let (ciphertext, tag) = rest.split_last_chunk().ok_or(DecryptFailed)?;
        Ok(Self {
            header,
            header_bytes,
            salt,
            commitment,
            iv,
            ciphertext,
            tag,
        })
    }

    /// The header.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The salt.
    pub fn salt(&self) -> &'a [u8; 32] {
        self.salt
    }

    /// [`kdf_input`] of this envelope.
    pub fn kdf_input(&self, ec_hash: &[u8; 32]) -> [u8; 111] {
        kdf_input(self.header_bytes, self.salt, ec_hash)
    }

    /// The first 16 bytes of the commitment: what an audit record keeps, to link a Decrypt to its Encrypt.
    pub fn audit_link(&self) -> [u8; 16] {
        *self.commitment.first_chunk().expect("32 is more than 16")
    }
}

/// Opens `envelope`. `keys`: from the PRF over [`Envelope::kdf_input`] of the same `ec_hash`.
///
/// The commitment is compared, in constant time, before anything is decrypted. Errors: the one error.
pub fn open(keys: &MessageKeys, envelope: &Envelope<'_>, ec_hash: &[u8; 32]) -> Result<Plaintext, DecryptFailed> {
    let (_, commitment) = keys.split();
    if !bool::from(commitment.ct_eq(envelope.commitment)) {
        return Err(DecryptFailed);
    }
    let cipher = keys.cipher().ok_or(DecryptFailed)?;
    let aad = Aad::from(associated_data(
        envelope.header_bytes,
        envelope.salt,
        envelope.commitment,
        ec_hash,
    ));
    let nonce = Nonce::assume_unique_for_key(*envelope.iv);
    let mut plaintext = Zeroizing::new(vec![0; envelope.ciphertext.len()]);
    cipher
        .open_separate_gather(nonce, aad, envelope.ciphertext, envelope.tag, &mut plaintext)
        .map_err(|_| DecryptFailed)?;
    Ok(Plaintext(plaintext))
}

/// Opened bytes. Wiped on drop; no `Debug`, `Display`, `Clone`, `PartialEq`.
pub struct Plaintext(Zeroizing<Vec<u8>>);

assert_not_impl_any!(Plaintext: std::fmt::Debug, std::fmt::Display, Clone, PartialEq);

impl Plaintext {
    /// Takes over bytes that are secret from here on.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The buffer, still wiped on drop.
    pub fn into_inner(self) -> Zeroizing<Vec<u8>> {
        self.0
    }
}

impl From<Zeroizing<Vec<u8>>> for Plaintext {
    fn from(bytes: Zeroizing<Vec<u8>>) -> Self {
        Self(bytes)
    }
}

/// The service subkey `hedge.v1`, ready to use. Wiped on drop; no `Debug`, `Display`, `Clone`, `PartialEq`.
pub struct HedgeKey(hmac::Key);

assert_not_impl_any!(HedgeKey: std::fmt::Debug, std::fmt::Display, Clone, PartialEq);

impl HedgeKey {
    /// From the 32 bytes of the subkey; the caller wipes his own copy.
    pub fn new(subkey: &[u8; 32]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, subkey))
    }

    /// `HMAC-SHA-256(subkey, r || ec_hash || plaintext)`. `r`: 32 fresh random bytes.
    ///
    /// A cloned or restored machine that repeats `r` still gets other salts for other plaintexts.
    pub fn salt(&self, r: &[u8; 32], ec_hash: &[u8; 32], plaintext: &[u8]) -> [u8; 32] {
        let mut context = hmac::Context::with_key(&self.0);
        context.update(r);
        context.update(ec_hash);
        context.update(plaintext);
        context.sign().as_ref().try_into().expect("HMAC-SHA-256 is 32 bytes")
    }
}

/// `header || salt || commitment || ec_hash`.
fn associated_data(header: &[u8; 32], salt: &[u8; 32], commitment: &[u8; 32], ec_hash: &[u8; 32]) -> [u8; 128] {
    let mut aad = [0; 128];
    aad[..32].copy_from_slice(header);
    aad[32..64].copy_from_slice(salt);
    aad[64..96].copy_from_slice(commitment);
    aad[96..].copy_from_slice(ec_hash);
    aad
}

// The body is what the header's length field counts.
const _: () = assert!(PRF_COMMIT_BODY_OVERHEAD == 32 + 32 + 12 + 16);

#[cfg(test)]
#[path = "prf_commit_tests.rs"]
mod tests;

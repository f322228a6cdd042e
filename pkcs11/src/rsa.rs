//! RSA public keys: read out of a token, as SPKI, and into another token to wrap for it.

use crate::der::{BIT_STRING, INTEGER, SEQUENCE, integer, read, tlv};
use crate::presets;
use crate::rv::CallError;
use crate::session::{ObjectHandle, Session};
use crate::template::Attribute;

/// AlgorithmIdentifier of rsaEncryption, with its NULL (RFC 8017, A.1).
const ALGORITHM: &[u8] = &[
    0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01, 0x05, 0x00,
];

/// Modulus and exponent, big-endian, without leading zeros.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RsaPublicKey {
    pub modulus: Vec<u8>,
    pub exponent: Vec<u8>,
}

impl RsaPublicKey {
    /// `None` unless `spki` is exactly the DER of an RSA key of at most 8,192 bits with an odd modulus and exponent.
    pub fn from_spki(spki: &[u8]) -> Option<RsaPublicKey> {
        let (content, []) = read(SEQUENCE, spki)? else {
            return None;
        };
        let (bits, []) = read(BIT_STRING, content.strip_prefix(ALGORITHM)?)? else {
            return None;
        };
        let (numbers, []) = read(SEQUENCE, bits.strip_prefix(&[0])?)? else {
            return None;
        };
        let (modulus, rest) = read(INTEGER, numbers)?;
        let (exponent, []) = read(INTEGER, rest)? else {
            return None;
        };
        let key = RsaPublicKey {
            modulus: without_zeros(modulus).to_vec(),
            exponent: without_zeros(exponent).to_vec(),
        };
        // Negative numbers and needless zeros do not come out again.
        (key.is_sound() && key.spki() == spki).then_some(key)
    }

    /// At most 8,192 bits, odd numbers, an exponent above 1. Some modules crash when they work with a key of less.
    pub fn is_sound(&self) -> bool {
        let odd = |number: &[u8]| number.last().is_some_and(|byte| byte & 1 == 1);
        odd(&self.modulus) && odd(&self.exponent) && self.exponent != [1] && self.bits() <= 8192
    }

    /// DER of the SubjectPublicKeyInfo.
    pub fn spki(&self) -> Vec<u8> {
        let numbers = tlv(SEQUENCE, &[integer(&self.modulus), integer(&self.exponent)].concat());
        let key = tlv(BIT_STRING, &[&[0], &numbers[..]].concat());
        tlv(SEQUENCE, &[ALGORITHM, &key].concat())
    }

    pub fn bits(&self) -> usize {
        let top = self.modulus.first().map_or(0, |byte| byte.leading_zeros() as usize);
        8 * self.modulus.len() - top
    }
}

impl Session {
    /// Reads the public half of an RSA pair; `None` if the token does not give its numbers.
    pub fn rsa_public_key(&self, public: ObjectHandle) -> Result<Option<RsaPublicKey>, CallError> {
        let (modulus, exponent) = (
            self.rsa_modulus(public)?,
            self.number(public, Attribute::PUBLIC_EXPONENT)?,
        );
        Ok(modulus
            .zip(exponent)
            .map(|(modulus, exponent)| RsaPublicKey { modulus, exponent }))
    }

    /// Of either half of a pair. `None`: the token does not tell.
    pub fn rsa_modulus(&self, key: ObjectHandle) -> Result<Option<Vec<u8>>, CallError> {
        self.number(key, Attribute::MODULUS)
    }

    fn number(&self, key: ObjectHandle, attribute: Attribute) -> Result<Option<Vec<u8>>, CallError> {
        let bytes = self.bytes(key, attribute)?;
        Ok(bytes.map(|bytes| without_zeros(&bytes).to_vec()))
    }

    /// Brings a public key in as a session object that wraps and does nothing else.
    pub fn import_wrapping_key(&self, key: &RsaPublicKey) -> Result<ObjectHandle, CallError> {
        self.create(&presets::wrapping_public_key(key))
    }
}

fn without_zeros(number: &[u8]) -> &[u8] {
    let start = number.iter().position(|byte| *byte != 0).unwrap_or(number.len());
    &number[start..]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> RsaPublicKey {
        RsaPublicKey {
            modulus: [0xc5].into_iter().chain([0x5b; 383]).collect(),
            exponent: vec![1, 0, 1],
        }
    }

    #[test]
    fn an_spki_is_read_as_it_was_written() {
        let spki = key().spki();
        assert_eq!(spki.len(), 422);
        assert_eq!(&spki[..4], [0x30, 0x82, 0x01, 0xa2]);
        assert_eq!(RsaPublicKey::from_spki(&spki), Some(key()));
        assert_eq!(key().bits(), 3072);
    }

    #[test]
    fn what_is_not_exactly_an_rsa_key_is_refused() {
        let spki = key().spki();
        assert_eq!(RsaPublicKey::from_spki(&[&spki[..], &[0]].concat()), None);
        for length in 0..spki.len() {
            assert_eq!(RsaPublicKey::from_spki(&spki[..length]), None);
        }
        let even = RsaPublicKey {
            modulus: vec![0xc4; 384],
            ..key()
        };
        assert_eq!(RsaPublicKey::from_spki(&even.spki()), None);
        let one = RsaPublicKey {
            exponent: vec![1],
            ..key()
        };
        assert_eq!(RsaPublicKey::from_spki(&one.spki()), None);
    }
}

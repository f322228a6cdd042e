//! Public keys of those who sign: custodians, and the AUDIT pairs of tokens. Read from SPKI, verified on the host.
//!
//! Two kinds, as they are in docs/formats.md: Ed25519, and ECDSA P-256 with SHA-256 and the signature in ASN.1, so that openssl
//! signs and verifies the same bytes.

use aws_lc_rs::{
    digest::{SHA256, digest},
    signature::{ECDSA_P256_SHA256_ASN1, ED25519, UnparsedPublicKey, VerificationAlgorithm},
};
use data_encoding::HEXLOWER;
use rustls::pki_types::{SubjectPublicKeyInfoDer, pem::PemObject as _};

/// DER before the 32 bytes of an Ed25519 key (RFC 8410).
const ED25519_PREFIX: &[u8] = &[0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
/// DER before the 65 bytes of an uncompressed P-256 point, whose first byte ends it (RFC 5480).
const P256_PREFIX: &[u8] = &[
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce,
    0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00, 0x04,
];
const ED25519_LEN: usize = 32;
const P256_LEN: usize = 65;

/// A key that verifies. Two of them are equal if their DER is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicKey {
    spki: Vec<u8>,
}

impl PublicKey {
    /// `None` unless `spki` is exactly the DER of an Ed25519 or P-256 key.
    pub fn from_spki(spki: &[u8]) -> Option<Self> {
        let is = |prefix: &[u8], length| spki.starts_with(prefix) && spki.len() == length;
        let known =
            is(ED25519_PREFIX, ED25519_PREFIX.len() + ED25519_LEN) || is(P256_PREFIX, P256_PREFIX.len() - 1 + P256_LEN);
        known.then(|| Self { spki: spki.to_vec() })
    }

    /// From the 32 bytes of an Ed25519 key.
    pub(super) fn ed25519(point: &[u8]) -> Option<Self> {
        Self::from_spki(&[ED25519_PREFIX, point].concat())
    }

    /// From an uncompressed P-256 point.
    pub(super) fn p256(point: &[u8]) -> Option<Self> {
        Self::from_spki(&[&P256_PREFIX[..P256_PREFIX.len() - 1], point].concat())
    }

    /// From one PEM block `PUBLIC KEY`.
    pub fn from_pem(text: &str) -> Option<Self> {
        let spki = SubjectPublicKeyInfoDer::from_pem_slice(text.as_bytes()).ok()?;
        Self::from_spki(&spki)
    }

    pub fn spki(&self) -> &[u8] {
        &self.spki
    }

    /// SHA-256 of the DER, hex: what people compare, and what signatures name their key by.
    pub fn fingerprint(&self) -> String {
        HEXLOWER.encode(digest(&SHA256, &self.spki).as_ref())
    }

    /// Whether `signature` is this key's over `message`.
    pub fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        let (algorithm, length): (&dyn VerificationAlgorithm, _) = if self.spki.starts_with(ED25519_PREFIX) {
            (&ED25519, ED25519_LEN)
        } else {
            (&ECDSA_P256_SHA256_ASN1, P256_LEN)
        };
        let key = &self.spki[self.spki.len() - length..];
        UnparsedPublicKey::new(algorithm, key)
            .verify(message, signature)
            .is_ok()
    }
}

/// What is signed of a file: `label || \0 || SHA-256(bytes)`. No two kinds of file share a label.
pub fn statement(label: &str, bytes: &[u8]) -> Vec<u8> {
    [label.as_bytes(), &[0], digest(&SHA256, bytes).as_ref()].concat()
}

/// Keys that sign, for tests of whatever is signed.
#[cfg(test)]
pub(crate) mod testing {
    use aws_lc_rs::{
        rand::SystemRandom,
        signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _},
    };
    use data_encoding::BASE64;

    use super::*;

    pub enum Pair {
        Ed25519(Ed25519KeyPair),
        P256(EcdsaKeyPair),
    }

    pub struct Signer {
        pair: Pair,
        pub public: PublicKey,
    }

    impl Signer {
        pub fn ed25519() -> Self {
            let pair = Ed25519KeyPair::generate().unwrap();
            Self {
                public: PublicKey::ed25519(pair.public_key().as_ref()).unwrap(),
                pair: Pair::Ed25519(pair),
            }
        }

        pub fn p256() -> Self {
            let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).unwrap();
            Self {
                public: PublicKey::p256(pair.public_key().as_ref()).unwrap(),
                pair: Pair::P256(pair),
            }
        }

        pub fn pem(&self) -> String {
            let body = BASE64.encode(self.public.spki());
            format!("-----BEGIN PUBLIC KEY-----\n{body}\n-----END PUBLIC KEY-----\n")
        }

        pub fn sign(&self, message: &[u8]) -> Vec<u8> {
            match &self.pair {
                Pair::Ed25519(pair) => pair.sign(message).as_ref().to_vec(),
                Pair::P256(pair) => pair.sign(&SystemRandom::new(), message).unwrap().as_ref().to_vec(),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{testing::Signer, *};

    #[test]
    fn both_kinds_verify_their_own_signature_and_no_other() {
        for signer in [Signer::ed25519(), Signer::p256()] {
            let signature = signer.sign(b"m");
            assert!(signer.public.verifies(b"m", &signature));
            assert!(!signer.public.verifies(b"n", &signature));
            assert!(!Signer::ed25519().public.verifies(b"m", &signature));
            assert!(!Signer::p256().public.verifies(b"m", &signature));
            assert_eq!(PublicKey::from_pem(&signer.pem()), Some(signer.public));
        }
    }

    #[test]
    fn other_keys_and_trailing_bytes_are_refused() {
        let spki = [ED25519_PREFIX, &[7; 32], &[0]].concat();
        assert!(PublicKey::from_spki(&spki).is_none());
        assert!(PublicKey::from_spki(&spki[..44]).is_some());
        assert!(PublicKey::from_spki(&[0x30, 0x00]).is_none());
        assert!(PublicKey::from_pem("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n").is_none());
    }

    #[test]
    fn what_custodians_sign_is_the_published_input() {
        let text = include_str!("../../tests/vectors/formats-v1.json");
        let vector = &serde_json::from_str::<serde_json::Value>(text).unwrap()["manifest"];
        let signed = statement("manifest.v1", vector["bytes_text"].as_str().unwrap().as_bytes());
        assert_eq!(HEXLOWER.encode(&signed), vector["signature_input"].as_str().unwrap());
    }
}

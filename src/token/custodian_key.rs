//! A custodian's private key, in a file of his own: signs manifests. Nothing of the service needs one.

use std::path::Path;

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _},
};
use rustls::pki_types::{PrivatePkcs8KeyDer, pem::PemObject as _};

use super::{
    custodians::MANIFEST_LABEL,
    public_key::{PublicKey, statement},
};

/// Ed25519 or P-256. No `Debug`, no `Clone`; the file's bytes are wiped with the allocator's memory.
pub struct CustodianKey {
    pair: Pair,
    public: PublicKey,
}

enum Pair {
    Ed25519(Ed25519KeyPair),
    P256(EcdsaKeyPair),
}

static_assertions::assert_not_impl_any!(CustodianKey: std::fmt::Debug, Clone);

#[derive(Debug, thiserror::Error)]
pub enum CustodianKeyError {
    #[error(
        "cannot read a private key from `{path}`: {error}; it must be PKCS#8 in PEM (`BEGIN PRIVATE KEY`), not encrypted"
    )]
    Unreadable {
        path: String,
        error: rustls::pki_types::pem::Error,
    },
    #[error("the key in `{0}` is neither Ed25519 nor P-256: `openssl genpkey -algorithm ed25519` makes one")]
    Kind(String),
    #[error("the host's random generator failed")]
    Random,
}

impl CustodianKey {
    pub fn read(path: &Path) -> Result<Self, CustodianKeyError> {
        let name = || path.display().to_string();
        let pkcs8 = PrivatePkcs8KeyDer::from_pem_file(path)
            .map_err(|error| CustodianKeyError::Unreadable { path: name(), error })?;
        let der = pkcs8.secret_pkcs8_der();
        let (pair, public) = match Ed25519KeyPair::from_pkcs8(der) {
            Ok(pair) => {
                let public = PublicKey::ed25519(pair.public_key().as_ref());
                (Pair::Ed25519(pair), public)
            }
            Err(_) => {
                let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, der)
                    .map_err(|_| CustodianKeyError::Kind(name()))?;
                let public = PublicKey::p256(pair.public_key().as_ref());
                (Pair::P256(pair), public)
            }
        };
        let public = public.ok_or_else(|| CustodianKeyError::Kind(name()))?;
        Ok(Self { pair, public })
    }

    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    /// Signs a manifest's exact bytes. Show them to him first.
    pub fn sign_manifest(&self, bytes: &[u8]) -> Result<Vec<u8>, CustodianKeyError> {
        let message = statement(MANIFEST_LABEL, bytes);
        match &self.pair {
            Pair::Ed25519(pair) => Ok(pair.sign(&message).as_ref().to_vec()),
            Pair::P256(pair) => {
                let signature = pair.sign(&SystemRandom::new(), &message);
                Ok(signature.map_err(|_| CustodianKeyError::Random)?.as_ref().to_vec())
            }
        }
    }
}

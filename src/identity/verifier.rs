//! Client certificates at the handshake: the roots are those of the leaf's own trust domain, never a union of domains.
//!
//! TLS 1.3 only. Bundles are PEM files named in the configuration; [`ClientVerifier::reload`] swaps them while connections live on.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
};

use arc_swap::ArcSwap;
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, OtherError, RootCertStore, SignatureScheme,
    client::danger::HandshakeSignatureValid,
    crypto::CryptoProvider,
    pki_types::{CertificateDer, UnixTime, pem::PemObject},
    server::{
        WebPkiClientVerifier,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
};
use x509_parser::{certificate::X509Certificate, prelude::FromDer};

use super::{TrustDomain, svid};

/// Which CA bundles (PEM files) vouch for which trust domain.
pub type Bundles = BTreeMap<TrustDomain, Vec<PathBuf>>;

/// Checks client certificates against the bundles of their trust domains.
pub struct ClientVerifier {
    bundles: Bundles,
    provider: Arc<CryptoProvider>,
    domains: ArcSwap<Domains>,
}

type Domains = HashMap<TrustDomain, Arc<dyn ClientCertVerifier>>;

/// Why CA bundles were not taken; at a reload those before them stay in force.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    #[error("no trust domain is configured: name one with its CA bundle, or nobody can connect")]
    NoDomain,
    #[error("CA bundle `{0}` cannot be read as PEM")]
    Unreadable(PathBuf, #[source] rustls::pki_types::pem::Error),
    #[error("CA bundle `{0}` holds no certificate")]
    Empty(PathBuf),
    #[error(
        "certificate {index} of CA bundle `{file}` is not a CA certificate: a bundle holds the issuers, not leaves"
    )]
    NotCa { file: PathBuf, index: usize },
    #[error("the CA bundles of trust domain `{0}` cannot be used")]
    Unusable(TrustDomain, #[source] Arc<dyn std::error::Error + Send + Sync>),
}

impl ClientVerifier {
    pub fn load(bundles: Bundles, provider: Arc<CryptoProvider>) -> Result<Arc<Self>, BundleError> {
        let domains = domains(&bundles, &provider)?;
        Ok(Arc::new(Self {
            bundles,
            provider,
            domains: ArcSwap::from_pointee(domains),
        }))
    }

    /// Reads the files again; new handshakes use them. After an error the bundles before it stay in force.
    pub fn reload(&self) -> Result<(), BundleError> {
        self.domains.store(Arc::new(domains(&self.bundles, &self.provider)?));
        Ok(())
    }
}

impl ClientCertVerifier for ClientVerifier {
    /// No hints: a client has one identity, and the list would be swapped by a reload.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        let id = svid::spiffe_id(leaf).map_err(|error| CertificateError::Other(OtherError(Arc::new(error))))?;
        let domains = self.domains.load();
        let domain = domains.get(&id.trust_domain()).ok_or(CertificateError::UnknownIssuer)?;
        domain.verify_client_cert(leaf, intermediates, now)
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("TLS 1.3 is required".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(
            message,
            leaf,
            signature,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

impl fmt::Debug for ClientVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientVerifier")
            .field("bundles", &self.bundles)
            .finish()
    }
}

fn domains(bundles: &Bundles, provider: &Arc<CryptoProvider>) -> Result<Domains, BundleError> {
    if bundles.is_empty() {
        return Err(BundleError::NoDomain);
    }
    let mut domains = Domains::new();
    for (domain, files) in bundles {
        let unusable = |error: Arc<dyn std::error::Error + Send + Sync>| BundleError::Unusable(domain.clone(), error);
        let mut roots = RootCertStore::empty();
        for file in files {
            for ca in read(file)? {
                roots.add(ca).map_err(|error| unusable(Arc::new(error)))?;
            }
        }
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
            .build()
            .map_err(|error| unusable(Arc::new(error)))?;
        domains.insert(domain.clone(), verifier);
    }
    Ok(domains)
}

fn read(file: &Path) -> Result<Vec<CertificateDer<'static>>, BundleError> {
    let certificates = CertificateDer::pem_file_iter(file)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| BundleError::Unreadable(file.to_owned(), error))?;
    if certificates.is_empty() {
        return Err(BundleError::Empty(file.to_owned()));
    }
    for (at, certificate) in certificates.iter().enumerate() {
        if !X509Certificate::from_der(certificate).is_ok_and(|(_, certificate)| certificate.is_ca()) {
            return Err(BundleError::NotCa {
                file: file.to_owned(),
                index: at + 1,
            });
        }
    }
    Ok(certificates)
}

#[cfg(test)]
mod tests;

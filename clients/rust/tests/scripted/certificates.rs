//! Authorities and certificates for a service and its callers.

use std::{fs, path::Path};

use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// Signs for both sides.
pub struct Authority {
    pub pem: String,
    pub certificate: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

pub struct Leaf {
    pub certificate: CertificateDer<'static>,
    pub key: PrivateKeyDer<'static>,
    pub pem: String,
    pub key_pem: String,
}

impl Authority {
    pub fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let certificate = params.self_signed(&key).unwrap();
        Self {
            pem: certificate.pem(),
            certificate: certificate.der().clone(),
            issuer: Issuer::new(params, key),
        }
    }

    /// For `localhost`, whichever side it is.
    pub fn leaf(&self) -> Leaf {
        self.sign(SanType::DnsName("localhost".try_into().unwrap()))
    }

    /// An X.509-SVID.
    #[allow(dead_code)] // of one test program
    pub fn workload(&self, spiffe_id: &str) -> Leaf {
        self.sign(SanType::URI(spiffe_id.try_into().unwrap()))
    }

    fn sign(&self, name: SanType) -> Leaf {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![name];
        params.is_ca = IsCa::ExplicitNoCa; // an X.509-SVID says so
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Leaf {
            certificate: certificate.der().clone(),
            key: key.serialize_der().try_into().unwrap(),
            pem: certificate.pem(),
            key_pem: key.serialize_pem(),
        }
    }
}

impl Leaf {
    /// Writes `own.pem` and `own.key`.
    pub fn write(&self, directory: &Path) {
        fs::write(directory.join("own.pem"), &self.pem).unwrap();
        fs::write(directory.join("own.key"), &self.key_pem).unwrap();
    }
}

//! Certificate authorities, server and client certificates for the flows: good ones, and every wrong kind.

use std::fs;
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    SanType, date_time_ymd,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// The trust domain of every identity of the flows.
pub const TRUST_DOMAIN: &str = "flows.test";

/// A certificate authority, which signs what it is told to.
pub struct TestCa {
    pub certificate: CertificateDer<'static>,
    pub pem: String,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate with its key.
pub struct Issued {
    pub certificate: CertificateDer<'static>,
    pub pem: String,
    pub key_pem: String,
    key: Vec<u8>,
}

impl TestCa {
    pub fn new(name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = params.self_signed(&key).unwrap();
        Self {
            pem: certificate.pem(),
            certificate: certificate.der().clone(),
            issuer: Issuer::new(params, key),
        }
    }

    /// The service's own certificate, for `localhost` and 127.0.0.1.
    pub fn server(&self) -> Issued {
        let mut params = leaf(ExtendedKeyUsagePurpose::ServerAuth);
        params.subject_alt_names = vec![
            SanType::DnsName("localhost".try_into().unwrap()),
            SanType::IpAddress([127, 0, 0, 1].into()),
        ];
        self.sign(&params)
    }

    /// A workload of the trust domain: `spiffe://flows.test/{path}`.
    pub fn client(&self, path: &str) -> Issued {
        self.client_in(path, 2020, 2040)
    }

    /// The same, valid from the first day of one year to the first day of another.
    pub fn client_in(&self, path: &str, from: i32, to: i32) -> Issued {
        let mut params = leaf(ExtendedKeyUsagePurpose::ClientAuth);
        params.not_before = date_time_ymd(from, 1, 1);
        params.not_after = date_time_ymd(to, 1, 1);
        self.sign(&named(params, &spiffe(path)))
    }

    /// A client certificate that names another trust domain than this authority may speak for.
    pub fn client_of_domain(&self, domain: &str, path: &str) -> Issued {
        let params = leaf(ExtendedKeyUsagePurpose::ClientAuth);
        self.sign(&named(params, &format!("spiffe://{domain}/{path}")))
    }

    /// A client certificate that names nobody.
    pub fn nameless_client(&self) -> Issued {
        self.sign(&leaf(ExtendedKeyUsagePurpose::ClientAuth))
    }

    /// A workload's certificate that was made for servers.
    pub fn client_for_servers_only(&self, path: &str) -> Issued {
        self.sign(&named(leaf(ExtendedKeyUsagePurpose::ServerAuth), &spiffe(path)))
    }

    fn sign(&self, params: &CertificateParams) -> Issued {
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Issued {
            pem: certificate.pem(),
            certificate: certificate.der().clone(),
            key_pem: key.serialize_pem(),
            key: key.serialize_der(),
        }
    }
}

impl Issued {
    pub fn key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::try_from(self.key.clone()).unwrap()
    }

    /// Writes `{name}.pem` and `{name}.key`; returns both paths.
    pub fn write(&self, directory: &Path, name: &str) -> (PathBuf, PathBuf) {
        let (certificate, key) = (
            directory.join(format!("{name}.pem")),
            directory.join(format!("{name}.key")),
        );
        fs::write(&certificate, &self.pem).unwrap();
        super::write_private(&key, &self.key_pem);
        (certificate, key)
    }
}

/// `spiffe://flows.test/{path}`
pub fn spiffe(path: &str) -> String {
    format!("spiffe://{TRUST_DOMAIN}/{path}")
}

fn leaf(purpose: ExtendedKeyUsagePurpose) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![purpose];
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(2040, 1, 1);
    params
}

fn named(mut params: CertificateParams, uri: &str) -> CertificateParams {
    params.subject_alt_names.push(SanType::URI(uri.try_into().unwrap()));
    params
}

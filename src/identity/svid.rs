//! The leaf certificate of a connection, read once: which workload it names, and how long it lasts.
//!
//! Rules of an X.509-SVID: exactly one URI SAN, a SPIFFE ID with a path; no CA; keyUsage critical with digitalSignature and
//! without keyCertSign and cRLSign; extendedKeyUsage, if present, with clientAuth. Subject and DNS names say nothing.
//! Source: SPIFFE X.509-SVID, sections 2, 4 and 5. The chain is checked in `verifier.rs`.

use std::sync::Arc;

use data_encoding::HEXLOWER;
use rustls::ServerConnection;
use x509_parser::{
    certificate::X509Certificate,
    extensions::{GeneralName, ParsedExtension},
    oid_registry::OID_X509_EXT_KEY_USAGE,
    prelude::FromDer,
};

use super::{Identity, InvalidSpiffeId, Kind, SpiffeId};
use crate::{audit::Actor, clock::Timestamp};

/// The authenticated peer of one connection; shared by its requests.
#[derive(Debug, Clone)]
pub struct Peer {
    pub(super) identity: Arc<Identity>,
    /// Unix seconds; both ends belong to the validity (RFC 5280, section 4.1.2.5).
    pub(super) not_before: i64,
    pub(super) not_after: i64,
    /// SHA-256 of the certificate (DER).
    pub(super) certificate_sha256: [u8; 32],
}

/// Why a leaf certificate names no workload.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SvidError {
    #[error("no client certificate")]
    Absent,
    #[error("the client certificate is not well-formed X.509")]
    Malformed,
    #[error("the client certificate has {0} URI names: an X.509-SVID has exactly one, its SPIFFE ID")]
    UriNames(usize),
    #[error("the URI name of the client certificate is not the SPIFFE ID of a workload: {0}")]
    SpiffeId(#[from] InvalidSpiffeId),
    #[error("the client certificate is a CA certificate: use a leaf")]
    Ca,
    #[error(
        "key usage of the client certificate must be critical, with digitalSignature, without keyCertSign and cRLSign"
    )]
    KeyUsage,
    #[error("extended key usage of the client certificate lacks clientAuth")]
    ExtendedKeyUsage,
}

impl Peer {
    /// The peer of a connection whose handshake is complete, and so was checked by [`super::ClientVerifier`].
    pub fn of(connection: &ServerConnection) -> Result<Self, SvidError> {
        let leaf = connection
            .peer_certificates()
            .and_then(|chain| chain.first())
            .ok_or(SvidError::Absent)?;
        Self::from_leaf(leaf)
    }

    pub(super) fn from_leaf(der: &[u8]) -> Result<Self, SvidError> {
        let leaf = parse(der)?;
        let id = workload(&leaf)?;
        let certificate_sha256 = sha256(der);
        let actor = Actor {
            id: id.as_str().to_owned(),
            method: "mtls",
            certificate_sha256: HEXLOWER.encode(&certificate_sha256),
        };
        Ok(Self {
            identity: Arc::new(Identity {
                actor: Arc::new(actor),
                kind: Kind::Workload,
            }),
            not_before: leaf.validity().not_before.timestamp(),
            not_after: leaf.validity().not_after.timestamp(),
            certificate_sha256,
        })
    }

    pub fn identity(&self) -> &Arc<Identity> {
        &self.identity
    }

    /// The last second in which the certificate is valid.
    pub fn not_after(&self) -> Timestamp {
        Timestamp::from_unix_ms(self.not_after.saturating_mul(1000))
    }

    pub fn not_before(&self) -> Timestamp {
        Timestamp::from_unix_ms(self.not_before.saturating_mul(1000))
    }

    pub fn certificate_sha256(&self) -> &[u8; 32] {
        &self.certificate_sha256
    }
}

/// The SPIFFE ID of a leaf, by the rules of the module; signature and time are not looked at.
pub fn spiffe_id(der: &[u8]) -> Result<SpiffeId, SvidError> {
    workload(&parse(der)?)
}

fn parse(der: &[u8]) -> Result<X509Certificate<'_>, SvidError> {
    match X509Certificate::from_der(der) {
        Ok(([], certificate)) => Ok(certificate),
        Ok(_) | Err(_) => Err(SvidError::Malformed),
    }
}

/// Each extension is looked up by a call that refuses duplicates.
fn workload(leaf: &X509Certificate<'_>) -> Result<SpiffeId, SvidError> {
    if let Some(constraints) = leaf.basic_constraints().map_err(|_| SvidError::Malformed)?
        && constraints.value.ca
    {
        return Err(SvidError::Ca);
    }
    check_key_usage(leaf)?;
    if let Some(usage) = leaf.extended_key_usage().map_err(|_| SvidError::Malformed)?
        && !usage.value.client_auth
    {
        return Err(SvidError::ExtendedKeyUsage);
    }
    let names = leaf.subject_alternative_name().map_err(|_| SvidError::Malformed)?;
    let mut uris: Vec<&str> = Vec::new();
    for name in names.iter().flat_map(|names| &names.value.general_names) {
        match name {
            GeneralName::URI(uri) => uris.push(uri),
            // It may be a second URI name that another reader would see.
            GeneralName::Invalid(..) => return Err(SvidError::Malformed),
            _ => {}
        }
    }
    match uris[..] {
        [uri] => Ok(uri.parse()?),
        _ => Err(SvidError::UriNames(uris.len())),
    }
}

fn check_key_usage(leaf: &X509Certificate<'_>) -> Result<(), SvidError> {
    let extension = leaf
        .get_extension_unique(&OID_X509_EXT_KEY_USAGE)
        .map_err(|_| SvidError::Malformed)?
        .ok_or(SvidError::KeyUsage)?;
    match extension.parsed_extension() {
        ParsedExtension::KeyUsage(usage)
            if extension.critical && usage.digital_signature() && !usage.key_cert_sign() && !usage.crl_sign() =>
        {
            Ok(())
        }
        _ => Err(SvidError::KeyUsage),
    }
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes)
        .as_ref()
        .try_into()
        .expect("SHA-256 has 32 bytes")
}

#[cfg(test)]
mod tests {
    use rcgen::{ExtendedKeyUsagePurpose, IsCa, KeyUsagePurpose};

    use super::*;
    use crate::identity::test_ca::{Leaf, TestCa};

    const ID: &str = "spiffe://acme.dev/ns/pay/sa/api";

    fn refused(leaf: Leaf) -> SvidError {
        Peer::from_leaf(&TestCa::new("acme").issue(leaf).certificate).unwrap_err()
    }

    #[test]
    fn a_good_leaf_names_its_workload_and_its_times() {
        let leaf = TestCa::new("acme").issue(Leaf::of(ID).dns("api.acme.dev"));
        let peer = Peer::from_leaf(&leaf.certificate).unwrap();
        assert_eq!(peer.identity().actor.id, ID);
        assert_eq!(peer.identity().kind, Kind::Workload);
        assert_eq!(
            peer.identity().actor.certificate_sha256,
            HEXLOWER.encode(peer.certificate_sha256())
        );
        assert!(peer.not_before() < peer.not_after());
    }

    #[test]
    fn a_leaf_without_exactly_one_uri_name_is_refused() {
        assert_eq!(
            refused(Leaf::of(ID).uri("spiffe://acme.dev/other")),
            SvidError::UriNames(2)
        );
        assert_eq!(refused(Leaf::of(ID).uri("https://acme.dev/")), SvidError::UriNames(2));
        assert_eq!(refused(Leaf::nameless()), SvidError::UriNames(0));
        assert_eq!(refused(Leaf::nameless().dns("api.acme.dev")), SvidError::UriNames(0));
        assert_eq!(
            refused(Leaf::of("spiffe://acme.dev")),
            SvidError::SpiffeId(InvalidSpiffeId::NoPath)
        );
    }

    #[test]
    fn a_second_uri_name_that_cannot_be_read_is_not_overlooked() {
        // SEQUENCE { [6] "spiffe://acme.dev/a", [6] FF }
        let mut names = vec![0x30, 24, 0x86, 19];
        names.extend_from_slice(b"spiffe://acme.dev/a");
        let one = [&[0x30, 21], &names[2..]].concat();
        names.extend_from_slice(&[0x86, 1, 0xff]);
        assert_eq!(refused(Leaf::nameless().names(names)), SvidError::Malformed);
        let leaf = TestCa::new("acme").issue(Leaf::nameless().names(one));
        assert!(Peer::from_leaf(&leaf.certificate).is_ok());
    }

    #[test]
    fn a_leaf_that_may_sign_certificates_is_refused() {
        assert_eq!(
            refused(Leaf::of(ID).ca(IsCa::Ca(rcgen::BasicConstraints::Unconstrained))),
            SvidError::Ca
        );
        use KeyUsagePurpose::*;
        for usages in [
            vec![],
            vec![KeyEncipherment],
            vec![DigitalSignature, KeyCertSign],
            vec![DigitalSignature, CrlSign],
        ] {
            assert_eq!(refused(Leaf::of(ID).usages(&usages)), SvidError::KeyUsage, "{usages:?}");
        }
    }

    #[test]
    fn an_extended_key_usage_without_client_authentication_is_refused() {
        use ExtendedKeyUsagePurpose::*;
        assert_eq!(
            refused(Leaf::of(ID).purposes(&[ServerAuth])),
            SvidError::ExtendedKeyUsage
        );
        let ca = TestCa::new("acme");
        for purposes in [vec![], vec![ClientAuth], vec![ServerAuth, ClientAuth]] {
            let leaf = ca.issue(Leaf::of(ID).purposes(&purposes));
            Peer::from_leaf(&leaf.certificate).unwrap();
        }
    }

    #[test]
    fn bytes_that_are_no_certificate_are_refused() {
        let mut leaf = TestCa::new("acme").issue(Leaf::of(ID)).certificate.to_vec();
        leaf.push(0);
        assert_eq!(Peer::from_leaf(&leaf).unwrap_err(), SvidError::Malformed);
        assert_eq!(Peer::from_leaf(&leaf[..80]).unwrap_err(), SvidError::Malformed);
        assert_eq!(Peer::from_leaf(b"").unwrap_err(), SvidError::Malformed);
    }
}

//! Real TLS 1.3 handshakes in memory against the verifier.

use rcgen::{ExtendedKeyUsagePurpose, IsCa};
use rustls::{ClientConfig, ClientConnection, ServerConfig, ServerConnection, crypto::aws_lc_rs};
use tempfile::TempDir;

use super::*;
use crate::identity::{
    Peer,
    test_ca::{Issued, Leaf, TestCa},
};

const API: &str = "spiffe://acme.dev/api";

/// Two trust domains with a CA each, and a server.
struct Site {
    directory: TempDir,
    acme: TestCa,
    other: TestCa,
    server: TestCa,
    verifier: Arc<ClientVerifier>,
}

impl Site {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (acme, other) = (TestCa::new("acme"), TestCa::new("other"));
        let mut bundles = Bundles::new();
        for (domain, ca) in [("acme.dev", &acme), ("other.dev", &other)] {
            let file = directory.path().join(domain);
            std::fs::write(&file, &ca.pem).unwrap();
            bundles.insert(domain.parse().unwrap(), vec![file]);
        }
        let verifier = ClientVerifier::load(bundles, Arc::new(aws_lc_rs::default_provider())).unwrap();
        Self {
            directory,
            acme,
            other,
            server: TestCa::new("server"),
            verifier,
        }
    }

    fn bundle(&self, domain: &str) -> PathBuf {
        self.directory.path().join(domain)
    }

    /// Whom the server sees, or why it refuses.
    fn connect(&self, client: Issued) -> Result<String, String> {
        let (client, server) = self.configs(client);
        let mut client = ClientConnection::new(client, "localhost".try_into().unwrap()).unwrap();
        let mut server = ServerConnection::new(server).unwrap();
        let mut wire = Vec::new();
        while client.is_handshaking() || server.is_handshaking() {
            while client.wants_write() {
                client.write_tls(&mut wire).unwrap();
            }
            let mut bytes = &wire[..];
            while !bytes.is_empty() {
                server.read_tls(&mut bytes).unwrap();
                server.process_new_packets().map_err(|error| error.to_string())?;
            }
            wire.clear();
            while server.wants_write() {
                server.write_tls(&mut wire).unwrap();
            }
            let mut bytes = &wire[..];
            while !bytes.is_empty() {
                client.read_tls(&mut bytes).unwrap();
                client.process_new_packets().map_err(|error| error.to_string())?;
            }
            wire.clear();
        }
        Ok(Peer::of(&server).unwrap().identity().actor.id.clone())
    }

    fn configs(&self, client: Issued) -> (Arc<ClientConfig>, Arc<ServerConfig>) {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let only = &[&rustls::version::TLS13];
        let mut roots = RootCertStore::empty();
        roots.add(self.server.certificate.clone()).unwrap();
        let server = self.server.issue(
            Leaf::nameless()
                .dns("localhost")
                .purposes(&[ExtendedKeyUsagePurpose::ServerAuth]),
        );
        let client = ClientConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(only)
            .unwrap()
            .with_root_certificates(roots)
            .with_client_auth_cert(vec![client.certificate], client.key)
            .unwrap();
        let server = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(only)
            .unwrap()
            .with_client_cert_verifier(self.verifier.clone())
            .with_single_cert(vec![server.certificate], server.key)
            .unwrap();
        (Arc::new(client), Arc::new(server))
    }
}

#[test]
fn each_domain_s_own_ca_vouches_for_its_workloads() {
    let site = Site::new();
    assert_eq!(site.connect(site.acme.issue(Leaf::of(API))).unwrap(), API);
    let other = "spiffe://other.dev/api";
    assert_eq!(site.connect(site.other.issue(Leaf::of(other))).unwrap(), other);
}

#[test]
fn another_domain_s_ca_an_unknown_ca_and_an_unknown_domain_are_refused() {
    let site = Site::new();
    for (issued, why) in [
        (site.other.issue(Leaf::of(API)), "UnknownIssuer"),
        (TestCa::new("stranger").issue(Leaf::of(API)), "UnknownIssuer"),
        (TestCa::new("acme").issue(Leaf::of(API)), "BadSignature"),
        (site.acme.issue(Leaf::of("spiffe://elsewhere.dev/api")), "UnknownIssuer"),
    ] {
        let error = site.connect(issued).unwrap_err();
        assert!(error.contains(why), "{error}");
    }
}

#[test]
fn a_leaf_before_or_after_its_time_is_refused() {
    let site = Site::new();
    let error = site
        .connect(site.acme.issue(Leaf::of(API).years(2000, 2001)))
        .unwrap_err();
    assert!(error.contains("xpired"), "{error}");
    let error = site
        .connect(site.acme.issue(Leaf::of(API).years(2090, 2091)))
        .unwrap_err();
    assert!(
        error.contains("not valid yet") || error.contains("NotValidYet"),
        "{error}"
    );
}

#[test]
fn a_leaf_that_is_no_svid_is_refused_in_the_handshake() {
    let site = Site::new();
    for (leaf, why) in [
        (Leaf::of(API).uri("spiffe://acme.dev/b"), "UriNames(2)"),
        (Leaf::nameless().dns("api.acme.dev"), "UriNames(0)"),
        (Leaf::of(API).ca(IsCa::Ca(rcgen::BasicConstraints::Unconstrained)), "Ca"),
        (
            Leaf::of(API).purposes(&[ExtendedKeyUsagePurpose::ServerAuth]),
            "ExtendedKeyUsage",
        ),
    ] {
        let error = site.connect(site.acme.issue(leaf)).unwrap_err();
        assert!(error.contains(why), "{error}");
    }
}

#[test]
fn a_reload_changes_who_may_connect_and_a_bad_file_changes_nothing() {
    let site = Site::new();
    let next = TestCa::new("acme next");
    assert!(site.connect(next.issue(Leaf::of(API))).is_err());
    std::fs::write(site.bundle("acme.dev"), &next.pem).unwrap();
    site.verifier.reload().unwrap();
    assert!(site.connect(next.issue(Leaf::of(API))).is_ok());
    assert!(site.connect(site.acme.issue(Leaf::of(API))).is_err());

    std::fs::write(site.bundle("acme.dev"), "").unwrap();
    assert!(matches!(site.verifier.reload(), Err(BundleError::Empty(_))));
    std::fs::remove_file(site.bundle("acme.dev")).unwrap();
    assert!(matches!(site.verifier.reload(), Err(BundleError::Unreadable(..))));
    let leaf = next.issue(Leaf::of(API)).certificate;
    std::fs::write(site.bundle("acme.dev"), pem(&leaf)).unwrap();
    assert!(matches!(
        site.verifier.reload(),
        Err(BundleError::NotCa { index: 1, .. })
    ));
    assert!(site.connect(next.issue(Leaf::of(API))).is_ok());
}

#[test]
fn without_a_trust_domain_there_is_no_verifier() {
    let error = ClientVerifier::load(Bundles::new(), Arc::new(aws_lc_rs::default_provider())).unwrap_err();
    assert!(matches!(error, BundleError::NoDomain));
}

fn pem(der: &[u8]) -> String {
    let body = data_encoding::BASE64.encode(der);
    format!("-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n")
}

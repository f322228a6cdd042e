//! A configuration for a throwaway node, its certificates, and a client.

use std::{net::SocketAddr, path::PathBuf, sync::Arc};

use keyreeve::{clock::SystemClock, config::Config, server::Server, token::init};
use keyreeve_client::{Client, ClientConfig};
use keyreeve_proto::v1::CreateEnvironmentRequest;
use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tonic::transport::Channel;

use crate::support::{PIN, TestModule};

pub const APP: &str = "spiffe://acme.dev/app";

/// A node that is initialised and not started.
pub struct Fixture {
    pub config: Config,
    directory: PathBuf,
}

impl Fixture {
    pub fn new(test: &TestModule) -> Self {
        let directory = test.directory.clone();
        std::fs::write(directory.join("pin"), PIN).unwrap();
        certificates(&directory);
        policies(&directory);
        let text = format!(
            r#"
            [server]
            listen = "127.0.0.1:0"
            local = "127.0.0.1:0"
            [tls]
            certificate = "{dir}/server.pem"
            key = "{dir}/server.key"
            client_ca = {{ "acme.dev" = "{dir}/ca.pem" }}
            [token]
            isolation = "thread"
            module = "{module}"
            label = "first"
            pin_file = "{dir}/pin"
            environments = ["dev"]
            manifest = "{dir}/manifest.json"
            manifest_sha256 = ""
            session_threads = 2
            [store]
            data_dir = "{dir}/data"
            [audit]
            durability = "written"
            segment_mib = 1
            [policy]
            directory = "{dir}/policy"
            [security]
            lock_memory = "off"
            "#,
            dir = directory.display(),
            module = test.path.display(),
        );
        let mut config = Config::parse(&text, "test", []).unwrap();
        std::fs::create_dir(&config.store.data_dir).unwrap();
        let token = &mut config.groups[0].tokens[0];
        token.manifest_sha256 = init(token, &config.store.data_dir).unwrap().manifest_sha256;
        Self { config, directory }
    }

    pub async fn start(&self) -> Server {
        match Server::start(&self.config, Arc::new(SystemClock)).await {
            Ok(server) => server,
            Err(error) => panic!("{error}: {:?}", std::error::Error::source(&error)),
        }
    }

    pub async fn connect(&self, server: &Server) -> Channel {
        let file = |name: &str| self.directory.join(name);
        let address = format!("localhost:{}", server.address().port());
        let config = ClientConfig::new(address, file("ca.pem"), file("app.pem"), file("app.key"));
        Client::connect(config).await.unwrap().channel()
    }
}

pub fn environment(id: &str) -> CreateEnvironmentRequest {
    CreateEnvironmentRequest {
        environment_id: id.to_owned(),
        ..CreateEnvironmentRequest::default()
    }
}

/// The answer to a GET, head and body.
pub async fn http(address: SocketAddr, path: &str) -> String {
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: local\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

fn policies(directory: &std::path::Path) {
    let policy = directory.join("policy");
    std::fs::create_dir(&policy).unwrap();
    let identities =
        format!("roles = [\"admin\"]\n[[identity]]\nid = \"{APP}\"\nenvironments = [\"dev\"]\nroles = [\"admin\"]\n");
    std::fs::write(policy.join("identities.toml"), identities).unwrap();
    let rule = "@id(\"admin\")\npermit (principal in Role::\"admin\", action, resource);\n";
    std::fs::write(policy.join("admin.cedar"), rule).unwrap();
}

fn certificates(directory: &std::path::Path) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let ca = params.self_signed(&key).unwrap();
    std::fs::write(directory.join("ca.pem"), ca.pem()).unwrap();
    let issuer = Issuer::new(params, key);
    let server = SanType::DnsName("localhost".try_into().unwrap());
    let app = SanType::URI(APP.try_into().unwrap());
    for (name, san, purpose) in [
        ("server", server, ExtendedKeyUsagePurpose::ServerAuth),
        ("app", app, ExtendedKeyUsagePurpose::ClientAuth),
    ] {
        let key = KeyPair::generate().unwrap();
        let mut leaf = CertificateParams::default();
        leaf.subject_alt_names = vec![san];
        leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        leaf.extended_key_usages = vec![purpose];
        let certificate = leaf.signed_by(&key, &issuer).unwrap();
        std::fs::write(directory.join(format!("{name}.pem")), certificate.pem()).unwrap();
        std::fs::write(directory.join(format!("{name}.key")), key.serialize_pem()).unwrap();
    }
}

//! TLS 1.3 on rustls and aws-lc-rs, from certificates that may change while the client runs (docs/clients.md, rule 8).

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use aws_lc_rs::digest::{SHA256, digest};
use rustls::{RootCertStore, version::TLS13};
use tokio::time::Instant;

use crate::{
    CertificateSource, Certificates, ClientError,
    events::{Event, EventName, Events},
};

/// How often a source is asked whether it has something new.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What connections are made with.
#[derive(Debug, Clone)]
pub(crate) struct Tls {
    pub config: Arc<rustls::ClientConfig>,
    /// Counts the changes.
    pub generation: u64,
    /// SHA-256 of the client's certificate.
    pub identity: [u8; 32],
}

/// The settings in use, and the source of the next ones.
#[derive(Debug)]
pub(crate) struct LiveTls {
    source: Arc<dyn CertificateSource>,
    events: Events,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    tls: Tls,
    /// Of the source, when it was last read with success; and when it was last read at all.
    version: Vec<u64>,
    failed: Vec<u64>,
    looked: Instant,
}

impl LiveTls {
    pub fn new(source: Arc<dyn CertificateSource>, events: Events) -> Result<Self, ClientError> {
        // Before it is read: a change meanwhile is seen at the next look.
        let version = source.version();
        let tls = build(source.read()?, 1)?;
        Ok(Self {
            source,
            events,
            state: Mutex::new(State {
                tls,
                version,
                failed: Vec::new(),
                looked: Instant::now(),
            }),
        })
    }

    /// What is in use; asks the source before, if the last time was a second ago.
    pub fn current(&self) -> Tls {
        let mut state = self.lock();
        if state.looked.elapsed() >= LOOK_EVERY {
            self.look(&mut state);
        }
        state.tls.clone()
    }

    /// Asks the source now. Whether there is something newer than `generation`.
    pub fn newer_than(&self, generation: u64) -> bool {
        let mut state = self.lock();
        self.look(&mut state);
        state.tls.generation > generation
    }

    fn look(&self, state: &mut State) {
        state.looked = Instant::now();
        let version = self.source.version();
        if version == state.version {
            return;
        }
        let built = self
            .source
            .read()
            .and_then(|found| build(found, state.tls.generation + 1));
        match built {
            Ok(tls) => {
                state.tls = tls;
                state.version = version;
                self.tell(EventName::CertificateReloaded, "");
            }
            // Read again at the next look, since files may be in the middle of their change; told once.
            Err(error) if state.failed != version => {
                state.failed = version;
                self.tell(EventName::CertificateUnusable, &error.message);
            }
            Err(_) => {}
        }
    }

    fn tell(&self, name: EventName, reason: &str) {
        self.events.tell(&Event {
            reason,
            ..Event::new(name)
        });
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Errors: `CONFIGURATION`, also if key and certificate do not fit together.
fn build(found: Certificates, generation: u64) -> Result<Tls, ClientError> {
    let unusable = |what: &str, error: &dyn std::fmt::Display| {
        ClientError::configuration(format!("{what} cannot be used: {error}"))
    };
    let mut roots = RootCertStore::empty();
    for authority in found.authorities {
        roots
            .add(authority)
            .map_err(|error| unusable("an authority's certificate", &error))?;
    }
    let mut identity = [0; 32];
    if let Some(leaf) = found.chain.first() {
        identity.copy_from_slice(digest(&SHA256, leaf).as_ref());
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])
        .map_err(|error| unusable("TLS 1.3", &error))?
        .with_root_certificates(roots)
        .with_client_auth_cert(found.chain, found.key)
        .map_err(|error| unusable("the client certificate with its key", &error))?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(Tls {
        config: Arc::new(config),
        generation,
        identity,
    })
}

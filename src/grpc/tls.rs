//! The TLS of the main port: 1.3 only, client certificate always, no resumption, no early data; files are taken up again live.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use arc_swap::ArcSwap;
use rustls::{
    ServerConfig,
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::NoServerSessionStorage,
    version::TLS13,
};
use x509_parser::{certificate::X509Certificate, prelude::FromDer};

use crate::{
    config::TlsConfig,
    identity::{BundleError, Bundles, ClientVerifier, RevocationError, Revocations, TrustDomain},
};

/// Why the certificate, its key or the CAs were not taken; at a reload those before them stay in force.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("`{0}` cannot be read as PEM: check the path, the permissions and the format")]
    Unreadable(PathBuf, #[source] rustls::pki_types::pem::Error),
    #[error("`{0}` holds no certificate")]
    NoCertificate(PathBuf),
    #[error("the certificate and the key of [tls] do not fit together, or cannot be used")]
    Unusable(#[source] rustls::Error),
    #[error("[tls.client_ca]: `{0}` is not a trust domain: write it as in spiffe://DOMAIN/path, without the scheme")]
    TrustDomain(String),
    #[error("the CAs of [tls.client_ca] cannot be used")]
    Bundle(#[from] BundleError),
    #[error("the revocations of [tls] cannot be used")]
    Revocations(#[from] RevocationError),
}

/// What the listener shakes hands with.
pub struct Tls {
    config: TlsConfig,
    verifier: Arc<ClientVerifier>,
    revocations: Arc<Revocations>,
    provider: Arc<CryptoProvider>,
    current: ArcSwap<ServerConfig>,
}

impl Tls {
    pub fn load(config: &TlsConfig) -> Result<Arc<Self>, TlsError> {
        metrics::describe_gauge!(
            "keyreeve_tls_certificate_not_after_seconds",
            "end of the service's certificate, Unix time"
        );
        metrics::describe_counter!(
            "keyreeve_tls_reload_failures_total",
            "TLS files that changed and could not be used"
        );
        metrics::counter!("keyreeve_tls_reload_failures_total").increment(0);
        let provider = Arc::new(aws_lc_rs::default_provider());
        let verifier = ClientVerifier::load(bundles(config)?, provider.clone())?;
        let revocations = match &config.revocations {
            Some(file) => Revocations::load(file.clone())?,
            None => Revocations::none(),
        };
        let current = server_config(config, &verifier, &provider)?;
        Ok(Arc::new(Self {
            config: config.clone(),
            verifier,
            revocations,
            provider,
            current: ArcSwap::from_pointee(current),
        }))
    }

    /// The configuration for the next handshake.
    pub fn current(&self) -> Arc<ServerConfig> {
        self.current.load_full()
    }

    pub fn revocations(&self) -> &Arc<Revocations> {
        &self.revocations
    }

    /// Takes up the files as they are now. Connections live on; each of their calls sees the new revocations.
    pub fn reload(&self) -> Result<(), TlsError> {
        // Revocations first: they must not wait for a certificate that somebody copied badly.
        self.revocations.reload()?;
        self.verifier.reload()?;
        let next = server_config(&self.config, &self.verifier, &self.provider)?;
        self.current.store(Arc::new(next));
        Ok(())
    }

    /// Watches the files for ever, and reloads when one changes or `hangup` says so.
    pub async fn watch(self: Arc<Self>, mut hangup: impl AsyncFnMut()) {
        let every = match self.config.reload_interval_s {
            0 => Duration::MAX,
            seconds => Duration::from_secs(seconds),
        };
        let mut seen = self.stamps();
        loop {
            let told = tokio::select! {
                () = sleep(every) => false,
                () = hangup() => true,
            };
            let now = self.stamps();
            if !told && now == seen {
                continue;
            }
            // Also after a failure: the next attempt comes with the next change, not every few seconds.
            seen = now;
            match self.reload() {
                Ok(()) => tracing::info!("took up the TLS files again"),
                Err(error) => {
                    let error: &(dyn std::error::Error + 'static) = &error;
                    tracing::error!(
                        error,
                        "the TLS files changed and cannot be used: those before stay in force"
                    );
                    metrics::counter!("keyreeve_tls_reload_failures_total").increment(1);
                }
            }
        }
    }

    /// Modification time and size of every file. Kubernetes swaps a link: `metadata` follows it.
    fn stamps(&self) -> Vec<Option<(SystemTime, u64)>> {
        let TlsConfig {
            certificate,
            key,
            client_ca,
            revocations,
            ..
        } = &self.config;
        [certificate, key]
            .into_iter()
            .chain(client_ca.values())
            .chain(revocations)
            .map(|file| {
                let facts = std::fs::metadata(file).ok()?;
                Some((facts.modified().ok()?, facts.len()))
            })
            .collect()
    }
}

async fn sleep(time: Duration) {
    if time == Duration::MAX {
        std::future::pending().await
    } else {
        tokio::time::sleep(time).await;
    }
}

fn bundles(config: &TlsConfig) -> Result<Bundles, TlsError> {
    config
        .client_ca
        .iter()
        .map(|(domain, file)| {
            let domain: TrustDomain = domain.parse().map_err(|_| TlsError::TrustDomain(domain.clone()))?;
            Ok((domain, vec![file.clone()]))
        })
        .collect()
}

fn server_config(
    config: &TlsConfig,
    verifier: &Arc<ClientVerifier>,
    provider: &Arc<CryptoProvider>,
) -> Result<ServerConfig, TlsError> {
    let chain = certificates(&config.certificate)?;
    let key =
        PrivateKeyDer::from_pem_file(&config.key).map_err(|error| TlsError::Unreadable(config.key.clone(), error))?;
    note_expiry(&chain);
    let mut server = ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&TLS13])
        .map_err(TlsError::Unusable)?
        .with_client_cert_verifier(verifier.clone())
        .with_single_cert(chain, key)
        .map_err(TlsError::Unusable)?;
    // No resumption of any kind: a resumed session would skip the check of the client's certificate.
    server.session_storage = Arc::new(NoServerSessionStorage {});
    server.send_tls13_tickets = 0;
    server.max_early_data_size = 0;
    server.alpn_protocols = vec![b"h2".to_vec()];
    Ok(server)
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let chain = CertificateDer::pem_file_iter(file)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| TlsError::Unreadable(file.to_owned(), error))?;
    if chain.is_empty() {
        return Err(TlsError::NoCertificate(file.to_owned()));
    }
    Ok(chain)
}

/// For the alert that comes before the outage: when the service's own certificate ends, in Unix seconds.
fn note_expiry(chain: &[CertificateDer<'_>]) {
    if let Some(Ok((_, leaf))) = chain.first().map(|leaf| X509Certificate::from_der(leaf)) {
        let not_after = leaf.validity().not_after.timestamp();
        metrics::gauge!("keyreeve_tls_certificate_not_after_seconds").set(not_after as f64);
    }
}

//! Certificates of the SPIFFE Workload API, as a SPIRE agent serves it on its socket. Feature `spiffe`.

use std::{fmt, sync::Arc};

use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use spiffe::{BundleSource as _, X509Source};

use crate::{CertificateSource, Certificates, ClientError};

/// The X.509-SVID that an agent gives this process, and the bundle of its trust domain; renewed by a task in the background.
///
/// The service's certificate must be of the same trust domain, and is checked for the host of the address, as with files: its SVID has the
/// host's name beside the SPIFFE ID.
#[derive(Clone)]
pub struct WorkloadApi(Arc<X509Source>);

impl WorkloadApi {
    /// Asks the agent at `SPIFFE_ENDPOINT_SOCKET`. Returns once it has answered, so give it a time limit.
    pub async fn connect() -> Result<Self, ClientError> {
        Self::of(X509Source::builder()).await
    }

    /// Asks the agent at `socket`, `unix:///run/spire/agent.sock`.
    pub async fn connect_to(socket: &str) -> Result<Self, ClientError> {
        Self::of(X509Source::builder().endpoint(socket)).await
    }

    async fn of(builder: spiffe::X509SourceBuilder) -> Result<Self, ClientError> {
        let source = builder.build().await.map_err(|error| unusable(&error))?;
        Ok(Self(Arc::new(source)))
    }
}

impl CertificateSource for WorkloadApi {
    fn version(&self) -> Vec<u64> {
        vec![self.0.updated().last()]
    }

    fn read(&self) -> Result<Certificates, ClientError> {
        let svid = self.0.svid().map_err(|error| unusable(&error))?;
        let bundle = self.0.bundle_for_trust_domain(svid.spiffe_id().trust_domain());
        let bundle = bundle
            .map_err(|error| unusable(&error))?
            .ok_or_else(|| unusable(&"it has no bundle of the trust domain"))?;
        let own = |certificate: &spiffe::cert::Certificate| CertificateDer::from(certificate.as_bytes().to_vec());
        Ok(Certificates {
            authorities: bundle.authorities().iter().map(own).collect(),
            chain: svid.cert_chain().iter().map(own).collect(),
            key: PrivateKeyDer::from(PrivatePkcs8KeyDer::from(svid.private_key().as_bytes().to_vec())),
        })
    }
}

impl fmt::Debug for WorkloadApi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WorkloadApi")
    }
}

fn unusable(problem: &dyn fmt::Display) -> ClientError {
    ClientError::configuration(format!("the SPIFFE Workload API cannot be used: {problem}"))
}

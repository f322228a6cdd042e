//! One channel for each endpoint, made anew when the certificate changes: calls under way end on the old one (docs/clients.md, rule 8).

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tonic::transport::Channel;

use crate::{
    ClientError, connector,
    connector::Target,
    tls::{LiveTls, Tls},
};

/// A channel, and which certificate it shows.
#[derive(Debug, Clone)]
pub(crate) struct Lease {
    pub channel: Channel,
    pub generation: u64,
}

#[derive(Debug)]
pub(crate) struct Channels {
    tls: LiveTls,
    connect_timeout: Duration,
    targets: Vec<Target>,
    open: Mutex<Vec<Option<Lease>>>,
}

impl Channels {
    pub fn new(targets: Vec<Target>, tls: LiveTls, connect_timeout: Duration) -> Self {
        let open = Mutex::new(targets.iter().map(|_| None).collect());
        Self {
            tls,
            connect_timeout,
            targets,
            open,
        }
    }

    /// Connects to one endpoint now. Errors: `UNREACHABLE`.
    pub async fn connect(&self, index: usize) -> Result<(), ClientError> {
        let Tls { config, generation, .. } = self.tls.current();
        let channel = connector::connect(&self.targets[index], config, self.connect_timeout).await?;
        self.with(|open| open[index] = Some(Lease { channel, generation }));
        Ok(())
    }

    /// The channel for one try; connects with its first call if there is none yet, or if the certificate changed.
    pub fn lease(&self, index: usize) -> Lease {
        let Tls { config, generation, .. } = self.tls.current();
        self.with(|open| match &open[index] {
            Some(lease) if lease.generation == generation => lease.clone(),
            _ => {
                let channel = connector::lazy(&self.targets[index], config, self.connect_timeout);
                let lease = Lease { channel, generation };
                open[index] = Some(lease.clone());
                lease
            }
        })
    }

    /// Whether the certificate has changed since.
    pub fn certificate_newer_than(&self, generation: u64) -> bool {
        self.tls.newer_than(generation)
    }

    /// SHA-256 of the certificate that is shown now.
    pub fn identity(&self) -> [u8; 32] {
        self.tls.current().identity
    }

    fn with<T>(&self, work: impl FnOnce(&mut Vec<Option<Lease>>) -> T) -> T {
        work(&mut self.open.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

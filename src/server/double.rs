//! What the test double of the service (crate `keyreeve-testing`) stands on: the whole service, but for its tokens.
//!
//! No option and no command leads here, and no other module may name it (`tests/layout.rs`). The token in memory that the double brings
//! is of its own crate, which stands on this one: the service cannot contain it.

use std::sync::Arc;

use super::{Node, Server, ServerError};
use crate::{
    clock::Clock,
    config::Config,
    grpc::{Dispatch, Services, tls::Tls},
    keys::KeyIds,
    token::Host,
};

/// What a double has of its own.
pub struct InsecureDouble {
    /// In the place of all tokens of the configuration. Its keys are the double's, and protect nothing.
    pub host: Arc<dyn Host>,
    /// Must mark its keys, so that nobody takes them and their ciphertexts for those of a service.
    pub key_ids: KeyIds,
}

impl Server {
    /// Starts a double. `front`: puts something before the services. Errors leave nothing running.
    pub async fn start_insecure_double<D: Dispatch>(
        config: &Config,
        clock: Arc<dyn Clock>,
        double: &InsecureDouble,
        front: impl FnOnce(Services) -> D,
    ) -> Result<Self, ServerError> {
        let tls = Tls::load(&config.tls)?;
        let node = Node::open_double(config, clock.clone(), double).await?;
        Self::open(config, clock, node, tls, None, front).await
    }
}

//! The key of the store's rows, from the token: for commands that verify the store beside a running server.

use std::sync::Arc;

use super::failure::{Failure, causes};
use crate::{
    config::Config,
    store::RowKey,
    token::{Host, Root, ThreadHost, host::SubkeyLabel},
};

/// Logs into the token, asks for the row key, and leaves the token again.
pub async fn row_key(config: &Config) -> Result<RowKey, Failure> {
    let (mut token, data) = (config.token.clone(), config.store.data_dir.clone());
    token.session_threads = 1;
    // Nothing is unwrapped here, so nothing needs to be known of destroyed versions.
    let opened = tokio::task::spawn_blocking(move || ThreadHost::start(token, &data, Arc::new(|_, _| true)));
    let host = opened.await.map_err(Failure::failed)?.map_err(causes)?;
    let host: Arc<dyn Host> = Arc::new(host);
    let subkey = Root::new(host.clone()).subkey(SubkeyLabel::Row).await;
    tokio::task::spawn_blocking(move || host.stop())
        .await
        .map_err(Failure::failed)?;
    Ok(RowKey::new(subkey.map_err(causes)?))
}

//! The key of the store's rows, from the token: for commands that verify the store beside a running server.

use std::{path::Path, sync::Arc};

use super::failure::{Failure, causes};
use crate::{
    config::Config,
    store::RowKey,
    token::{Host, Members, OpenError, Root, ThreadHost, TokenConfig, host::SubkeyLabel},
};

/// Logs into the token, asks for the row key, and leaves the token again.
pub async fn row_key(config: &Config) -> Result<RowKey, Failure> {
    let (tokens, data) = (config.home().tokens.clone(), config.store.data_dir.clone());
    let opened = tokio::task::spawn_blocking(move || open_any(tokens, &data));
    let host: Arc<dyn Host> = Arc::new(opened.await.map_err(Failure::failed)?.map_err(causes)?);
    let members = Arc::new(Members::alone(host));
    let subkey = Root::new(members.clone()).subkey(SubkeyLabel::Row).await;
    tokio::task::spawn_blocking(move || members.stop())
        .await
        .map_err(Failure::failed)?;
    Ok(RowKey::new(subkey.map_err(causes)?))
}

/// The first that opens: all hold the same key.
fn open_any(tokens: Vec<TokenConfig>, data: &Path) -> Result<ThreadHost, OpenError> {
    let mut refused = None;
    for mut token in tokens {
        token.session_threads = 1;
        // Nothing is unwrapped here, so nothing needs to be known of destroyed versions.
        match ThreadHost::start(token, data, Arc::new(|_, _| true)) {
            Ok(host) => return Ok(host),
            Err(error) => refused = refused.or(Some(error)),
        }
    }
    Err(refused.expect("a group without tokens is refused when the configuration is read"))
}

//! `serve`: the server itself, until SIGTERM or SIGINT.

use clap::Args;

use super::{
    config::ConfigFile,
    failure::{Failure, Outcome, causes},
};
use crate::{config::Config, server, store::restore};

#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  keyreeve serve --config /etc/keyreeve/keyreeve.toml

SIGTERM drains and stops; SIGHUP takes up certificates and policies again. Needs `keyreeve init` once before.")]
pub struct Serve {
    #[command(flatten)]
    config: ConfigFile,
}

impl Serve {
    pub fn run(self) -> Outcome {
        let config = self.config.load()?;
        // Before the store is looked for: a restore may have ended before it laid one.
        restore::check_complete(&config.store.data_dir).map_err(causes)?;
        // A disk that is not mounted must not become a new, empty service with a log that begins at 0.
        let store = config.store.data_dir.join(crate::store::FILE);
        if !store.exists() {
            return Err(Failure::failed(format!(
                "there is no store at `{}`: is its disk mounted? `keyreeve init` makes a new one, `keyreeve restore` brings back a backup",
                store.display()
            )));
        }
        serve(&config, |_| {})
    }
}

/// Serves; `ready` is told the address once calls are taken.
pub fn serve(config: &Config, ready: impl FnOnce(std::net::SocketAddr)) -> Outcome {
    server::run(config, ready).map_err(causes)
}

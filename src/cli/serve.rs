//! `serve`: the server itself, until SIGTERM or SIGINT.

use clap::Args;

use super::{
    config::ConfigFile,
    failure::{Outcome, causes},
};
use crate::{config::Config, server};

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
        serve(&self.config.load()?, |_| {})
    }
}

/// Serves; `ready` is told the address once calls are taken.
pub fn serve(config: &Config, ready: impl FnOnce(std::net::SocketAddr)) -> Outcome {
    server::run(config, ready).map_err(causes)
}

//! `config check` and `config example`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{
    failure::{Failure, Outcome},
    output,
};
use crate::config::{Config, EXAMPLE};

/// Which configuration file a command works from.
#[derive(Debug, Args)]
pub struct ConfigFile {
    /// The configuration file
    #[arg(
        long = "config",
        env = "KEYREEVE_CONFIG",
        value_name = "FILE",
        default_value = "/etc/keyreeve/keyreeve.toml"
    )]
    pub path: PathBuf,
}

#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Reads the configuration file and the environment over it, and says what is wrong
    #[command(
        after_help = "Example:\n  keyreeve config check --config keyreeve.toml\n\nOpens none of the files it names: `keyreeve doctor` does."
    )]
    Check(ConfigFile),
    /// Prints a configuration file with every option and its default
    #[command(after_help = "Example:\n  keyreeve config example >keyreeve.toml")]
    Example,
}

impl ConfigFile {
    pub fn load(&self) -> Result<Config, Failure> {
        Config::load(&self.path).map_err(Failure::failed)
    }
}

impl ConfigCommand {
    pub fn run(self) -> Outcome {
        match self {
            Self::Check(file) => {
                file.load()?;
                output::write(format!("{}: ok\n", file.path.display()).as_bytes())
            }
            Self::Example => output::write(EXAMPLE.as_bytes()),
        }
    }
}

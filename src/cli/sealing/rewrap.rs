//! `rewrap`: other wrapped keys before the same payload.

use std::path::PathBuf;

use clap::Args;
use keyreeve_client::sealing::rewrap::Existing;

use super::{Demands, of_file};
use crate::{
    cli::{
        connection::Connection,
        failure::{Failure, Outcome},
    },
    model::KeyName,
};

#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  keyreeve rewrap --with dev/shop/orders dump.sql.sealed                          # after a rotation: to the new version
  keyreeve rewrap --with dev/shop/orders --to dev/shop/archive dump.sql.sealed    # one more key opens it
  keyreeve rewrap --with dev/shop/orders --to dev/shop/archive --replace dump.sql.sealed

Wrapping anew is not revocation: who had the data key keeps it.")]
pub struct Rewrap {
    #[command(flatten)]
    demands: Demands,
    /// A key that will open it; repeat it for more. Without it: the first key of --with, under its primary version
    #[arg(long, value_name = "KEY")]
    to: Vec<KeyName>,
    /// Take away the wrapped keys that are there, so that only the keys of --to open it
    #[arg(long)]
    replace: bool,
    /// Sealed files, which are replaced, each in one step
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    #[command(flatten)]
    connection: Connection,
}

impl Rewrap {
    pub async fn run(self) -> Outcome {
        if self.files.iter().any(|file| super::is_stdin(file)) {
            return Err(Failure::usage("a file is replaced in place: name a file, not `-`"));
        }
        let expected = self.demands.expectation()?;
        let opener = self.demands.opener(self.connection.open().await?)?;
        let to = if self.to.is_empty() {
            &self.demands.with[..1]
        } else {
            &self.to
        };
        let names: Vec<String> = to.iter().map(KeyName::to_string).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let existing = if self.replace {
            Existing::Replace
        } else {
            Existing::Keep
        };
        for file in &self.files {
            let done = opener.rewrap_file(file, &expected, &names, existing).await;
            done.map_err(|error| of_file(&format!("`{}`", file.display()), error))?;
        }
        Ok(())
    }
}

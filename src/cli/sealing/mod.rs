//! `seal`, `open`, `rewrap`, `inspect`: files of any size, sealed on this host under data keys of the service.
//!
//! Plaintext never goes to the service. An output file appears whole or not at all; an opened one is for its owner alone. What goes to
//! standard output goes there as it is verified: only exit code 0 says that it was all.

mod inspect;
mod places;
mod progress;
mod rewrap;
mod work;

pub use inspect::Inspect;
pub use rewrap::Rewrap;

use std::path::Path;

use clap::Args;
use keyreeve_client::{Client, EncryptionContext, Expectation, MessageId, Opener, Sealer};

use self::places::Places;
use super::{
    connection::Connection,
    crypto::pair,
    failure::{Failure, Outcome},
};
use crate::model::KeyName;

#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  keyreeve seal --to dev/shop/orders --context table=orders dump.sql           # makes dump.sql.sealed
  tar c data | keyreeve seal --to dev/shop/orders - >data.tar.sealed
  keyreeve seal --to dev/shop/orders --recursive photos --out vault")]
pub struct Seal {
    /// A key that will open it, as in dev/shop/orders; repeat it for more, up to 16
    #[arg(long, value_name = "KEY", required = true)]
    to: Vec<KeyName>,
    /// A pair of the encryption context; repeat it for more. Not secret; the same pairs are needed to open
    #[arg(long = "context", value_name = "KEY=VALUE", value_parser = pair)]
    pairs: Vec<(String, String)>,
    /// Store the context in the file, in clear
    #[arg(long)]
    store_context: bool,
    #[command(flatten)]
    places: Places,
    #[command(flatten)]
    connection: Connection,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  keyreeve open --with dev/shop/orders --context table=orders dump.sql.sealed  # makes dump.sql
  keyreeve open --with dev/shop/orders - <data.tar.sealed | tar x")]
pub struct Open {
    #[command(flatten)]
    demands: Demands,
    #[command(flatten)]
    places: Places,
    #[command(flatten)]
    connection: Connection,
}

/// Which keys may be used, and what a file must be to be believed.
#[derive(Debug, Args)]
pub struct Demands {
    /// A key to open with, as in dev/shop/orders; repeat it for more. No wrapped key of another key goes to the service
    #[arg(long, value_name = "KEY", required = true)]
    with: Vec<KeyName>,
    /// A pair of the encryption context, which must have these and no others
    #[arg(long = "context", value_name = "KEY=VALUE", value_parser = pair)]
    pairs: Vec<(String, String)>,
    /// A pair that the context stored in the file must have, among others
    #[arg(long = "context-includes", value_name = "KEY=VALUE", value_parser = pair, conflicts_with = "pairs")]
    includes: Vec<(String, String)>,
    /// Take the context that the file stores, whatever it is: who could replace the file chose it
    #[arg(long, conflicts_with_all = ["pairs", "includes"])]
    accept_stored_context: bool,
    /// Open this message and no other, not an older one either; `keyreeve inspect` shows the id
    #[arg(long, value_name = "ID")]
    message_id: Option<MessageId>,
}

impl Seal {
    pub async fn run(self) -> Outcome {
        let jobs = self.places.jobs(places::Direction::Seal)?;
        let context = context(&self.pairs)?;
        let client = self.connection.open().await?;
        let mut names = self.to.iter().map(KeyName::to_string);
        let first = names.next().ok_or_else(|| Failure::usage("name a key with --to"))?;
        let mut sealer = names.fold(Sealer::new(client, first), Sealer::and);
        if self.store_context {
            sealer = sealer.storing_context();
        }
        for job in &jobs {
            work::seal(&sealer, &context, job).await?;
        }
        Ok(())
    }
}

impl Open {
    pub async fn run(self) -> Outcome {
        let jobs = self.places.jobs(places::Direction::Open)?;
        let expected = self.demands.expectation()?;
        let opener = self.demands.opener(self.connection.open().await?)?;
        for job in &jobs {
            work::open(&opener, &expected, job).await?;
        }
        Ok(())
    }
}

impl Demands {
    fn expectation(&self) -> Result<Expectation, Failure> {
        let expected = match (self.accept_stored_context, self.includes.is_empty()) {
            (true, _) => Expectation::accept_stored_context(),
            (false, false) => Expectation::context_including(context(&self.includes)?),
            (false, true) => Expectation::context(context(&self.pairs)?),
        };
        Ok(match self.message_id {
            Some(id) => expected.message_id(id),
            None => expected,
        })
    }

    fn opener(&self, client: Client) -> Result<Opener, Failure> {
        let mut names = self.with.iter().map(KeyName::to_string);
        let first = names.next().ok_or_else(|| Failure::usage("name a key with --with"))?;
        Ok(names.fold(Opener::new(client, first), Opener::or))
    }
}

fn context(pairs: &[(String, String)]) -> Result<EncryptionContext, Failure> {
    let pairs = pairs.iter().map(|(key, value)| (key.as_str(), value.as_str()));
    EncryptionContext::from_pairs(pairs).map_err(Failure::usage)
}

/// What is said of a file where the error does not name it.
fn of_file(name: &str, error: keyreeve_client::ClientError) -> Failure {
    let hint = match error.reason.as_str() {
        "DECRYPT_FAILED" => {
            "\n`keyreeve inspect FILE` shows its keys and the context that it stores; the pairs of --context may differ, or bytes were changed"
        }
        "UNEXPECTED_MESSAGE" => "\n`keyreeve inspect FILE` shows its message id",
        "IO" | "UNFINISHED" | "MESSAGE_TOO_LONG" => "",
        _ => return error.into(),
    };
    let request = match error.request_id.as_str() {
        "" => String::new(),
        id => format!(", request: {id}"),
    };
    Failure::Failed(format!(
        "{name}: {}{hint}\nreason: {}{request}",
        error.message, error.reason
    ))
}

/// `-`: standard input.
fn is_stdin(path: &Path) -> bool {
    path == Path::new("-")
}

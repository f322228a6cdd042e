//! `keys create | list | show | rotate | suspend | resume | deactivate | compromise | destroy | cancel-destruction | attest`.

use clap::{Args, Subcommand, ValueEnum};
use keyreeve_client::v1;

use super::{
    attestation::Attestation,
    connection::Connection,
    crypto::pair,
    failure::{Failure, Outcome},
    key_view::KeyView,
    output::{self, Format},
    request_id::RequestId,
};
use crate::model::{KeyName, TeamName};

#[derive(Debug, Subcommand)]
pub enum Keys {
    /// Makes a key; its version 1 is active at once
    #[command(after_help = "\
Example:
  keyreeve keys create dev/shop/orders --label purpose=orders
  keyreeve keys create dev/shop/cards --suite token-gcm")]
    Create(Create),
    /// Lists the keys of a team
    #[command(after_help = "Example:\n  keyreeve keys list dev/shop")]
    List {
        team: TeamName,
        #[command(flatten)]
        connection: Connection,
    },
    /// Shows a key and its versions
    #[command(after_help = "Example:\n  keyreeve keys show dev/shop/orders -o json")]
    Show {
        #[arg(value_name = "KEY")]
        name: KeyName,
        #[command(flatten)]
        connection: Connection,
    },
    /// Makes a new version, which encrypts from now on; the old one still decrypts
    #[command(after_help = "Example:\n  keyreeve keys rotate dev/shop/orders")]
    Rotate {
        #[arg(value_name = "KEY")]
        name: KeyName,
        #[command(flatten)]
        request_id: RequestId,
        #[command(flatten)]
        connection: Connection,
    },
    /// Stops a version until it is resumed: it neither encrypts nor decrypts
    #[command(
        after_help = "Example:\n  keyreeve keys suspend dev/shop/orders --reason 'ticket 4711: under investigation'"
    )]
    Suspend(Change),
    /// Lets a suspended version work again
    #[command(after_help = "Example:\n  keyreeve keys resume dev/shop/orders --reason 'ticket 4711: false alarm'")]
    Resume(Change),
    /// Ends encryption with a version for good; it still decrypts
    #[command(after_help = "Example:\n  keyreeve keys deactivate dev/shop/orders --reason 'service retired' --yes")]
    Deactivate(FinalChange),
    /// Marks a version as compromised: it does nothing any more
    #[command(
        after_help = "Example:\n  keyreeve keys compromise dev/shop/orders --key-version 3 --reason 'ticket 4712' --yes"
    )]
    Compromise(FinalChange),
    /// Schedules destruction, after a waiting period in which it can be cancelled
    #[command(after_help = "Example:\n  keyreeve keys destroy dev/shop/orders --wait-days 7 --reason 'data deleted'")]
    Destroy(Destroy),
    /// Cancels a scheduled destruction
    #[command(after_help = "Example:\n  keyreeve keys cancel-destruction dev/shop/orders --reason 'still needed'")]
    CancelDestruction(Change),
    /// Shows what the token reports of each version, and what may be claimed of it
    #[command(after_help = "Example:\n  keyreeve keys attest dev/shop/orders")]
    Attest {
        #[arg(value_name = "KEY")]
        name: KeyName,
        #[command(flatten)]
        connection: Connection,
    },
}

#[derive(Debug, Args)]
pub struct Create {
    /// The key, as in dev/shop/orders
    #[arg(value_name = "KEY")]
    name: KeyName,
    /// How it encrypts: prf-commit makes a key per message, up to 64 KiB; token-gcm encrypts inside the token, up to 8 KiB, and does not
    /// commit to its key
    #[arg(long, value_enum, default_value_t = Suite::PrfCommit)]
    suite: Suite,
    /// Where its versions live: wrapped in the store, for every token of the group, or in one token for good, and lost with that token
    #[arg(long, value_enum, default_value_t = Residency::Wrapped)]
    residency: Residency,
    /// SPIFFE ID or person who answers for it; without it, the caller
    #[arg(long, default_value_t, hide_default_value = true)]
    owner: String,
    /// A label; repeat it for more
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = pair)]
    labels: Vec<(String, String)>,
    #[command(flatten)]
    request_id: RequestId,
    #[command(flatten)]
    connection: Connection,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Suite {
    PrfCommit,
    TokenGcm,
}

impl From<Suite> for v1::KeySuite {
    fn from(suite: Suite) -> Self {
        match suite {
            Suite::PrfCommit => Self::PrfCommit,
            Suite::TokenGcm => Self::TokenGcm,
        }
    }
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Residency {
    Wrapped,
    TokenResident,
}

impl From<Residency> for v1::KeyResidency {
    fn from(residency: Residency) -> Self {
        match residency {
            Residency::Wrapped => Self::Wrapped,
            Residency::TokenResident => Self::TokenResident,
        }
    }
}

#[derive(Debug, Args)]
pub struct Change {
    /// The key, as in dev/shop/orders
    #[arg(value_name = "KEY")]
    name: KeyName,
    /// Which version; without it the primary one (of a cancelled destruction: all that are pending)
    #[arg(long, value_name = "NUMBER", default_value_t = 0, hide_default_value = true)]
    key_version: u32,
    /// Why: kept with the version and in the audit log
    #[arg(long)]
    reason: String,
    #[command(flatten)]
    request_id: RequestId,
    #[command(flatten)]
    connection: Connection,
}

/// A change that nothing takes back.
#[derive(Debug, Args)]
pub struct FinalChange {
    #[command(flatten)]
    change: Change,
    /// Yes, although this cannot be undone
    #[arg(long)]
    yes: bool,
}

#[derive(Debug, Args)]
pub struct Destroy {
    /// The key, as in dev/shop/orders
    #[arg(value_name = "KEY")]
    name: KeyName,
    /// Which version; without it the whole key
    #[arg(long, value_name = "NUMBER", default_value_t = 0, hide_default_value = true)]
    key_version: u32,
    /// Days until it is destroyed, 7 to 30
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(7..=30))]
    wait_days: u32,
    /// Why: kept with the version and in the audit log
    #[arg(long)]
    reason: String,
    #[command(flatten)]
    request_id: RequestId,
    #[command(flatten)]
    connection: Connection,
}

/// The four changes of state have requests and answers of one shape but of different types.
macro_rules! change {
    ($format:expr, $change:expr, $method:ident, $request:ident) => {{
        let change: Change = $change;
        let request = v1::$request {
            name: change.name.to_string(),
            version: change.key_version,
            reason: change.reason,
            request_id: change.request_id.text(),
        };
        show($format, change.connection.open().await?.$method(request).await?.key)
    }};
}

impl Keys {
    pub async fn run(self, format: Format) -> Outcome {
        match self {
            Self::Create(create) => create.run(format).await,
            Self::List { team, connection } => list(format, &team, connection).await,
            Self::Show { name, connection } => {
                let name = name.to_string();
                let answer = connection.open().await?.get_key(v1::GetKeyRequest { name }).await?;
                show(format, answer.key)
            }
            Self::Rotate {
                name,
                request_id,
                connection,
            } => {
                let request = v1::RotateKeyRequest {
                    name: name.to_string(),
                    request_id: request_id.text(),
                };
                show(format, connection.open().await?.rotate_key(request).await?.key)
            }
            Self::Suspend(change) => change!(format, change, suspend_key, SuspendKeyRequest),
            Self::Resume(change) => change!(format, change, resume_key, ResumeKeyRequest),
            Self::Deactivate(change) => change!(format, change.confirmed()?, deactivate_key, DeactivateKeyRequest),
            Self::Compromise(change) => change!(format, change.confirmed()?, compromise_key, CompromiseKeyRequest),
            Self::CancelDestruction(change) => {
                change!(format, change, cancel_key_destruction, CancelKeyDestructionRequest)
            }
            Self::Destroy(destroy) => destroy.run(format).await,
            Self::Attest { name, connection } => {
                let name = name.to_string();
                let answer = connection
                    .open()
                    .await?
                    .attest_key(v1::AttestKeyRequest { name })
                    .await?;
                output::print(format, &Attestation::from(answer))
            }
        }
    }
}

/// Said when such a key is made.
const ONE_TOKEN: &str =
    "note: one token holds this key: it is not replicated, is in no backup, and is lost with that token";

impl Create {
    async fn run(self, format: Format) -> Outcome {
        let request = v1::CreateKeyRequest {
            parent: self.name.team().to_string(),
            key_id: self.name.id().to_owned(),
            owner: self.owner,
            labels: self.labels.into_iter().collect(),
            request_id: self.request_id.text(),
            suite: v1::KeySuite::from(self.suite).into(),
            residency: v1::KeyResidency::from(self.residency).into(),
            ..Default::default()
        };
        let made = self.connection.open().await?.create_key(request).await?.key;
        if matches!(self.residency, Residency::TokenResident) {
            output::note(ONE_TOKEN);
        }
        show(format, made)
    }
}

impl Destroy {
    async fn run(self, format: Format) -> Outcome {
        let request = v1::DestroyKeyRequest {
            name: self.name.to_string(),
            version: self.key_version,
            wait_days: self.wait_days,
            reason: self.reason,
            request_id: self.request_id.text(),
        };
        show(format, self.connection.open().await?.destroy_key(request).await?.key)
    }
}

impl FinalChange {
    fn confirmed(self) -> Result<Change, Failure> {
        if self.yes {
            return Ok(self.change);
        }
        let key = self.change.name.short();
        Err(Failure::usage(format!(
            "this cannot be undone for `{key}`: add --yes if you mean it (`keyreeve keys suspend {key}` can be undone)"
        )))
    }
}

async fn list(format: Format, team: &TeamName, connection: Connection) -> Outcome {
    let client = connection.open().await?;
    let (mut views, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = v1::ListKeysRequest {
            parent: team.to_string(),
            page_size: 0,
            page_token,
        };
        let page = client.list_keys(request).await?;
        views.extend(page.keys.into_iter().map(KeyView::from));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return output::print(format, &views);
        }
    }
}

fn show(format: Format, key: Option<v1::Key>) -> Outcome {
    let key = key.ok_or_else(|| Failure::failed("the service answered without a key"))?;
    output::print(format, &KeyView::from(key))
}

//! `tokens status`, `verify` and `unlatch`; `tokens enrol` and `tokens import` are steps of a ceremony (`ceremony/`). What a token can
//! and enforces is told by `doctor`, on its host.

mod verify;

use clap::Subcommand;
use keyreeve_client::v1;

use super::{
    ceremony,
    config::ConfigFile,
    connection::Connection,
    failure::{Failure, Outcome},
    output::{self, Format},
    status::TokenView,
};
use crate::{
    model::EnvironmentName,
    token::{Latch, Manifest},
};

#[derive(Debug, Subcommand)]
pub enum Tokens {
    /// Shows the service's tokens and whether they serve
    #[command(after_help = "Example:\n  keyreeve tokens status\n\nExit code 1 if one does not serve.")]
    Status {
        #[command(flatten)]
        connection: Connection,
    },
    /// Has every token check every key it should hold, page by page, while the service works on
    #[command(
        after_help = "Example:\n  keyreeve tokens verify\n  keyreeve tokens verify --environment prod -o json\n\nExit code 1 if a token does \
                      not confirm a version, or could not be asked."
    )]
    Verify {
        /// Only this environment
        #[arg(long)]
        environment: Option<EnvironmentName>,
        #[command(flatten)]
        connection: Connection,
    },
    /// Prepares an empty token for a group of several, and writes its request to join
    Enrol(Box<ceremony::Enrol>),
    /// Takes the keys of an epoch of its group into a token
    Import(ceremony::Import),
    /// Lets a token be tried again that was latched on this host after a refused PIN or a wrong answer
    #[command(
        after_help = "Example:\n  keyreeve tokens unlatch --reason 'ticket 4711: firmware replaced' --yes\n\nFirst find out why: docs/runbooks/token-is-latched.md"
    )]
    Unlatch {
        #[command(flatten)]
        config: ConfigFile,
        /// Serial number of the token; without it, that of the manifest
        #[arg(long)]
        serial: Option<String>,
        /// What the cause was; the next start writes it into the audit log
        #[arg(long)]
        reason: Option<String>,
        /// Yes, the cause is known and gone
        #[arg(long)]
        yes: bool,
    },
}

impl Tokens {
    pub async fn run(self, format: Format) -> Outcome {
        match self {
            Self::Status { connection } => status(format, connection).await,
            Self::Verify {
                environment,
                connection,
            } => verify::verify(format, environment, connection).await,
            Self::Enrol(command) => command.run(format),
            Self::Import(command) => command.run(format),
            Self::Unlatch {
                config,
                serial,
                reason,
                yes,
            } => unlatch(&config, serial, reason.filter(|_| yes)),
        }
    }
}

/// An operator's act on files of this host, while the server does not run. `reason`: of one who is sure.
fn unlatch(file: &ConfigFile, serial: Option<String>, reason: Option<String>) -> Outcome {
    let config = file.load()?;
    let serial = match serial {
        Some(serial) => serial,
        None => {
            let [group] = &config.groups[..] else {
                return Err(Failure::usage(
                    "there are several token groups: name the token with --serial",
                ));
            };
            let source = group.any().manifest_source().map_err(Failure::failed)?;
            let manifest = Manifest::load(&source)
                .map_err(|error| Failure::failed(format!("{error}; or name the token with --serial")))?;
            match manifest.members.as_slice() {
                [member] => member.serial.clone(),
                _ => return Err(Failure::usage("the group has several tokens: name one with --serial")),
            }
        }
    };
    let latch = Latch::of(&config.store.data_dir, &serial);
    let Some(latched) = latch.read() else {
        return Err(Failure::failed(format!(
            "token {serial} is not latched: `keyreeve doctor` tells what is wrong"
        )));
    };
    let Some(reason) = reason.filter(|reason| !reason.trim().is_empty()) else {
        return Err(Failure::usage(format!(
            "token {serial} is latched since {} ({}): {}; once the cause is known and gone, say it with --reason and add --yes",
            latched.since, latched.class, latched.reason
        )));
    };
    latch
        .unlatch(&operator(), &reason)
        .map_err(|error| Failure::file("remove", latch.path(), &error))?;
    output::write(format!("token {serial} is tried again at the next start\n").as_bytes())
}

/// The user of this host; under sudo also who called it, as sudo says.
fn operator() -> String {
    let user = rustix::process::getuid().as_raw();
    let plain = |name: &String| name.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
    match std::env::var("SUDO_USER").ok().filter(plain) {
        Some(caller) => format!("{user} (sudo: {caller})"),
        None => user.to_string(),
    }
}

async fn status(format: Format, connection: Connection) -> Outcome {
    let answer = connection.open().await?.get_status(v1::GetStatusRequest {}).await?;
    let tokens: Vec<TokenView> = answer.tokens.into_iter().map(TokenView::from).collect();
    output::print(format, &tokens)?;
    if tokens.iter().all(|token| token.serving) {
        return Ok(());
    }
    Err(Failure::failed(
        "a token does not serve: `keyreeve doctor` on its host tells why",
    ))
}

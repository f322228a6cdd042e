//! `init`: root keys in the token, manifest, store, log, and the first environments and teams.
//!
//! What it makes in the store it makes as the job `init`, through the gate: records 0 to n of the log say so.

mod bootstrap;
mod policy;

use std::{
    fs::DirBuilder,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use clap::Args;
use serde::Serialize;

pub use self::bootstrap::Bootstrap;
use super::{
    config::ConfigFile,
    failure::{Failure, Outcome, causes},
    output::{self, Format, Shown, Table},
};
use crate::{
    clock::SystemClock,
    config::Config,
    identity::{Caller, RequestFacts},
    keys::{CreateEnvironment, CreateTeam, RequestId},
    policy::{Context, System, action},
    server::Node,
    store::restore,
    token::{self, SINGLE_TOKEN_WARNING},
};

/// One environment or team may take this long to make.
const STEP: Duration = Duration::from_secs(30);

#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  keyreeve init --config keyreeve.toml --admin-cert admin.pem --bootstrap first.toml

The bootstrap file names the first environments and their teams:
  [[environment]]
  name = \"dev\"
  teams = [\"shop\"]
  production = false
Without one, the environments of the configuration file are made, without teams.")]
pub struct Init {
    #[command(flatten)]
    config: ConfigFile,
    /// Certificate (PEM) of the first administrator: its SPIFFE ID gets the role admin, if there are no policies yet
    #[arg(long, value_name = "FILE")]
    admin_cert: PathBuf,
    /// First environments and teams
    #[arg(long, value_name = "FILE")]
    bootstrap: Option<PathBuf>,
}

#[derive(Serialize)]
struct Done {
    manifest: PathBuf,
    manifest_sha256: String,
    environments: Vec<String>,
    teams: Vec<String>,
}

impl Init {
    pub fn run(self, format: Format) -> Outcome {
        let config = self.config.load()?;
        let bootstrap = match &self.bootstrap {
            Some(file) => Bootstrap::read(file)?,
            None => Bootstrap::of_environments(&config.token.environments)?,
        };
        bootstrap.check_bound(&config)?;
        policy::prepare(&config.policy.directory, &self.admin_cert, &bootstrap)?;
        output::note(&format!("note: {SINGLE_TOKEN_WARNING}"));
        let manifest_sha256 = initialise(&config, &bootstrap)?;
        let pinned = config.token.manifest_sha256 == manifest_sha256;
        let done = Done {
            manifest: config.token.manifest,
            environments: bootstrap.environments().map(ToString::to_string).collect(),
            teams: bootstrap.teams().map(ToString::to_string).collect(),
            manifest_sha256,
        };
        output::print(format, &done)?;
        if !pinned {
            output::note(&format!(
                "next: write this into [token] of {}, then start with `keyreeve serve`:\nmanifest_sha256 = \"{}\"",
                self.config.path.display(),
                done.manifest_sha256
            ));
        }
        Ok(())
    }
}

/// Makes everything; returns the SHA-256 of the manifest, to be pinned in the configuration.
///
/// Takes up where an earlier attempt ended after the token: the manifest is there, pinned, and the store is not.
pub fn initialise(config: &Config, bootstrap: &Bootstrap) -> Result<String, Failure> {
    let data = &config.store.data_dir;
    restore::check_complete(data).map_err(causes)?;
    if config.audit_directory().exists() || data.join(crate::store::FILE).exists() {
        return Err(Failure::failed(format!(
            "`{}` was initialised before: nothing was changed; start it with `keyreeve serve`",
            data.display()
        )));
    }
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(data)
        .map_err(|error| Failure::file("make", data, &error))?;
    let mut config = config.clone();
    config.token.manifest_sha256 = root_keys(&config)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .map_err(|error| Failure::failed(format!("cannot start: {error}")))?;
    runtime.block_on(populate(&config, bootstrap))?;
    Ok(config.token.manifest_sha256)
}

/// The root keys' manifest: made now, or by an earlier attempt.
fn root_keys(config: &Config) -> Result<String, Failure> {
    let (manifest, pinned) = (&config.token.manifest, &config.token.manifest_sha256);
    if !manifest.exists() {
        return Ok(token::init(&config.token, &config.store.data_dir)
            .map_err(Failure::failed)?
            .manifest_sha256);
    }
    token::Manifest::load(manifest, pinned).map_err(|error| {
        Failure::failed(format!(
            "{error}\nan earlier `keyreeve init` made the root keys: pin its manifest in the configuration, then run this again"
        ))
    })?;
    Ok(pinned.clone())
}

async fn populate(config: &Config, bootstrap: &Bootstrap) -> Outcome {
    let node = Node::open(config, Arc::new(SystemClock)).await.map_err(causes)?;
    let made = make(&node, bootstrap).await;
    node.close().await;
    made.map_err(Failure::failed)
}

async fn make(node: &Node, bootstrap: &Bootstrap) -> crate::Result<()> {
    for environment in &bootstrap.environment {
        let permit = node
            .gate
            .permit::<action::CreateEnvironment>(&caller(), &System, Context::none())
            .await?;
        let request = CreateEnvironment {
            name: environment.name.clone(),
            production: environment.production,
            request_id: RequestId::new("")?,
        };
        node.keys.create_environment(permit, request).await?;
        for name in &environment.teams {
            let permit = node
                .gate
                .permit::<action::CreateTeam>(&caller(), &environment.name, Context::none())
                .await?;
            let request = CreateTeam {
                name: name.clone(),
                request_id: RequestId::new("")?,
            };
            node.keys.create_team(permit, request).await?;
        }
    }
    Ok(())
}

fn caller() -> Caller {
    let started = Instant::now();
    let facts = RequestFacts {
        request_id: uuid::Uuid::new_v4().to_string().into(),
        trace: None,
        peer: None,
        deadline: started + STEP,
        started,
    };
    Caller::job("init", facts)
}

/// Makes a software token for throwing away, with the PIN in `pin_file`.
pub fn make_throwaway_token(module: &Path, label: &str, pin_file: &Path) -> Outcome {
    token::make_throwaway(module, label, pin_file).map_err(Failure::failed)
}

impl Shown for Done {
    fn table(&self) -> Table {
        let mut table = Table::facts();
        table
            .fact("manifest", self.manifest.display().to_string())
            .fact("manifest_sha256", &self.manifest_sha256)
            .fact("environments", self.environments.join(", "))
            .fact("teams", self.teams.join(", "));
        table
    }
}

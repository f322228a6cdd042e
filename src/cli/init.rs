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
    config::{Config, GroupConfig},
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
    token_groups: Vec<Manifested>,
    environments: Vec<String>,
    teams: Vec<String>,
}

/// What was written of a group.
#[derive(Serialize)]
struct Manifested {
    name: String,
    manifest: PathBuf,
    manifest_sha256: String,
}

impl Manifested {
    fn of(group: &GroupConfig) -> Self {
        Self {
            name: group.name.clone(),
            manifest: group.any().manifest.clone(),
            manifest_sha256: group.any().manifest_sha256.clone(),
        }
    }
}

impl Init {
    pub fn run(self, format: Format) -> Outcome {
        let config = self.config.load()?;
        let bootstrap = match &self.bootstrap {
            Some(file) => Bootstrap::read(file)?,
            None => {
                let bound = config.groups.iter().flat_map(GroupConfig::environments);
                Bootstrap::of_environments(bound)?
            }
        };
        bootstrap.check_bound(&config)?;
        policy::prepare(&config.policy.directory, &self.admin_cert, &bootstrap)?;
        if config.groups.iter().any(|group| group.any().group_id.is_none()) {
            output::note(&format!("note: {SINGLE_TOKEN_WARNING}"));
        }
        let made = initialise(&config, &bootstrap)?;
        let done = Done {
            token_groups: made.groups.iter().map(Manifested::of).collect(),
            environments: bootstrap.environments().map(ToString::to_string).collect(),
            teams: bootstrap.teams().map(ToString::to_string).collect(),
        };
        output::print(format, &done)?;
        for (before, after) in config.groups.iter().zip(&made.groups) {
            let (pin, name) = (&after.any().manifest_sha256, &after.name);
            if before.any().manifest_sha256 != *pin {
                output::note(&format!(
                    "next: write this into the table of token group `{name}` in {}, then start with `keyreeve serve`:\n\
                     manifest_sha256 = \"{pin}\"",
                    self.config.path.display(),
                ));
            }
        }
        Ok(())
    }
}

/// Makes everything; returns the configuration with the SHA-256 of each manifest that was made, to be pinned there.
///
/// Takes up where an earlier attempt ended after the token: the manifest is there, pinned, and the store is not.
pub fn initialise(config: &Config, bootstrap: &Bootstrap) -> Result<Config, Failure> {
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
    for group in &mut config.groups {
        root_keys(group, data)?;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .map_err(|error| Failure::failed(format!("cannot start: {error}")))?;
    runtime.block_on(populate(&config, bootstrap))?;
    Ok(config)
}

/// The root keys and their manifest: made now and pinned, or there already.
fn root_keys(group: &mut GroupConfig, data: &Path) -> Outcome {
    let manifest = group.any().manifest.clone();
    if !manifest.exists() {
        let [token] = &mut group.tokens[..] else {
            return Err(Failure::failed(format!(
                "token group `{}` has several tokens: its root keys are made by a ceremony (docs/runbooks/ceremony.md), and `{}` is not there",
                group.name,
                manifest.display()
            )));
        };
        token.manifest_sha256 = token::init(token, data).map_err(Failure::failed)?.manifest_sha256;
        return Ok(());
    }
    let source = group.any().manifest_source().map_err(Failure::failed)?;
    token::Manifest::load(&source).map_err(|error| {
        Failure::failed(format!(
            "{error}\nan earlier `keyreeve init` made the root keys: pin its manifest in the configuration, then run this again"
        ))
    })?;
    Ok(())
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
        for group in &self.token_groups {
            table.fact("manifest", group.manifest.display().to_string());
            // Nothing is pinned where custodians vouch for the manifest.
            if !group.manifest_sha256.is_empty() {
                table.fact("manifest_sha256", &group.manifest_sha256);
            }
        }
        table
            .fact("environments", self.environments.join(", "))
            .fact("teams", self.teams.join(", "));
        table
    }
}

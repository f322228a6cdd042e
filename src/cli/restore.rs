//! `restore`: a backup becomes a store that starts, with a new epoch of the log that says why.

use std::{fs::DirBuilder, os::unix::fs::DirBuilderExt as _, path::PathBuf, sync::Arc};

use clap::Args;
use data_encoding::HEXLOWER;

use super::{
    backup::{copy_manifest, manifests},
    config::ConfigFile,
    failure::{Failure, Outcome, causes},
    output::{self, Format, Shown, Table},
    row_key::row_key,
};
use crate::{
    audit,
    clock::SystemClock,
    config::Config,
    policy::Policies,
    server::Node,
    store::{self, Applied, RowKey, backup::Manifest, restore},
};

#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  keyreeve restore /backup/keyreeve-2026-11-23 --reason 'ticket 4713: disk lost'

The server must not run, the data directory must be new or empty, and the token must be the one of the backup.
What happened after the backup is lost to the store; keep the old log, if there is one. docs/runbooks/backup-and-restore.md")]
pub struct Restore {
    /// The directory of the backup
    #[arg(value_name = "DIRECTORY")]
    from: PathBuf,
    /// Why: recorded as the first record of the new epoch
    #[arg(long)]
    reason: String,
    #[command(flatten)]
    config: ConfigFile,
}

#[derive(serde::Serialize)]
struct Done {
    data_dir: PathBuf,
    created: String,
    changes: u64,
    epoch: u64,
}

impl Restore {
    pub fn run(self, format: Format) -> Outcome {
        if self.reason.trim().is_empty() {
            return Err(Failure::usage(
                "a restore needs a reason: it is the first record of the new log",
            ));
        }
        let config = self.config.load()?;
        for (manifest, name) in manifests(&config).filter(|(manifest, _)| !manifest.exists()) {
            copy_manifest(&self.from.join(name), manifest)?;
        }
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .map_err(|error| Failure::failed(format!("cannot start: {error}")))?;
        let done = runtime.block_on(self.restore(&config))?;
        output::print(format, &done)
    }

    async fn restore(&self, config: &Config) -> Result<Done, Failure> {
        // Before anything is written: is the backup whole, is this its token, and can the node then be opened?
        Policies::load(config.policy.directory.clone()).map_err(causes)?;
        restore::check(&self.from).map_err(causes)?;
        let made = DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&config.store.data_dir);
        made.map_err(|error| Failure::file("make", &config.store.data_dir, &error))?;
        let row_key = row_key(config).await?;
        let (data_dir, tombstone_file) = (&config.store.data_dir, config.tombstone_file());
        let log_directory = config.audit_directory();
        let target = restore::Target {
            directory: data_dir,
            log_directory: &log_directory,
            tombstone_file: &tombstone_file,
        };
        let manifest = restore::lay(&self.from, &target).map_err(causes)?;
        let finished = self.finish(config, &manifest, &row_key).await;
        finished.map_err(|failure| match failure {
            Failure::Failed(why) => Failure::failed(format!(
                "{why}\n`{}` is not served as it is: empty it and the log's directory, and restore again",
                data_dir.display()
            )),
            other => other,
        })?;
        let epochs = audit::epochs(&log_directory).map_err(causes)?;
        let epoch = epochs.last().copied().unwrap_or_default();
        Ok(Done {
            data_dir: data_dir.clone(),
            created: manifest.created,
            changes: manifest.head.seq,
            epoch,
        })
    }

    /// What was laid must be whole, end where the manifest says, and open; only then may it be served.
    async fn finish(&self, config: &Config, manifest: &Manifest, row_key: &RowKey) -> Outcome {
        let data_dir = &config.store.data_dir;
        let link = HEXLOWER.decode(manifest.head.link.as_bytes()).ok();
        let link = link.and_then(|link| link.try_into().ok());
        let link =
            link.ok_or_else(|| Failure::failed("the backup's manifest names no head of the chain of changes"))?;
        let head = Applied {
            seq: manifest.head.seq,
            link,
        };
        let report = store::verify(data_dir, row_key, Some(head)).await.map_err(causes)?;
        if let Some(finding) = report.findings.first() {
            return Err(Failure::failed(format!(
                "the store of the backup does not verify: {}: {}; use another backup",
                finding.object, finding.problem
            )));
        }
        let node = Node::open_restored(config, Arc::new(SystemClock), &self.reason).await;
        node.map_err(causes)?.close().await;
        restore::complete(data_dir).map_err(causes)
    }
}

impl Shown for Done {
    fn table(&self) -> Table {
        let mut table = Table::facts();
        table
            .fact("restored", self.data_dir.display().to_string())
            .fact("state of", &self.created)
            .fact("store", format!("{} changes", self.changes))
            .fact("log", format!("epoch {} opened", self.epoch))
            .fact("next", "keyreeve serve");
        table
    }
}

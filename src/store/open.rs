//! Opening a store: lock, schema, chain, tombstones, memory.

use std::{collections::HashSet, path::PathBuf, sync::Arc};

use super::{
    Committer, Directory, RowKey, StoreError, Table,
    backend::{ChainEntry, Reader as _, StoredRow, Visitor},
    hot::Hot,
    lock::DirectoryLock,
    sqlite::{self, SqliteReader},
    tombstones::{TombstoneFile, VersionId},
    verify::{Walk, version_id},
};
use crate::clock::Clock;

/// Where the store is, and how it is used.
pub struct Options {
    /// Directory of the database and its lock file; made by `init`, not here.
    pub directory: PathBuf,
    /// Ids of destroyed versions, beside the checkpoint file: it must outlive a restored store.
    pub tombstone_file: PathBuf,
    pub row_key: RowKey,
    pub clock: Arc<dyn Clock>,
    /// Keys kept in memory; others are loaded when asked for.
    pub cached_keys: u64,
}

/// Opens the store, making or migrating its schema, and walks its whole chain of changes.
///
/// Rows are verified when they are used, and all of them by [`super::verify`]. The caller compares the head with his log
/// (`Committer::check_head`) before he serves. Errors: `InUse`, `Unusable`, `ReadOnly`, `Full`, `Newer`, `Tampered`.
pub async fn open(options: Options) -> Result<(Directory, Committer), StoreError> {
    let lock = DirectoryLock::take(&options.directory)?;
    let database = options.directory.join(sqlite::FILE);
    let writer = sqlite::open(&database).await?;
    let reader = SqliteReader::open(&database).await?;

    let mut start = Start {
        walk: Walk::new(&options.row_key, None),
        destroyed: Vec::new(),
    };
    let tables = [Table::Tombstones];
    reader.walk(&tables, &mut start).await?;
    let Start { walk, destroyed } = start;
    let report = walk.finish(&tables);
    if let Some(finding) = report.findings.first() {
        tracing::error!(
            object = finding.object,
            problem = finding.problem,
            findings = report.findings.len(),
            "the store was tampered with"
        );
        return Err(StoreError::tampered(
            finding.object.clone(),
            "the chain of changes is not whole",
        ));
    }

    let mut tombstones = TombstoneFile::open(&options.tombstone_file)?;
    tombstones.append(&destroyed, options.clock.now())?;
    revived(tombstones.listed(), &destroyed);

    let row_key = Arc::new(options.row_key);
    let known_destroyed = tombstones.listed().clone();
    let hot = Hot::new(Box::new(reader), row_key.clone(), options.cached_keys, known_destroyed);
    let hot = Arc::new(hot);
    let committer = Committer {
        writer: Box::new(writer),
        hot: hot.clone(),
        row_key,
        clock: options.clock,
        tombstones,
        unlisted: Vec::new(),
        head: report.head,
        uncertain: false,
        suspect: false,
        forget_at: 0,
        _lock: lock,
    };
    Ok((Directory::new(hot), committer))
}

/// Says so if the file lists what the store does not: an older store was put back.
fn revived(listed: &HashSet<VersionId>, stored: &[VersionId]) {
    let only_listed = listed.len().saturating_sub(stored.len());
    if only_listed > 0 {
        tracing::warn!(
            versions = only_listed,
            "the tombstone file lists versions that this store still holds: an older store was restored; they are refused"
        );
    }
}

/// Walks the chain and picks up the tombstones.
struct Start<'a> {
    walk: Walk<'a>,
    destroyed: Vec<VersionId>,
}

impl Visitor for Start<'_> {
    fn entry(&mut self, entry: ChainEntry) {
        self.walk.entry(entry);
    }

    fn row(&mut self, row: StoredRow) {
        self.destroyed.extend(version_id(&row.primary_key));
        self.walk.row(row);
    }
}

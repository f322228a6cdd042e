//! The one way to change the store. Named by the audit log's writer and its start alone (`tests/layout.rs`).
//!
//! ```text
//! begin ─► (apply(change) ─► outbox(record that carries its `chg`))* ─► commit
//! ```

use std::{sync::Arc, time::Instant};

use super::{
    Applied, Change, ChangeError, Expected, Row as _, RowKey, StoreError, Table, Value, Write,
    backend::{RowWrite, Writer, Written},
    hot::{Hot, Moved, Stale},
    lock::DirectoryLock,
    mac::{Place, link},
    row::canonical,
    rows::{BLOB_COLUMN, NAME_COLUMN, STATE_COLUMN, Tombstone},
    tombstones::{TombstoneFile, VersionId},
    verify,
};
use crate::{clock::Clock, model::KeyState};

/// How often expired answers are looked for, in ms.
const FORGET_EVERY: i64 = 60_000;

/// Changes the store, one transaction at a time.
pub struct Committer {
    pub(super) writer: Box<dyn Writer>,
    pub(super) hot: Arc<Hot>,
    pub(super) row_key: Arc<RowKey>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) tombstones: TombstoneFile,
    /// Destroyed, and for a fault of the file not listed yet.
    pub(super) unlisted: Vec<VersionId>,
    pub(super) head: Applied,
    /// A commit failed, and it is not known whether it happened.
    pub(super) uncertain: bool,
    /// Another program wrote to the database, and no walk has found it whole since.
    pub(super) suspect: bool,
    pub(super) forget_at: i64,
    pub(super) _lock: DirectoryLock,
}

/// Changes and their records, committed together or not at all. Dropped, it leaves nothing behind.
pub struct Transaction<'a> {
    committer: &'a mut Committer,
    head: Applied,
    stale: Stale,
    /// The database gave up the whole transaction: nothing more can be done in it.
    broken: bool,
}

/// A record that was committed with its change, and may not yet be in the log's segments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutboxRow {
    /// The record's place in the log.
    pub seq: u64,
    /// Its exact bytes.
    pub record: Vec<u8>,
}

impl Committer {
    /// Starts a transaction. One that was dropped before is rolled back first.
    ///
    /// Errors: `Tampered` if another program wrote to the database and a walk over the whole of it finds a fault.
    pub async fn begin(&mut self) -> Result<Transaction<'_>, StoreError> {
        self.writer.rollback().await?;
        self.list_tombstones()?;
        self.suspect |= self.writer.written_by_others().await?;
        if self.suspect {
            self.look_over().await?;
        }
        self.writer.begin().await?;
        if self.uncertain {
            self.settle_head().await?;
        }
        let now = self.clock.now().unix_ms();
        if now >= self.forget_at {
            self.writer.forget_expired(now).await?;
            self.forget_at = now + FORGET_EVERY;
        }
        Ok(Transaction {
            head: self.head,
            stale: Stale::default(),
            broken: false,
            committer: self,
        })
    }

    /// Where the chain of changes ends.
    pub fn head(&self) -> Applied {
        self.head
    }

    /// Records after `after` (all, if `None`), in ascending order.
    pub async fn outbox_rows(&mut self, after: Option<u64>) -> Result<Vec<OutboxRow>, StoreError> {
        self.writer.rollback().await?;
        self.writer.outbox_after(after).await
    }

    /// Forgets records up to and with `through`: the log's segments hold them, synced.
    pub async fn clear_outbox(&mut self, through: u64) -> Result<(), StoreError> {
        self.writer.rollback().await?;
        self.writer.clear_outbox(through).await
    }

    /// Compares with the highest `chg` that the log or the checkpoint file knows. Errors: `RolledBack`, or `Tampered` if the chain forked.
    pub async fn check_head(&mut self, known: Applied) -> Result<(), StoreError> {
        if known.seq > self.head.seq {
            return Err(StoreError::RolledBack {
                found: self.head.seq,
                known: known.seq,
            });
        }
        let found = match known.seq {
            0 => return Ok(()),
            seq if seq == self.head.seq => Some(self.head.link.to_vec()),
            seq => self.writer.link_at(seq).await?,
        };
        if found.as_deref() == Some(&known.link[..]) {
            Ok(())
        } else {
            Err(StoreError::tampered(
                format!("change {}", known.seq),
                "the audit log knows another change of this number",
            ))
        }
    }

    /// Someone else wrote to the database. If every row still is what the chain says, work goes on.
    async fn look_over(&mut self) -> Result<(), StoreError> {
        tracing::error!("another program wrote to the store: checking all of it");
        let everything = Stale {
            everything: true,
            ..Stale::default()
        };
        self.hot.obey(&everything);
        let known = (!self.uncertain).then_some(self.head);
        let report = verify::verify_with(&*self.hot.reader, &self.row_key, known).await?;
        if let Some(finding) = report.findings.first() {
            let (object, problem, findings) = (&finding.object, &finding.problem, report.findings.len());
            tracing::error!(object, problem, findings, "the store was tampered with");
            return Err(StoreError::tampered(object, "another program changed it"));
        }
        self.suspect = false;
        Ok(())
    }

    /// After a failed commit the database says whether it happened.
    async fn settle_head(&mut self) -> Result<(), StoreError> {
        let mut head = self.head;
        while let Some(link) = self.writer.link_at(head.seq + 1).await? {
            head = Applied {
                seq: head.seq + 1,
                link: link
                    .try_into()
                    .map_err(|_| StoreError::tampered("changes", "a link has another length"))?,
            };
        }
        self.head = head;
        self.uncertain = false;
        Ok(())
    }

    fn list_tombstones(&mut self) -> Result<(), StoreError> {
        self.tombstones.append(&self.unlisted, self.clock.now())?;
        self.unlisted.clear();
        Ok(())
    }
}

impl Transaction<'_> {
    /// Writes one change, whole or not at all; a refusal leaves the transaction usable for others. The answer is the record's `chg`.
    pub async fn apply(&mut self, change: &Change) -> Result<Applied, ChangeError> {
        self.whole()?;
        let before = (
            self.head,
            self.stale.keys.len(),
            self.stale.everything,
            self.stale.destroyed.len(),
            self.stale.moved.len(),
        );
        self.committer
            .writer
            .attempt()
            .await
            .map_err(|error| self.broke(error))?;
        let written = self.write_all(change).await;
        if written.is_ok() {
            self.committer.writer.keep().await.map_err(|error| self.broke(error))?;
            return Ok(self.head);
        }
        self.head = before.0;
        self.stale.keys.truncate(before.1);
        self.stale.everything = before.2;
        self.stale.destroyed.truncate(before.3);
        self.stale.moved.truncate(before.4);
        if self.committer.writer.undo().await.is_err() {
            self.broken = true;
        }
        written
    }

    /// Keeps a record until the log has it.
    pub async fn outbox(&mut self, seq: u64, record: &[u8]) -> Result<(), StoreError> {
        self.committer.writer.put_outbox(seq, record).await
    }

    /// Commits, fully synced. When it returns, every reader sees the changes, and the ids of destroyed versions are in the tombstone file.
    ///
    /// After an error the store may hold the changes or not: the next `begin` finds out, and [`Committer::head`] tells.
    pub async fn commit(mut self) -> Result<Applied, StoreError> {
        let committed = match self.broken {
            true => Err(StoreError::GaveUp),
            false => self.committer.writer.commit().await,
        };
        self.committer.hot.obey(&self.stale);
        match committed {
            Ok(()) => self.committer.head = self.head,
            Err(error) => {
                self.committer.uncertain = true;
                return Err(error);
            }
        }
        self.committer.unlisted.append(&mut self.stale.destroyed);
        self.committer.list_tombstones()?;
        Ok(self.head)
    }

    async fn write_all(&mut self, change: &Change) -> Result<Applied, ChangeError> {
        if let Some(remembered) = change.remembered() {
            let now = self.committer.clock.now().unix_ms();
            if !self.committer.writer.remember(remembered, now).await.map_err(refused)? {
                return Err(ChangeError::RequestIdInUse);
            }
        }
        for write in change.writes() {
            self.note_stale(change, write).await?;
            self.note_moved(write);
            self.write(write).await?;
            if let Some(tombstone) = self.tombstone(write)? {
                self.write(&tombstone).await?;
            }
        }
        Ok(self.head)
    }

    async fn write(&mut self, write: &Write) -> Result<(), ChangeError> {
        let place = Place {
            table: write.table,
            primary_key: &write.primary_key,
            row_version: match write.expected {
                Expected::Absent => 1,
                Expected::Version(version) => version.saturating_add(1),
            },
            change_seq: self.head.seq + 1,
        };
        let row = write.columns.as_deref().map(canonical);
        let row_mac = self.committer.row_key.row_mac(place, row.as_deref());
        let link = link(&self.head.link, place.change_seq, &row_mac);
        let written = self.committer.writer.write(RowWrite {
            table: write.table,
            primary_key: &write.primary_key,
            expected: write.expected,
            columns: write.columns.as_deref(),
            row_version: place.row_version,
            change_seq: place.change_seq,
            row_mac: &row_mac,
            link: &link,
        });
        match written.await.map_err(refused)? {
            Written::Exists => Err(ChangeError::Exists(write.table)),
            Written::Stale => Err(ChangeError::Stale(write.table)),
            Written::Done => {
                self.head = Applied {
                    seq: place.change_seq,
                    link,
                };
                Ok(())
            }
        }
    }

    /// Notes what memory must forget. A row that was absent is in no memory.
    async fn note_stale(&mut self, change: &Change, write: &Write) -> Result<(), ChangeError> {
        match write.table {
            Table::Environments | Table::Teams => self.stale.everything |= write.expected != Expected::Absent,
            Table::LogEpochs | Table::Tombstones | Table::UseCounters => {}
            Table::Keys if write.expected == Expected::Absent => {}
            Table::Keys | Table::KeyVersions => {
                let Some(id) = write.primary_key.get(..16) else {
                    return Ok(());
                };
                let same_key = |other: &&Write| other.table == Table::Keys && other.primary_key == id;
                let written = change.writes().iter().find(same_key);
                let name = match written.map(|key| (key.expected, key.columns.as_deref())) {
                    // A new key with its first versions.
                    Some((Expected::Absent, _)) => return Ok(()),
                    Some((_, Some(columns))) => match &columns[NAME_COLUMN].value {
                        Value::Text(name) => Some(name.clone()),
                        _ => None,
                    },
                    _ => self.committer.writer.key_name(id).await.map_err(refused)?,
                };
                self.stale.keys.extend(name.and_then(|name| name.parse().ok()));
            }
        }
        Ok(())
    }

    /// Notes a version's new state, for whoever was let in on the old one.
    fn note_moved(&mut self, write: &Write) {
        let (Table::KeyVersions, Some(columns), Expected::Version(before)) =
            (write.table, &write.columns, write.expected)
        else {
            return;
        };
        let state = match &columns[STATE_COLUMN].value {
            Value::Text(state) => KeyState::parse(state),
            _ => None,
        };
        if let (Some(id), Some(state)) = (verify::version_id(&write.primary_key), state) {
            let moved = Moved {
                row_version: before.saturating_add(1),
                state,
                at: Instant::now(),
            };
            self.stale.moved.push((id, moved));
        }
    }

    /// The tombstone of a version that this write destroys.
    fn tombstone(&mut self, write: &Write) -> Result<Option<Write>, ChangeError> {
        let (Table::KeyVersions, Some(columns)) = (write.table, &write.columns) else {
            return Ok(None);
        };
        let state = match &columns[STATE_COLUMN].value {
            Value::Text(state) => KeyState::parse(state),
            _ => None,
        };
        if state.is_none_or(KeyState::holds_key) {
            return Ok(None);
        }
        if !matches!(columns[BLOB_COLUMN].value, Value::Null(_)) {
            let error = StoreError::tampered("key_versions", "a version that is being destroyed keeps its blob");
            return Err(refused(error));
        }
        let Some(id) = verify::version_id(&write.primary_key) else {
            return Ok(None);
        };
        if self.committer.hot.is_destroyed(&id) || self.stale.destroyed.contains(&id) {
            return Ok(None);
        }
        self.stale.destroyed.push(id);
        let tombstone = Tombstone {
            key: id.0,
            number: id.1,
            destroyed: self.committer.clock.now(),
        };
        Ok(Some(Write {
            table: Table::Tombstones,
            primary_key: tombstone.primary_key(),
            expected: Expected::Absent,
            columns: Some(tombstone.columns()),
        }))
    }

    fn whole(&self) -> Result<(), ChangeError> {
        match self.broken {
            true => Err(refused(StoreError::GaveUp)),
            false => Ok(()),
        }
    }

    fn broke(&mut self, error: StoreError) -> ChangeError {
        self.broken = true;
        refused(error)
    }
}

fn refused(error: StoreError) -> ChangeError {
    ChangeError::Store(Arc::new(error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::testing::{Place, commit, creation, key, seed};

    #[tokio::test]
    async fn after_a_commit_that_failed_the_database_says_where_the_chain_ends() {
        let place = Place::new();
        let (directory, mut committer) = place.open().await.unwrap();
        let (_, team, _) = seed(&mut committer).await;
        let before = committer.head();

        // It did not happen.
        let mut transaction = committer.begin().await.unwrap();
        transaction.apply(&creation(&key(&team, "lost"))).await.unwrap();
        transaction.committer.writer.rollback().await.unwrap();
        transaction.commit().await.unwrap_err();
        drop(committer.begin().await.unwrap());
        assert_eq!(committer.head(), before);

        // It happened, and only its answer was lost.
        let mut transaction = committer.begin().await.unwrap();
        let applied = transaction.apply(&creation(&key(&team, "kept"))).await.unwrap();
        transaction.committer.writer.commit().await.unwrap();
        transaction.commit().await.unwrap_err();
        drop(committer.begin().await.unwrap());
        assert_eq!(committer.head(), applied);

        commit(&mut committer, creation(&key(&team, "next"))).await.unwrap();
        let name = |id| team.name.key(id).unwrap();
        assert!(directory.key(&name("lost")).await.unwrap().is_none());
        assert!(directory.key(&name("kept")).await.unwrap().is_some());
        assert!(directory.key(&name("next")).await.unwrap().is_some());
    }

    #[tokio::test]
    async fn a_destruction_that_cannot_be_listed_is_not_answered_and_is_listed_before_the_next_change() {
        let place = Place::new();
        let (directory, mut committer) = place.open().await.unwrap();
        let (_, _, stored) = seed(&mut committer).await;
        let mut destroyed = crate::model::Version::clone(&stored.versions[0]);
        destroyed.row_version = 1;
        destroyed.state = KeyState::Destroyed;
        destroyed.blob = None;

        committer.tombstones.fail_once();
        let mut transaction = committer.begin().await.unwrap();
        transaction.apply(&Change::new().update(&destroyed)).await.unwrap();
        assert!(matches!(transaction.commit().await, Err(StoreError::File { .. })));
        let listed = || std::fs::read_to_string(place.tombstone_file()).unwrap();
        assert_eq!(listed(), "");
        assert_eq!(
            directory.key(&stored.name).await.unwrap().unwrap().state(),
            KeyState::Destroyed
        );

        drop(committer.begin().await.unwrap());
        assert!(listed().starts_with(&stored.id.to_string()));
    }
}

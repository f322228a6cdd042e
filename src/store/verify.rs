//! The rules of use of a row, and the walk that checks a whole store against them (`docs/formats.md`, section 9).

use std::{collections::HashMap, path::Path};

use super::{
    Applied, RowKey, StoreError, Table,
    backend::{ChainEntry, Reader, StoredRow, Visitor},
    mac::{Place, link},
    row::canonical,
    sqlite::{FILE, SqliteReader},
};
use crate::model::{KeyId, KeyVersion};

/// Findings kept; a wrong key makes every row one.
const FINDINGS: usize = 1_000;

/// What a walk over a store found.
#[derive(Debug, Clone)]
pub struct Report {
    /// Where the chain of changes ends.
    pub head: Applied,
    pub rows: u64,
    /// The first 1,000.
    pub findings: Vec<Finding>,
}

/// Something that is not as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    pub object: String,
    pub problem: String,
}

impl Report {
    pub fn is_clean(&self) -> bool {
        self.findings.is_empty()
    }
}

/// Walks the chain and all rows of the store in `directory`, at rest or in use.
///
/// `known`: the highest `chg` of the audit log or the checkpoint file; without it a store rolled back as a whole passes.
pub async fn verify(directory: &Path, row_key: &RowKey, known: Option<Applied>) -> Result<Report, StoreError> {
    let reader = SqliteReader::open(&directory.join(FILE)).await?;
    let report = verify_with(&reader, row_key, known).await;
    reader.close().await;
    report
}

pub(super) async fn verify_with(
    reader: &dyn Reader,
    row_key: &RowKey,
    known: Option<Applied>,
) -> Result<Report, StoreError> {
    let mut walk = Walk::new(row_key, known);
    reader.walk(&Table::ALL, &mut walk).await?;
    Ok(walk.finish(&Table::ALL))
}

/// A row may be used if its MAC verifies and the chain's last word on it is this version and MAC.
pub(super) fn check(row_key: &RowKey, row: &StoredRow, last: Option<&ChainEntry>) -> Result<(), &'static str> {
    let place = Place {
        table: row.table,
        primary_key: &row.primary_key,
        row_version: row.row_version,
        change_seq: row.change_seq,
    };
    if !row_key.verifies(place, Some(&canonical(&row.columns)), &row.row_mac) {
        return Err("its MAC does not fit: it was edited, moved or inserted");
    }
    let Some(last) = last else {
        return Err("the chain of changes does not know it");
    };
    let is_last = last.row_version == row.row_version && last.seq == row.change_seq && last.row_mac == row.row_mac;
    is_last
        .then_some(())
        .ok_or("it is not the version that the chain of changes ends with: it was rolled back")
}

/// Collects while a store is walked.
pub(super) struct Walk<'a> {
    row_key: &'a RowKey,
    known: Option<Applied>,
    report: Report,
    /// Of each row, the last entry.
    last: HashMap<(Table, Vec<u8>), ChainEntry>,
}

impl<'a> Walk<'a> {
    pub fn new(row_key: &'a RowKey, known: Option<Applied>) -> Self {
        let report = Report {
            head: Applied::NONE,
            rows: 0,
            findings: Vec::new(),
        };
        Self {
            row_key,
            known,
            report,
            last: HashMap::new(),
        }
    }

    /// `tables`: those whose rows were walked; only of these a missing row can be told.
    pub fn finish(mut self, tables: &[Table]) -> Report {
        let known = self.known.take();
        if let Some(known) = known.filter(|known| known.seq > self.report.head.seq) {
            let problem = format!(
                "ends at change {}, the log knows change {}: it was rolled back",
                self.report.head.seq, known.seq
            );
            self.find("the store".into(), problem);
        }
        for ((table, primary_key), entry) in std::mem::take(&mut self.last) {
            if !tables.contains(&table) {
                continue;
            }
            let place = Place {
                table,
                primary_key: &primary_key,
                row_version: entry.row_version,
                change_seq: entry.seq,
            };
            if !self.row_key.verifies(place, None, &entry.row_mac) {
                self.find(object(table, &primary_key), "its row is missing".into());
            }
        }
        self.report.findings.sort_by(|a, b| a.object.cmp(&b.object));
        self.report
    }

    fn find(&mut self, object: String, problem: String) {
        if self.report.findings.len() < FINDINGS {
            self.report.findings.push(Finding { object, problem });
        }
    }
}

impl Visitor for Walk<'_> {
    fn entry(&mut self, entry: ChainEntry) {
        let head = self.report.head;
        let object = || format!("change {}", entry.seq);
        if entry.seq != head.seq + 1 {
            self.find(object(), format!("change {} before it is missing", head.seq + 1));
        }
        let mac: Option<[u8; 32]> = entry.row_mac.as_slice().try_into().ok();
        let stored: Option<[u8; 32]> = entry.link.as_slice().try_into().ok();
        if mac.is_none_or(|mac| stored != Some(link(&head.link, entry.seq, &mac))) {
            self.find(object(), "its link does not fit the one before".into());
        }
        // Goes on from what is stored, so that one fault is one finding.
        self.report.head = Applied {
            seq: entry.seq,
            link: stored.unwrap_or_default(),
        };
        if let Some(known) = self.known.filter(|known| known.seq == entry.seq)
            && stored != Some(known.link)
        {
            self.find(object(), "the audit log knows another change of this number".into());
        }
        let Some(table) = Table::ALL.into_iter().find(|table| table.name() == entry.table) else {
            self.find(object(), "it names no table of this program".into());
            return;
        };
        let version = entry.row_version;
        let before = self.last.insert((table, entry.primary_key.clone()), entry);
        if before.map_or(0, |before| before.row_version) + 1 != version {
            let seq = self.report.head.seq;
            self.find(
                format!("change {seq}"),
                "the change of this row before it is missing".into(),
            );
        }
    }

    fn row(&mut self, row: StoredRow) {
        self.report.rows += 1;
        let last = self.last.remove(&(row.table, row.primary_key.clone()));
        if let Err(problem) = check(self.row_key, &row, last.as_ref()) {
            self.find(object(row.table, &row.primary_key), problem.into());
        }
    }
}

/// A row, as an operator may look it up.
pub(super) fn object(table: Table, primary_key: &[u8]) -> String {
    let name = table.name();
    let id = |bytes: &[u8]| bytes.try_into().ok().map(KeyId::from_bytes);
    let text = match table {
        Table::Environments | Table::Teams | Table::Keys => id(primary_key).map(|id| format!("{name} {id}")),
        Table::KeyVersions | Table::Tombstones | Table::UseCounters => {
            version_id(primary_key).map(|(id, number)| format!("{name} {id}/{number}"))
        }
        Table::LogEpochs => primary_key
            .split_last_chunk::<8>()
            .map(|(node, epoch)| format!("{name} {}/{}", node.escape_ascii(), u64::from_be_bytes(*epoch))),
    };
    text.unwrap_or_else(|| format!("{name} {}", data_encoding::HEXLOWER.encode(primary_key)))
}

/// The version that a primary key of `KeyVersions`, `Tombstones` or `UseCounters` names.
pub(super) fn version_id(primary_key: &[u8]) -> Option<(KeyId, KeyVersion)> {
    let (id, number) = primary_key.split_last_chunk::<4>()?;
    let id = KeyId::from_bytes(id.try_into().ok()?);
    Some((id, KeyVersion::new(u32::from_be_bytes(*number))?))
}

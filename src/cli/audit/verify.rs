//! `audit verify`: recomputes the log of each epoch, and with the token's key every row of the store.

use std::path::Path;

use clap::Args;
use data_encoding::HEXLOWER;
use serde::Serialize;

use super::Source;
use crate::{
    audit::{self, LogReader},
    cli::{
        client,
        failure::{Failure, Outcome, causes},
        output::{self, Format, Shown, Table},
        row_key::row_key,
    },
    config::Config,
    store,
};

#[derive(Debug, Args)]
pub struct Verify {
    #[command(flatten)]
    source: Source,
    /// Also check every row of the store and their chain of changes: logs into the token for the key
    #[arg(long)]
    with_token: bool,
}

#[derive(Serialize)]
struct Verified {
    intact: bool,
    log: Option<String>,
    records: u64,
    root: String,
    first_time: Option<String>,
    last_time: Option<String>,
    segments: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    fault: Option<String>,
    /// The epochs before, oldest first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    older: Vec<Older>,
    store: StoreVerified,
}

#[derive(Serialize)]
struct Older {
    epoch: u64,
    records: u64,
    root: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    fault: Option<String>,
    /// The fault is the one that the next epoch's first record speaks of.
    known: bool,
}

impl Older {
    /// `next`: the epoch that followed, whose first record says how this one ended.
    fn of(epoch: u64, directory: &Path, next: &Path) -> Result<Self, Failure> {
        let report = audit::verify(directory).map_err(|error| Failure::file("read", directory, &error))?;
        let root = HEXLOWER.encode(&report.root);
        let mut fault = report.finding.as_ref().map(ToString::to_string);
        let ended = format!("previous={epoch} records={} root={root} ", report.records);
        let opening = LogReader::open(next).and_then(|mut reader| reader.advance());
        let opening = opening.ok().flatten();
        let said = opening
            .as_ref()
            .and_then(|stored| stored.record().ok())
            .filter(|record| record.op == audit::EPOCH)
            .map(|record| record.object.to_string())
            .unwrap_or_default();
        let as_said = said.contains(&ended);
        let known = as_said && said.contains("state=damaged");
        if fault.is_none() && !as_said {
            fault = Some(format!(
                "it ends otherwise than the first record of the next epoch says: {said}"
            ));
        }
        Ok(Self {
            epoch,
            records: report.records,
            root,
            known: known && fault.is_some(),
            fault,
        })
    }

    fn is_well(&self) -> bool {
        self.fault.is_none() || self.known
    }
}

#[derive(Serialize)]
struct StoreVerified {
    checked: bool,
    rows: u64,
    changes: u64,
    faults: Vec<String>,
}

impl Verify {
    pub fn run(self, format: Format) -> Outcome {
        let directories = self.source.directories()?;
        let pairs = directories.iter().zip(directories.iter().skip(1));
        let older = pairs.map(|((epoch, directory), (_, next))| Older::of(*epoch, directory, next));
        let older = older.collect::<Result<Vec<_>, _>>()?;
        let directory = self.source.directory()?;
        let report = audit::verify(&directory).map_err(|error| Failure::file("read", &directory, &error))?;
        let mut store = StoreVerified {
            checked: false,
            rows: 0,
            changes: 0,
            faults: Vec::new(),
        };
        if self.with_token {
            let config = self.source.config.load()?;
            let known = report.change;
            let found = client(async { store_report(&config, known, &mut store).await });
            found?;
        }
        let view = Verified {
            intact: report.finding.is_none() && store.faults.is_empty() && older.iter().all(Older::is_well),
            log: report.log,
            records: report.records,
            root: HEXLOWER.encode(&report.root),
            first_time: report.first_time,
            last_time: report.last_time,
            segments: report.segments,
            fault: report.finding.as_ref().map(ToString::to_string),
            older,
            store,
        };
        output::print(format, &view)?;
        if view.intact {
            return Ok(());
        }
        Err(Failure::failed(
            "log or store were changed, or are damaged: keep the files as they are, and compare with a backup (docs/runbooks/backup-and-restore.md)",
        ))
    }
}

async fn store_report(config: &Config, known: Option<store::Applied>, into: &mut StoreVerified) -> Outcome {
    let key = row_key(config).await?;
    let report = store::verify(&config.store.data_dir, &key, known)
        .await
        .map_err(causes)?;
    into.checked = true;
    into.rows = report.rows;
    into.changes = report.head.seq;
    into.faults = report
        .findings
        .iter()
        .map(|finding| format!("{}: {}", finding.object, finding.problem))
        .collect();
    Ok(())
}

impl Shown for Verified {
    fn table(&self) -> Table {
        let mut table = Table::facts();
        table
            .fact("log", self.log.clone().unwrap_or_default())
            .fact(
                "records",
                format!("{} intact, in {} segments", self.records, self.segments),
            )
            .fact(
                "from, to",
                [&self.first_time, &self.last_time]
                    .map(|time| time.as_deref().unwrap_or("-"))
                    .join(", "),
            )
            .fact("merkle root", &self.root)
            .fact("fault", self.fault.as_deref().unwrap_or("none found"));
        for older in &self.older {
            let fault = match (&older.fault, older.known) {
                (None, _) => "none found".to_owned(),
                (Some(fault), true) => format!("{fault} (known when the next epoch was opened)"),
                (Some(fault), false) => fault.clone(),
            };
            table.fact(
                "older epoch",
                format!("{}: {} records intact, fault: {fault}", older.epoch, older.records),
            );
        }
        if self.store.checked {
            let faults = match self.store.faults.len() {
                0 => "no fault".to_owned(),
                faults => format!("{faults} FAULTS"),
            };
            table.fact(
                "store",
                format!("{} rows, {} changes, {faults}", self.store.rows, self.store.changes),
            );
            for fault in &self.store.faults {
                table.fact("", fault);
            }
        } else {
            table.fact("store", "not checked: its key is in the token (--with-token)");
        }
        table
    }
}

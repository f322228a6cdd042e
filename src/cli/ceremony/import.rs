//! `tokens import`: a member takes an epoch of its group in.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use super::{
    super::{
        failure::{Failure, Outcome, causes},
        output::{Format, Shown, Table},
    },
    desk::{Desk, earlier, manifest, note_left, refuse_existing, write_stated},
    show::facts_of_receipt,
};
use crate::token::ceremony::{Left, Receipt, Signed, Transfer};

#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  keyreeve tokens import epoch-1-to-0001.transfer --out b-1.receipt

At the token's host, with the server stopped. Every member imports, the one that made the epoch, too. What is wrong with a file is not told:
one answer for all, since the answers would help to forge one. If it is interrupted, repeat it as it was, with the same file: it goes on, or
removes what it had begun and starts anew.")]
pub struct Import {
    /// The transfer file for this token
    #[arg(value_name = "FILE")]
    transfer: PathBuf,
    /// Where the receipt is written
    #[arg(long, value_name = "FILE", required_unless_present = "dry_run")]
    out: Option<PathBuf>,
    /// Manifest under which a transfer file was made, signatures beside it, if the token that made it is no longer of the group
    #[arg(long, value_name = "FILE")]
    earlier: Vec<PathBuf>,
    #[command(flatten)]
    desk: Desk,
}

#[derive(Serialize)]
struct Done {
    #[serde(flatten)]
    receipt: Receipt,
    #[serde(skip_serializing_if = "Option::is_none")]
    left: Option<Left>,
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<PathBuf>,
}

#[derive(Serialize)]
struct Tried {
    epoch: u32,
    kek_id: String,
    serial: String,
}

impl Import {
    pub fn run(self, format: Format) -> Outcome {
        let at = self.desk.load()?;
        let manifest = manifest(&at)?;
        let earlier = earlier(&at, &self.earlier)?;
        let transfer = Signed::<Transfer>::read(&self.transfer).map_err(Failure::failed)?;
        let token = self.desk.open(&at)?;
        if self.desk.dry_run {
            token.try_import((&manifest, &earlier), &transfer).map_err(causes)?;
            let tried = Tried {
                epoch: transfer.said.epoch,
                kek_id: transfer.said.kek_id.clone(),
                serial: token.serial().to_owned(),
            };
            return self.desk.end(format, "tokens import", &tried, "");
        }
        let begun = token.has_begun_import(&transfer).map_err(causes)?;
        refuse_existing(self.out.as_deref(), begun)?;
        let stated = token.import((&manifest, &earlier), &transfer).map_err(causes)?;
        drop(token);
        note_left(&stated);
        if let Some(file) = &self.out {
            write_stated(file, &stated)?;
        }
        let receipt = stated.statement.said.clone();
        let listed = manifest.epochs.iter().any(|epoch| epoch.epoch == receipt.epoch);
        let next = if listed {
            "erase the transfer file; the manifest lists this epoch: start the server, or import the next epoch"
        } else {
            "erase the transfer file; once the members have imported: `keyreeve ceremony manifest --previous … --receipt …`"
        };
        let done = Done {
            receipt,
            left: stated.left.clone(),
            file: self.out.clone(),
        };
        self.desk.end(format, "tokens import", &done, next)?;
        stated.handed_over().map(drop).map_err(causes)
    }
}

impl Shown for Done {
    fn table(&self) -> Table {
        let mut table = Table::facts();
        facts_of_receipt(&mut table, &self.receipt);
        if let Some(file) = &self.file {
            table.fact("receipt", file.display().to_string());
        }
        table
    }
}

impl Shown for Tried {
    fn table(&self) -> Table {
        let mut table = Table::facts();
        table
            .fact("serial", &self.serial)
            .fact("epoch", self.epoch.to_string())
            .fact("kek_id", &self.kek_id)
            .fact("would import", "yes");
        table
    }
}

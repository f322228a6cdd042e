//! `ceremony add`: the recovery token wraps a group's keys for a new member.

use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;

use super::{
    super::{
        failure::{Failure, Outcome, causes},
        output::{Format, Shown, Table},
    },
    desk::{Desk, earlier, manifest, transfer_name},
};
use crate::token::ceremony::{Signed, Transfer};

#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  keyreeve ceremony add 0003 --from epoch-1-to-0009.transfer --from epoch-2-to-0009.transfer --out /media/ceremony

On an offline host, with the recovery token. The new member is enrolled and in the manifest. No key of the service is touched: the new
member opens all of them once it has imported every epoch, oldest first.")]
pub struct Add {
    /// Serial of the new member
    #[arg(value_name = "SERIAL")]
    member: String,
    /// Transfer file of this recovery token; one for each epoch of the group
    #[arg(long, value_name = "FILE", required = true)]
    from: Vec<PathBuf>,
    /// Directory for the new member's transfer files
    #[arg(long, value_name = "DIRECTORY", required_unless_present = "dry_run")]
    out: Option<PathBuf>,
    /// Manifest under which a transfer file was made, signatures beside it, if the token that made it is no longer of the group
    #[arg(long, value_name = "FILE")]
    earlier: Vec<PathBuf>,
    #[command(flatten)]
    desk: Desk,
}

/// Transfer files, written or only tried.
#[derive(Serialize)]
pub struct Sent(pub Vec<SentFile>);

#[derive(Serialize)]
pub struct SentFile {
    epoch: u32,
    kek_id: String,
    to: String,
    oaep_hash: crate::token::OaepHash,
    sha256: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<PathBuf>,
}

impl Add {
    pub fn run(self, format: Format) -> Outcome {
        let at = self.desk.load()?;
        let manifest = manifest(&at)?;
        let earlier = earlier(&at, &self.earlier)?;
        let read = |file: &PathBuf| Signed::<Transfer>::read(file).map_err(Failure::failed);
        let kept = self.from.iter().map(read).collect::<Result<Vec<_>, _>>()?;
        let token = self.desk.open(&at)?;
        let transfers = token
            .pass_on((&manifest, &earlier), &kept, &self.member)
            .map_err(causes)?;
        drop(token);
        let written = write(self.out.as_deref().filter(|_| !self.desk.dry_run), &transfers)?;
        self.desk.end(
            format,
            "ceremony add",
            &Sent(written),
            "at the new member's host, oldest epoch first: `keyreeve tokens import FILE`; put the recovery token and its files away again",
        )
    }
}

/// Writes transfer files into a directory, if one is given.
pub fn write(directory: Option<&Path>, transfers: &[Signed<Transfer>]) -> Result<Vec<SentFile>, Failure> {
    let mut sent = Vec::with_capacity(transfers.len());
    for transfer in transfers {
        let said = &transfer.said;
        let file = directory.map(|directory| transfer_name(directory, said.epoch, &said.to));
        if let Some(file) = &file {
            transfer
                .write(file)
                .map_err(|error| Failure::file("write", file, &error))?;
        }
        sent.push(SentFile {
            epoch: said.epoch,
            kek_id: said.kek_id.clone(),
            to: said.to.clone(),
            oaep_hash: said.oaep_hash,
            sha256: transfer.sha256(),
            file,
        });
    }
    Ok(sent)
}

impl Shown for Sent {
    fn table(&self) -> Table {
        let mut table = Table::new(["EPOCH", "TO", "OAEP", "FILE"]);
        for sent in &self.0 {
            table.row([
                sent.epoch.to_string(),
                sent.to.clone(),
                sent.oaep_hash.as_str().to_owned(),
                sent.file
                    .as_ref()
                    .map_or_else(String::new, |file| file.display().to_string()),
            ]);
        }
        table
    }
}

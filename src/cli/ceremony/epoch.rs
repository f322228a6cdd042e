//! `ceremony epoch`: keys of a new epoch, made in one member and wrapped to every token of the group.

use std::path::PathBuf;

use clap::Args;

use super::{
    super::{
        failure::{Outcome, causes},
        output::Format,
    },
    desk::{Desk, manifest},
    transfers::{Sent, TransferFiles},
};

#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  keyreeve ceremony epoch --out /media/ceremony

At a member's host, with the server stopped, under the eyes of two custodians. The first epoch is how a group gets its root keys; a later
one is the rotation of the KEK. The keys themselves stay in the token and are gone when this ends: what is written is wrapped. If it is
interrupted, repeat it: its files bear their names once all of them are written, and are not made twice.")]
pub struct EpochCommand {
    /// Directory for the transfer files, on removable storage
    #[arg(long, value_name = "DIRECTORY", required_unless_present = "dry_run")]
    out: Option<PathBuf>,
    #[command(flatten)]
    desk: Desk,
}

impl EpochCommand {
    pub fn run(self, format: Format) -> Outcome {
        let at = self.desk.load()?;
        let manifest = manifest(&at)?;
        let token = self.desk.open(&at)?;
        let make = || token.make_epoch(&manifest).map_err(causes);
        let sent = match self.out.as_deref().filter(|_| !self.desk.dry_run) {
            None => Sent::tried(&make()?),
            Some(directory) => {
                // Beyond the last number nothing is made.
                let number = manifest.epochs.last().map_or(1, |last| last.epoch.saturating_add(1));
                let wanted = manifest.tokens().map(|token| (number, token.serial.as_str())).collect();
                TransferFiles { directory, wanted }.make_once(&manifest, token.serial(), make)?
            }
        };
        self.desk.end(
            format,
            "ceremony epoch",
            &sent,
            "each member imports its file, this one, too: `keyreeve tokens import FILE`; a recovery token's file is kept with it, apart from \
             everything else, and copied nowhere",
        )
    }
}

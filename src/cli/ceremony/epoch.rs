//! `ceremony epoch`: keys of a new epoch, made in one member and wrapped to every token of the group.

use std::path::PathBuf;

use clap::Args;

use super::{
    super::{
        failure::{Outcome, causes},
        output::Format,
    },
    add::{Sent, write},
    desk::{Desk, manifest},
};

#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  keyreeve ceremony epoch --out /media/ceremony

At a member's host, with the server stopped, under the eyes of two custodians. The first epoch is how a group gets its root keys; a later
one is the rotation of the KEK. The keys themselves stay in the token and are gone when this ends: what is written is wrapped.")]
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
        let transfers = token.make_epoch(&manifest).map_err(causes)?;
        drop(token);
        let written = write(self.out.as_deref().filter(|_| !self.desk.dry_run), &transfers)?;
        self.desk.end(
            format,
            "ceremony epoch",
            &Sent(written),
            "each member imports its file, this one, too: `keyreeve tokens import FILE`; a recovery token's file is kept with it, apart from \
             everything else, and copied nowhere",
        )
    }
}

//! `ceremony add`: the recovery token wraps a group's keys for a new member, or for another recovery token.

use std::path::PathBuf;

use clap::Args;

use super::{
    super::{
        failure::{Failure, Outcome, causes},
        output::Format,
    },
    desk::{Desk, earlier, manifest},
    transfers::{Sent, TransferFiles},
};
use crate::token::ceremony::{Signed, Transfer};

#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  keyreeve ceremony add 0003 --from epoch-1-to-0009.transfer --from epoch-2-to-0009.transfer --out /media/ceremony

On an offline host, with the recovery token. The new token is enrolled and in the manifest. No key of the service is touched: a new member
opens all of them once it has imported every epoch, oldest first. A new recovery token imports nothing: its files are kept with it, and it
can then bring in tokens as this one does.")]
pub struct Add {
    /// Serial of the new member or recovery token
    #[arg(value_name = "SERIAL")]
    to: String,
    /// Transfer file of this recovery token; one for each epoch of the group
    #[arg(long, value_name = "FILE", required = true)]
    from: Vec<PathBuf>,
    /// Directory for the new token's transfer files
    #[arg(long, value_name = "DIRECTORY", required_unless_present = "dry_run")]
    out: Option<PathBuf>,
    /// Manifest under which a transfer file was made, signatures beside it, if the token that made it is no longer of the group
    #[arg(long, value_name = "FILE")]
    earlier: Vec<PathBuf>,
    #[command(flatten)]
    desk: Desk,
}

impl Add {
    pub fn run(self, format: Format) -> Outcome {
        let at = self.desk.load()?;
        let manifest = manifest(&at)?;
        let earlier = earlier(&at, &self.earlier)?;
        let read = |file: &PathBuf| Signed::<Transfer>::read(file).map_err(Failure::failed);
        let kept = self.from.iter().map(read).collect::<Result<Vec<_>, _>>()?;
        let token = self.desk.open(&at)?;
        let make = || token.pass_on((&manifest, &earlier), &kept, &self.to).map_err(causes);
        let sent = match self.out.as_deref().filter(|_| !self.desk.dry_run) {
            None => Sent::tried(&make()?),
            Some(directory) => {
                let epochs = manifest.epochs.iter();
                let wanted = epochs.map(|epoch| (epoch.epoch, self.to.as_str())).collect();
                TransferFiles { directory, wanted }.make_once(&manifest, token.serial(), make)?
            }
        };
        let next = match manifest.member(&self.to) {
            Some(_) => {
                "at the new member's host, oldest epoch first: `keyreeve tokens import FILE`; put the recovery token and its files away again"
            }
            None => {
                "keep these files and this manifest, with its signatures, with the new recovery token, in another place than this one; try \
                 them there: `keyreeve ceremony add SERIAL-OF-A-MEMBER --from … --dry-run`"
            }
        };
        self.desk.end(format, "ceremony add", &sent, next)
    }
}

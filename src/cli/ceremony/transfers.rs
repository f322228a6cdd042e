//! The transfer files of one step: all of them bear their names, or none does, however the step ends.
//!
//! Each is first written with `.new` behind its name, and renamed once all of them are. So where one bears its name, all were written:
//! a step that is repeated names the rest, and makes none anew, since some may be on their way. Where none does, none is.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde::Serialize;

use super::super::{
    failure::{Failure, Outcome},
    output::{self, Shown, Table},
};
use crate::token::{
    Manifest, OaepHash,
    ceremony::{Signed, Transfer},
    files,
};

/// The files that a step is to make: epochs, and serials of the tokens that they are for.
pub struct TransferFiles<'a> {
    pub directory: &'a Path,
    pub wanted: Vec<(u32, &'a str)>,
}

impl TransferFiles<'_> {
    /// Writes what `make` makes, unless an attempt before got so far.
    pub fn make_once(
        &self,
        manifest: &Manifest,
        from: &str,
        make: impl FnOnce() -> Result<Vec<Signed<Transfer>>, Failure>,
    ) -> Result<Sent, Failure> {
        if let Some(made) = self.made_before(manifest, from)? {
            return Ok(self.sent(&made));
        }
        let made = make()?;
        self.write(&made)?;
        Ok(self.sent(&made))
    }

    /// What an earlier attempt of the token `from` under the same manifest made, if it got as far as to name one; all are named then.
    ///
    /// Errors: if a file bears one of the names, and they are not all there and of one such attempt.
    fn made_before(&self, manifest: &Manifest, from: &str) -> Result<Option<Vec<Signed<Transfer>>>, Failure> {
        let names: Vec<_> = self.wanted.iter().map(|(epoch, to)| self.name(*epoch, to)).collect();
        let Some(there) = names.iter().find(|name| name.exists()) else {
            return Ok(None);
        };
        let refused = || Failure::failed(format!("`{}` exists: nothing was done", there.display()));
        let key = manifest.token(from).and_then(|token| token.audit_key());
        let key = key.ok_or_else(refused)?;
        let mut made: Vec<Signed<Transfer>> = Vec::with_capacity(names.len());
        for (name, (epoch, to)) in names.iter().zip(&self.wanted) {
            let file = if name.exists() { name } else { &unnamed(name) };
            let transfer = Signed::<Transfer>::read(file).map_err(|_| refused())?;
            let said = &transfer.said;
            let of_this_step = said.manifest == manifest.sha256() && said.epoch == *epoch && said.to == *to;
            // Keys of one epoch, or the files would not go together.
            let of_one_attempt = made
                .iter()
                .all(|other| other.said.epoch != said.epoch || other.said.kek_id == said.kek_id);
            if !of_this_step || !of_one_attempt || said.from != from || !transfer.is_by(&key) {
                return Err(refused());
            }
            made.push(transfer);
        }
        self.give_names()?;
        output::note("note: the transfer files of this step are there from an attempt before: none was made anew");
        Ok(Some(made))
    }

    fn write(&self, transfers: &[Signed<Transfer>]) -> Outcome {
        let mut replaced = false;
        for transfer in transfers {
            let file = unnamed(&self.name(transfer.said.epoch, &transfer.said.to));
            // Of an attempt that named none of its files: nobody has one.
            replaced |= fs::remove_file(&file).is_ok();
            transfer
                .write(&file)
                .map_err(|error| Failure::file("write", &file, &error))?;
        }
        if replaced {
            output::note(
                "note: this step was begun before and interrupted; the files of that attempt, which had no names yet, were replaced",
            );
        }
        self.give_names()
    }

    fn sent(&self, transfers: &[Signed<Transfer>]) -> Sent {
        Sent::of(transfers, |said| Some(self.name(said.epoch, &said.to)))
    }

    fn give_names(&self) -> Outcome {
        for (epoch, to) in &self.wanted {
            let name = self.name(*epoch, to);
            if !name.exists() {
                fs::rename(unnamed(&name), &name).map_err(|error| Failure::file("write", &name, &error))?;
            }
        }
        fs::File::open(self.directory)
            .and_then(|directory| directory.sync_all())
            .map_err(|error| Failure::file("write into", self.directory, &error))
    }

    /// Serials are what vendors like, file names are not.
    fn name(&self, epoch: u32, to: &str) -> PathBuf {
        let serial = files::name_of(to);
        self.directory.join(format!("epoch-{epoch}-to-{serial}.transfer"))
    }
}

fn unnamed(name: &Path) -> PathBuf {
    let mut unnamed = name.as_os_str().to_owned();
    unnamed.push(".new");
    unnamed.into()
}

/// Transfer files, written or only tried.
#[derive(Serialize)]
pub struct Sent(Vec<SentFile>);

#[derive(Serialize)]
struct SentFile {
    epoch: u32,
    kek_id: String,
    to: String,
    oaep_hash: OaepHash,
    sha256: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<PathBuf>,
}

impl Sent {
    pub fn tried(transfers: &[Signed<Transfer>]) -> Self {
        Self::of(transfers, |_| None)
    }

    fn of(transfers: &[Signed<Transfer>], file: impl Fn(&Transfer) -> Option<PathBuf>) -> Self {
        let sent = transfers.iter().map(|transfer| SentFile {
            epoch: transfer.said.epoch,
            kek_id: transfer.said.kek_id.clone(),
            to: transfer.said.to.clone(),
            oaep_hash: transfer.said.oaep_hash,
            sha256: transfer.sha256(),
            file: file(&transfer.said),
        });
        Self(sent.collect())
    }
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

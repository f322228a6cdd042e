//! What the commands of a ceremony share: configuration, the token at hand, the transcript.

use std::{
    fs::DirBuilder,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
};

use clap::Args;

use super::super::{
    config::ConfigFile,
    failure::{Failure, Outcome, causes},
    output::{self, Format, Shown},
};
use crate::{
    clock::{Clock as _, SystemClock},
    hardening,
    token::{
        Manifest, TokenConfig,
        ceremony::{LastSeen, Left, Signed, Stated, Statement, TokenAtHand, transcript},
    },
};

/// Where a step is written down.
#[derive(Debug, Args)]
pub struct Transcript {
    /// The transcript that this step is added to
    #[arg(long, value_name = "FILE", default_value = "ceremony.jsonl")]
    transcript: PathBuf,
}

impl Transcript {
    /// Before anything is done: a step that cannot be written down is not taken.
    pub fn ready(&self) -> Outcome {
        transcript::verify(&self.transcript)
            .and_then(|_| transcript::open(&self.transcript))
            .map(drop)
            .map_err(|error| Failure::file("write the transcript", &self.transcript, &error))
    }

    /// Shows what was done, writes it down, and says what comes next.
    pub fn end(&self, format: Format, step: &str, done: &impl Shown, next: &str) -> Outcome {
        let said = serde_json::to_value(done).map_err(Failure::failed)?;
        transcript::append(&self.transcript, step, said, SystemClock.now())
            .map_err(|error| Failure::file("write the transcript", &self.transcript, &error))?;
        output::print(format, done)?;
        output::note(&format!("next: {next}"));
        Ok(())
    }
}

/// The token of the configuration.
#[derive(Debug, Args)]
pub struct Desk {
    #[command(flatten)]
    config: ConfigFile,
    /// Label or serial number of the token, where the configuration has several
    #[arg(long, value_name = "NAME")]
    token: Option<String>,
    /// Try everything and leave nothing behind: no key in the token, no file
    #[arg(long)]
    pub dry_run: bool,
    #[command(flatten)]
    pub transcript: Transcript,
}

/// The token that a step is done with, and where this host keeps what it has seen.
pub struct AtHand {
    pub token: TokenConfig,
    data: PathBuf,
    tombstones: PathBuf,
}

impl Desk {
    pub fn load(&self) -> Result<AtHand, Failure> {
        if !self.dry_run {
            self.transcript.ready()?;
        }
        hardening::forbid_dumps().map_err(Failure::failed)?;
        let config = self.config.load()?;
        let token = config.token(self.token.as_deref());
        Ok(AtHand {
            token: token
                .map_err(|problem| Failure::usage(format!("{problem}; name it with --token")))?
                .clone(),
            tombstones: config.tombstone_file(),
            data: config.store.data_dir,
        })
    }

    /// Logs into the token, once. The server must not run on it.
    pub fn open(&self, at: &AtHand) -> Result<TokenAtHand, Failure> {
        let data = &at.data;
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(data)
            .map_err(|error| Failure::file("make", data, &error))?;
        let token = TokenAtHand::open(&at.token, data).map_err(causes)?;
        if token.is_software() {
            output::note("note: a software token: whoever controls this host has its keys");
        }
        Ok(token)
    }

    /// As [`Transcript::end`]; after a dry run nothing is written.
    pub fn end(&self, format: Format, step: &str, done: &impl Shown, next: &str) -> Outcome {
        if self.dry_run {
            output::print(format, done)?;
            output::note("dry run: nothing was left in the token, and no file was written");
            return Ok(());
        }
        self.transcript.end(format, step, done, next)
    }
}

/// Earlier manifests, each with its signatures beside it: for transfer files of tokens that are gone.
pub fn earlier(at: &AtHand, files: &[PathBuf]) -> Result<Vec<Manifest>, Failure> {
    let load = |file: &PathBuf| {
        let mut source = at.token.manifest_source().map_err(Failure::failed)?;
        source.path = file.clone();
        Manifest::load(&source).map_err(Failure::failed)
    };
    files.iter().map(load).collect()
}

/// The group's manifest: signed by enough custodians, and no older than what this host has seen.
pub fn manifest(at: &AtHand) -> Result<Manifest, Failure> {
    if at.token.group_id.is_none() {
        return Err(Failure::failed(
            "the configuration names no custodians: set `group_id`, `custodians` and `quorum` in [token]",
        ));
    }
    let source = at.token.manifest_source().map_err(Failure::failed)?;
    let manifest = Manifest::load(&source).map_err(Failure::failed)?;
    LastSeen::beside(&at.tombstones, &manifest.group)
        .admit(&manifest)
        .map_err(Failure::failed)?;
    Ok(manifest)
}

/// Writes what a token stated, unless it is there already: a repeated step states the same again.
pub fn write_stated<S: Statement + PartialEq>(file: &Path, stated: &Stated<S>) -> Outcome {
    let statement = &stated.statement;
    if stated.left.is_some() && Signed::<S>::read(file).is_ok_and(|there| there.said == statement.said) {
        return Ok(());
    }
    statement.write(file).map_err(|error| {
        Failure::failed(format!(
            "cannot write `{}`: {error}; the token states it again when this command is repeated",
            file.display()
        ))
    })
}

/// Says what a step did with what an interrupted attempt had left.
pub fn note_left<S>(stated: &Stated<S>) {
    let text = match &stated.left {
        None => return,
        Some(Left::Whole) => "its keys are all in the token and right: they are kept".to_owned(),
        Some(Left::Removed(labels)) if labels.is_empty() => "it had left nothing in the token".to_owned(),
        Some(Left::Removed(labels)) => format!("what it had left in the token was removed: {}", labels.join(", ")),
    };
    output::note(&format!("note: this step was begun before and interrupted; {text}"));
}

/// A file that a step is to make is not there yet. `begun`: it may be there from an attempt that was interrupted.
pub fn refuse_existing(file: Option<&Path>, begun: bool) -> Outcome {
    match file.filter(|file| !begun && file.exists()) {
        Some(file) => Err(Failure::failed(format!(
            "`{}` exists: nothing was done",
            file.display()
        ))),
        None => Ok(()),
    }
}

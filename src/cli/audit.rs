//! `audit tail | search | verify`: the log of this host, read from its files, also beside a running server.

mod verify;

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use clap::{Args, Subcommand};

use super::{
    config::ConfigFile,
    failure::{Failure, Outcome, causes},
    output::{self, Format},
};
use crate::audit::{self, LogReader, Query, Stored};

/// How often a followed log is looked at.
const LOOK: Duration = Duration::from_millis(200);

#[derive(Debug, Subcommand)]
pub enum Audit {
    /// Shows the newest records, of older epochs too where the newest has fewer
    #[command(after_help = "Example:\n  keyreeve audit tail --count 20\n  keyreeve audit tail --follow -o json")]
    Tail(Tail),
    /// Finds records by what they say
    #[command(after_help = "\
Example:
  keyreeve audit search --operation Decrypt --result refused --from 2026-11-23
  keyreeve audit search --object dev/shop/orders --identity spiffe://keyreeve.dev/app -o json")]
    Search(Box<Search>),
    /// Checks that nothing was edited, deleted, inserted or swapped
    #[command(after_help = "\
Example:
  keyreeve audit verify
  keyreeve audit verify --with-token

Exit code 1 if something is wrong. Records cut off the very end are not found until checkpoints are signed.")]
    Verify(verify::Verify),
}

/// Which log: of the configuration file, or a directory.
#[derive(Debug, Args)]
pub struct Source {
    #[command(flatten)]
    config: ConfigFile,
    /// The directory of the log (it holds one directory for each epoch), instead of that of the configuration file
    #[arg(long, value_name = "DIRECTORY")]
    log: Option<PathBuf>,
    /// Which epoch; without it, all
    #[arg(long)]
    epoch: Option<u64>,
}

#[derive(Debug, Args)]
pub struct Tail {
    #[command(flatten)]
    source: Source,
    /// How many records
    #[arg(long, default_value_t = 10)]
    count: usize,
    /// Go on as the log grows, until interrupted
    #[arg(long)]
    follow: bool,
}

#[derive(Debug, Args)]
pub struct Search {
    #[command(flatten)]
    source: Source,
    /// Name of the action, as in Decrypt
    #[arg(long)]
    operation: Option<String>,
    /// SPIFFE ID of who called, or on whose behalf
    #[arg(long)]
    identity: Option<String>,
    /// Environment, team or key, as in dev/shop: the thing itself and all below it
    #[arg(long)]
    object: Option<String>,
    /// Id of a key, as `keys show` tells it: finds it whatever it was called
    #[arg(long, value_name = "UUID")]
    key_id: Option<String>,
    /// Request id, as an error shows it
    #[arg(long)]
    request: Option<String>,
    #[arg(long, value_parser = ["success", "refused", "error", "aborted"])]
    result: Option<String>,
    /// Reason of an error, as in DECRYPT_FAILED
    #[arg(long)]
    reason: Option<String>,
    /// First 16 bytes of an envelope's commitment in hex, as `ct` of a record shows them: every use of one ciphertext
    #[arg(long, value_name = "HEX")]
    ciphertext: Option<String>,
    /// Not before this time (UTC, RFC 3339 or the beginning of it)
    #[arg(long, value_name = "TIME", value_parser = time)]
    from: Option<String>,
    /// Before this time
    #[arg(long, value_name = "TIME", value_parser = time)]
    until: Option<String>,
}

/// A time as records show it, or the beginning of one. Anything else would silently find nothing, or everything.
fn time(text: &str) -> Result<String, String> {
    const SHAPE: &[u8] = b"0000-00-00T00:00:00.000Z";
    let fits = |(at, byte): (usize, u8)| match SHAPE.get(at) {
        Some(b'0') => byte.is_ascii_digit(),
        // A time without fractions of a second.
        Some(b'.') => matches!(byte, b'.' | b'Z'),
        Some(wanted) => byte == *wanted,
        None => false,
    };
    if text.len() >= 4 && text.bytes().enumerate().all(fits) {
        // `…:05Z` would sort behind `…:05.123Z`.
        return Ok(text.trim_end_matches('Z').to_owned());
    }
    Err("write it in UTC as 2026-11-23T08:15:00Z, or the beginning of that, as 2026-11-23".to_owned())
}

impl Audit {
    pub fn run(self, format: Format) -> Outcome {
        match self {
            Self::Tail(tail) => tail.run(format),
            Self::Search(search) => search.run(format),
            Self::Verify(verify) => verify.run(format),
        }
    }
}

impl Source {
    fn directory(&self) -> Result<PathBuf, Failure> {
        let log = match &self.log {
            Some(log) => log.clone(),
            None => self.config.load()?.audit_directory(),
        };
        let epoch = match self.epoch {
            Some(epoch) => epoch,
            None => newest(&log)?,
        };
        Ok(audit::epoch_directory(&log, epoch))
    }

    /// The epochs asked for, oldest first: the one named, or all. Never empty.
    fn directories(&self) -> Result<Vec<(u64, PathBuf)>, Failure> {
        let newest = self.directory()?;
        if let Some(epoch) = self.epoch {
            return Ok(vec![(epoch, newest)]);
        }
        let log = newest.parent().map(Path::to_owned).unwrap_or_default();
        let epochs = audit::epochs(&log).map_err(causes)?;
        let place = |epoch| (epoch, audit::epoch_directory(&log, epoch));
        Ok(epochs.into_iter().map(place).collect())
    }
}

fn newest(log: &Path) -> Result<u64, Failure> {
    let epochs = audit::epochs(log).map_err(causes)?;
    epochs.last().copied().ok_or_else(|| {
        Failure::failed(format!(
            "there is no log in `{}`: name its directory with --log, or the configuration file with --config",
            log.display()
        ))
    })
}

impl Tail {
    fn run(self, format: Format) -> Outcome {
        let epochs = self.source.directories()?;
        let ((_, newest), older) = epochs.split_last().expect("there is at least one epoch");
        let (last, mut reader) = audit::tail(newest, self.count).map_err(causes)?;
        for stored in before(older, self.count - last.len()).iter().chain(&last) {
            show(format, stored)?;
        }
        if !self.follow {
            return Ok(());
        }
        loop {
            follow(format, &mut reader)?;
            std::thread::sleep(LOOK);
        }
    }
}

/// The last `count` records of `epochs` together, oldest first. An epoch that cannot be read ends them with a note: it may be damaged, and
/// known to be.
fn before(epochs: &[(u64, PathBuf)], count: usize) -> Vec<Stored> {
    let Some(((epoch, directory), older)) = epochs.split_last().filter(|_| count > 0) else {
        return Vec::new();
    };
    match audit::tail(directory, count) {
        Ok((last, _)) => {
            let mut records = before(older, count - last.len());
            records.extend(last);
            records
        }
        Err(error) => {
            output::note(&format!("epoch {epoch} and what is older is left out: {error}"));
            Vec::new()
        }
    }
}

fn follow(format: Format, reader: &mut LogReader) -> Outcome {
    while let Some(stored) = reader.advance().map_err(causes)? {
        show(format, &stored)?;
    }
    Ok(())
}

impl Search {
    fn run(self, format: Format) -> Outcome {
        let directories = self.source.directories()?;
        let query = Query {
            operation: self.operation,
            identity: self.identity,
            object: self.object.map(|object| full(&object)),
            key_id: self.key_id.map(|id| id.to_ascii_lowercase()),
            request_id: self.request,
            result: self.result,
            reason: self.reason,
            ciphertext: self.ciphertext.map(|hex| hex.to_ascii_lowercase()),
            from: self.from,
            until: self.until,
        };
        let (mut found, mut read) = (0_u64, 0);
        for (_, directory) in directories {
            let mut outcome = Ok(());
            read += audit::search(&directory, &query, |stored| {
                found += 1;
                outcome = show(format, &stored);
                outcome.is_ok()
            })
            .map_err(causes)?;
            outcome?;
        }
        output::note(&format!("{found} of {read} records"));
        Ok(())
    }
}

/// `dev/shop` as the records name it; what is written out is left as it is.
fn full(object: &str) -> String {
    let parts: Vec<&str> = object.split('/').collect();
    if parts[0] == "envs" || object == "system" {
        return object.to_owned();
    }
    let collections = ["envs", "teams", "keys"];
    let named = collections
        .iter()
        .zip(parts)
        .map(|(collection, id)| format!("{collection}/{id}"));
    named.collect::<Vec<_>>().join("/")
}

/// One record on one line; `-o json`: the exact bytes of the record.
fn show(format: Format, stored: &Stored) -> Outcome {
    let mut line = match (format, stored.record()) {
        (Format::Table, Ok(record)) => {
            let reason = match record.reason() {
                "" => String::new(),
                reason => format!(" {reason}"),
            };
            format!(
                "{} #{} {} {} {}{reason} {} req={}",
                record.ts, stored.seq, record.actor.id, record.op, record.result, record.object, record.req
            )
            .chars()
            .map(|character| if character.is_control() { '\u{fffd}' } else { character })
            .collect::<String>()
            .into_bytes()
        }
        _ => stored.bytes.clone(),
    };
    line.push(b'\n');
    output::write(&line)
}

#[cfg(test)]
mod tests {
    use super::{full, time};

    #[test]
    fn short_names_are_written_out() {
        assert_eq!(full("dev"), "envs/dev");
        assert_eq!(full("dev/shop/orders"), "envs/dev/teams/shop/keys/orders");
        assert_eq!(full("envs/dev/teams/shop"), "envs/dev/teams/shop");
        assert_eq!(full("system"), "system");
    }

    #[test]
    fn times_are_times_or_the_beginning_of_one() {
        for (text, taken) in [
            ("2026", "2026"),
            ("2026-11-23", "2026-11-23"),
            ("2026-11-23T08:15", "2026-11-23T08:15"),
            ("2026-11-23T08:15:00Z", "2026-11-23T08:15:00"),
            ("2026-11-23T08:15:00.123Z", "2026-11-23T08:15:00.123"),
        ] {
            assert_eq!(time(text).as_deref(), Ok(taken));
        }
        for text in [
            "",
            "yesterday",
            "23.11.2026",
            "2026-11-23 08:15",
            "2026-11-23T08:15+01:00",
        ] {
            assert!(time(text).is_err(), "{text}");
        }
    }
}

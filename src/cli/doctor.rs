//! `doctor`: looks at everything a start needs, and says for each failure what to do next.

use clap::Args;
use serde::Serialize;

use super::{
    config::ConfigFile,
    failure::{Failure, Outcome},
    output::{self, Format, Shown, Table},
};
use crate::{
    audit::{self, DiskGuard, Health},
    config::Config,
    grpc::tls::Tls,
    policy, store,
    token::{
        self, Isolation, KnownAnswerOutcome, TokenConfig,
        worker::{Attempt, Trial},
    },
};

#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  keyreeve doctor --config keyreeve.toml
  keyreeve doctor --no-token

Logs into the token once and tries it with throwaway keys. Exit code 1 if something keeps `keyreeve serve` from starting.")]
pub struct Doctor {
    #[command(flatten)]
    config: ConfigFile,
    /// Leave the token alone: no login
    #[arg(long)]
    no_token: bool,
}

#[derive(Serialize)]
struct Diagnosis {
    checks: Vec<Check>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tokens: Vec<token::Report>,
}

#[derive(Serialize)]
struct Check {
    what: &'static str,
    ok: bool,
    found: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_step: Option<String>,
}

impl Doctor {
    pub fn run(self, format: Format) -> Outcome {
        let config = match self.config.load() {
            Ok(config) => config,
            Err(failure) => {
                let Failure::Failed(problem) = failure else {
                    return Err(failure);
                };
                let check = Check::bad(
                    "config",
                    problem,
                    "correct it; `keyreeve config example` shows every option",
                );
                return Diagnosis {
                    checks: vec![check],
                    tokens: Vec::new(),
                }
                .show(format);
            }
        };
        let mut checks = vec![
            Check::good("config", self.config.path.display().to_string()),
            tls(&config),
            policies(&config),
            data(&config),
            log(&config),
            disk(&config),
        ];
        let mut tokens = Vec::new();
        for group in &config.groups {
            checks.extend(manifest(&config, group.any()));
            checks.extend(group.tokens.iter().map(|token| sandbox(&config, token)));
        }
        for token in config
            .groups
            .iter()
            .flat_map(|group| &group.tokens)
            .filter(|_| !self.no_token)
        {
            let report = token::examine(token, &config.store.data_dir);
            let kind = if report.software_token { " (software token)" } else { "" };
            let found = format!("{} serial {}{kind}", report.model, report.serial);
            checks.push(if report.can_serve() {
                Check::good("token", found)
            } else {
                Check::bad("token", found, "see its failures below")
            });
            tokens.push(report);
        }
        Diagnosis { checks, tokens }.show(format)
    }
}

impl Diagnosis {
    fn show(self, format: Format) -> Outcome {
        output::print(format, &self)?;
        let bad = self.checks.iter().filter(|check| !check.ok).count();
        match bad {
            0 => Ok(()),
            1 => Err(Failure::failed(
                "1 check failed: it would keep the service from starting or working",
            )),
            bad => Err(Failure::failed(format!(
                "{bad} checks failed: they would keep the service from starting or working"
            ))),
        }
    }
}

impl Check {
    fn good(what: &'static str, found: impl Into<String>) -> Self {
        Self {
            what,
            ok: true,
            found: found.into(),
            next_step: None,
        }
    }

    fn bad(what: &'static str, found: impl ToString, next_step: impl Into<String>) -> Self {
        Self {
            what,
            ok: false,
            found: found.to_string(),
            next_step: Some(next_step.into()),
        }
    }
}

fn tls(config: &Config) -> Check {
    match Tls::load(&config.tls) {
        Ok(_) => Check::good("tls", config.tls.certificate.display().to_string()),
        Err(error) => Check::bad(
            "tls",
            sentence(&error),
            "correct the files under [tls], and who may read them",
        ),
    }
}

fn policies(config: &Config) -> Check {
    let report = policy::check(&config.policy.directory);
    if report.is_ok() {
        let found = format!("{} policies, {} identities", report.policies.len(), report.identities);
        return Check::good("policies", found);
    }
    Check::bad("policies", report, "correct them, then `keyreeve policy check`")
}

/// Of a group with custodians; a pinned one is looked at with its token.
fn manifest(config: &Config, token: &TokenConfig) -> Option<Check> {
    token.group_id.as_ref()?;
    Some(match token::ceremony::check_manifest(token, &config.tombstone_file()) {
        Ok(manifest) => Check::good(
            "manifest",
            format!("seq {}, {} members", manifest.seq, manifest.members.len()),
        ),
        Err(error) => Check::bad("manifest", sentence(&error), "docs/runbooks/ceremony.md"),
    })
}

fn data(config: &Config) -> Check {
    if let Err(error) = store::restore::check_complete(&config.store.data_dir) {
        return Check::bad("store", sentence(&error), "docs/runbooks/backup-and-restore.md");
    }
    let database = config.store.data_dir.join(store::FILE);
    match std::fs::metadata(&database) {
        Ok(_) => Check::good("store", database.display().to_string()),
        Err(error) => Check::bad(
            "store",
            format!("`{}`: {error}", database.display()),
            "run `keyreeve init`, or restore a backup",
        ),
    }
}

fn log(config: &Config) -> Check {
    let directory = config.audit_directory();
    let newest = audit::epochs(&directory).map(|epochs| epochs.last().copied());
    let report = match newest {
        Ok(Some(epoch)) => audit::verify(&audit::epoch_directory(&directory, epoch)),
        Ok(None) => return Check::bad("audit log", "there is none", "run `keyreeve init`, or restore a backup"),
        Err(error) => {
            return Check::bad(
                "audit log",
                sentence(&error),
                "run `keyreeve init`, or restore a backup",
            );
        }
    };
    match report {
        Ok(report) => match report.finding {
            None => Check::good("audit log", format!("{} records intact", report.records)),
            Some(finding) => Check::bad(
                "audit log",
                finding,
                "keep the files as they are; docs/runbooks/backup-and-restore.md",
            ),
        },
        Err(error) => Check::bad("audit log", error, "may this user read the log's directory?"),
    }
}

/// What a worker process would be held back from on this host: tried in one.
fn sandbox(config: &Config, token: &TokenConfig) -> Check {
    if token.isolation == Isolation::Thread {
        return Check::good("sandbox", "none: the module runs in the server, isolation = \"thread\"");
    }
    let trial = Trial {
        token: token.clone(),
        data_directory: config.store.data_dir.clone(),
        tombstones: config.tombstone_file(),
    };
    let attempts = match std::env::current_exe().and_then(|program| trial.of_program(&program)) {
        Ok(attempts) => attempts,
        Err(error) => return Check::bad("sandbox", error, "run `keyreeve serve` to see what a worker says"),
    };
    let named = |attempts: Vec<&Attempt>| {
        attempts
            .iter()
            .map(|attempt| &*attempt.what)
            .collect::<Vec<_>>()
            .join(", ")
    };
    let (lacking, loose): (Vec<_>, Vec<_>) = attempts
        .iter()
        .filter(|attempt| attempt.worked != attempt.allowed)
        .partition(|attempt| attempt.allowed);
    match (&*lacking, &*loose) {
        ([], []) => Check::good("sandbox", "the module reaches its own files only"),
        ([], _) => Check::good(
            "sandbox",
            format!(
                "WARNING: on this kernel the module can {} (it has no Landlock)",
                named(loose)
            ),
        ),
        _ => Check::bad(
            "sandbox",
            format!("the worker cannot {}", named(lacking)),
            "give the service's user the rights to the module, the tombstones and the data directory",
        ),
    }
}

fn disk(config: &Config) -> Check {
    match DiskGuard::default().look(&config.store.data_dir) {
        Ok((Health::Writable, used)) => Check::good("disk", format!("{used} % used")),
        Ok((_, used)) => Check::bad(
            "disk",
            format!("{used} % used"),
            "make room: from 95 % on no call is taken",
        ),
        Err(error) => Check::bad("disk", error, "does the data directory exist?"),
    }
}

fn sentence(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

impl Shown for Diagnosis {
    fn table(&self) -> Table {
        let mut table = Table::new(["CHECK", "", "FOUND"]);
        for check in &self.checks {
            let mark = if check.ok { "ok" } else { "FAILED" };
            table.row([check.what.to_owned(), mark.to_owned(), check.found.clone()]);
            if let Some(step) = &check.next_step {
                table.row([String::new(), "next".to_owned(), step.clone()]);
            }
        }
        for report in &self.tokens {
            of_token(&mut table, report);
        }
        table
    }
}

fn of_token(table: &mut Table, report: &token::Report) {
    let mut line = |kind: &str, mark: &str, text: String| {
        table.row([kind.to_owned(), mark.to_owned(), text]);
    };
    for failure in &report.failures {
        line(
            "token",
            if failure.refuses { "FAILED" } else { "hole" },
            failure.what.clone(),
        );
        line("", "next", failure.next_step.clone());
    }
    for warning in &report.warnings {
        line("token", "warning", warning.clone());
    }
    for answer in &report.known_answers {
        let mark = match answer.outcome {
            KnownAnswerOutcome::Passed => "can",
            KnownAnswerOutcome::Wrong => "WRONG",
            KnownAnswerOutcome::NotTestable(_) => "untested",
        };
        line("", mark, answer.name.to_owned());
    }
    for one in report.enforcement() {
        if one.consequences.is_empty() {
            let tried = one.tried;
            line(
                "",
                "enforces",
                format!("{}: {tried} of {tried} attempts refused", one.attribute),
            );
        } else {
            let what_follows = one.consequences.join("; ");
            line("", "lacks", format!("{}: {what_follows}", one.attribute));
        }
    }
    for quirk in &report.quirks {
        line("", "quirk", quirk.clone());
    }
    if !report.library.is_empty() {
        line("", "library", report.library.clone());
    }
}

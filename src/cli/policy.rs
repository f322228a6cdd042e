//! `policy check`: are the policies in a directory fit to be taken into force?

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde::Serialize;

use super::{
    config::ConfigFile,
    failure::{Failure, Outcome},
    output::{self, Format, Shown, Table},
};
use crate::policy::{self, Fault, Report};

#[derive(Debug, Subcommand)]
pub enum Policy {
    /// Checks policies and identities without taking them into force
    #[command(
        after_help = "Example:\n  keyreeve policy check /etc/keyreeve/policy\n\nExit code 1 if they cannot be used."
    )]
    Check(Check),
}

#[derive(Debug, Args)]
pub struct Check {
    /// Directory of *.cedar files and identities.toml; without it, that of the configuration file
    directory: Option<PathBuf>,
    #[command(flatten)]
    config: ConfigFile,
}

#[derive(Serialize)]
struct View {
    ok: bool,
    hash: Option<String>,
    policies: Vec<String>,
    identities: usize,
    faults: Vec<Line>,
    warnings: Vec<Line>,
}

#[derive(Serialize)]
struct Line {
    file: String,
    line: Option<usize>,
    problem: String,
}

impl Policy {
    pub fn run(self, format: Format) -> Outcome {
        let Self::Check(check) = self;
        let directory = match check.directory {
            Some(directory) => directory,
            None => check.config.load()?.policy.directory,
        };
        let view = View::from(policy::check(&directory));
        output::print(format, &view)?;
        if view.ok {
            return Ok(());
        }
        Err(Failure::failed(format!(
            "the policies in `{}` cannot be used: correct what is listed; those in force stay in force",
            directory.display()
        )))
    }
}

impl From<Report> for View {
    fn from(report: Report) -> Self {
        Self {
            ok: report.is_ok(),
            hash: report.hash.map(|hash| hash.to_string()),
            policies: report.policies,
            identities: report.identities,
            faults: report.faults.into_iter().map(Line::from).collect(),
            warnings: report.warnings.into_iter().map(Line::from).collect(),
        }
    }
}

impl From<Fault> for Line {
    fn from(fault: Fault) -> Self {
        Self {
            file: fault.file,
            line: fault.line,
            problem: fault.problem,
        }
    }
}

impl Line {
    fn sentence(&self) -> String {
        match self.line {
            Some(line) => format!("{}:{line}: {}", self.file, self.problem),
            None => format!("{}: {}", self.file, self.problem),
        }
    }
}

impl Shown for View {
    fn table(&self) -> Table {
        let mut table = Table::facts();
        for fault in &self.faults {
            table.fact("fault", fault.sentence());
        }
        for warning in &self.warnings {
            table.fact("warning", warning.sentence());
        }
        if let Some(hash) = &self.hash {
            table
                .fact("policies", self.policies.len().to_string())
                .fact("identities", self.identities.to_string())
                .fact("hash", hash);
        }
        table
    }
}

//! What a check of policies found: for people, with file, line and the next step.

use std::{fmt, sync::Arc};

use miette::Diagnostic;

/// The result of checking a directory of policies.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// SHA-256 of the set, hex, as records name it; `None` if there are faults.
    pub hash: Option<Arc<str>>,
    /// Ids of the policies, built-in ones first.
    pub policies: Vec<String>,
    pub identities: usize,
    /// Why the set cannot be used.
    pub faults: Vec<Fault>,
    /// What is allowed but probably not meant.
    pub warnings: Vec<Fault>,
}

/// One thing wrong, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    pub file: String,
    /// From 1; `None` if the file as a whole is at fault.
    pub line: Option<usize>,
    /// What is wrong, and what to do.
    pub problem: String,
}

/// A set of policies that is not taken into force.
#[derive(Debug, thiserror::Error)]
#[error("the policies cannot be used:\n{0}\nrun `keyreeve policy check` after correcting them")]
pub struct InvalidPolicies(pub Report);

impl Report {
    pub fn is_ok(&self) -> bool {
        self.faults.is_empty()
    }
}

impl Fault {
    pub(super) fn whole(file: &str, problem: impl fmt::Display) -> Self {
        Self {
            file: file.to_owned(),
            line: None,
            problem: problem.to_string(),
        }
    }

    /// At a byte offset of the file's text.
    pub(super) fn at(file: &str, text: &str, offset: usize, problem: impl fmt::Display) -> Self {
        let before = &text.as_bytes()[..offset.min(text.len())];
        Self {
            file: file.to_owned(),
            line: Some(1 + before.iter().filter(|byte| **byte == b'\n').count()),
            problem: problem.to_string(),
        }
    }

    /// What Cedar says of a file's text, with its advice.
    pub(super) fn of(file: &str, text: &str, diagnostic: &dyn Diagnostic) -> Self {
        let problem = match diagnostic.help() {
            Some(help) => format!("{diagnostic}: {help}"),
            None => diagnostic.to_string(),
        };
        match diagnostic.labels().and_then(|mut labels| labels.next()) {
            Some(label) => Self::at(file, text, label.offset(), problem),
            None => Self::whole(file, problem),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "{}:{line}: {}", self.file, self.problem),
            None => write!(f, "{}: {}", self.file, self.problem),
        }
    }
}

/// The faults, one a line.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, fault) in self.faults.iter().enumerate() {
            if at > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{fault}")?;
        }
        Ok(())
    }
}

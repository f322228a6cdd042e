//! The policies in force, and where they came from.

use std::{path::Path, path::PathBuf, sync::Arc};

use arc_swap::ArcSwap;

use super::{Fault, InvalidPolicies, Report, identities, set::PolicySet};
use crate::identity::Identity;

/// Largest policy file taken: 1 MiB.
const MAX_FILE: u64 = 1 << 20;

/// The policies in force. A reload swaps the whole set; requests under way keep the one they began with.
pub struct Policies {
    directory: Option<PathBuf>,
    current: ArcSwap<PolicySet>,
}

impl Policies {
    /// From a directory: `identities.toml` and every `*.cedar` file, checked strictly.
    pub fn load(directory: PathBuf) -> Result<Arc<Self>, InvalidPolicies> {
        let (set, _) = compile(&directory)?;
        Ok(Arc::new(Self {
            directory: Some(directory),
            current: ArcSwap::from_pointee(set),
        }))
    }

    /// From texts instead of files: (file name, text).
    pub fn from_texts(texts: &[(&str, &str)]) -> Result<Arc<Self>, InvalidPolicies> {
        let (set, _) = PolicySet::compile(&owned(texts))?;
        Ok(Arc::new(Self {
            directory: None,
            current: ArcSwap::from_pointee(set),
        }))
    }

    /// Reads the directory again. After an error the policies before it stay in force.
    pub fn reload(&self) -> Result<Report, InvalidPolicies> {
        let Some(directory) = &self.directory else {
            return Ok(Report {
                hash: Some(self.hash()),
                ..Report::default()
            });
        };
        let (set, report) = compile(directory)?;
        if set.hash() != &self.hash() {
            self.current.store(Arc::new(set));
        }
        Ok(report)
    }

    /// As [`Policies::reload`], from texts.
    pub fn replace(&self, texts: &[(&str, &str)]) -> Result<Report, InvalidPolicies> {
        let (set, report) = PolicySet::compile(&owned(texts))?;
        self.current.store(Arc::new(set));
        Ok(report)
    }

    /// SHA-256 of the set in force, hex.
    pub fn hash(&self) -> Arc<str> {
        self.current.load().hash().clone()
    }

    /// Environments and roles of a workload under the policies in force, for his own eyes.
    pub fn membership(&self, who: &Identity) -> (Vec<String>, Vec<String>) {
        self.current.load().membership(who)
    }

    pub(super) fn current(&self) -> Arc<PolicySet> {
        self.current.load_full()
    }
}

/// Checks a directory of policies without taking it into force.
pub fn check(directory: &Path) -> Report {
    match compile(directory) {
        Ok((_, report)) | Err(InvalidPolicies(report)) => report,
    }
}

fn compile(directory: &Path) -> Result<(PolicySet, Report), InvalidPolicies> {
    let files = read(directory).map_err(|fault| {
        InvalidPolicies(Report {
            faults: vec![fault],
            ..Report::default()
        })
    })?;
    PolicySet::compile(&files)
}

/// The files of a policy directory, in order of name.
fn read(directory: &Path) -> Result<Vec<(String, String)>, Fault> {
    let unreadable = |path: &Path, error: std::io::Error| {
        Fault::whole(&path.display().to_string(), format!("cannot be read: {error}"))
    };
    let mut files = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(|error| unreadable(directory, error))? {
        let path = entry.map_err(|error| unreadable(directory, error))?.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
            continue;
        };
        // Editors leave hidden copies.
        if name.starts_with('.') || !(name.ends_with(".cedar") || name == identities::FILE) {
            continue;
        }
        let length = std::fs::metadata(&path)
            .map_err(|error| unreadable(&path, error))?
            .len();
        if length > MAX_FILE {
            return Err(Fault::whole(name, "larger than 1 MiB: split it into several files"));
        }
        let text = std::fs::read_to_string(&path).map_err(|error| unreadable(&path, error))?;
        files.push((name.to_owned(), text));
    }
    files.sort_unstable();
    Ok(files)
}

fn owned(texts: &[(&str, &str)]) -> Vec<(String, String)> {
    texts
        .iter()
        .map(|(name, text)| ((*name).to_owned(), (*text).to_owned()))
        .collect()
}

//! From what was named to what is read and written.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use clap::Args;

use super::{Failure, is_stdin};

/// What sealed files are called.
const SUFFIX: &str = "sealed";

/// Where bytes come from and go to.
#[derive(Debug, Args)]
pub struct Places {
    /// Files; `-`: standard input to standard output
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// Write this file, or into this directory; `-`: standard output. Without it: beside each file, `.sealed` added or taken off
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Directories, too: every file below them
    #[arg(long, short)]
    recursive: bool,
    /// Replace files that are there
    #[arg(long)]
    force: bool,
}

/// Which way a name changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    Seal,
    Open,
}

/// One file to be made of another.
#[derive(Debug, PartialEq, Eq)]
pub struct Job {
    /// `None`: standard input.
    pub from: Option<PathBuf>,
    /// `None`: standard output.
    pub to: Option<PathBuf>,
}

impl Places {
    /// What is to be done, one after the other. Nothing is read or written yet, but that directories of outputs are made.
    pub fn jobs(&self, direction: Direction) -> Result<Vec<Job>, Failure> {
        let out = self.out.as_deref();
        if let [one] = &self.files[..]
            && !one.is_dir()
        {
            return Ok(vec![self.single(one, out, direction)?]);
        }
        if out.is_some_and(is_stdin) || self.files.iter().any(|file| is_stdin(file)) {
            return Err(Failure::usage(
                "several files cannot share a standard stream: name one file",
            ));
        }
        let mut jobs = Vec::new();
        for file in &self.files {
            if file.is_dir() {
                self.directory(file, out.unwrap_or(file), direction, &mut jobs)?;
            } else {
                let place = out.map_or_else(|| parent(file), Path::to_owned);
                jobs.push(self.job(file, place.join(renamed(file, direction)?))?);
            }
        }
        let mut made = BTreeSet::new();
        if let Some(twice) = jobs
            .iter()
            .filter_map(|job| job.to.as_ref())
            .find(|to| !made.insert(*to))
        {
            return Err(Failure::usage(format!(
                "two of the files would become `{}`: give each a directory of its own",
                twice.display()
            )));
        }
        for directory in jobs.iter().filter_map(|job| job.to.as_deref()?.parent()) {
            fs::create_dir_all(directory).map_err(|error| Failure::file("make", directory, &error))?;
        }
        Ok(jobs)
    }

    fn single(&self, file: &Path, out: Option<&Path>, direction: Direction) -> Result<Job, Failure> {
        let from = (!is_stdin(file)).then(|| file.to_owned());
        let to = match out {
            Some(out) if is_stdin(out) => None,
            Some(out) if out.is_dir() && from.is_some() => return self.job(file, out.join(renamed(file, direction)?)),
            // A device or a pipe would become a file.
            Some(out) if out.exists() && !out.is_file() => {
                return Err(Failure::usage(format!(
                    "`{}` is no regular file: write to it with `--out - >{}`",
                    out.display(),
                    out.display()
                )));
            }
            // What is named is meant: it is replaced, as by every other command.
            Some(out) => Some(out.to_owned()),
            None if from.is_none() => None,
            None => return self.job(file, parent(file).join(renamed(file, direction)?)),
        };
        Ok(Job { from, to })
    }

    /// A file whose name was made up here does not replace another unless that was said.
    fn job(&self, from: &Path, to: PathBuf) -> Result<Job, Failure> {
        if to.exists() && !self.force {
            return Err(Failure::usage(format!(
                "`{}` exists: name another place with --out, or add --force",
                to.display()
            )));
        }
        Ok(Job {
            from: Some(from.to_owned()),
            to: Some(to),
        })
    }

    /// Every file below; links are not followed. To seal: what is not sealed yet; to open: what is.
    fn directory(&self, from: &Path, to: &Path, direction: Direction, jobs: &mut Vec<Job>) -> Result<(), Failure> {
        if !self.recursive {
            return Err(Failure::usage(format!(
                "`{}` is a directory: add --recursive",
                from.display()
            )));
        }
        let failed = |error: &_| Failure::file("read", from, error);
        let entries = fs::read_dir(from).map_err(|error| failed(&error))?;
        let mut entries = entries.collect::<Result<Vec<_>, _>>().map_err(|error| failed(&error))?;
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            let (path, kind) = (entry.path(), entry.file_type().map_err(|error| failed(&error))?);
            if kind.is_dir() {
                self.directory(&path, &to.join(entry.file_name()), direction, jobs)?;
            } else if kind.is_file() && is_sealed(&path) == (direction == Direction::Open) {
                let name = renamed(&path, direction)?;
                jobs.push(self.job(&path, to.join(name))?);
            }
        }
        Ok(())
    }
}

fn parent(file: &Path) -> PathBuf {
    file.parent().map(Path::to_owned).unwrap_or_default()
}

fn is_sealed(file: &Path) -> bool {
    file.extension().is_some_and(|extension| extension == SUFFIX)
}

/// The name of the file that is made.
fn renamed(file: &Path, direction: Direction) -> Result<PathBuf, Failure> {
    let name = file.file_name().map(PathBuf::from);
    let name = name.ok_or_else(|| Failure::usage(format!("`{}` is not a file", file.display())))?;
    match direction {
        Direction::Seal => {
            let mut name = name.into_os_string();
            name.push(".");
            name.push(SUFFIX);
            Ok(name.into())
        }
        Direction::Open if is_sealed(&name) => Ok(name.with_extension("")),
        Direction::Open => Err(Failure::usage(format!(
            "`{}` does not end in .{SUFFIX}: name the output with --out",
            file.display()
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(files: &[PathBuf], out: Option<&Path>, recursive: bool) -> Places {
        Places {
            files: files.to_vec(),
            out: out.map(Path::to_owned),
            recursive,
            force: false,
        }
    }

    fn job(from: Option<PathBuf>, to: Option<PathBuf>) -> Job {
        Job { from, to }
    }

    #[test]
    fn one_file_goes_beside_itself_into_a_directory_to_a_name_or_to_a_stream() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        let jobs =
            |file: &str, out: Option<&Path>, direction| places(&[PathBuf::from(file)], out, false).jobs(direction);
        let plain = path("a").display().to_string();
        let sealed = path("a.sealed").display().to_string();
        let one = |job| vec![job];
        assert_eq!(
            jobs(&plain, None, Direction::Seal).unwrap(),
            one(job(Some(path("a")), Some(path("a.sealed"))))
        );
        assert_eq!(
            jobs(&sealed, None, Direction::Open).unwrap(),
            one(job(Some(path("a.sealed")), Some(path("a"))))
        );
        fs::create_dir(path("d")).unwrap();
        let into = jobs(&plain, Some(&path("d")), Direction::Seal).unwrap();
        assert_eq!(into, one(job(Some(path("a")), Some(path("d/a.sealed")))));
        let named = jobs(&plain, Some(&path("x")), Direction::Seal).unwrap();
        assert_eq!(named, one(job(Some(path("a")), Some(path("x")))));
        assert_eq!(
            jobs(&plain, Some(Path::new("-")), Direction::Seal).unwrap(),
            one(job(Some(path("a")), None))
        );
        assert_eq!(jobs("-", None, Direction::Open).unwrap(), one(job(None, None)));
        assert!(
            jobs(&plain, None, Direction::Open).is_err(),
            "no name to take .sealed off"
        );
    }

    #[test]
    fn two_files_that_would_become_one_are_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        for name in ["a", "b"] {
            fs::create_dir(path(name)).unwrap();
            fs::write(path(name).join("x"), name).unwrap();
        }
        let out = path("vault");
        let both = |names: [&str; 2], recursive| {
            let mut places = places(&names.map(path), Some(&out), recursive);
            places.force = true;
            places.jobs(Direction::Seal)
        };
        assert!(both(["a/x", "b/x"], false).is_err());
        assert!(both(["a", "b"], true).is_err());
        assert!(both(["a/x", "a"], true).is_err(), "the same file twice");
        assert!(!out.exists());
    }

    #[test]
    fn a_device_is_not_replaced_by_a_file() {
        for from in ["a", "-"] {
            let places = places(&[from.into()], Some(Path::new("/dev/null")), false);
            assert!(places.jobs(Direction::Seal).is_err(), "{from}");
        }
    }

    #[test]
    fn a_name_that_was_made_up_replaces_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        fs::write(path("a.sealed"), "old").unwrap();
        let mut places = places(&[path("a")], None, false);
        assert!(places.jobs(Direction::Seal).is_err());
        places.force = true;
        assert!(places.jobs(Direction::Seal).is_ok());
    }

    #[test]
    fn a_directory_is_walked_when_that_was_said_and_links_are_not_followed() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        fs::create_dir_all(path("in/deep")).unwrap();
        for name in ["in/b", "in/deep/a", "in/old.sealed"] {
            fs::write(path(name), name).unwrap();
        }
        std::os::unix::fs::symlink("/etc/passwd", path("in/link")).unwrap();
        assert!(
            places(&[path("in")], Some(&path("out")), false)
                .jobs(Direction::Seal)
                .is_err()
        );
        let jobs = places(&[path("in")], Some(&path("out")), true)
            .jobs(Direction::Seal)
            .unwrap();
        let to: Vec<_> = jobs.iter().filter_map(|job| job.to.clone()).collect();
        assert_eq!(to, [path("out/b.sealed"), path("out/deep/a.sealed")]);
        assert!(path("out/deep").is_dir());
        let jobs = places(&[path("in")], Some(&path("out")), true)
            .jobs(Direction::Open)
            .unwrap();
        assert_eq!(jobs, [job(Some(path("in/old.sealed")), Some(path("out/old")))]);
    }

    #[test]
    fn several_files_do_not_share_a_stream() {
        let files = [PathBuf::from("a"), PathBuf::from("b")];
        assert!(
            places(&files, Some(Path::new("-")), false)
                .jobs(Direction::Seal)
                .is_err()
        );
        assert!(
            places(&["-".into(), "b".into()], None, false)
                .jobs(Direction::Seal)
                .is_err()
        );
    }
}

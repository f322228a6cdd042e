//! Power cuts for tests: runs a program so that what it did not sync can be dropped afterwards.
//!
//! The mechanism, its rules and its limits are described in `tests/power_cut/shim.c`.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::{env, fs, process};

use tempfile::TempDir;

/// Watches one directory. Programs started with its environment share one view of what is durable there.
pub struct PowerCut {
    tree: PathBuf,
    log: TempDir,
    ignored_syncs: Option<String>,
}

impl PowerCut {
    /// `tree` must exist; what is in it when the first program starts counts as durable.
    pub fn over(tree: &Path) -> Self {
        let log = tempfile::tempdir().expect("a directory for the image");
        Self {
            tree: tree.to_path_buf(),
            log,
            ignored_syncs: None,
        }
    }

    /// Makes syncs of what matches do nothing. `pattern`: fnmatch, against the path relative to the tree
    /// (`*` also matches `/`; the tree itself is `.`).
    pub fn ignoring_sync(mut self, pattern: &str) -> Self {
        self.ignored_syncs = Some(pattern.to_owned());
        self
    }

    /// The variables to start a program with.
    pub fn environment(&self) -> Vec<(&'static str, PathBuf)> {
        let mut variables = vec![
            ("LD_PRELOAD", built().join("libpower_cut.so")),
            ("POWER_CUT_TREE", self.tree.clone()),
            ("POWER_CUT_LOG", self.log.path().to_path_buf()),
        ];
        if let Some(pattern) = &self.ignored_syncs {
            variables.push(("POWER_CUT_IGNORE_SYNC", PathBuf::from(pattern)));
        }
        variables
    }

    /// The paths whose syncs were ignored since the last cut, so that a test knows that its pattern met something.
    pub fn ignored(&self) -> Vec<String> {
        let list = fs::read_to_string(self.log.path().join("ignored")).unwrap_or_default();
        list.lines().map(str::to_owned).collect()
    }

    /// Drops everything unsynced and returns what there was of it. Every program must be dead and waited for.
    pub fn cut(&self) -> Vec<String> {
        self.run(&[])
    }

    /// As `cut`, but a part of the unsynced survives, chosen by `seed`: torn and reordered writes.
    pub fn cut_keeping_some(&self, seed: u64) -> Vec<String> {
        self.run(&[seed.to_string()])
    }

    fn run(&self, seed: &[String]) -> Vec<String> {
        let mut command = Command::new(built().join("power_cut"));
        let output = command
            .arg(&self.tree)
            .arg(self.log.path())
            .args(seed)
            .output()
            .expect("power_cut runs");
        assert!(
            output.status.success(),
            "power_cut: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8_lossy(&output.stdout)
            .lines()
            .map(str::to_owned)
            .collect()
    }
}

/// The folder with the shim and the tool, compiled once per test program.
fn built() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("power_cut");
        fs::create_dir_all(&target).expect("a folder below target/tmp");
        compile("shim.c", &["-shared", "-fPIC"], &target.join("libpower_cut.so"));
        compile("power_cut.c", &[], &target.join("power_cut"));
        target
    })
}

fn compile(source: &str, flags: &[&str], to: &Path) {
    let source = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/power_cut")
        .join(source);
    // Test programs may run side by side: each compiles to a name of its own, and a rename replaces the old whole.
    let part = to.with_extension(process::id().to_string());
    let compiler = env::var_os("CC").unwrap_or_else(|| "cc".into());
    let mut command = Command::new(&compiler);
    let status = command
        .args(["-O2", "-Wall", "-Wextra", "-Werror"])
        .args(flags)
        .arg("-o")
        .arg(&part)
        .arg(&source);
    let status = status.status().expect("a C compiler: apt-get install gcc");
    assert!(status.success(), "{} does not compile", source.display());
    fs::rename(&part, to).expect("the compiled file can be moved into place");
}

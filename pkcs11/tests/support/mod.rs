//! Throwaway tokens. A module reads its configuration from the environment once per process, so every test runs in a
//! child process of its own: `run` starts this test binary again, with the environment set, for that one test.

#![allow(dead_code)] // each test file uses a part of it

use keyreeve_pkcs11::{Access, Module, Pin, Selector, Session};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use zeroize::Zeroizing;

pub const SOFTHSM: &str = "/usr/lib/softhsm/libsofthsm2.so";
pub const SPY: &str = "/usr/lib/x86_64-linux-gnu/pkcs11/pkcs11-spy.so";
pub const PIN: &str = "648219";
const SO_PIN: &str = "73155920";
/// Name of the controller's socket in the directory of a test.
pub const CONTROL: &str = "control";
/// Name of the trace of a test that is steered.
pub const TRACE: &str = "trace.jsonl";
const CHILD: &str = "KEYREEVE_TEST_CHILD";

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    SoftHsm,
    Kryoptic,
}

/// Runs `body` in a child process with fresh tokens of `kind`, labelled `first` and `second`.
pub fn run(kind: Kind, test: &str, body: impl FnOnce(&TestModule)) {
    run_through(None, kind, test, body);
}

/// The same, but the module of the tokens is loaded by another one, the fault-injecting `faultmod`.
pub fn run_through(faultmod: Option<PathBuf>, kind: Kind, test: &str, body: impl FnOnce(&TestModule)) {
    run_with(faultmod, false, kind, test, body);
}

/// The same, steered by the controller that the body must make at `control` in its directory before it loads the module.
pub fn run_steered(faultmod: PathBuf, kind: Kind, test: &str, body: impl FnOnce(&TestModule)) {
    run_with(Some(faultmod), true, kind, test, body);
}

fn run_with(faultmod: Option<PathBuf>, steered: bool, kind: Kind, test: &str, body: impl FnOnce(&TestModule)) {
    if let Some(directory) = std::env::var_os(CHILD) {
        let module = module_path(kind).expect("the parent has found it");
        return body(&TestModule {
            path: faultmod.unwrap_or(module),
            directory: directory.into(),
            kind,
        });
    }
    let Some(module) = module_path(kind) else {
        eprintln!("skipped: KEYREEVE_KRYOPTIC does not name a module");
        return;
    };
    let directory = tempfile::tempdir().expect("a temporary directory");
    let configuration = match kind {
        Kind::SoftHsm => softhsm_tokens(directory.path()),
        Kind::Kryoptic => kryoptic_tokens(directory.path(), &module),
    };
    let mut child = Command::new(std::env::current_exe().expect("a test binary has a path"));
    child
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(CHILD, directory.path())
        .env(configuration.0, configuration.1)
        .env("FAULTMOD_MODULE", module);
    if steered {
        child.env("FAULTMOD_CONTROL", directory.path().join(CONTROL));
        child.env("FAULTMOD_TRACE", directory.path().join(TRACE));
    }
    let output = child.output().expect("the test binary starts");
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "in the child process:\n{text}");
    eprint!("{text}"); // seen with --nocapture
    assert!(text.contains("1 passed"), "the child ran no test named {test}:\n{text}");
}

pub struct TestModule {
    pub path: PathBuf,
    pub directory: PathBuf,
    pub kind: Kind,
}

impl TestModule {
    pub fn load(&self) -> Arc<Module> {
        Arc::new(Module::load(&self.path).expect("the module loads"))
    }

    /// A read-write session on token `first`, logged in.
    pub fn session(&self) -> Session {
        open(&self.load())
    }
}

pub fn open(module: &Arc<Module>) -> Session {
    let token = module
        .select(&Selector::Label("first".into()))
        .expect("the token `first` is there");
    let session = Session::open(module, token.slot, Access::ReadWrite).expect("a session opens");
    session.login(&pin(PIN)).expect("the PIN is right");
    session
}

pub fn pin(text: &str) -> Pin {
    Pin::new(Zeroizing::new(text.as_bytes().to_vec()))
}

fn module_path(kind: Kind) -> Option<PathBuf> {
    match kind {
        Kind::SoftHsm => Some(SOFTHSM.into()),
        Kind::Kryoptic => std::env::var_os("KEYREEVE_KRYOPTIC").map(PathBuf::from),
    }
}

fn softhsm_tokens(directory: &Path) -> (&'static str, PathBuf) {
    let tokens = directory.join("tokens");
    std::fs::create_dir(&tokens).expect("the directory is new");
    let configuration = directory.join("softhsm2.conf");
    let text = format!(
        "directories.tokendir = {}\nobjectstore.backend = file\nlog.level = ERROR\n",
        tokens.display()
    );
    std::fs::write(&configuration, text).expect("the directory is writable");
    for label in ["first", "second"] {
        quiet(
            Command::new("softhsm2-util")
                .env("SOFTHSM2_CONF", &configuration)
                .args([
                    "--init-token",
                    "--free",
                    "--label",
                    label,
                    "--so-pin",
                    SO_PIN,
                    "--pin",
                    PIN,
                ]),
        );
    }
    ("SOFTHSM2_CONF", configuration)
}

fn kryoptic_tokens(directory: &Path, module: &Path) -> (&'static str, PathBuf) {
    let configuration = directory.join("kryoptic.toml");
    let slots: String = (0..2)
        .map(|slot| {
            let database = directory.join(format!("token{slot}.sql"));
            format!(
                "[[slots]]\nslot = {slot}\ndbtype = \"sqlite\"\ndbargs = \"{}\"\n",
                database.display()
            )
        })
        .collect();
    std::fs::write(&configuration, slots).expect("the directory is writable");
    for (slot, label) in ["first", "second"].iter().enumerate() {
        let tool = || {
            let mut tool = Command::new("pkcs11-tool");
            tool.env("KRYOPTIC_CONF", &configuration).arg("--module").arg(module);
            tool
        };
        let slot = slot.to_string();
        quiet(tool().args(["--init-token", "--slot", &slot, "--label", label, "--so-pin", SO_PIN]));
        quiet(
            tool()
                .args(["--login", "--login-type", "so", "--slot", &slot, "--so-pin", SO_PIN])
                .args(["--init-pin", "--pin", PIN]),
        );
    }
    ("KRYOPTIC_CONF", configuration)
}

fn quiet(command: &mut Command) {
    let output = command
        .output()
        .expect("softhsm2 and opensc are installed: run softhsm/install.sh");
    assert!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// One test per token: `contract! { name => body; }` makes `softhsm::name` and `kryoptic::name`. With `through faultmod:` in
/// front, `…_through_faultmod::name`; with `directly and through faultmod:`, both (the crate then depends on `faultmod`); with
/// `steered through faultmod:`, the body has a controller at `control` in its directory (`run_steered`).
#[macro_export]
macro_rules! contract {
    (directly and through faultmod: $($tests:tt)*) => {
        $crate::contract! { $($tests)* }
        $crate::contract! { through faultmod: $($tests)* }
    };
    (through faultmod: $($tests:tt)*) => {
        $crate::contract! { @module softhsm_through_faultmod, SoftHsm, run_through,
            Some(keyreeve_faultmod::module_path().expect("cargo built it")); $($tests)* }
        $crate::contract! { @module kryoptic_through_faultmod, Kryoptic, run_through,
            Some(keyreeve_faultmod::module_path().expect("cargo built it")); $($tests)* }
    };
    (steered through faultmod: $($tests:tt)*) => {
        $crate::contract! { @module softhsm_through_faultmod, SoftHsm, run_steered,
            keyreeve_faultmod::module_path().expect("cargo built it"); $($tests)* }
        $crate::contract! { @module kryoptic_through_faultmod, Kryoptic, run_steered,
            keyreeve_faultmod::module_path().expect("cargo built it"); $($tests)* }
    };
    (@module $module:ident, $kind:ident, $run:ident, $through:expr; $($name:ident => $body:expr;)*) => {
        mod $module {
            use super::*;
            $(#[test] fn $name() {
                let test = support::test_name(module_path!(), stringify!($name));
                support::$run($through, support::Kind::$kind, &test, $body)
            })*
        }
    };
    ($($tests:tt)*) => {
        $crate::contract! { @module softhsm, SoftHsm, run_through, None; $($tests)* }
        $crate::contract! { @module kryoptic, Kryoptic, run_through, None; $($tests)* }
    };
}

/// A test's name as the test binary knows it: the module path without the crate.
pub fn test_name(module_path: &str, name: &str) -> String {
    match module_path.split_once("::") {
        Some((_, modules)) => format!("{modules}::{name}"),
        None => name.to_owned(),
    }
}

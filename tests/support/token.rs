//! A throwaway token of a server: SoftHSM, or Kryoptic where a test asks for it.
//!
//! A module reads its configuration from an environment variable, once per process. A server is a process of its own,
//! so the variable goes to the server and never into this process.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

pub const SOFTHSM: &str = "/usr/lib/softhsm/libsofthsm2.so";
/// OpenSC's spy: passes every call on to the module that `PKCS11SPY` names, and writes it down.
pub const SPY: &str = "/usr/lib/x86_64-linux-gnu/pkcs11/pkcs11-spy.so";
pub const LABEL: &str = "flows";
pub const SO_PIN: &str = "50917346";

/// An initialised token without objects.
pub struct TestToken {
    pub module: PathBuf,
    pub pin: String,
    /// The variable that the module reads, and its value.
    pub environment: (&'static str, PathBuf),
}

impl TestToken {
    /// A SoftHSM token whose files are in `directory`.
    pub fn softhsm(directory: &Path, pin: &str) -> Self {
        let tokens = directory.join("tokens");
        fs::create_dir_all(&tokens).unwrap();
        let configuration = directory.join("softhsm2.conf");
        let text = format!(
            "directories.tokendir = {}\nobjectstore.backend = file\nlog.level = ERROR\n",
            tokens.display()
        );
        fs::write(&configuration, text).unwrap();
        let environment = ("SOFTHSM2_CONF", configuration);
        quiet(
            Command::new("softhsm2-util")
                .env(environment.0, &environment.1)
                .args(["--init-token", "--free", "--label", LABEL])
                .args(["--so-pin", SO_PIN, "--pin", pin]),
        );
        Self {
            module: SOFTHSM.into(),
            pin: pin.to_owned(),
            environment,
        }
    }

    /// One more token beside this one, with the same PIN; returns the directory that holds its objects. SoftHSM only.
    pub fn another(&self, label: &str) -> PathBuf {
        let tokens = self.environment.1.with_file_name("tokens");
        let list = || -> BTreeSet<PathBuf> {
            fs::read_dir(&tokens)
                .unwrap()
                .map(|entry| entry.unwrap().path())
                .collect()
        };
        let before = list();
        quiet(
            Command::new("softhsm2-util")
                .env(self.environment.0, &self.environment.1)
                .args(["--init-token", "--free", "--label", label])
                .args(["--so-pin", SO_PIN, "--pin", &self.pin]),
        );
        list()
            .difference(&before)
            .next()
            .expect("a new token has a directory")
            .clone()
    }

    /// The same on Kryoptic; `None` where KEYREEVE_KRYOPTIC names no module (`make test` always sets it).
    pub fn kryoptic(directory: &Path, pin: &str) -> Option<Self> {
        let module: PathBuf = std::env::var_os("KEYREEVE_KRYOPTIC")?.into();
        let configuration = directory.join("kryoptic.toml");
        let database = directory.join("token.sql");
        let text = format!(
            "[[slots]]\nslot = 0\ndbtype = \"sqlite\"\ndbargs = \"{}\"\n",
            database.display()
        );
        fs::write(&configuration, text).unwrap();
        let environment = ("KRYOPTIC_CONF", configuration);
        let tool = || {
            let mut tool = Command::new("pkcs11-tool");
            tool.env(environment.0, &environment.1).arg("--module").arg(&module);
            tool
        };
        quiet(tool().args(["--init-token", "--slot", "0", "--label", LABEL, "--so-pin", SO_PIN]));
        quiet(
            tool()
                .args(["--login", "--login-type", "so", "--slot", "0", "--so-pin", SO_PIN])
                .args(["--init-pin", "--pin", pin]),
        );
        Some(Self {
            module,
            pin: pin.to_owned(),
            environment,
        })
    }

    /// Changes the user PIN of the token with this label, as an administrator would with another tool.
    pub fn change_pin(&self, label: &str, from: &str, to: &str) {
        quiet(
            Command::new("pkcs11-tool")
                .env(self.environment.0, &self.environment.1)
                .arg("--module")
                .arg(&self.module)
                .args([
                    "--token-label",
                    label,
                    "--login",
                    "--pin",
                    from,
                    "--change-pin",
                    "--new-pin",
                    to,
                ]),
        );
    }

    /// Whether the token lets its user in, asked with another tool in another process.
    pub fn accepts(&self, pin: &str) -> bool {
        let output = Command::new("pkcs11-tool")
            .env(self.environment.0, &self.environment.1)
            .arg("--module")
            .arg(&self.module)
            .args(["--token-label", LABEL, "--login", "--pin", pin, "--list-objects"])
            .output()
            .expect("opensc is installed: run softhsm/install.sh");
        output.status.success()
    }
}

fn quiet(command: &mut Command) {
    let output = command
        .output()
        .expect("softhsm2 and opensc are installed: run softhsm/install.sh");
    assert!(
        output.status.success(),
        "{:?}: {}",
        command.get_program(),
        String::from_utf8_lossy(&output.stderr)
    );
}

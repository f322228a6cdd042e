//! A SoftHSM token for what runs without a server.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::Failure;

pub const LABEL: &str = "bench";

pub struct Token {
    pub module: &'static str,
    /// For `SOFTHSM2_CONF`.
    pub settings: PathBuf,
    pub pin_file: PathBuf,
}

impl Token {
    /// Makes one in `folder`, which it makes.
    pub fn make(folder: &Path) -> Result<Self, Failure> {
        let module = [
            "/usr/lib/softhsm/libsofthsm2.so",
            "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so",
        ]
        .into_iter()
        .find(|path| Path::new(path).exists())
        .ok_or("SoftHSM is not installed: run `make install`")?;
        fs::create_dir_all(folder.join("tokens"))?;
        let (settings, pin_file) = (folder.join("softhsm2.conf"), folder.join("pin"));
        fs::write(
            &settings,
            format!(
                "directories.tokendir = {}\nobjectstore.backend = file\n",
                folder.join("tokens").display()
            ),
        )?;
        fs::write(&pin_file, "1234\n")?;
        let made = Command::new("softhsm2-util")
            .env("SOFTHSM2_CONF", &settings)
            .args(["--init-token", "--free", "--label", LABEL])
            .args(["--so-pin", "12345678", "--pin", "1234"])
            .output()?;
        if !made.status.success() {
            return Err(format!("softhsm2-util: {}", String::from_utf8_lossy(&made.stderr)).into());
        }
        Ok(Self {
            module,
            settings,
            pin_file,
        })
    }
}

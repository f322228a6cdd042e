//! SoftHSM tokens, and how the processes that work one without a server are told of it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::Failure;

/// One token. Made by a plan, and passed to a process of it as options.
#[derive(clap::Args)]
pub struct Token {
    #[arg(long)]
    pub module: PathBuf,
    #[arg(long)]
    pub label: String,
    #[arg(long)]
    pub pin_file: PathBuf,
}

impl Token {
    /// Makes one in `folder`, which it makes.
    pub fn make(folder: &Path) -> Result<Self, Failure> {
        fs::create_dir_all(folder.join("tokens"))?;
        let token = Self {
            module: module()?,
            label: "bench".to_owned(),
            pin_file: folder.join("pin"),
        };
        let tokens = folder.join("tokens");
        fs::write(
            token.settings(),
            format!(
                "directories.tokendir = {}\nobjectstore.backend = file\n",
                tokens.display()
            ),
        )?;
        fs::write(&token.pin_file, "1234\n")?;
        initialise(&token.settings(), &token.label, "1234")?;
        Ok(token)
    }

    /// This program, to do `part` with the token.
    pub fn command(&self, part: &str) -> Result<Command, Failure> {
        let mut command = Command::new(std::env::current_exe()?);
        command.env("SOFTHSM2_CONF", self.settings());
        command.arg(part).args(["--label", &self.label]);
        command.arg("--module").arg(&self.module);
        command.arg("--pin-file").arg(&self.pin_file);
        Ok(command)
    }

    fn settings(&self) -> PathBuf {
        self.pin_file.with_file_name("softhsm2.conf")
    }
}

/// Where SoftHSM is.
pub fn module() -> Result<PathBuf, Failure> {
    let places = [
        "/usr/lib/softhsm/libsofthsm2.so",
        "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so",
    ];
    let found = places.iter().map(PathBuf::from).find(|place| place.exists());
    Ok(found.ok_or("SoftHSM is not installed: run `make install`")?)
}

/// Initialises a token; `settings`: for `SOFTHSM2_CONF`.
pub fn initialise(settings: &Path, label: &str, pin: &str) -> Result<(), Failure> {
    let made = Command::new("softhsm2-util")
        .env("SOFTHSM2_CONF", settings)
        .args(["--init-token", "--free", "--label", label])
        .args(["--so-pin", "12345678", "--pin", pin])
        .output()?;
    if !made.status.success() {
        return Err(format!("softhsm2-util: {}", String::from_utf8_lossy(&made.stderr)).into());
    }
    Ok(())
}

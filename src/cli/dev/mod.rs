//! `keyreeve dev`: a throwaway server on a throwaway software token, for trying things out.
//!
//! Everything lies in one directory for this user alone, which is removed at the end. SoftHSM reads its configuration from an environment
//! variable when it is loaded, and this program sets no variable of its own process: so it starts itself again with the variable set.

mod certificates;
mod files;

use std::{
    env,
    fs::{self, DirBuilder},
    net::SocketAddr,
    os::unix::{fs::DirBuilderExt, process::CommandExt},
    path::{Path, PathBuf},
    process::Command,
};

use clap::{Args, ValueEnum};

use self::files::Files;
use super::{
    failure::{Failure, Outcome},
    init::{self, Bootstrap},
    output, serve,
};
use crate::config::Config;

/// What SoftHSM reads when it is loaded.
const SOFTHSM_CONF: &str = "SOFTHSM2_CONF";

#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  keyreeve dev
  keyreeve dev --dir ./keyreeve-dev --keep

Then, in another terminal, source the file `env` that it names. Not for production: software token, no backup, throwaway certificates.")]
pub struct Dev {
    /// Where everything goes; made here, or one that was kept. Without it, a new directory for temporary files
    #[arg(long, value_name = "DIRECTORY")]
    dir: Option<PathBuf>,
    /// Address of the service; port 0: a free one
    #[arg(long, default_value = "127.0.0.1:7443")]
    listen: SocketAddr,
    /// Local address of health and metrics; port 0: a free one
    #[arg(long, default_value = "127.0.0.1:7480")]
    local: SocketAddr,
    /// When a record counts as written
    #[arg(long, value_enum, default_value_t = Durability::Written)]
    durability: Durability,
    /// Threads that work the token; 0: twice the cores
    #[arg(long, default_value_t = 0)]
    threads: usize,
    /// Leave the directory when the server ends
    #[arg(long)]
    keep: bool,
    /// Started again by itself, with the directory made: remove it at the end, unless --keep
    #[arg(long, hide = true)]
    started_again: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Durability {
    /// Survives a killed process
    Written,
    /// Survives a power cut
    Fsync,
}

impl Dev {
    pub fn run(mut self) -> Outcome {
        if !self.started_again {
            return Err(self.start_again());
        }
        let directory = self
            .dir
            .take()
            .ok_or_else(|| Failure::usage("--started-again is for keyreeve itself"))?;
        let directory = directory
            .canonicalize()
            .map_err(|error| Failure::file("find", &directory, &error))?;
        let files = Files::in_directory(&directory);
        let outcome = self.serve(&files);
        if !self.keep {
            fs::remove_dir_all(&directory).map_err(|error| Failure::file("remove", &directory, &error))?;
        }
        outcome
    }

    /// Makes the directory, then becomes the same program with SoftHSM's variable set. Returns only if that fails.
    fn start_again(&self) -> Failure {
        let made = match self.make_directory() {
            Ok(made) => made,
            Err(failure) => return failure,
        };
        let program = match env::current_exe() {
            Ok(program) => program,
            Err(error) => return Failure::failed(format!("cannot find this program itself: {error}")),
        };
        let mut command = Command::new(program);
        command
            .args(env::args_os().skip(1))
            .arg("--started-again")
            .env(SOFTHSM_CONF, Files::in_directory(&made.directory).softhsm_conf);
        if self.dir.is_none() {
            command.arg("--dir").arg(&made.directory);
        }
        if made.kept_before && !self.keep {
            command.arg("--keep");
        }
        let error = command.exec();
        Failure::failed(format!("cannot start again: {error}"))
    }

    fn make_directory(&self) -> Result<Made, Failure> {
        let directory = match &self.dir {
            Some(directory) => directory.clone(),
            None => env::temp_dir().join(format!("keyreeve-dev-{}", std::process::id())),
        };
        let kept_before = Files::in_directory(&directory).config.exists();
        if !kept_before {
            DirBuilder::new()
                .mode(0o700)
                .create(&directory)
                .map_err(|error| Failure::file("make the directory", &directory, &error))?;
        }
        let directory = directory
            .canonicalize()
            .map_err(|error| Failure::file("find", &directory, &error))?;
        Ok(Made { directory, kept_before })
    }

    fn serve(&self, files: &Files) -> Outcome {
        let (listen, local) = (self.listen, self.local);
        if files.config.exists() {
            output::note(&format!("taking up {}", files.directory.display()));
            files.readdress(listen, local)?;
        } else {
            output::note("making a software token, certificates and policies …");
            self.prepare(files, listen, local)?;
        }
        let config = Config::load(&files.config).map_err(Failure::failed)?;
        serve::serve(&config, |address| output::note(&files.welcome(address)))
    }

    fn prepare(&self, files: &Files, listen: SocketAddr, local: SocketAddr) -> Outcome {
        let module = softhsm()?;
        files.write_before_token()?;
        init::make_throwaway_token(&module, files::TOKEN_LABEL, &files.pin)?;
        certificates::write(files)?;
        files.write_config(&files::Settings {
            module: &module,
            listen,
            local,
            fsync: self.durability == Durability::Fsync,
            threads: self.threads,
            manifest_sha256: "",
        })?;
        let config = Config::load(&files.config).map_err(Failure::failed)?;
        let bootstrap = Bootstrap::parse(files::BOOTSTRAP).map_err(Failure::failed)?;
        let made = init::initialise(&config, &bootstrap)?;
        files.pin_manifest(&made.home().any().manifest_sha256)
    }
}

struct Made {
    directory: PathBuf,
    kept_before: bool,
}

/// Where distributions put SoftHSM.
fn softhsm() -> Result<PathBuf, Failure> {
    let places = [
        "/usr/lib/softhsm/libsofthsm2.so",
        "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so",
        "/usr/lib/aarch64-linux-gnu/softhsm/libsofthsm2.so",
        "/usr/lib64/pkcs11/libsofthsm2.so",
        "/usr/lib64/softhsm/libsofthsm2.so",
        "/usr/local/lib/softhsm/libsofthsm2.so",
        "/opt/homebrew/lib/softhsm/libsofthsm2.so",
    ];
    places
        .iter()
        .map(Path::new)
        .find(|place| place.is_file())
        .map(Path::to_owned)
        .ok_or_else(|| Failure::failed("SoftHSM is not installed: softhsm/install.sh, or apt-get install softhsm2"))
}

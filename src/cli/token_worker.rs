//! `token-worker`: the process that hosts the PKCS#11 module. The service starts it; nobody else does.

use std::io::IsTerminal as _;

use clap::Args;

use super::failure::{Failure, Outcome};
use crate::{
    config::{LogConfig, LogFormat},
    hardening, telemetry,
    token::worker,
};

#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  keyreeve token-worker --log-level info --log-format json

Started by `keyreeve serve` with a socket as standard input, over which it is told everything else.")]
pub struct TokenWorker {
    #[arg(long, default_value = "info")]
    log_level: String,
    /// json or text
    #[arg(long, default_value = "json")]
    log_format: String,
    /// Try what the sandbox of a worker holds back; for `keyreeve doctor`
    #[arg(long, hide = true)]
    try_sandbox: bool,
}

impl TokenWorker {
    pub fn run(self) -> Outcome {
        if std::io::stdin().is_terminal() {
            return Err(Failure::usage("this is started by `keyreeve serve`, not by hand"));
        }
        hardening::forbid_dumps().map_err(Failure::failed)?;
        if self.try_sandbox {
            return worker::Trial::run().map_err(Failure::failed);
        }
        telemetry::start_log(&LogConfig {
            format: if self.log_format == "text" {
                LogFormat::Text
            } else {
                LogFormat::Json
            },
            level: self.log_level,
        });
        telemetry::abort_on_panic();
        match worker::run() {
            0 => Ok(()),
            code => std::process::exit(code.into()),
        }
    }
}

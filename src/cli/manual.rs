//! `completions` and `man`: made from the commands themselves, so they cannot lag behind.

use std::{fs, path::PathBuf};

use clap::{Args, Command};
use clap_complete::Shell;

use super::{
    failure::{Failure, Outcome},
    output,
};

#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  keyreeve completions bash >/etc/bash_completion.d/keyreeve
  keyreeve completions zsh >\"${fpath[1]}/_keyreeve\"")]
pub struct Completions {
    shell: Shell,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  keyreeve man | man -l -
  keyreeve man --dir /usr/local/share/man/man1")]
pub struct Man {
    /// Write one page for each command into this directory, instead of the first page to standard output
    #[arg(long, value_name = "DIRECTORY")]
    dir: Option<PathBuf>,
}

impl Completions {
    pub fn run(self, mut command: Command) -> Outcome {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut command, "keyreeve", &mut script);
        output::write(&script)
    }
}

impl Man {
    pub fn run(self, command: Command) -> Outcome {
        let Some(directory) = self.dir else {
            let mut page = Vec::new();
            clap_mangen::Man::new(command)
                .render(&mut page)
                .map_err(Failure::failed)?;
            return output::write(&page);
        };
        fs::create_dir_all(&directory)
            .and_then(|()| clap_mangen::generate_to(command, &directory))
            .map_err(|error| Failure::file("write man pages to", &directory, &error))
    }
}

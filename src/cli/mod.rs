//! The command line: one file for each group of commands.
//!
//! Data goes to standard output, notes and errors to standard error. Exit codes: 0 done, 1 failed, 2 wrongly called. Nothing secret is an
//! argument. Commands that use the service speak to it through `keyreeve-client` only, as anyone else would.

mod attestation;
mod audit;
mod backup;
mod ceremony;
mod config;
mod connection;
mod crypto;
mod dev;
mod doctor;
mod environments;
mod failure;
mod files;
mod init;
mod key_view;
mod keys;
mod manual;
mod output;
mod policy;
mod request_id;
mod restore;
mod row_key;
mod sealing;
mod serve;
mod status;
mod teams;
mod token_worker;
mod tokens;

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

use self::{
    failure::{Failure, Outcome},
    output::Format,
};

/// HSM-backed key management and encryption over gRPC
#[derive(Debug, Parser)]
#[command(name = "keyreeve", version, propagate_version = true, max_term_width = 110)]
#[command(after_help = "\
Example:
  keyreeve dev
  echo 'hello' | keyreeve encrypt dev/shop/orders --base64

Exit codes: 0 done, 1 failed, 2 wrongly called. Data goes to standard output, everything else to standard error.")]
pub struct Cli {
    /// Output for people or for programs
    #[arg(short, long, global = true, value_enum, default_value_t = Format::Table)]
    output: Format,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Starts a throwaway server with a software token, to try things out
    Dev(dev::Dev),
    /// Makes the root keys in the token, the store, the log, the first environments
    Init(init::Init),
    /// Serves
    Serve(serve::Serve),
    /// Health of the service: version, tokens, audit log
    Status(status::Status),
    /// Who the service takes you for
    Whoami(status::WhoAmI),
    /// Environments: the boundary of isolation
    #[command(subcommand, after_help = "Example:\n  keyreeve environments list")]
    Environments(environments::Environments),
    /// Teams: they own keys
    #[command(subcommand, after_help = "Example:\n  keyreeve teams list dev")]
    Teams(teams::Teams),
    /// Keys, their versions and states
    #[command(subcommand, after_help = "Example:\n  keyreeve keys show dev/shop/orders")]
    Keys(keys::Keys),
    /// Encrypts a message
    Encrypt(crypto::Encrypt),
    /// Decrypts a message
    Decrypt(crypto::Decrypt),
    /// Encrypts anew under another key or version, without showing the plaintext
    #[command(name = "reencrypt")]
    ReEncrypt(crypto::ReEncrypt),
    /// Makes a data key for local encryption
    #[command(name = "datakey")]
    DataKey(crypto::DataKey),
    /// Makes the envelope of a data key of another service, so that a key here opens what it sealed, too
    Wrap(crypto::Wrap),
    /// Opens the envelope of a data key
    Unwrap(crypto::Unwrap),
    /// Seals files of any size on this host, under data keys of the service
    Seal(sealing::Seal),
    /// Opens sealed files
    Open(sealing::Open),
    /// Gives sealed files other wrapped keys; their payload stays as it is
    Rewrap(sealing::Rewrap),
    /// Shows what anyone can see of a sealed file
    Inspect(sealing::Inspect),
    /// Random bytes, of the token and the service combined
    Random(crypto::Random),
    /// The PKCS#11 tokens
    #[command(subcommand, after_help = "Example:\n  keyreeve tokens status")]
    Tokens(tokens::Tokens),
    /// Groups of several tokens: who is in, keys for all, new members
    #[command(subcommand, after_help = "Example:\n  keyreeve ceremony show a.enrol")]
    Ceremony(ceremony::Ceremony),
    /// Hosts the PKCS#11 module for a server
    #[command(hide = true)]
    TokenWorker(token_worker::TokenWorker),
    /// Checks everything a start needs, and the token; says what to do about each failure
    Doctor(doctor::Doctor),
    /// Policies and identities
    #[command(subcommand, after_help = "Example:\n  keyreeve policy check")]
    Policy(policy::Policy),
    /// Copies store and log, also beside a running server
    Backup(backup::Backup),
    /// Lays a backup where nothing is, and opens a new epoch of the log
    Restore(restore::Restore),
    /// The audit log of this host
    #[command(subcommand, after_help = "Example:\n  keyreeve audit verify")]
    Audit(audit::Audit),
    /// The configuration file
    #[command(subcommand, after_help = "Example:\n  keyreeve config check")]
    Config(config::ConfigCommand),
    /// Prints completions for a shell
    Completions(manual::Completions),
    /// Prints or writes man pages
    Man(manual::Man),
}

/// The whole program.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let outcome = cli.command.run(cli.output);
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            match &failure {
                Failure::Failed(text) | Failure::Usage(text) => output::note(&format!("error: {text}")),
                Failure::ReaderGone => {}
            }
            ExitCode::from(failure.exit_code())
        }
    }
}

impl Command {
    fn run(self, format: Format) -> Outcome {
        match self {
            Self::Dev(command) => command.run(),
            Self::Init(command) => command.run(format),
            Self::Serve(command) => command.run(),
            Self::Status(command) => client(command.run(format)),
            Self::Whoami(command) => client(command.run(format)),
            Self::Environments(command) => client(command.run(format)),
            Self::Teams(command) => client(command.run(format)),
            Self::Keys(command) => client(command.run(format)),
            Self::Encrypt(command) => client(command.run(format)),
            Self::Decrypt(command) => client(command.run(format)),
            Self::ReEncrypt(command) => client(command.run(format)),
            Self::DataKey(command) => client(command.run(format)),
            Self::Wrap(command) => client(command.run(format)),
            Self::Unwrap(command) => client(command.run(format)),
            Self::Seal(command) => client(command.run()),
            Self::Open(command) => client(command.run()),
            Self::Rewrap(command) => client(command.run()),
            Self::Inspect(command) => command.run(format),
            Self::Random(command) => client(command.run(format)),
            Self::Tokens(command) => client(command.run(format)),
            Self::Ceremony(command) => command.run(format),
            Self::TokenWorker(command) => command.run(),
            Self::Doctor(command) => command.run(format),
            Self::Policy(command) => command.run(format),
            Self::Backup(command) => client(command.run(format)),
            Self::Restore(command) => command.run(format),
            Self::Audit(command) => command.run(format),
            Self::Config(command) => command.run(),
            Self::Completions(command) => command.run(Cli::command()),
            Self::Man(command) => command.run(Cli::command()),
        }
    }
}

/// Runs a command that calls the service: one thread is enough.
fn client(command: impl Future<Output = Outcome>) -> Outcome {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::failed(format!("cannot start: {error}")))?
        .block_on(command)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn visit(command: &clap::Command, seen: &mut impl FnMut(&clap::Command)) {
        seen(command);
        command.get_subcommands().for_each(|inner| visit(inner, seen));
    }

    #[test]
    fn the_tree_of_commands_holds_together() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_says_what_it_does_and_shows_an_example_that_parses() {
        let mut examples = 0;
        visit(&Cli::command(), &mut |command| {
            assert!(command.get_about().is_some(), "{} says nothing", command.get_name());
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            let lines = help.lines().skip_while(|line| *line != "Example:").skip(1);
            let own = lines.take_while(|line| line.starts_with("  "));
            let found = own.filter_map(command_line).inspect(|arguments| {
                if let Err(error) = Cli::command().try_get_matches_from(arguments) {
                    panic!(
                        "the example {arguments:?} of {} does not parse: {error}",
                        command.get_name()
                    );
                }
            });
            let found = found.count();
            assert!(found > 0, "{} shows no example", command.get_name());
            examples += found;
        });
        assert!(examples > 30);
    }

    /// The words of the first `keyreeve` of an example's line, up to a pipe, a redirection or a comment.
    fn command_line(line: &str) -> Option<Vec<String>> {
        let line = &line[line.find("keyreeve")?..];
        let end = line.find(" | ").or_else(|| line.find(" #")).unwrap_or(line.len());
        let (mut words, mut word, mut quoted) = (Vec::new(), String::new(), false);
        for character in line[..end].chars() {
            match character {
                '\'' => quoted = !quoted,
                ' ' if !quoted => words.push(std::mem::take(&mut word)),
                other => word.push(other),
            }
        }
        words.push(word);
        words.retain(|word| !word.is_empty() && !word.starts_with(['<', '>']));
        Some(words)
    }

    #[test]
    fn nothing_secret_is_an_argument() {
        let secret = ["plaintext", "pin", "password", "secret"];
        visit(&Cli::command(), &mut |command| {
            for argument in command.get_arguments() {
                let takes_path = argument
                    .get_value_names()
                    .is_some_and(|names| names.iter().any(|name| *name == "FILE"));
                let id = argument.get_id().as_str();
                assert!(
                    takes_path || !secret.iter().any(|word| id.contains(word)),
                    "{} {id}",
                    command.get_name()
                );
            }
        });
    }

    #[test]
    fn completions_and_man_pages_are_made_for_every_command() {
        for shell in [
            clap_complete::Shell::Bash,
            clap_complete::Shell::Zsh,
            clap_complete::Shell::Fish,
        ] {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "keyreeve", &mut script);
            let script = String::from_utf8(script).unwrap();
            assert!(script.contains("cancel-destruction"), "{shell}");
        }
        let directory = tempfile::tempdir().unwrap();
        clap_mangen::generate_to(Cli::command(), directory.path()).unwrap();
        let page = std::fs::read_to_string(directory.path().join("keyreeve-keys-rotate.1")).unwrap();
        assert!(page.contains("keyreeve keys rotate dev/shop/orders"), "{page}");
    }

    #[test]
    fn a_wrong_call_ends_with_2() {
        let error = Cli::try_parse_from(["keyreeve", "encrypt", "dev/shop"]).unwrap_err();
        assert_eq!(error.exit_code(), 2);
        assert!(
            error.to_string().contains("envs/{env}/teams/{team}/keys/{key}"),
            "{error}"
        );
        assert_eq!(Failure::usage("x").exit_code(), 2);
        assert_eq!(Failure::failed("x").exit_code(), 1);
    }
}

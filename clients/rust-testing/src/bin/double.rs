//! The double as a program, for tests in other languages.
//!
//! ```text
//! keyreeve-double [--team dev/shop]… [--environment staging]… [--caller NAME=ROLE,ROLE@TEAM,TEAM]…
//! ```
//!
//! Says on standard output where it is and how to call it as `admin`, one `KEYREEVE_…=…` a line and then an empty line; the files of other
//! callers lie beside those of `admin`. Takes orders on standard input: `stop`, `start`; answers each with `done`. Ends when that ends.

use std::{
    io::{self, BufRead as _, Write as _},
    process::ExitCode,
};

use keyreeve_testing::{Caller, Service};

type Problem = Box<dyn std::error::Error>;

#[derive(Default)]
struct Arguments {
    teams: Vec<String>,
    environments: Vec<String>,
    callers: Vec<Caller>,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            let mut text = problem.to_string();
            let mut cause = problem.source();
            while let Some(error) = cause {
                text = format!("{text}: {error}");
                cause = error.source();
            }
            let _ = writeln!(io::stderr(), "keyreeve-double: {text}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<(), Problem> {
    let arguments = parse(std::env::args().skip(1))?;
    let mut builder = Service::builder().environments(arguments.environments);
    if !arguments.teams.is_empty() {
        builder = builder.teams(arguments.teams);
    }
    let double = builder.start().await?;
    for caller in arguments.callers {
        double.add_caller(caller).await?;
    }
    let mut lines = String::new();
    for (name, value) in double.settings("admin").environ() {
        lines.push_str(&format!("{name}={value}\n"));
    }
    say(&lines)?;
    for order in io::stdin().lock().lines() {
        match order?.as_str() {
            "stop" => double.stop().await,
            "start" => double.start_again().await?,
            other => return Err(format!("`{other}` is no order: stop, start").into()),
        }
        say("done")?;
    }
    Ok(())
}

fn say(text: &str) -> io::Result<()> {
    let mut output = io::stdout().lock();
    writeln!(output, "{text}")?;
    output.flush()
}

fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Arguments, Problem> {
    let mut parsed = Arguments::default();
    while let Some(option) = arguments.next() {
        let value = arguments.next().ok_or_else(|| format!("{option} wants a value"))?;
        match option.as_str() {
            "--team" => parsed.teams.push(value),
            "--environment" => parsed.environments.push(value),
            "--caller" => parsed.callers.push(caller(&value)?),
            _ => return Err(format!("`{option}` is no option: --team, --environment, --caller").into()),
        }
    }
    Ok(parsed)
}

/// `NAME=ROLE,ROLE@TEAM,TEAM`.
fn caller(text: &str) -> Result<Caller, Problem> {
    let (name, rights) = text.split_once('=').ok_or("write --caller NAME=ROLE,ROLE@TEAM,TEAM")?;
    let (roles, teams) = rights.split_once('@').unwrap_or((rights, ""));
    let words = |list: &str| {
        list.split(',')
            .filter(|word| !word.is_empty())
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    Ok(Caller::new(name).roles(words(roles)).teams(words(teams)))
}

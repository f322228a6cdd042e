//! `tokens verify`: walks all keys and has every token of their group check them, with progress.

use keyreeve_client::{Client, v1};
use serde::Serialize;

use crate::{
    cli::{
        connection::Connection,
        failure::{Failure, Outcome},
        output::{self, Format, Shown, Table},
    },
    model::EnvironmentName,
};

/// Keys of one request: small, so that it ends well before its deadline also on a slow token.
const PAGE: i32 = 50;

#[derive(Serialize)]
struct Report {
    teams: u64,
    versions: u64,
    faults: Vec<Fault>,
}

#[derive(Serialize)]
struct Fault {
    key: String,
    version: u32,
    token_serial: String,
    problem: String,
    token_unavailable: bool,
}

/// `only`: this environment; without it all that the caller may see.
pub async fn verify(format: Format, only: Option<EnvironmentName>, connection: Connection) -> Outcome {
    let client = connection.open().await?;
    let environments = match only {
        Some(name) => vec![name.to_string()],
        None => environments(&client).await?,
    };
    let mut report = Report {
        teams: 0,
        versions: 0,
        faults: Vec::new(),
    };
    for environment in environments {
        for team in teams(&client, &environment).await? {
            walk(&client, &team, &mut report).await?;
            report.teams += 1;
            output::note(&format!("{team}: {} versions checked so far", report.versions));
        }
    }
    output::print(format, &report)?;
    let unchecked = report.faults.iter().filter(|fault| fault.token_unavailable).count();
    match report.faults.len() {
        0 => Ok(()),
        all if all == unchecked => Err(Failure::failed(
            "some tokens could not be asked: see `keyreeve tokens status`, and run this again",
        )),
        _ => Err(Failure::failed(
            "not every token confirms every version: keep the store and the log as they are, and see docs/runbooks/token-down.md",
        )),
    }
}

async fn walk(client: &Client, team: &str, report: &mut Report) -> Outcome {
    let mut page_token = String::new();
    loop {
        let request = v1::VerifyKeysRequest {
            parent: team.to_owned(),
            page_size: PAGE,
            page_token,
        };
        let page = client.verify_keys(request).await?;
        report.versions += page.versions;
        report.faults.extend(page.faults.into_iter().map(Fault::from));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return Ok(());
        }
    }
}

async fn environments(client: &Client) -> Result<Vec<String>, Failure> {
    let (mut names, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = v1::ListEnvironmentsRequest {
            page_size: 0,
            page_token,
        };
        let page = client.list_environments(request).await?;
        names.extend(page.environments.into_iter().map(|environment| environment.name));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return Ok(names);
        }
    }
}

async fn teams(client: &Client, environment: &str) -> Result<Vec<String>, Failure> {
    let (mut names, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = v1::ListTeamsRequest {
            parent: environment.to_owned(),
            page_size: 0,
            page_token,
        };
        let page = client.list_teams(request).await?;
        names.extend(page.teams.into_iter().map(|team| team.name));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return Ok(names);
        }
    }
}

impl From<v1::KeyFault> for Fault {
    fn from(fault: v1::KeyFault) -> Self {
        Self {
            key: fault.name,
            version: fault.version,
            token_serial: fault.token_serial,
            problem: fault.problem,
            token_unavailable: fault.token_unavailable,
        }
    }
}

impl Shown for Report {
    fn table(&self) -> Table {
        if self.faults.is_empty() {
            let mut table = Table::facts();
            table
                .fact("teams", self.teams.to_string())
                .fact("versions", self.versions.to_string())
                .fact("faults", "none");
            return table;
        }
        let mut table = Table::new(["KEY", "VERSION", "TOKEN", "PROBLEM"]);
        for fault in &self.faults {
            table.row([
                fault.key.clone(),
                fault.version.to_string(),
                fault.token_serial.clone(),
                fault.problem.clone(),
            ]);
        }
        table
    }
}

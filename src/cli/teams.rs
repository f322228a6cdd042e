//! `teams create | list | show`.

use clap::Subcommand;
use keyreeve_client::v1;
use serde::Serialize;

use super::{
    connection::Connection,
    failure::{Failure, Outcome},
    output::{self, Format, Shown, Table, time},
    request_id::RequestId,
};
use crate::model::{EnvironmentName, TeamName};

#[derive(Debug, Subcommand)]
pub enum Teams {
    /// Makes a team in an environment
    #[command(after_help = "Example:\n  keyreeve teams create dev/shop")]
    Create {
        /// Its name, as in dev/shop
        team: TeamName,
        #[command(flatten)]
        request_id: RequestId,
        #[command(flatten)]
        connection: Connection,
    },
    /// Lists the teams of an environment
    #[command(after_help = "Example:\n  keyreeve teams list dev")]
    List {
        environment: EnvironmentName,
        #[command(flatten)]
        connection: Connection,
    },
    /// Shows one team
    #[command(after_help = "Example:\n  keyreeve teams show dev/shop -o json")]
    Show {
        team: TeamName,
        #[command(flatten)]
        connection: Connection,
    },
}

#[derive(Serialize)]
struct View {
    name: String,
    id: String,
    create_time: Option<String>,
}

impl Teams {
    pub async fn run(self, format: Format) -> Outcome {
        match self {
            Self::Create {
                team,
                request_id,
                connection,
            } => {
                let request = v1::CreateTeamRequest {
                    parent: team.environment().to_string(),
                    team_id: team.id().to_owned(),
                    request_id: request_id.text(),
                };
                let answer = connection.open().await?.create_team(request).await?;
                output::print(format, &View::of(answer.team)?)
            }
            Self::List {
                environment,
                connection,
            } => list(format, &environment, connection).await,
            Self::Show { team, connection } => {
                let request = v1::GetTeamRequest { name: team.to_string() };
                let answer = connection.open().await?.get_team(request).await?;
                output::print(format, &View::of(answer.team)?)
            }
        }
    }
}

async fn list(format: Format, environment: &EnvironmentName, connection: Connection) -> Outcome {
    let client = connection.open().await?;
    let (mut views, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = v1::ListTeamsRequest {
            parent: environment.to_string(),
            page_size: 0,
            page_token,
        };
        let page = client.list_teams(request).await?;
        for team in page.teams {
            views.push(View::of(Some(team))?);
        }
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return output::print(format, &views);
        }
    }
}

impl View {
    fn of(team: Option<v1::Team>) -> Result<Self, Failure> {
        let team = team.ok_or_else(|| Failure::failed("the service answered without a team"))?;
        Ok(Self {
            create_time: time(&team.create_time),
            name: team.name,
            id: team.id,
        })
    }
}

impl Shown for View {
    fn table(&self) -> Table {
        let mut table = Table::facts();
        table
            .fact("name", &self.name)
            .fact("id", &self.id)
            .fact("created", self.create_time.clone().unwrap_or_default());
        table
    }
}

impl Shown for Vec<View> {
    fn table(&self) -> Table {
        let mut table = Table::new(["NAME", "CREATED"]);
        for view in self {
            table.row([view.name.clone(), view.create_time.clone().unwrap_or_default()]);
        }
        table
    }
}

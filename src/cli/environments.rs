//! `environments create | list | show`.

use clap::{Args, Subcommand};
use keyreeve_client::v1;
use serde::Serialize;

use super::{
    connection::Connection,
    failure::{Failure, Outcome},
    output::{self, Format, Shown, Table, time, yes_no},
    request_id::RequestId,
};
use crate::model::EnvironmentName;

#[derive(Debug, Subcommand)]
pub enum Environments {
    /// Makes an environment; it must be bound to a token group in the configuration file
    #[command(after_help = "Example:\n  keyreeve environments create staging")]
    Create {
        /// Its name, as in dev
        environment: EnvironmentName,
        /// Mark it as production: destruction of keys then needs an approval. Cannot be taken back
        #[arg(long)]
        production: bool,
        #[command(flatten)]
        request_id: RequestId,
        #[command(flatten)]
        connection: Connection,
    },
    /// Lists all environments
    #[command(after_help = "Example:\n  keyreeve environments list -o json")]
    List(List),
    /// Shows one environment
    #[command(after_help = "Example:\n  keyreeve environments show dev")]
    Show {
        environment: EnvironmentName,
        #[command(flatten)]
        connection: Connection,
    },
}

#[derive(Debug, Args)]
pub struct List {
    #[command(flatten)]
    connection: Connection,
}

#[derive(Serialize)]
struct View {
    name: String,
    id: String,
    production: bool,
    create_time: Option<String>,
}

impl Environments {
    pub async fn run(self, format: Format) -> Outcome {
        match self {
            Self::Create {
                environment,
                production,
                request_id,
                connection,
            } => {
                let request = v1::CreateEnvironmentRequest {
                    environment_id: environment.id().to_owned(),
                    production,
                    request_id: request_id.text(),
                };
                let answer = connection.open().await?.create_environment(request).await?;
                output::print(format, &View::of(answer.environment)?)
            }
            Self::List(List { connection }) => list(format, connection).await,
            Self::Show {
                environment,
                connection,
            } => {
                let name = environment.to_string();
                let request = v1::GetEnvironmentRequest { name };
                let answer = connection.open().await?.get_environment(request).await?;
                output::print(format, &View::of(answer.environment)?)
            }
        }
    }
}

async fn list(format: Format, connection: Connection) -> Outcome {
    let client = connection.open().await?;
    let (mut views, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = v1::ListEnvironmentsRequest {
            page_size: 0,
            page_token,
        };
        let page = client.list_environments(request).await?;
        for environment in page.environments {
            views.push(View::of(Some(environment))?);
        }
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return output::print(format, &views);
        }
    }
}

impl View {
    fn of(environment: Option<v1::Environment>) -> Result<Self, Failure> {
        let environment = environment.ok_or_else(|| Failure::failed("the service answered without an environment"))?;
        Ok(Self {
            create_time: time(&environment.create_time),
            name: environment.name,
            id: environment.id,
            production: environment.production,
        })
    }
}

impl Shown for View {
    fn table(&self) -> Table {
        let mut table = Table::facts();
        table
            .fact("name", &self.name)
            .fact("id", &self.id)
            .fact("production", yes_no(self.production))
            .fact("created", self.create_time.clone().unwrap_or_default());
        table
    }
}

impl Shown for Vec<View> {
    fn table(&self) -> Table {
        let mut table = Table::new(["NAME", "PRODUCTION", "CREATED"]);
        for view in self {
            table.row([
                view.name.clone(),
                yes_no(view.production),
                view.create_time.clone().unwrap_or_default(),
            ]);
        }
        table
    }
}

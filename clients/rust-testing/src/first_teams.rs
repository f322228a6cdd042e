//! The teams that are there from the start, and their environments: made as `keyreeve init` does.

use std::time::{Duration, Instant};

use keyreeve::{
    identity::{Caller, RequestFacts},
    keys::{CreateEnvironment, CreateTeam, RequestId},
    model::{EnvironmentName, TeamName},
    policy::{Context, System, action},
    server::Node,
};

/// For one of them.
const STEP: Duration = Duration::from_secs(30);

pub async fn make(node: &Node, teams: &[TeamName]) -> keyreeve::Result<()> {
    let mut environments: Vec<EnvironmentName> = Vec::new();
    for team in teams {
        let environment = team.environment();
        if !environments.contains(&environment) {
            let permit = node
                .gate
                .permit::<action::CreateEnvironment>(&job(), &System, Context::none())
                .await?;
            let request = CreateEnvironment {
                name: environment.clone(),
                production: false,
                request_id: RequestId::default(),
            };
            node.keys.create_environment(permit, request).await?;
            environments.push(environment.clone());
        }
        let permit = node
            .gate
            .permit::<action::CreateTeam>(&job(), &environment, Context::none())
            .await?;
        let request = CreateTeam {
            name: team.clone(),
            request_id: RequestId::default(),
        };
        node.keys.create_team(permit, request).await?;
    }
    Ok(())
}

fn job() -> Caller {
    let started = Instant::now();
    let facts = RequestFacts {
        request_id: "init".into(),
        trace: None,
        peer: None,
        deadline: started + STEP,
        started,
    };
    Caller::job("init", facts)
}

//! Teams, which own keys within one environment: create, get.

use std::sync::Arc;

use keyreeve_envelope::TeamId;

use super::{
    Keys, RequestId, new_id, record,
    repeat::{Fingerprint, Turn},
};
use crate::{
    Error, Result,
    model::{Team, TeamName},
    policy::{Permit, Recorded, action},
    store::Change,
};

/// A request for a team. The permit is on its environment.
#[derive(Debug, Clone)]
pub struct CreateTeam {
    pub name: TeamName,
    pub request_id: RequestId,
}

impl Keys {
    /// Errors: `AlreadyExists`; `InvalidArgument` if the name is not in the permit's environment.
    pub async fn create_team(
        &self,
        permit: Permit<action::CreateTeam>,
        request: CreateTeam,
    ) -> Result<Recorded<Arc<Team>>> {
        let result = self.make_team(&permit, &request).await;
        record(permit, result).await
    }

    pub async fn team(&self, permit: Permit<action::ReadTeam>) -> Result<Recorded<Arc<Team>>> {
        let found = permit.on().clone();
        permit.complete(Ok(found)).await
    }

    async fn make_team(
        &self,
        permit: &Permit<action::CreateTeam>,
        request: &CreateTeam,
    ) -> Result<(Arc<Team>, Option<Change>)> {
        let (name, now) = (&request.name, self.now());
        let environment = permit.on();
        if name.environment() != environment.name {
            return Err(Error::invalid(
                "parent",
                format_args!("`{name}` is not in `{}`", environment.name),
            ));
        }
        let turn = self.turn(permit, &request.request_id, name.as_str(), Fingerprint::new(), now);
        let remembered = match turn.await? {
            Turn::First(remembered) => remembered,
            Turn::Again => {
                let found = self.directory.team(name).await?;
                return Ok((found.ok_or_else(|| Error::NotFound(name.to_string()))?, None));
            }
        };
        let mut team = Team {
            id: TeamId::from_bytes(new_id()?),
            name: name.clone(),
            environment: environment.clone(),
            created: now,
            row_version: 0,
        };
        let change = Change::new().insert(&team).remember(remembered);
        team.row_version = 1;
        Ok((Arc::new(team), Some(change)))
    }
}

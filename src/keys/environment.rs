//! Environments: create, get. Which token group serves one is in the configuration file, never here.

use std::sync::Arc;

use keyreeve_envelope::EnvironmentId;

use super::{
    Keys, RequestId, new_id, record,
    repeat::{Fingerprint, Turn},
};
use crate::{
    Error, Result,
    model::{Environment, EnvironmentName},
    policy::{Permit, Recorded, action},
    store::Change,
};

/// A request for an environment.
#[derive(Debug, Clone)]
pub struct CreateEnvironment {
    pub name: EnvironmentName,
    /// Destruction of keys then needs approval.
    pub production: bool,
    pub request_id: RequestId,
}

impl Keys {
    /// Errors: `EnvironmentUnbound` unless the configuration file binds the name to a token group; `AlreadyExists`.
    pub async fn create_environment(
        &self,
        permit: Permit<action::CreateEnvironment>,
        request: CreateEnvironment,
    ) -> Result<Recorded<Arc<Environment>>> {
        let result = self.make_environment(&permit, &request).await;
        record(permit, result).await
    }

    pub async fn environment(&self, permit: Permit<action::ReadEnvironment>) -> Result<Recorded<Arc<Environment>>> {
        let found = permit.on().clone();
        permit.complete(Ok(found)).await
    }

    async fn make_environment(
        &self,
        permit: &Permit<action::CreateEnvironment>,
        request: &CreateEnvironment,
    ) -> Result<(Arc<Environment>, Option<Change>)> {
        let (name, now) = (&request.name, self.now());
        let fingerprint = Fingerprint::new().with_number(request.production.into());
        let turn = self.turn(permit, &request.request_id, name.as_str(), fingerprint, now);
        let remembered = match turn.await? {
            Turn::First(remembered) => remembered,
            Turn::Again => {
                let found = self.directory.environment(name).await?;
                return Ok((found.ok_or_else(|| Error::NotFound(name.to_string()))?, None));
            }
        };
        self.tokens.of(name)?;
        let mut environment = Environment {
            id: EnvironmentId::from_bytes(new_id()?),
            name: name.clone(),
            production: request.production,
            created: now,
            row_version: 0,
        };
        let change = Change::new().insert(&environment).remember(remembered);
        environment.row_version = 1;
        Ok((Arc::new(environment), Some(change)))
    }
}

//! `KeyService`: each handler parses, asks for a permit, calls one operation, converts its recorded answer.

use std::sync::Arc;

use keyreeve_proto::v1::{self as proto, key_service_server};
use tonic::{Request, Response, Status};

use super::{
    caller::take_caller,
    convert::{key_name, named, one_name},
};
use crate::{
    Result,
    keys::{
        CancelDestruction, ChangeState, CreateEnvironment, CreateKey, CreateTeam, DestroyKey, Keys, ListRequest,
        RotateKey,
    },
    model::{EnvironmentName, TeamName},
    policy::{Context, Gate, System, action},
};

/// The service. Cheap to clone.
#[derive(Clone)]
pub struct KeyService {
    gate: Gate,
    keys: Arc<Keys>,
}

impl KeyService {
    pub fn new(gate: Gate, keys: Arc<Keys>) -> Self {
        Self { gate, keys }
    }
}

#[tonic::async_trait]
impl key_service_server::KeyService for KeyService {
    async fn create_environment(
        &self,
        request: Request<proto::CreateEnvironmentRequest>,
    ) -> Result<Response<proto::CreateEnvironmentResponse>, Status> {
        let (caller, request) = take_caller(request)?;
        let request = CreateEnvironment::try_from(request)?;
        let permit = self
            .gate
            .permit::<action::CreateEnvironment>(&caller, &System, Context::none())
            .await?;
        Ok(Response::new(
            self.keys.create_environment(permit, request).await?.into(),
        ))
    }

    async fn create_team(
        &self,
        request: Request<proto::CreateTeamRequest>,
    ) -> Result<Response<proto::CreateTeamResponse>, Status> {
        let (caller, request) = take_caller(request)?;
        let request = CreateTeam::try_from(request)?;
        let permit = self
            .gate
            .permit::<action::CreateTeam>(&caller, &request.name.environment(), Context::none())
            .await?;
        Ok(Response::new(self.keys.create_team(permit, request).await?.into()))
    }

    async fn create_key(
        &self,
        request: Request<proto::CreateKeyRequest>,
    ) -> Result<Response<proto::CreateKeyResponse>, Status> {
        let (caller, request) = take_caller(request)?;
        let request = CreateKey::try_from(request)?;
        let permit = self
            .gate
            .permit::<action::CreateKey>(&caller, &request.name.team(), Context::none())
            .await?;
        Ok(Response::new(self.keys.create_key(permit, request).await?.into()))
    }

    async fn rotate_key(
        &self,
        request: Request<proto::RotateKeyRequest>,
    ) -> Result<Response<proto::RotateKeyResponse>, Status> {
        let (caller, request) = take_caller(request)?;
        let request = RotateKey::try_from(request)?;
        let permit = self
            .gate
            .permit::<action::RotateKey>(&caller, &request.key, Context::none())
            .await?;
        Ok(Response::new(self.keys.rotate_key(permit, request).await?.into()))
    }

    async fn suspend_key(
        &self,
        request: Request<proto::SuspendKeyRequest>,
    ) -> Result<Response<proto::SuspendKeyResponse>, Status> {
        let (caller, request) = take_caller(request)?;
        let request = ChangeState::try_from(request)?;
        let permit = self
            .gate
            .permit::<action::SuspendKey>(&caller, &request.key, Context::none())
            .await?;
        Ok(Response::new(self.keys.suspend_key(permit, request).await?.into()))
    }

    async fn resume_key(
        &self,
        request: Request<proto::ResumeKeyRequest>,
    ) -> Result<Response<proto::ResumeKeyResponse>, Status> {
        let (caller, request) = take_caller(request)?;
        let request = ChangeState::try_from(request)?;
        let permit = self
            .gate
            .permit::<action::ResumeKey>(&caller, &request.key, Context::none())
            .await?;
        Ok(Response::new(self.keys.resume_key(permit, request).await?.into()))
    }

    async fn deactivate_key(
        &self,
        request: Request<proto::DeactivateKeyRequest>,
    ) -> Result<Response<proto::DeactivateKeyResponse>, Status> {
        let (caller, request) = take_caller(request)?;
        let request = ChangeState::try_from(request)?;
        let permit = self
            .gate
            .permit::<action::DeactivateKey>(&caller, &request.key, Context::none())
            .await?;
        Ok(Response::new(self.keys.deactivate_key(permit, request).await?.into()))
    }

    async fn compromise_key(
        &self,
        request: Request<proto::CompromiseKeyRequest>,
    ) -> Result<Response<proto::CompromiseKeyResponse>, Status> {
        let (caller, request) = take_caller(request)?;
        let request = ChangeState::try_from(request)?;
        let permit = self
            .gate
            .permit::<action::CompromiseKey>(&caller, &request.key, Context::none())
            .await?;
        Ok(Response::new(self.keys.compromise_key(permit, request).await?.into()))
    }

    async fn destroy_key(
        &self,
        request: Request<proto::DestroyKeyRequest>,
    ) -> Result<Response<proto::DestroyKeyResponse>, Status> {
        let (caller, request) = take_caller(request)?;
        let request = DestroyKey::try_from(request)?;
        let permit = self
            .gate
            .permit::<action::DestroyKey>(&caller, &request.key, Context::none())
            .await?;
        Ok(Response::new(self.keys.destroy_key(permit, request).await?.into()))
    }

    async fn cancel_key_destruction(
        &self,
        request: Request<proto::CancelKeyDestructionRequest>,
    ) -> Result<Response<proto::CancelKeyDestructionResponse>, Status> {
        let (caller, request) = take_caller(request)?;
        let request = CancelDestruction::try_from(request)?;
        let permit = self
            .gate
            .permit::<action::CancelKeyDestruction>(&caller, &request.key, Context::none())
            .await?;
        Ok(Response::new(
            self.keys.cancel_key_destruction(permit, request).await?.into(),
        ))
    }

    async fn get_environment(
        &self,
        request: Request<proto::GetEnvironmentRequest>,
    ) -> Result<Response<proto::GetEnvironmentResponse>, Status> {
        let (caller, request) = take_caller(request)?;
        let name: EnvironmentName = one_name(&request.name)?;
        let permit = self
            .gate
            .permit::<action::ReadEnvironment>(&caller, &name, Context::none())
            .await?;
        Ok(Response::new(self.keys.environment(permit).await?.into()))
    }

    async fn get_team(
        &self,
        request: Request<proto::GetTeamRequest>,
    ) -> Result<Response<proto::GetTeamResponse>, Status> {
        let (caller, request) = take_caller(request)?;
        let name: TeamName = one_name(&request.name)?;
        let permit = self
            .gate
            .permit::<action::ReadTeam>(&caller, &name, Context::none())
            .await?;
        Ok(Response::new(self.keys.team(permit).await?.into()))
    }

    async fn get_key(&self, request: Request<proto::GetKeyRequest>) -> Result<Response<proto::GetKeyResponse>, Status> {
        let (caller, request) = take_caller(request)?;
        let name = key_name(&request.name)?;
        let permit = self
            .gate
            .permit::<action::ReadKey>(&caller, &name, Context::none())
            .await?;
        Ok(Response::new(self.keys.key(permit).await?.into()))
    }

    async fn attest_key(
        &self,
        request: Request<proto::AttestKeyRequest>,
    ) -> Result<Response<proto::AttestKeyResponse>, Status> {
        let (caller, request) = take_caller(request)?;
        let name = key_name(&request.name)?;
        let permit = self
            .gate
            .permit::<action::AttestKey>(&caller, &name, Context::none())
            .await?;
        Ok(Response::new(self.keys.attest_key(permit).await?.into()))
    }

    async fn verify_keys(
        &self,
        request: Request<proto::VerifyKeysRequest>,
    ) -> Result<Response<proto::VerifyKeysResponse>, Status> {
        let (caller, request) = take_caller(request)?;
        let name: TeamName = named("parent", &request.parent)?;
        let list = ListRequest::new(request.page_size, request.page_token)?;
        let permit = self
            .gate
            .permit::<action::VerifyKeys>(&caller, &name, Context::none())
            .await?;
        Ok(Response::new(self.keys.verify_keys(permit, list).await?.into()))
    }

    async fn list_environments(
        &self,
        request: Request<proto::ListEnvironmentsRequest>,
    ) -> Result<Response<proto::ListEnvironmentsResponse>, Status> {
        let (caller, request) = take_caller(request)?;
        let name = System;
        let list = ListRequest::new(request.page_size, request.page_token)?;
        let permit = self
            .gate
            .permit::<action::ListEnvironments>(&caller, &name, Context::none())
            .await?;
        Ok(Response::new(self.keys.list_environments(permit, list).await?.into()))
    }

    async fn list_teams(
        &self,
        request: Request<proto::ListTeamsRequest>,
    ) -> Result<Response<proto::ListTeamsResponse>, Status> {
        let (caller, request) = take_caller(request)?;
        let name: EnvironmentName = named("parent", &request.parent)?;
        let list = ListRequest::new(request.page_size, request.page_token)?;
        let permit = self
            .gate
            .permit::<action::ListTeams>(&caller, &name, Context::none())
            .await?;
        Ok(Response::new(self.keys.list_teams(permit, list).await?.into()))
    }

    async fn list_keys(
        &self,
        request: Request<proto::ListKeysRequest>,
    ) -> Result<Response<proto::ListKeysResponse>, Status> {
        let (caller, request) = take_caller(request)?;
        let name: TeamName = named("parent", &request.parent)?;
        let list = ListRequest::new(request.page_size, request.page_token)?;
        let permit = self
            .gate
            .permit::<action::ListKeys>(&caller, &name, Context::none())
            .await?;
        Ok(Response::new(self.keys.list_keys(permit, list).await?.into()))
    }
}

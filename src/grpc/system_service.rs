//! `SystemService`: the state of the service, and who the caller is.

use std::sync::Arc;

use keyreeve_proto::v1::{self as proto, system_service_server};
use tonic::{Request, Response, Status};

use super::{caller::take_caller, convert};
use crate::{
    Result,
    clock::Timestamp,
    operations::{AuditStatus, Me, Operations},
    policy::{Context, Gate, System, action},
    store::Directory,
};

/// What the process knows of itself.
#[derive(Debug, Clone)]
pub struct About {
    pub version: String,
    pub node: String,
    pub started: Timestamp,
}

/// Reads the state of the audit log.
pub type ReadAudit = Arc<dyn Fn() -> AuditStatus + Send + Sync>;

/// The service. Cheap to clone.
#[derive(Clone)]
pub struct SystemService {
    gate: Gate,
    operations: Arc<Operations>,
    directory: Directory,
    about: Arc<About>,
    audit: ReadAudit,
}

impl SystemService {
    pub fn new(gate: Gate, operations: Arc<Operations>, directory: Directory, about: About, audit: ReadAudit) -> Self {
        Self {
            gate,
            operations,
            directory,
            about: Arc::new(about),
            audit,
        }
    }
}

#[tonic::async_trait]
impl system_service_server::SystemService for SystemService {
    async fn get_status(
        &self,
        request: Request<proto::GetStatusRequest>,
    ) -> Result<Response<proto::GetStatusResponse>, Status> {
        let (caller, _) = take_caller(request)?;
        let permit = self
            .gate
            .permit::<action::ReadStatus>(&caller, &System, Context::none())
            .await?;
        let recorded = self.operations.status(permit, &self.directory, (self.audit)()).await?;
        Ok(Response::new(convert::status(recorded, &self.about)))
    }

    async fn who_am_i(
        &self,
        request: Request<proto::WhoAmIRequest>,
    ) -> Result<Response<proto::WhoAmIResponse>, Status> {
        let (caller, _) = take_caller(request)?;
        let permit = self
            .gate
            .permit::<action::WhoAmI>(&caller, &System, Context::none())
            .await?;
        let (environments, roles) = self.gate.policies().membership(caller.identity());
        let me = Me {
            identity: caller.identity().actor.id.clone(),
            environments,
            roles,
            certificate_expires: caller.certificate_expires(),
        };
        Ok(Response::new(self.operations.who_am_i(permit, me).await?.into()))
    }
}

//! What the service says of itself, and of the caller.

use crate::{
    Result,
    audit::{Draft, Outcome},
    clock::Timestamp,
    policy::{Permit, Recorded, action},
    store::Directory,
    token::host::HostStatus,
};
use std::sync::Arc;

use super::Operations;

/// The state of the audit log.
#[derive(Debug, Clone)]
pub struct AuditStatus {
    /// Origin of the log.
    pub log: String,
    /// Records.
    pub size: u64,
    /// `fsync` or `written`.
    pub durability: &'static str,
    pub writable: bool,
}

/// The state of the service.
#[derive(Debug, Clone)]
pub struct Status {
    /// Each token, with the name of its group.
    pub tokens: Vec<(Arc<str>, HostStatus)>,
    pub environments: u64,
    pub keys: u64,
    /// Versions that sealed so many messages, or were restored, that they should be rotated, or must be.
    pub rotations_due: u64,
    pub audit: AuditStatus,
}

/// Who the service thinks the caller is.
#[derive(Debug, Clone)]
pub struct Me {
    pub identity: String,
    /// Environments that policy lets the caller into, by name.
    pub environments: Vec<String>,
    pub roles: Vec<String>,
    /// End of the client certificate.
    pub certificate_expires: Option<Timestamp>,
}

impl Operations {
    /// The state of tokens, store and log. `audit`: read by the caller, who knows the log.
    pub async fn status(
        &self,
        permit: Permit<action::ReadStatus>,
        directory: &Directory,
        audit: AuditStatus,
    ) -> Result<Recorded<Status>> {
        let groups = self.tokens.groups().iter();
        let tokens = groups
            .flat_map(|token| token.status().into_iter().map(|status| (token.group().clone(), status)))
            .collect();
        let result = async {
            let (environments, keys) = directory.counts().await?;
            Ok(Status {
                tokens,
                environments,
                keys,
                rotations_due: self.uses.due_for_rotation().await?,
                audit,
            })
        };
        let result = result.await;
        permit.complete(result).await
    }

    /// Hands the caller what the gate knows of him.
    pub async fn who_am_i(&self, permit: Permit<action::WhoAmI>, me: Me) -> Result<Recorded<Me>> {
        permit.complete(Ok(me)).await
    }
}

impl Outcome for Status {
    fn describe(&self, _: &mut Draft) {}
}

impl Outcome for Me {
    fn describe(&self, _: &mut Draft) {}
}

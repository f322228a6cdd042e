//! `status` and `whoami`: what the service says of itself and of the caller.

use clap::Args;
use keyreeve_client::v1;
use serde::Serialize;

use super::{
    connection::Connection,
    failure::{Failure, Outcome},
    output::{self, Format, Shown, Table, time, yes_no},
};

#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  keyreeve status -o json\n\nExit code 1 if a token does not serve or the audit log cannot be written."
)]
pub struct Status {
    #[command(flatten)]
    connection: Connection,
}

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  keyreeve whoami")]
pub struct WhoAmI {
    #[command(flatten)]
    connection: Connection,
}

#[derive(Serialize)]
struct StatusView {
    version: String,
    node: String,
    start_time: Option<String>,
    environments: u64,
    keys: u64,
    rotations_due: u64,
    tokens: Vec<TokenView>,
    audit: Option<AuditView>,
}

/// One token as the service sees it.
#[derive(Serialize)]
pub struct TokenView {
    group: String,
    serial: String,
    model: String,
    software_token: bool,
    pub serving: bool,
    breaker: String,
    detail: String,
    session_threads: u32,
    cached_handles: u64,
}

#[derive(Serialize)]
struct AuditView {
    log: String,
    size: u64,
    durability: String,
    writable: bool,
}

#[derive(Serialize)]
struct IdentityView {
    identity: String,
    environments: Vec<String>,
    roles: Vec<String>,
    certificate_expire_time: Option<String>,
}

impl Status {
    pub async fn run(self, format: Format) -> Outcome {
        let answer = self
            .connection
            .open()
            .await?
            .get_status(v1::GetStatusRequest {})
            .await?;
        let view = StatusView {
            version: answer.version,
            node: answer.node,
            start_time: time(&answer.start_time),
            environments: answer.environments,
            keys: answer.keys,
            rotations_due: answer.rotations_due,
            tokens: answer.tokens.into_iter().map(TokenView::from).collect(),
            audit: answer.audit.map(|audit| AuditView {
                log: audit.log,
                size: audit.size,
                durability: audit.durability,
                writable: audit.writable,
            }),
        };
        output::print(format, &view)?;
        if view.tokens.iter().any(|token| !token.serving) {
            return Err(Failure::failed(
                "a token does not serve: `keyreeve doctor` on its host tells why",
            ));
        }
        if view.audit.as_ref().is_some_and(|audit| !audit.writable) {
            return Err(Failure::failed(
                "the audit log cannot be written: is its disk full? `keyreeve doctor` on its host tells",
            ));
        }
        Ok(())
    }
}

impl WhoAmI {
    pub async fn run(self, format: Format) -> Outcome {
        let answer = self.connection.open().await?.who_am_i(v1::WhoAmIRequest {}).await?;
        let view = IdentityView {
            identity: answer.identity,
            environments: answer.environments,
            roles: answer.roles,
            certificate_expire_time: time(&answer.certificate_expire_time),
        };
        output::print(format, &view)
    }
}

impl From<v1::TokenStatus> for TokenView {
    fn from(token: v1::TokenStatus) -> Self {
        Self {
            group: token.group,
            serial: token.serial,
            model: token.model,
            software_token: token.software_token,
            serving: token.serving,
            breaker: token.breaker,
            detail: token.detail,
            session_threads: token.session_threads,
            cached_handles: token.cached_handles,
        }
    }
}

impl Shown for StatusView {
    fn table(&self) -> Table {
        let mut table = Table::facts();
        table
            .fact("version", &self.version)
            .fact("node", &self.node)
            .fact("started", self.start_time.clone().unwrap_or_default())
            .fact("environments", self.environments.to_string())
            .fact("keys", self.keys.to_string());
        if self.rotations_due > 0 {
            let due = self.rotations_due;
            table.fact(
                "rotate",
                format!("versions that sealed many messages, or were restored: {due}; the server's log names them"),
            );
        }
        for token in &self.tokens {
            table.fact("token", token.sentence());
        }
        if let Some(audit) = &self.audit {
            let writable = if audit.writable { "writable" } else { "NOT writable" };
            table.fact(
                "audit log",
                format!(
                    "{}, {} records, {}, {writable}",
                    audit.log, audit.size, audit.durability
                ),
            );
        }
        table
    }
}

impl TokenView {
    fn sentence(&self) -> String {
        let kind = if self.software_token { "software token, " } else { "" };
        let serving = match (self.serving, self.detail.as_str()) {
            (true, _) => "serving".to_owned(),
            (false, "") => "NOT serving".to_owned(),
            (false, detail) => format!("NOT serving: {detail}"),
        };
        format!("{} serial {}, {kind}{serving}", self.model, self.serial)
    }
}

impl Shown for Vec<TokenView> {
    fn table(&self) -> Table {
        let mut table = Table::new([
            "GROUP", "SERIAL", "MODEL", "SOFTWARE", "SERVING", "BREAKER", "THREADS", "HANDLES", "DETAIL",
        ]);
        for token in self {
            table.row([
                token.group.clone(),
                token.serial.clone(),
                token.model.clone(),
                yes_no(token.software_token),
                yes_no(token.serving),
                token.breaker.clone(),
                token.session_threads.to_string(),
                token.cached_handles.to_string(),
                token.detail.clone(),
            ]);
        }
        table
    }
}

impl Shown for IdentityView {
    fn table(&self) -> Table {
        let mut table = Table::facts();
        table
            .fact("identity", &self.identity)
            .fact("environments", self.environments.join(", "))
            .fact("roles", self.roles.join(", "))
            .fact(
                "certificate ends",
                self.certificate_expire_time.clone().unwrap_or_default(),
            );
        table
    }
}

//! `tokens enrol`: a token asks to be of a group.

use std::path::PathBuf;

use clap::Args;
use data_encoding::HEXLOWER;
use serde::Serialize;

use super::{
    super::{
        failure::{Failure, Outcome, causes},
        output::{Format, Shown, Table},
    },
    desk::{Desk, note_left, refuse_existing, write_stated},
    show::facts_of_token,
};
use crate::token::{
    Member,
    ceremony::{EnrolRequest, Left, Role, Stated},
};

#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  keyreeve tokens enrol --new-group --out a.enrol
  keyreeve tokens enrol --recovery --out r.enrol

At the token's host, in an empty token. Makes its TRANSPORT, AUDIT and CANARY keys and a request that names them. The request proves nothing:
two custodians compare its SHA-256 and the TRANSPORT key with this console, or with the vendor's tool, before they sign the next manifest.
If it is interrupted, repeat it as it was: it goes on, or removes what it had begun and starts anew.")]
pub struct Enrol {
    /// Where the request is written
    #[arg(long, value_name = "FILE", required_unless_present = "dry_run")]
    out: Option<PathBuf>,
    /// Draw the id of a new group; without this, it is that of the configuration
    #[arg(long, conflicts_with = "group")]
    new_group: bool,
    /// Id of the group, 32 hexadecimal digits; without this, it is that of the configuration
    #[arg(long, value_name = "ID")]
    group: Option<String>,
    /// As a recovery token: kept offline, holds no root key, brings in new members
    #[arg(long)]
    recovery: bool,
    /// The vendor's attestation of the token's keys, at most 64 KiB
    #[arg(long, value_name = "FILE")]
    attestation: Option<PathBuf>,
    #[command(flatten)]
    desk: Desk,
}

#[derive(Serialize)]
struct Done {
    /// `None` in a dry run of a new group.
    #[serde(skip_serializing_if = "Option::is_none")]
    group: Option<String>,
    role: Role,
    #[serde(skip_serializing_if = "Option::is_none")]
    request: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sha256: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    left: Option<Left>,
    token: Member,
}

impl Enrol {
    pub fn run(self, format: Format) -> Outcome {
        let at = self.desk.load()?;
        let role = if self.recovery { Role::Recovery } else { Role::Member };
        let group = self.group_id(at.token.group_id.as_deref())?;
        let attestation = self
            .attestation
            .as_deref()
            .map(|file| super::super::files::read(Some(file)))
            .transpose()?;
        let token = self.desk.open(&at)?;
        if self.desk.dry_run {
            let done = Done {
                group: group.map(|id| HEXLOWER.encode(&id)),
                role,
                request: None,
                sha256: None,
                left: None,
                token: token.examine_for(role).map_err(causes)?,
            };
            return self.desk.end(format, "tokens enrol", &done, "");
        }
        let begun = token.has_begun_enrolment().map_err(causes)?;
        refuse_existing(self.out.as_deref(), begun)?;
        let stated = token.enrol(group, role, attestation.as_deref()).map_err(causes)?;
        drop(token);
        note_left(&stated);
        if let Some(file) = &self.out {
            write_stated(file, &stated)?;
        }
        let group = &stated.statement.said.group;
        let next = format!(
            "two custodians write down the SHA-256 and the TRANSPORT fingerprint from this console; bring the file to where the manifest \
             is drafted: `keyreeve ceremony manifest --enrol …`; set group_id = \"{group}\" in [token]"
        );
        self.desk
            .end(format, "tokens enrol", &done(&stated, self.out.clone()), &next)?;
        stated.handed_over().map(drop).map_err(causes)
    }

    /// `None`: a new one.
    fn group_id(&self, configured: Option<&str>) -> Result<Option<[u8; 16]>, Failure> {
        if self.new_group {
            return Ok(None);
        }
        let text = self.group.as_deref().or(configured).ok_or_else(|| {
            Failure::usage(
                "which group? --new-group for the first token of a new one, else --group or `group_id` in [token]",
            )
        })?;
        let id = HEXLOWER.decode(text.as_bytes()).ok().and_then(|id| id.try_into().ok());
        id.map(Some)
            .ok_or_else(|| Failure::usage("a group id is 32 hexadecimal digits in lower case"))
    }
}

fn done(stated: &Stated<EnrolRequest>, file: Option<PathBuf>) -> Done {
    let request = &stated.statement;
    Done {
        group: Some(request.said.group.clone()),
        role: request.said.role,
        request: file,
        sha256: Some(request.sha256()),
        left: stated.left.clone(),
        token: request.said.token.clone(),
    }
}

impl Shown for Done {
    fn table(&self) -> Table {
        let mut table = Table::facts();
        table
            .fact("group", self.group.as_deref().unwrap_or("a new one"))
            .fact("role", self.role.as_str());
        facts_of_token(&mut table, &self.token);
        if let (Some(file), Some(sha256)) = (&self.request, &self.sha256) {
            table
                .fact("request", file.display().to_string())
                .fact("request sha256", sha256);
        }
        table
    }
}

//! What the token reports of a key's versions and of the master key, with the words of what may be claimed.

use keyreeve_client::v1;
use serde::Serialize;

use super::{
    key_view::state,
    output::{Shown, Table, time},
};

#[derive(Serialize)]
pub struct Attestation {
    key: String,
    token_serial: String,
    token_model: String,
    software_token: bool,
    master_key: Option<Attributes>,
    master_key_claims: Vec<String>,
    versions: Vec<Version>,
}

#[derive(Serialize)]
struct Version {
    version: u32,
    state: String,
    kcv: String,
    at_birth: Option<Attributes>,
    in_use: Option<Attributes>,
    uses: u64,
    claims: Vec<String>,
}

#[derive(Serialize)]
struct Attributes {
    local: bool,
    always_sensitive: bool,
    never_extractable: bool,
    sensitive: bool,
    extractable: bool,
    modifiable: bool,
    copyable: bool,
    observe_time: Option<String>,
}

impl From<v1::AttestKeyResponse> for Attestation {
    fn from(answer: v1::AttestKeyResponse) -> Self {
        let version = |version: v1::VersionAttestation| Version {
            version: version.version,
            state: state(version.state),
            kcv: version.kcv,
            at_birth: version.at_birth.map(Attributes::from),
            in_use: version.in_use.map(Attributes::from),
            uses: version.uses,
            claims: version.claims,
        };
        Self {
            key: answer.key.map(|key| key.name).unwrap_or_default(),
            token_serial: answer.token_serial,
            token_model: answer.token_model,
            software_token: answer.software_token,
            master_key: answer.master_key.map(Attributes::from),
            master_key_claims: answer.master_key_claims,
            versions: answer.versions.into_iter().map(version).collect(),
        }
    }
}

impl From<v1::TokenAttributes> for Attributes {
    fn from(of: v1::TokenAttributes) -> Self {
        Self {
            local: of.local,
            always_sensitive: of.always_sensitive,
            never_extractable: of.never_extractable,
            sensitive: of.sensitive,
            extractable: of.extractable,
            modifiable: of.modifiable,
            copyable: of.copyable,
            observe_time: time(&of.observe_time),
        }
    }
}

impl Attributes {
    /// As PKCS#11 names them, with when they were read.
    fn text(&self) -> String {
        let flags = [
            ("LOCAL", self.local),
            ("ALWAYS_SENSITIVE", self.always_sensitive),
            ("NEVER_EXTRACTABLE", self.never_extractable),
            ("SENSITIVE", self.sensitive),
            ("EXTRACTABLE", self.extractable),
            ("MODIFIABLE", self.modifiable),
            ("COPYABLE", self.copyable),
        ];
        let flags: Vec<String> = flags
            .iter()
            .map(|(name, set)| format!("{name}={}", u8::from(*set)))
            .collect();
        let at = self.observe_time.as_deref().unwrap_or("an unknown time");
        format!("{} (as reported by the module at {at})", flags.join(" "))
    }
}

impl Shown for Attestation {
    fn table(&self) -> Table {
        let mut table = Table::facts();
        let kind = if self.software_token { " (software token)" } else { "" };
        table.fact("key", &self.key).fact(
            "token",
            format!("{} serial {}{kind}", self.token_model, self.token_serial),
        );
        if let Some(attributes) = &self.master_key {
            table.fact("master key", attributes.text());
        }
        for claim in &self.master_key_claims {
            table.fact("", claim);
        }
        for version in &self.versions {
            let name = format!("version {}", version.version);
            let kcv = match version.kcv.as_str() {
                "" => String::new(),
                kcv => format!(", key check value {kcv}"),
            };
            table.fact(&name, format!("{}{kcv}", version.state));
            if let Some(attributes) = &version.at_birth {
                table.fact("  at birth", attributes.text());
            }
            if let Some(attributes) = &version.in_use {
                table.fact("  in use", attributes.text());
            }
            if version.uses > 0 {
                table.fact(
                    "  uses",
                    format!("at most {} of 4294967296: rotate at 2147483648", version.uses),
                );
            }
            for claim in &version.claims {
                table.fact("", claim);
            }
        }
        table
    }
}

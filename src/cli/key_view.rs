//! A key as it is shown.

use std::collections::BTreeMap;

use keyreeve_client::v1;
use serde::Serialize;

use super::output::{Shown, Table, time};

#[derive(Serialize)]
pub struct KeyView {
    name: String,
    id: String,
    state: String,
    purpose: String,
    suite: String,
    residency: String,
    owner: String,
    labels: BTreeMap<String, String>,
    primary_version: u32,
    create_time: Option<String>,
    etag: String,
    versions: Vec<VersionView>,
}

#[derive(Serialize)]
struct VersionView {
    version: u32,
    state: String,
    suite: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    iv_source: String,
    create_time: Option<String>,
    state_change_time: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    destroy_time: Option<String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    state_reason: String,
}

/// The state's name, as rows and records have it.
pub fn state(state: i32) -> String {
    bare(
        v1::KeyState::try_from(state).unwrap_or_default().as_str_name(),
        "KEY_STATE_",
    )
}

fn bare(name: &str, prefix: &str) -> String {
    name.strip_prefix(prefix).unwrap_or(name).to_owned()
}

impl From<v1::Key> for KeyView {
    fn from(key: v1::Key) -> Self {
        let purpose = v1::KeyPurpose::try_from(key.purpose).unwrap_or_default();
        let suite = v1::KeySuite::try_from(key.suite).unwrap_or_default();
        let residency = v1::KeyResidency::try_from(key.residency).unwrap_or_default();
        Self {
            name: key.name,
            id: key.id,
            state: state(key.state),
            purpose: bare(purpose.as_str_name(), "KEY_PURPOSE_"),
            suite: bare(suite.as_str_name(), "KEY_SUITE_"),
            residency: bare(residency.as_str_name(), "KEY_RESIDENCY_"),
            owner: key.owner,
            labels: key.labels.into_iter().collect(),
            primary_version: key.primary_version,
            create_time: time(&key.create_time),
            etag: key.etag,
            versions: key.versions.into_iter().map(VersionView::from).collect(),
        }
    }
}

impl From<v1::KeyVersion> for VersionView {
    fn from(version: v1::KeyVersion) -> Self {
        Self {
            version: version.version,
            state: state(version.state),
            suite: version.suite,
            iv_source: version.iv_source,
            create_time: time(&version.create_time),
            state_change_time: time(&version.state_change_time),
            destroy_time: time(&version.destroy_time),
            state_reason: version.state_reason,
        }
    }
}

impl Shown for KeyView {
    fn table(&self) -> Table {
        let mut table = Table::facts();
        table
            .fact("name", &self.name)
            .fact("id", &self.id)
            .fact("state", &self.state)
            .fact("purpose", &self.purpose)
            .fact("suite", &self.suite)
            .fact("residency", &self.residency)
            .fact("owner", &self.owner);
        for (label, value) in &self.labels {
            table.fact("label", format!("{label}={value}"));
        }
        table.fact("created", self.create_time.clone().unwrap_or_default());
        for version in &self.versions {
            let primary = if version.version == self.primary_version {
                ", primary"
            } else {
                ""
            };
            let destroyed = match &version.destroy_time {
                Some(time) => format!(", destroyed not before {time}"),
                None => String::new(),
            };
            let reason = match version.state_reason.as_str() {
                "" => String::new(),
                reason => format!(" ({reason})"),
            };
            let ivs = match version.iv_source.as_str() {
                "" => String::new(),
                source => format!(", ivs from {source}"),
            };
            let since = version.state_change_time.as_deref().or(version.create_time.as_deref());
            table.fact(
                &format!("version {}", version.version),
                format!(
                    "{}{primary}, suite {}{ivs}, since {}{destroyed}{reason}",
                    version.state,
                    version.suite,
                    since.unwrap_or("unknown")
                ),
            );
        }
        table
    }
}

impl Shown for Vec<KeyView> {
    fn table(&self) -> Table {
        let mut table = Table::new(["NAME", "STATE", "PRIMARY", "VERSIONS", "OWNER"]);
        for key in self {
            table.row([
                key.name.clone(),
                key.state.clone(),
                key.primary_version.to_string(),
                key.versions.len().to_string(),
                key.owner.clone(),
            ]);
        }
        table
    }
}

//! Answers of `KeyService` and `SystemService`.

use aws_lc_rs::digest;
use data_encoding::HEXLOWER;
use keyreeve_proto::v1 as proto;

use crate::{
    clock::Timestamp,
    grpc::system_service::About,
    keys::{Attestation, Checked, Listed, Told, VersionAttestation},
    model::{Environment, IvSource, Key, KeyState, Purpose, Residency, Suite, Team, TokenAttributes, Version},
    operations::{Me, Status},
};
use std::sync::Arc;

pub(super) fn environment(environment: &Environment) -> proto::Environment {
    proto::Environment {
        name: environment.name.to_string(),
        id: environment.id.to_string(),
        production: environment.production,
        create_time: time(environment.created),
    }
}

pub(super) fn team(team: &Team) -> proto::Team {
    proto::Team {
        name: team.name.to_string(),
        id: team.id.to_string(),
        create_time: time(team.created),
    }
}

pub(super) fn key(key: &Key) -> proto::Key {
    let purpose = match key.purpose {
        Purpose::EncryptDecrypt => proto::KeyPurpose::EncryptDecrypt,
    };
    let residency = match key.residency {
        Residency::Wrapped => proto::KeyResidency::Wrapped,
        Residency::TokenResident => proto::KeyResidency::TokenResident,
    };
    proto::Key {
        name: key.name.to_string(),
        id: key.id.to_string(),
        purpose: purpose.into(),
        residency: residency.into(),
        owner: key.owner.clone(),
        labels: key.labels.clone().into_iter().collect(),
        state: state(key.state()).into(),
        primary_version: key.primary.number(),
        versions: key.versions.iter().map(|held| version(held)).collect(),
        create_time: time(key.created),
        etag: etag(key),
        suite: suite(key.primary_version().suite).into(),
    }
}

pub(super) fn environments(listed: Listed<Arc<Environment>>) -> proto::ListEnvironmentsResponse {
    proto::ListEnvironmentsResponse {
        environments: listed.items.iter().map(|item| environment(item)).collect(),
        next_page_token: listed.next.unwrap_or_default(),
    }
}

pub(super) fn teams(listed: Listed<Arc<Team>>) -> proto::ListTeamsResponse {
    proto::ListTeamsResponse {
        teams: listed.items.iter().map(|item| team(item)).collect(),
        next_page_token: listed.next.unwrap_or_default(),
    }
}

pub(super) fn keys(listed: Listed<Arc<Key>>) -> proto::ListKeysResponse {
    proto::ListKeysResponse {
        keys: listed.items.iter().map(|item| key(item)).collect(),
        next_page_token: listed.next.unwrap_or_default(),
    }
}

pub(super) fn verified(listed: Listed<Checked>) -> proto::VerifyKeysResponse {
    let faults = listed.items.iter().flat_map(|checked| {
        checked.faults.iter().map(|fault| proto::KeyFault {
            name: checked.key.name.to_string(),
            version: checked.version.number.number(),
            token_serial: fault.token_serial.to_string(),
            problem: fault.problem.clone(),
            token_unavailable: fault.token_unavailable,
        })
    });
    proto::VerifyKeysResponse {
        faults: faults.collect(),
        versions: listed.items.len() as u64,
        next_page_token: listed.next.unwrap_or_default(),
    }
}

pub(super) fn attestation(attestation: Attestation) -> proto::AttestKeyResponse {
    let Attestation {
        key: of,
        versions,
        master_key,
        master_key_claims,
        token,
    } = attestation;
    proto::AttestKeyResponse {
        key: Some(key(&of)),
        versions: versions.into_iter().map(version_attestation).collect(),
        master_key: Some(attributes(master_key)),
        token_serial: token.serial.to_string(),
        token_model: token.model,
        software_token: token.software_token,
        master_key_claims: owned(master_key_claims),
    }
}

pub(super) fn told(told: Told) -> proto::WatchResponse {
    proto::WatchResponse {
        position: Some(proto::Position {
            sequence: told.position.seq,
            link: told.position.link.to_vec().into(),
        }),
        key: told.key.map(|changed| key(&changed)),
    }
}

pub(super) fn me(me: Me) -> proto::WhoAmIResponse {
    proto::WhoAmIResponse {
        identity: me.identity,
        environments: me.environments,
        roles: me.roles,
        certificate_expire_time: me.certificate_expires.and_then(time),
    }
}

pub(super) fn status(status: Status, about: &About) -> proto::GetStatusResponse {
    let tokens = status.tokens.into_iter().map(|(group, host)| proto::TokenStatus {
        group: group.to_string(),
        serving: host.is_serving(),
        serial: host.serial.to_string(),
        model: host.model,
        software_token: host.software_token,
        breaker: host.breaker.name().to_owned(),
        detail: host.fault.map(|fault| fault.to_string()).unwrap_or_default(),
        session_threads: u32::try_from(host.session_threads).unwrap_or(u32::MAX),
        cached_handles: host.cached_handles,
    });
    proto::GetStatusResponse {
        version: about.version.clone(),
        node: about.node.clone(),
        start_time: time(about.started),
        tokens: tokens.collect(),
        audit: Some(proto::AuditStatus {
            log: status.audit.log,
            size: status.audit.size,
            durability: status.audit.durability.to_owned(),
            writable: status.audit.writable,
        }),
        environments: status.environments,
        keys: status.keys,
        rotations_due: status.rotations_due,
    }
}

fn version(version: &Version) -> proto::KeyVersion {
    proto::KeyVersion {
        version: version.number.number(),
        state: state(version.state).into(),
        suite: suite_name(version.suite).to_owned(),
        create_time: time(version.created),
        state_change_time: time(version.state_changed),
        destroy_time: version.destroy_at.and_then(time),
        state_reason: version.state_reason.clone(),
        iv_source: version.iv_source.map_or("", IvSource::as_str).to_owned(),
    }
}

/// Number and name, as the formats have them.
const fn suite_name(suite: Suite) -> &'static str {
    match suite {
        Suite::TokenGcm => "0001 TOKEN-GCM",
        Suite::PrfCommit => "0002 PRF-COMMIT",
    }
}

const fn suite(suite: Suite) -> proto::KeySuite {
    match suite {
        Suite::TokenGcm => proto::KeySuite::TokenGcm,
        Suite::PrfCommit => proto::KeySuite::PrfCommit,
    }
}

fn version_attestation(attestation: VersionAttestation) -> proto::VersionAttestation {
    proto::VersionAttestation {
        version: attestation.version.number.number(),
        state: state(attestation.version.state).into(),
        at_birth: Some(attributes(attestation.version.at_birth)),
        in_use: attestation.in_use.map(attributes),
        kcv: attestation.kcv.map(|kcv| HEXLOWER.encode(&kcv)).unwrap_or_default(),
        claims: owned(attestation.claims),
        uses: attestation.uses.unwrap_or_default(),
    }
}

fn attributes(reported: TokenAttributes) -> proto::TokenAttributes {
    proto::TokenAttributes {
        local: reported.local,
        always_sensitive: reported.always_sensitive,
        never_extractable: reported.never_extractable,
        sensitive: reported.sensitive,
        extractable: reported.extractable,
        modifiable: reported.modifiable,
        copyable: reported.copyable,
        observe_time: time(Timestamp::from_unix_ms(reported.observed)),
    }
}

const fn state(state: KeyState) -> proto::KeyState {
    match state {
        KeyState::PreActivation => proto::KeyState::PreActivation,
        KeyState::Active => proto::KeyState::Active,
        KeyState::Suspended => proto::KeyState::Suspended,
        KeyState::Deactivated => proto::KeyState::Deactivated,
        KeyState::Compromised => proto::KeyState::Compromised,
        KeyState::PendingDestruction => proto::KeyState::PendingDestruction,
        KeyState::Destroyed => proto::KeyState::Destroyed,
        KeyState::DestroyedCompromised => proto::KeyState::DestroyedCompromised,
    }
}

/// Changes with every change of the key or one of its versions.
fn etag(key: &Key) -> String {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(key.id.as_bytes());
    context.update(&key.row_version.to_be_bytes());
    for version in &key.versions {
        context.update(&version.row_version.to_be_bytes());
    }
    HEXLOWER.encode(&context.finish().as_ref()[..8])
}

#[expect(clippy::unnecessary_wraps, reason = "message fields are optional on the wire")]
fn time(at: Timestamp) -> Option<prost_types::Timestamp> {
    let ms = at.unix_ms();
    Some(prost_types::Timestamp {
        seconds: ms.div_euclid(1_000),
        nanos: i32::try_from(ms.rem_euclid(1_000) * 1_000_000).expect("below a second of nanoseconds"),
    })
}

fn owned(claims: Vec<&'static str>) -> Vec<String> {
    claims.into_iter().map(str::to_owned).collect()
}

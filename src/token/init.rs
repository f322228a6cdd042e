//! `init` and `dev`: makes the root keys of a single-token group in an empty token, and writes the manifest.

use std::path::Path;

use aws_lc_rs::rand;
use keyreeve_pkcs11::TokenInfo;

use super::{
    config::{TokenConfig, TokenConfigError},
    known_answer,
    manifest::{Manifest, Member},
    open::{self, OpenError, OpenToken},
    probe::Probe,
    report::{self, Report},
    root_keys::RootKeys,
    softhsm,
};

/// A token made ready.
pub struct Initialised {
    /// To be pinned as `manifest_sha256`.
    pub manifest_sha256: String,
    pub manifest: Manifest,
    pub report: Report,
}

/// What `init` says of the single-token form, word for word.
pub const SINGLE_TOKEN_WARNING: &str = "this group has one token: it can never grow, its root keys are not replicated or backed up, \
                                        and what it protects is lost with the token";

/// Opens the token of `config`, examines it, makes its root keys and writes `config.manifest`. `config.manifest_sha256` is not read.
///
/// Errors: also if the configuration names custodians: the root keys of such a group come from a ceremony.
pub fn init(config: &TokenConfig, data_directory: &Path) -> Result<Initialised, OpenError> {
    if config.group_id.is_some() {
        return Err(TokenConfigError::NeedsCeremony.into());
    }
    let token = open::open(config, data_directory, None)?;
    let result = prepare(config, &token);
    let OpenToken { module, session, .. } = token;
    drop(session);
    open::finalise(&module);
    result
}

fn prepare(config: &TokenConfig, token: &OpenToken) -> Result<Initialised, OpenError> {
    let report = report::of_open_token(token);
    refuse_unfit(&report)?;
    let offered = token.module.mechanisms(token.info.slot)?;
    let member = member(&token.info, &report.probes);
    let padded_wrap = known_answer::padded_wrap(&token.session, &offered);
    let manifest = RootKeys::make(
        &token.session,
        &offered,
        padded_wrap,
        (random_id()?, random_id()?),
        member,
    )?;
    if let Some(directory) = softhsm::token_directory(&config.module) {
        softhsm::sync(&directory).map_err(OpenError::Sync)?;
    }
    let manifest_sha256 = manifest.store(&config.manifest).map_err(OpenError::Sync)?;
    Ok(Initialised {
        manifest_sha256,
        manifest,
        report,
    })
}

/// Errors: `SelfTest` if `serve` would refuse the token.
pub(super) fn refuse_unfit(report: &Report) -> Result<(), OpenError> {
    match report.failures.iter().find(|failure| failure.refuses) {
        Some(failure) => Err(OpenError::SelfTest(format!("{}; {}", failure.what, failure.next_step))),
        None => Ok(()),
    }
}

/// What a manifest says of a token, but for its keys.
pub(super) fn member(info: &TokenInfo, probes: &[Probe]) -> Member {
    let outcome = |probe: &Probe| if probe.holds { "holds" } else { "does not hold" }.to_owned();
    Member {
        serial: info.serial.clone(),
        model: info.model.clone(),
        firmware: info.firmware.clone(),
        transport_spki: String::new(),
        audit_spki: String::new(),
        canary: String::new(),
        probes: probes
            .iter()
            .map(|probe| (probe.name.clone(), outcome(probe)))
            .collect(),
        oaep_hash: None,
    }
}

fn random_id() -> Result<[u8; 16], OpenError> {
    let mut id = [0; 16];
    rand::fill(&mut id).map_err(|_| OpenError::SelfTest("the host's random generator failed".into()))?;
    Ok(id)
}

//! `init` and `dev`: makes the root keys of a single-token group in an empty token, and writes the manifest.

use std::path::Path;

use aws_lc_rs::rand;

use super::{
    config::TokenConfig,
    known_answer,
    manifest::{Manifest, Member},
    open::{self, OpenError, OpenToken},
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
pub fn init(config: &TokenConfig, data_directory: &Path) -> Result<Initialised, OpenError> {
    let token = open::open(config, data_directory, None)?;
    let result = prepare(config, &token);
    let OpenToken { module, session, .. } = token;
    drop(session);
    open::finalise(&module);
    result
}

fn prepare(config: &TokenConfig, token: &OpenToken) -> Result<Initialised, OpenError> {
    let report = report::of_open_token(token);
    if let Some(failure) = report.failures.iter().find(|failure| failure.refuses) {
        return Err(OpenError::SelfTest(format!("{}; {}", failure.what, failure.next_step)));
    }
    let offered = token.module.mechanisms(token.info.slot)?;
    let member = Member {
        serial: token.info.serial.clone(),
        model: token.info.model.clone(),
        firmware: token.info.firmware.clone(),
        transport_spki: String::new(),
        audit_spki: String::new(),
        canary: String::new(),
        probes: report
            .probes
            .iter()
            .map(|probe| {
                (
                    probe.name.clone(),
                    if probe.holds { "holds" } else { "does not hold" }.to_owned(),
                )
            })
            .collect(),
        oaep_hash: None,
    };
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

fn random_id() -> Result<[u8; 16], OpenError> {
    let mut id = [0; 16];
    rand::fill(&mut id).map_err(|_| OpenError::SelfTest("the host's random generator failed".into()))?;
    Ok(id)
}

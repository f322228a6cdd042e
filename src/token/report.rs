//! What `doctor` tells of a token: what it is, can, enforces, its quirks, and for each failure the next step.

use std::path::Path;

use keyreeve_pkcs11::{Mechanism, ModuleError, TokenInfo};
use serde::Serialize;

use super::{
    config::TokenConfig,
    iv,
    known_answer::{self, KnownAnswer, Outcome},
    manifest::Manifest,
    open::{self, OpenError, OpenToken},
    probe::{self, Probe},
    root_keys::RootKeys,
};
use crate::model::IvSource;

#[derive(Debug, Clone, Default, Serialize)]
pub struct Report {
    pub library: String,
    pub label: String,
    pub serial: String,
    pub manufacturer: String,
    pub model: String,
    pub firmware: String,
    /// SoftHSM, Kryoptic, NSS, opencryptoki's soft token: no hardware protects the keys.
    pub software_token: bool,
    /// By name, or by number where it has none here.
    pub mechanisms: Vec<String>,
    pub known_answers: Vec<KnownAnswer>,
    pub probes: Vec<Probe>,
    pub quirks: Vec<String>,
    pub warnings: Vec<String>,
    pub failures: Vec<Failure>,
}

/// What is wrong, and what to do about it.
#[derive(Debug, Clone, Serialize)]
pub struct Failure {
    pub what: String,
    pub next_step: String,
    /// `serve` refuses the token for it.
    pub refuses: bool,
}

/// What the probes say of one attribute.
#[derive(Debug, PartialEq, Eq)]
pub struct Enforcement {
    pub attribute: &'static str,
    pub tried: usize,
    /// What follows from the attempts that the token let pass; empty where it is enforced.
    pub consequences: Vec<&'static str>,
}

impl Report {
    /// Per attribute, whether the token enforces it, in the order of the probes.
    pub fn enforcement(&self) -> Vec<Enforcement> {
        let mut found: Vec<Enforcement> = Vec::new();
        for probe in &self.probes {
            let place = found.iter().position(|one| one.attribute == probe.attribute);
            let place = place.unwrap_or_else(|| {
                found.push(Enforcement {
                    attribute: probe.attribute,
                    tried: 0,
                    consequences: Vec::new(),
                });
                found.len() - 1
            });
            found[place].tried += 1;
            if !probe.holds && !found[place].consequences.contains(&probe.consequence) {
                found[place].consequences.push(probe.consequence);
            }
        }
        found
    }

    /// Whether `serve` would take this token.
    pub fn can_serve(&self) -> bool {
        !self.failures.iter().any(|failure| failure.refuses)
    }
}

/// Tries everything and reports it; opens the token (one login attempt) and closes it again. Never fails: failing is a finding.
pub fn examine(config: &TokenConfig, data_directory: &Path) -> Report {
    match open::open(config, data_directory, None) {
        Ok(token) => {
            let mut report = of_open_token(&token);
            match manifest_of(config) {
                Ok(manifest) => {
                    if let Err(error) = RootKeys::open(&token.session, &manifest, &token.info.serial) {
                        report.fail(
                            error.to_string(),
                            "find the token that the manifest describes, or restore it",
                        );
                    }
                }
                Err(error) => report.fail(
                    error.to_string(),
                    "run `keyreeve init`, or restore the manifest from a backup",
                ),
            }
            let OpenToken { module, session, .. } = token;
            drop(session);
            if let Err(error) = module.finalize() {
                report.warnings.push(error.to_string());
            }
            report
        }
        Err(error) => {
            let mut report = Report::default();
            let next_step = next_step(&error);
            report.fail(error.to_string(), next_step);
            report
        }
    }
}

/// Examines a token that is logged in.
pub(super) fn of_open_token(token: &OpenToken) -> Report {
    let offered = token.module.mechanisms(token.info.slot).unwrap_or_default();
    let mut report = Report {
        library: token.module.library(),
        label: token.info.label.clone(),
        serial: token.info.serial.clone(),
        manufacturer: token.info.manufacturer.clone(),
        model: token.info.model.clone(),
        firmware: token.info.firmware.clone(),
        software_token: is_software_token(&token.info),
        mechanisms: offered.iter().map(Mechanism::to_string).collect(),
        warnings: token.warnings.clone(),
        ..Report::default()
    };
    match known_answer::run(&token.session, token.info.vendor(), &offered) {
        Ok(answers) => report.known_answers = answers,
        Err(error) => report.fail(
            format!("a known-answer test does not run: {error}"),
            "the token fails now and then, or always: see its log, and ask its vendor",
        ),
    }
    for (mechanism, lost) in [
        (Mechanism::AES_KEY_WRAP, "no version key can be kept in the store"),
        (Mechanism::SHA256_HMAC, "nothing binds a wrapped key to its place"),
        (Mechanism::SHA512_HMAC, "no message key can be made"),
    ] {
        if !offered.contains(&mechanism) {
            report.fail(
                format!("{mechanism} is not offered: {lost}"),
                "enable the mechanism in the token's configuration, or choose another token",
            );
        }
    }
    match probe::run(&token.session) {
        Ok(probes) => report.probes = probes,
        Err(error) => {
            for (attribute, consequence) in probe::not_taken(&token.session) {
                report.fail(format!("no key takes {attribute}: {consequence}"), UNFIT);
            }
            report.fail(
                format!("the throwaway keys of the probes cannot be made: {error}"),
                "the token lacks AES key wrap, generic secrets or an attribute: it cannot serve this release",
            );
        }
    }
    report.judge();
    report.quirks = quirks(token, &offered, &report.known_answers);
    report
}

fn manifest_of(config: &TokenConfig) -> Result<Manifest, OpenError> {
    Ok(Manifest::load(&config.manifest_source()?)?)
}

impl Report {
    fn fail(&mut self, what: String, next_step: impl Into<String>) {
        self.failures.push(Failure {
            what,
            next_step: next_step.into(),
            refuses: true,
        });
    }

    fn judge(&mut self) {
        let wrong = self.known_answers.iter().filter(|answer| answer.must_stop());
        let holes = self.probes.iter().filter(|probe| !probe.holds);
        let failures: Vec<_> = wrong
            .map(|answer| Failure {
                what: answer.to_string(),
                next_step: "the token computes wrongly: take it out of service and ask its vendor".into(),
                refuses: true,
            })
            .chain(holes.map(|probe| {
                Failure {
                    what: format!("does not hold: {} ({})", probe.name, probe.consequence),
                    next_step: if probe.required {
                        UNFIT
                    } else {
                        "known and accepted: nothing to do"
                    }
                    .into(),
                    refuses: probe.required,
                }
            }))
            .collect();
        self.failures.extend(failures);
    }
}

const UNFIT: &str = "this token cannot keep Keyreeve's keys: choose another, or ask its vendor for a stricter mode";

/// Software tokens are named as such on every report.
pub fn is_software_token(info: &TokenInfo) -> bool {
    let text = format!("{} {}", info.manufacturer, info.model).to_lowercase();
    ["softhsm", "kryoptic", "nss", "mozilla", "softtok"]
        .iter()
        .any(|name| text.contains(name))
}

fn quirks(token: &OpenToken, offered: &[Mechanism], answers: &[KnownAnswer]) -> Vec<String> {
    let mut quirks = vec![match known_answer::padded_wrap(&token.session, offered) {
        Some(mechanism) => format!("RFC 5649 (KWP) is mechanism {:#x}", mechanism.0),
        None => "RFC 5649 (KWP) is not offered under any number".to_owned(),
    }];
    quirks.push(
        match iv::source(&token.session, offered) {
            Some(IvSource::TokenMessage) => "ivs of suite 0001 are made by the token in the sealing call",
            Some(IvSource::TokenRandom) => {
                "ivs of suite 0001 are bytes of the token's generator, handed back to it: it has no message calls"
            }
            None => "no AES-GCM with AES-CMAC: keys of suite 0001 cannot be made",
        }
        .to_owned(),
    );
    if !offered.contains(&Mechanism::EDDSA) {
        quirks.push("no Ed25519: AUDIT signs with ECDSA P-256".to_owned());
    }
    if super::softhsm::token_directory(token.module.path()).is_some() {
        quirks.push("SoftHSM does not sync its files: Keyreeve does, after it makes token objects".to_owned());
        quirks.push("SoftHSM rewrites a token file at login: starts take turns on a lock".to_owned());
    }
    for answer in answers {
        if let Outcome::NotTestable(why) = &answer.outcome {
            quirks.push(format!("{} could not be tested: {why}", answer.name));
        }
    }
    quirks
}

fn next_step(error: &OpenError) -> &'static str {
    match error {
        OpenError::Config(_) => "correct the [token] table of the configuration file",
        OpenError::Module(ModuleError::WantsArguments(_)) => "docs/tokens.md has the arguments of NSS softokn",
        OpenError::Module(_) => {
            "install the module (softhsm/install.sh for SoftHSM), and compare `label` or `serial` with the tokens listed"
        }
        OpenError::Pin(_) => "put the user PIN where the configuration says, readable by this user only",
        OpenError::Manifest(_) => "run `keyreeve init`, or restore the manifest from a backup",
        OpenError::WrongPin { .. } | OpenError::PinLatched { .. } => {
            "correct the PIN; a changed PIN file opens the latch by itself"
        }
        OpenError::Latched { .. } | OpenError::RootKeys(_) | OpenError::SelfTest(_) | OpenError::KnownAnswer(_) => {
            "do not serve with this token before its wrong answer is explained"
        }
        OpenError::PinFinalTry | OpenError::PinLocked | OpenError::PinNotInitialised => {
            "use the token's own tool (pkcs11-tool, softhsm2-util) to set the PIN right"
        }
        OpenError::LastSeen(_) => "bring the newest manifest and its signatures to this host",
        OpenError::Ceremony(_) => "docs/runbooks/ceremony.md has the steps in order",
        OpenError::Call(_) => {
            "see whether another tool can use the token: pkcs11-tool --module … --login --list-objects"
        }
        OpenError::LatchFile { .. } => "make the data directory writable for this user",
        OpenError::Worker(_) | OpenError::WorkerSays(_) => "`keyreeve doctor` opens the token without a worker: run it",
        OpenError::Sync(_) | OpenError::Thread(_) => "see the host's log: disk or process limits",
    }
}

//! The `[token]` table of the configuration file.

use std::{collections::BTreeMap, path::PathBuf};

use keyreeve_pkcs11::Selector;
use serde::{Deserialize, Serialize};

use super::{
    custodians::Custodians,
    lane::MAX_WEIGHT,
    manifest_source::{ManifestSource, Trust},
    usage::Ceilings,
};

/// Where the module runs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Isolation {
    /// In threads of the server. A module that hangs or crashes ends the server.
    Thread,
    /// In a process of its own, with another one ready to take over.
    #[default]
    Process,
}

/// One token, the group it belongs to, and how its module is worked.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct TokenConfig {
    /// Group and number from 1, as metrics call the token: its place in the file, which says nothing about the token itself.
    #[serde(skip)]
    pub place: String,
    /// PKCS#11 library, by absolute path.
    pub module: PathBuf,
    /// Text that the library gets at C_Initialize (`pReserved`); for libraries whose vendor asks for one. No secret: modules log it.
    #[serde(default)]
    pub module_arguments: Option<String>,
    /// Exactly one of `label`, `serial`, `slot` chooses the token.
    #[serde(default)]
    pub label: Option<String>,
    #[serde(default)]
    pub serial: Option<String>,
    /// Slot numbers change when a token is initialised: prefer label or serial.
    #[serde(default)]
    pub slot: Option<u64>,
    /// Exactly one of `pin_file`, `pin_fd`, `pin_credential` says where the user PIN is. Never the PIN itself.
    #[serde(default)]
    pub pin_file: Option<PathBuf>,
    /// An inherited file descriptor; read once, to its end.
    #[serde(default)]
    pub pin_fd: Option<u32>,
    /// Name of a systemd credential (`LoadCredential=`), found under `$CREDENTIALS_DIRECTORY`.
    #[serde(default)]
    pub pin_credential: Option<String>,
    /// Names of the environments whose keys are wrapped by this token; the binding is here, never in the store.
    #[serde(default)]
    pub environments: Vec<String>,
    /// The manifest that `init` or a ceremony wrote. Why it is believed: one of the two forms below.
    pub manifest: PathBuf,
    /// Single-token form: its SHA-256 in hex, as `init` printed it: the file, not the store, says which token is the right one.
    #[serde(default)]
    pub manifest_sha256: String,
    /// Ceremony form, all three: the group's id, 16 bytes in hex, as `keyreeve ceremony manifest` printed it.
    #[serde(default)]
    pub group_id: Option<String>,
    /// Public keys of the custodians, PEM; at least three.
    #[serde(default)]
    pub custodians: Vec<String>,
    /// So many of them must have signed the manifest; at least two.
    #[serde(default)]
    pub quorum: Option<usize>,
    #[serde(default)]
    pub isolation: Isolation,
    /// Session threads; 0 means twice the cores. For a network HSM: throughput times latency.
    #[serde(default)]
    pub session_threads: usize,
    /// Items that may wait in the queue, of all callers together.
    #[serde(default = "defaults::queue_items")]
    pub queue_items: usize,
    /// Share of the token that each caller of an environment has beside callers of others, by id of the environment; 1 for those not
    /// named, at most 1,000.
    #[serde(default)]
    pub weights: BTreeMap<String, u32>,
    /// Whether the module may open sockets: for a token on the network, or behind a local daemon. With `isolation = "process"`.
    #[serde(default)]
    pub network: bool,
    /// Files and directories that the module reads, beside what every library does and what is known of SoftHSM and Kryoptic.
    #[serde(default)]
    pub module_reads: Vec<PathBuf>,
    /// The same for those that it writes, devices among them.
    #[serde(default)]
    pub module_writes: Vec<PathBuf>,
    /// Unwrapped version keys held in the token.
    #[serde(default = "defaults::cached_handles")]
    pub cached_handles: usize,
    /// Message keys that one key may make in a second, in one worker; 0 is no ceiling.
    #[serde(default)]
    pub key_operations_per_second: u64,
    /// Bytes of envelopes that one key may be used for within 24 hours of a worker's life; 0 is no ceiling.
    #[serde(default)]
    pub key_bytes_per_day: u64,
    /// A call that does not return by then latches the token and ends the process.
    #[serde(default = "defaults::call_deadline_ms")]
    pub call_deadline_ms: u64,
    /// For benchmarks and tests of slow tokens: sleeps so long in each call. Refused outside `keyreeve dev` and `bench`.
    #[serde(default)]
    pub insecure_test_call_delay_us: u64,
}

mod defaults {
    pub fn queue_items() -> usize {
        65_536
    }

    pub fn cached_handles() -> usize {
        4_096
    }

    pub fn call_deadline_ms() -> u64 {
        2_000
    }
}

/// Where the user PIN comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PinSource {
    File(PathBuf),
    Descriptor(u32),
    Credential(String),
}

/// A `[token]` table that contradicts itself.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenConfigError {
    #[error("[token]: set exactly one of `label`, `serial` and `slot`")]
    Selector,
    #[error("[token]: set exactly one of `pin_file`, `pin_fd` and `pin_credential`")]
    PinSource,
    #[error(
        "[token]: set `manifest_sha256` alone (a group of one token), or `group_id`, `custodians` and `quorum` together (a group made by \
         a ceremony)"
    )]
    Trust,
    #[error("[token]: {0}")]
    Custodians(String),
    #[error(
        "[token] names custodians, and their manifest is not there: docs/runbooks/ceremony.md makes it; run this again then"
    )]
    NeedsCeremony,
    #[error("[token]: `{0}` must be at least 1")]
    Zero(&'static str),
    #[error("[token]: the weight of `{0}` must be 1 to {MAX_WEIGHT}")]
    Weight(String),
    #[error("[token]: `weights` names `{0}`, which is not among `environments`: add it there or remove it here")]
    WeightOfOther(String),
    #[error("[token]: `insecure_test_call_delay_us` is for `keyreeve dev` and `bench` only: remove it")]
    TestDelay,
}

impl TokenConfig {
    pub fn selector(&self) -> Result<Selector, TokenConfigError> {
        match (&self.label, &self.serial, self.slot) {
            (Some(label), None, None) => Ok(Selector::Label(label.clone())),
            (None, Some(serial), None) => Ok(Selector::Serial(serial.clone())),
            (None, None, Some(slot)) => Ok(Selector::Slot(slot)),
            _ => Err(TokenConfigError::Selector),
        }
    }

    /// What chooses the token, for messages about one that was not seen yet.
    pub fn chosen_by(&self) -> String {
        match (&self.label, &self.serial, self.slot) {
            (_, Some(serial), _) => serial.clone(),
            (Some(label), ..) => format!("label `{label}`"),
            (.., slot) => format!("in slot {}", slot.unwrap_or_default()),
        }
    }

    pub fn pin_source(&self) -> Result<PinSource, TokenConfigError> {
        match (&self.pin_file, self.pin_fd, &self.pin_credential) {
            (Some(path), None, None) => Ok(PinSource::File(path.clone())),
            (None, Some(descriptor), None) => Ok(PinSource::Descriptor(descriptor)),
            (None, None, Some(name)) => Ok(PinSource::Credential(name.clone())),
            _ => Err(TokenConfigError::PinSource),
        }
    }

    /// Where the manifest is, and who vouches for it.
    pub fn manifest_source(&self) -> Result<ManifestSource, TokenConfigError> {
        let trust = match (&self.group_id, self.custodians.as_slice(), self.quorum) {
            (None, [], None) => Trust::Pinned {
                sha256: self.manifest_sha256.clone(),
            },
            (Some(group), keys, Some(quorum)) if self.manifest_sha256.is_empty() => {
                Custodians::new(keys, quorum).map_err(TokenConfigError::Custodians)?;
                Trust::Custodians {
                    group: group.clone(),
                    keys: keys.to_vec(),
                    quorum,
                }
            }
            _ => return Err(TokenConfigError::Trust),
        };
        Ok(ManifestSource {
            path: self.manifest.clone(),
            trust,
        })
    }

    /// `insecure_allowed`: this is `keyreeve dev` or a benchmark.
    pub fn check(&self, insecure_allowed: bool) -> Result<(), TokenConfigError> {
        self.selector()?;
        self.pin_source()?;
        self.manifest_source()?;
        for (name, value) in [
            ("queue_items", self.queue_items),
            ("cached_handles", self.cached_handles),
            // Every call would be too late, and the first would end the process.
            (
                "call_deadline_ms",
                usize::try_from(self.call_deadline_ms).unwrap_or(usize::MAX),
            ),
        ] {
            if value == 0 {
                return Err(TokenConfigError::Zero(name));
            }
        }
        for (environment, weight) in &self.weights {
            if !(1..=MAX_WEIGHT).contains(weight) {
                return Err(TokenConfigError::Weight(environment.clone()));
            }
            if !self.environments.contains(environment) {
                return Err(TokenConfigError::WeightOfOther(environment.clone()));
            }
        }
        if self.insecure_test_call_delay_us > 0 && !insecure_allowed {
            return Err(TokenConfigError::TestDelay);
        }
        Ok(())
    }

    pub(super) fn key_ceilings(&self) -> Ceilings {
        Ceilings {
            operations_per_second: self.key_operations_per_second,
            bytes_per_day: self.key_bytes_per_day,
        }
    }

    /// Session threads, the default resolved.
    pub fn threads(&self) -> usize {
        match self.session_threads {
            0 => 2 * std::thread::available_parallelism().map_or(2, usize::from),
            threads => threads,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(extra: &str) -> TokenConfig {
        let base = "module = \"/m.so\"\nmanifest = \"/m.json\"\nmanifest_sha256 = \"\"\n";
        toml::from_str(&format!("{base}{extra}")).unwrap()
    }

    #[test]
    fn one_selector_and_one_pin_source_are_needed() {
        assert_eq!(parse("pin_fd = 3").check(false), Err(TokenConfigError::Selector));
        assert_eq!(
            parse("label = \"a\"\nserial = \"b\"\npin_fd = 3").check(false),
            Err(TokenConfigError::Selector)
        );
        assert_eq!(parse("label = \"a\"").check(false), Err(TokenConfigError::PinSource));
        assert_eq!(parse("slot = 4\npin_credential = \"pin\"").check(false), Ok(()));
    }

    #[test]
    fn a_manifest_is_pinned_or_signed_by_custodians_and_never_both_or_half() {
        let base = "module = \"/m.so\"\nmanifest = \"/m.json\"\nlabel = \"a\"\npin_fd = 3\n";
        let check = |extra: &str| {
            toml::from_str::<TokenConfig>(&format!("{base}{extra}"))
                .unwrap()
                .check(false)
        };
        assert_eq!(check("manifest_sha256 = \"ab\""), Ok(()));
        assert_eq!(check("group_id = \"aa\""), Err(TokenConfigError::Trust));
        assert_eq!(check("quorum = 2"), Err(TokenConfigError::Trust));
        assert_eq!(
            check("manifest_sha256 = \"ab\"\ngroup_id = \"aa\"\nquorum = 2"),
            Err(TokenConfigError::Trust)
        );
        let error = check("group_id = \"aa\"\nquorum = 2\ncustodians = [\"x\"]")
            .unwrap_err()
            .to_string();
        assert!(error.contains("custodian 1"), "{error}");
    }

    #[test]
    fn the_test_delay_is_refused_outside_dev() {
        let config = parse("label = \"a\"\npin_fd = 3\ninsecure_test_call_delay_us = 1000");
        assert_eq!(config.check(false), Err(TokenConfigError::TestDelay));
        assert_eq!(config.check(true), Ok(()));
    }

    #[test]
    fn a_limit_of_zero_is_refused() {
        for name in ["queue_items", "cached_handles", "call_deadline_ms"] {
            let config = parse(&format!("label = \"a\"\npin_fd = 3\n{name} = 0"));
            assert_eq!(config.check(false), Err(TokenConfigError::Zero(name)));
        }
    }

    #[test]
    fn a_weight_is_of_an_environment_of_this_token_and_within_bounds() {
        let check = |weights: &str| {
            let base = "label = \"a\"\npin_fd = 3\nenvironments = [\"prod\"]\n";
            parse(&format!("{base}weights = {{ {weights} }}")).check(false)
        };
        assert_eq!(check("prod = 4"), Ok(()));
        for weight in [0, 1_001] {
            let refused = check(&format!("prod = {weight}"));
            assert_eq!(refused, Err(TokenConfigError::Weight("prod".into())));
        }
        assert_eq!(check("dev = 4"), Err(TokenConfigError::WeightOfOther("dev".into())));
    }

    #[test]
    fn a_pin_in_the_file_is_an_unknown_field() {
        let text = "module = \"/m.so\"\nmanifest = \"/m\"\nmanifest_sha256 = \"\"\nlabel = \"a\"\npin = \"1234\"";
        assert!(toml::from_str::<TokenConfig>(text).is_err());
    }
}

//! Files that a module needs: those that every library needs, and what is known of SoftHSM and Kryoptic. Others are named in the
//! configuration, `module_reads` and `module_writes`.

use std::path::{Path, PathBuf};

use crate::token::softhsm;

/// Libraries and what they read by themselves. Not `/etc` as a whole: keys and PINs are there.
const EVERYWHERE: &[&str] = &[
    "/usr",
    "/lib",
    "/lib64",
    "/opt",
    "/etc/ld.so.cache",
    "/etc/ld.so.preload",
    "/etc/ssl",
    "/etc/pki/tls",
    "/etc/crypto-policies",
    "/etc/localtime",
    "/etc/nsswitch.conf",
    "/etc/resolv.conf",
    "/etc/hosts",
    "/dev/urandom",
    "/dev/random",
    "/dev/zero",
    "/proc/sys/crypto",
    "/proc/cpuinfo",
    "/sys/devices/system/cpu",
];

/// Read by the library and those it needs.
pub fn of_every_module(module: &Path) -> Vec<PathBuf> {
    let module = std::fs::canonicalize(module).unwrap_or_else(|_| module.to_owned());
    let beside = module.parent().map(Path::to_owned);
    EVERYWHERE.iter().map(PathBuf::from).chain(beside).collect()
}

/// Configuration that is read, and storage that is written.
pub fn of_known_modules(module: &Path) -> (Vec<PathBuf>, Vec<PathBuf>) {
    let (mut reads, mut writes) = (Vec::new(), Vec::new());
    reads.extend(softhsm::configuration());
    writes.extend(softhsm::token_directory(module));
    if let Some(configuration) = std::env::var_os("KRYOPTIC_CONF") {
        writes.extend(kryoptic_storage(Path::new(&configuration)));
        reads.push(configuration.into());
    }
    (reads, writes)
}

/// The directories of its databases: SQLite writes a journal beside each.
fn kryoptic_storage(configuration: &Path) -> Vec<PathBuf> {
    let table: Option<toml::Table> = std::fs::read_to_string(configuration)
        .ok()
        .and_then(|text| text.parse().ok());
    let slots = table.as_ref().and_then(|table| table.get("slots")?.as_array());
    slots
        .into_iter()
        .flatten()
        .filter_map(|slot| Path::new(slot.get("dbargs")?.as_str()?).parent().map(Path::to_owned))
        .collect()
}

//! The house rules that the compiler does not check: which module may name what. Reads the paths in `src/`, tests left out.
//!
//! Rules and reasons: `docs/adr/0001`; design of permits in `src/policy/mod.rs`. A new module gets its place in `ORDER`.

#[path = "layout/paths.rs"]
mod paths;
#[path = "layout/self_test.rs"]
mod self_test;

use std::{
    fs,
    path::{Path, PathBuf},
};

use paths::Source;

/// Modules from bottom to top; each may name those beside and below it.
const ORDER: &[&[&str]] = &[
    &["model", "clock", "error", "telemetry"],
    &["store"],
    &["audit"],
    &["identity"],
    &["policy"],
    &["token"],
    &["config", "hardening"],
    &["operations", "keys"],
    &["grpc"],
    &["server"],
    &["cli"],
    &["main"],
];

/// Arrows that run upward, each for a reason: (from, to, the one name).
const EXCEPTIONS: &[(&str, &str, &str)] = &[
    ("error", "token", "TokenError"), // the error enum knows each layer's error
    ("error", "store", "StoreError"),
    ("telemetry", "config", "LogConfig"), // start-up only: how to log
    ("telemetry", "config", "LogFormat"),
];

/// Foreign crates that stay in their layer: (crate or its prefix, modules).
const CRATES: &[(&str, &[&str])] = &[
    ("tonic", &["grpc", "server.rs"]),
    ("sqlx", &["store"]),
    ("keyreeve_pkcs11", &["token"]),
    ("cedar_policy", &["policy"]),
    ("landlock", &["token"]),
    ("seccompiler", &["token"]),
    ("libc", &["token"]),
];

/// Names that are authority: (module, name, who may name it: modules, or files).
const NAMES: &[(&str, &str, &[&str])] = &[
    ("audit", "Slot", &["audit", "policy/gate.rs", "policy/permit.rs"]),
    ("store", "Committer", &["store", "audit/start.rs", "audit/writer.rs"]),
    // It gives the `Committer` away.
    ("store", "open", &["store", "server/node.rs"]),
    (
        "token",
        "Root",
        &["token", "server/node.rs", "server/tokens.rs", "cli/row_key.rs"],
    ),
    // They take calls without a permit.
    ("token", "ThreadHost", &["token", "server/tokens.rs", "cli/row_key.rs"]),
    ("token", "ProcessHost", &["token", "server/tokens.rs"]),
    (
        "token",
        "Host",
        &[
            "token",
            "server/node.rs",
            "server/tokens.rs",
            "server/double.rs",
            "cli/row_key.rs",
        ],
    ),
    // Keys that protect nothing: for the crate `keyreeve-testing`.
    ("server", "InsecureDouble", &["server"]),
    ("token", "Call", &["token"]),
];

/// Who may take an answer out of its `Recorded`.
const RELEASE: &[&str] = &["grpc/convert.rs"];

/// Who may call as the service itself.
const JOBS: &[&str] = &["identity", "server/destroy_due.rs", "operations/uses.rs", "cli/init.rs"];

/// Crates that forbid unsafe code: all but `pkcs11` and `faultmod`. `src/main.rs` is read like a module.
const FORBID_UNSAFE: &[&str] = &[
    "src/lib.rs",
    "proto/src/lib.rs",
    "envelope/src/lib.rs",
    "clients/rust/src/lib.rs",
    "clients/rust-testing/src/lib.rs",
];

#[test]
fn every_module_names_only_what_it_may() {
    let files = sources(Path::new(env!("CARGO_MANIFEST_DIR")).join("src"));
    assert!(files.len() > 20, "the sources were not found");
    let found: Vec<String> = files.iter().flat_map(violations).collect();
    assert!(found.is_empty(), "\n{}\n", found.join("\n"));
}

/// A list that names more than what is there would let a new file of that name in unseen.
#[test]
fn whoever_is_listed_exists() {
    let files = sources(Path::new(env!("CARGO_MANIFEST_DIR")).join("src"));
    let lists = CRATES.iter().map(|(_, allowed)| *allowed);
    let names = NAMES.iter().map(|(_, _, allowed)| *allowed);
    for entry in lists.chain(names).chain([RELEASE, JOBS]).flatten() {
        let exists = files.iter().any(|file| file.is_one_of(&[entry]));
        assert!(exists, "`{entry}` is listed and does not exist");
    }
    for module in ORDER.iter().copied().flatten() {
        let exists = files.iter().any(|file| file.is_one_of(&[module]));
        assert!(exists, "module `{module}` is in ORDER and does not exist");
    }
}

/// Whoever is listed must need it.
#[test]
fn whoever_may_release_an_answer_or_call_as_a_job_does_so() {
    let files = sources(Path::new(env!("CARGO_MANIFEST_DIR")).join("src"));
    let uses = |entry: &str, lines: fn(&Source) -> &[usize]| {
        files
            .iter()
            .any(|file| file.is_one_of(&[entry]) && !lines(file).is_empty())
    };
    for entry in RELEASE {
        assert!(uses(entry, |file| &file.releases), "`{entry}` releases nothing");
    }
    // `identity` is where `Caller::job` is made.
    for entry in JOBS.iter().filter(|entry| **entry != "identity") {
        assert!(uses(entry, |file| &file.jobs), "`{entry}` calls as no job");
    }
}

/// The double stands on the service, so the service cannot contain it; nor does any code of the service lead to what it stands on.
#[test]
fn the_service_contains_nothing_of_its_test_double() {
    let ours = fs::read(env!("CARGO_BIN_EXE_keyreeve")).expect("the service's program can be read");
    let has = |text: &str| {
        aho_corasick::AhoCorasick::new([text])
            .expect("one pattern")
            .is_match(&ours)
    };
    assert!(
        has("HSM-backed key management"),
        "the text of --help is not found: this test sees nothing"
    );
    for mark in [
        "an in-memory double of Keyreeve",
        "start_insecure_double",
        "SoftwareToken",
    ] {
        assert!(!has(mark), "`{mark}` is in the service's program");
    }
}

#[test]
fn every_crate_but_pkcs11_and_faultmod_forbids_unsafe_code() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let found: Vec<&str> = FORBID_UNSAFE
        .iter()
        .copied()
        .filter(|file| {
            let text = fs::read_to_string(root.join(file)).expect("a crate root can be read");
            !forbids_unsafe(&text)
        })
        .collect();
    assert!(found.is_empty(), "without #![forbid(unsafe_code)]: {found:?}");
}

fn forbids_unsafe(text: &str) -> bool {
    text.lines().any(|line| line.trim() == "#![forbid(unsafe_code)]")
}

/// Every file of `src/` but those that are compiled for tests only.
fn sources(root: PathBuf) -> Vec<Source> {
    let mut files = Vec::new();
    let mut directories = vec![root.clone()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(&directory).expect("src/ can be read") {
            let path = entry.expect("src/ can be read").path();
            if path.is_dir() {
                directories.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path
                    .strip_prefix(&root)
                    .expect("it is below src/")
                    .to_str()
                    .expect("names are ASCII");
                files.push(Source::parse(
                    name,
                    &fs::read_to_string(&path).expect("a source can be read"),
                ));
            }
        }
    }
    let tests: Vec<String> = files.iter().flat_map(|file| file.test_modules.clone()).collect();
    files.retain(|file| !tests.iter().any(|test| file.is_in(test)));
    files
}

/// What is wrong with one file, one line each.
fn violations(source: &Source) -> Vec<String> {
    let from = source.module.first().map_or("main", String::as_str);
    let mut found = Vec::new();
    let mut fault = |line: usize, text: String| found.push(format!("src/{}:{line}: {text}", source.name));
    if source.name == "lib.rs" {
        return found;
    }
    let Some(rank) = rank(from) else {
        fault(
            1,
            format!("module `{from}` has no place in ORDER of tests/layout.rs: give it one"),
        );
        return found;
    };
    for path in &source.paths {
        let Some(to) = path.names.first().map(String::as_str) else {
            continue;
        };
        let last = path.names.last().map_or("", String::as_str);
        let excepted = EXCEPTIONS.contains(&(from, to, last));
        if self::rank(to).is_some_and(|target| target > rank) && !excepted {
            fault(path.line, format!("`{from}` is below `{to}` and may not name it"));
        }
        if last == "*" && to != from && path.names.len() <= 2 {
            fault(path.line, format!("`{to}::*` hides what is used: name it"));
        }
        for (module, name, allowed) in NAMES {
            if to == *module && path.names.iter().any(|part| part == name) && !source.is_one_of(allowed) {
                fault(
                    path.line,
                    format!("`{name}` is authority: only {allowed:?} may name it"),
                );
            }
        }
    }
    for (word, line) in &source.crates {
        for (name, allowed) in CRATES {
            if word.starts_with(name) && !source.is_one_of(allowed) {
                fault(*line, format!("crate `{word}` stays in {allowed:?}"));
            }
        }
    }
    for line in &source.releases {
        if !source.is_one_of(RELEASE) {
            fault(
                *line,
                "an answer leaves its `Recorded` in grpc/convert.rs only".to_owned(),
            );
        }
    }
    for line in &source.jobs {
        if !source.is_one_of(JOBS) {
            fault(
                *line,
                format!("`Caller::job` is the service's own authority: only {JOBS:?} may name it"),
            );
        }
    }
    for line in &source.unsafes {
        fault(*line, "`unsafe` belongs into the crate pkcs11".to_owned());
    }
    found
}

fn rank(module: &str) -> Option<usize> {
    ORDER.iter().position(|level| level.contains(&module))
}

//! What must not compile: work without the right permit, answers without a record.
//!
//! Each file beside `compiles.rs` is given to the compiler with the library that this test was built with, and must fail with exactly the
//! error codes of its first line, so that none fails for another reason. No second build of the dependencies, which trybuild needs.

use std::{
    collections::BTreeSet,
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

#[test]
fn what_breaks_the_rule_of_the_house_does_not_compile() {
    let mut wrong = Vec::new();
    let mut cases = 0;
    for entry in fs::read_dir(directory()).expect("the cases can be read") {
        let case = entry.expect("the cases can be read").path();
        let text = fs::read_to_string(&case).expect("a case can be read");
        let expected: BTreeSet<String> = text
            .lines()
            .next()
            .and_then(|line| line.strip_prefix("// fails: "))
            .map(|codes| codes.split(' ').map(str::to_owned).collect())
            .unwrap_or_default();
        assert_eq!(
            expected.is_empty(),
            case.ends_with("compiles.rs"),
            "{}: no `// fails: ` line",
            case.display()
        );
        let (found, output) = compile(&case);
        if found != expected {
            wrong.push(format!(
                "{}: expected {expected:?}, found {found:?}\n{output}",
                case.display()
            ));
        }
        cases += 1;
    }
    assert!(cases > 8, "the cases were not found");
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/permit_compile_fail")
}

/// The error codes that the compiler gives, and all it said.
fn compile(case: &Path) -> (BTreeSet<String>, String) {
    let test = env::current_exe().expect("the test knows its file");
    let dependencies = test.parent().expect("the test lies among its dependencies");
    let out = tempfile::tempdir().expect("a directory for the compiler");
    let output = Command::new(env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()))
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .args([
            "--edition=2024",
            "--crate-type=lib",
            "--emit=metadata",
            "--error-format=short",
        ])
        .arg("--extern")
        .arg(format!("keyreeve={}", library(dependencies).display()))
        .arg("-L")
        .arg(format!("dependency={}", dependencies.display()))
        .arg("--out-dir")
        .arg(out.path())
        .arg(case)
        .output()
        .expect("the compiler runs");
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    let mut codes: BTreeSet<String> = text
        .split("error[")
        .skip(1)
        .filter_map(|rest| rest.split(']').next())
        .map(str::to_owned)
        .collect();
    if !output.status.success() && codes.is_empty() {
        codes.insert("an error without a code".to_owned());
    }
    (codes, text)
}

/// The library that cargo built last, which is the one this test was linked with.
fn library(dependencies: &Path) -> PathBuf {
    fs::read_dir(dependencies)
        .expect("the dependencies can be read")
        .filter_map(Result::ok)
        .filter(|entry| {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            name.starts_with("libkeyreeve-") && name.ends_with(".rlib")
        })
        .max_by_key(|entry| entry.metadata().and_then(|metadata| metadata.modified()).ok())
        .expect("cargo builds the library before this test")
        .path()
}

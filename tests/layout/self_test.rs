//! Each rule is broken on purpose: a test that cannot fail is a defect.

use super::{forbids_unsafe, paths::Source, violations};

/// What is found in a file of this name and text.
fn found(name: &str, text: &str) -> Vec<String> {
    violations(&Source::parse(name, text))
}

#[track_caller]
fn caught(name: &str, text: &str, what: &str) {
    let found = found(name, text);
    assert!(
        found.iter().any(|line| line.contains(what)),
        "{name}: {text}: {found:?}"
    );
}

#[track_caller]
fn clean(name: &str, text: &str) {
    let found = found(name, text);
    assert!(found.is_empty(), "{name}: {text}: {found:?}");
}

#[test]
fn an_arrow_that_runs_upward_is_found_however_it_is_written() {
    let what = "`store` is below `policy`";
    caught("store/row.rs", "use crate::policy::Gate;", what);
    caught(
        "store/row.rs",
        "use crate::{\n    Error,\n    policy::{Gate, Permit},\n};",
        what,
    );
    caught("store/row.rs", "use crate::{Error, policy};", what);
    caught("store/row.rs", "fn f(gate: &crate::policy::Gate) {}", what);
    caught("store/row.rs", "use super::super::policy::Gate;", what);
    caught("store/mod.rs", "pub use super::policy::Gate as G;", what);
    caught("store/sqlite/open.rs", "use super::{super::super::policy::Gate};", what);
    caught("model/key.rs", "use crate::store::Row;", "`model` is below `store`");
    caught("audit/writer.rs", "use crate::token::Root;", "`audit` is below `token`");
    caught("error.rs", "use crate::token::Token;", "`error` is below `token`");
    clean(
        "policy/gate.rs",
        "use crate::{Error, store::Directory, audit::{Log, Slot}};",
    );
    clean("error.rs", "use crate::token::TokenError;");
    clean("grpc/crypto.rs", "use super::convert; use crate::operations::Encrypt;");
}

#[test]
fn the_line_of_a_fault_is_its_own() {
    let text = "/* a\nb */\nconst A: &str = \"\n\";\nuse crate::{\n    model::Key,\n    policy::Gate,\n};";
    assert_eq!(found("store/row.rs", text).len(), 1);
    caught("store/row.rs", text, "src/store/row.rs:7: ");
}

#[test]
fn texts_comments_and_tests_name_nothing() {
    clean(
        "store/row.rs",
        "// use crate::policy::Gate;\n/* crate::policy::Gate */ /// crate::policy::Gate\n",
    );
    clean(
        "store/row.rs",
        "const A: &str = \"crate::policy::Gate\"; const B: &str = r#\"tonic::x\"# ; const C: char = '\"';",
    );
    clean(
        "store/row.rs",
        "#[cfg(test)]\nmod tests { use crate::policy::Gate; mod inner {} fn f() { sqlx::x(); } }",
    );
    caught(
        "store/row.rs",
        "#[cfg(test)] mod tests { } use crate::policy::Gate;",
        "`policy`",
    );
    caught(
        "store/row.rs",
        "fn f<'a>(a: &'a str) -> crate::policy::Gate {}",
        "`policy`",
    );
    let source = Source::parse("token/mod.rs", "#[cfg(test)]\npub(crate) mod software_host;");
    assert_eq!(source.test_modules, ["token/software_host"]);
    assert!(Source::parse("token/software_host.rs", "").is_in("token/software_host"));
}

#[test]
fn a_foreign_crate_outside_its_layer_is_found() {
    caught("operations/encrypt.rs", "use tonic::Status;", "crate `tonic` stays in");
    caught(
        "operations/encrypt.rs",
        "fn f() -> tonic_types::ErrorDetails {}",
        "crate `tonic_types` stays in",
    );
    caught(
        "audit/writer.rs",
        "use sqlx::SqliteConnection;",
        "crate `sqlx` stays in",
    );
    caught(
        "cli/doctor.rs",
        "use {keyreeve_pkcs11::Module};",
        "crate `keyreeve_pkcs11` stays in",
    );
    clean("store/sqlite.rs", "use sqlx::Row;");
    clean("grpc/status.rs", "use tonic::Status;");
}

#[test]
fn a_name_that_is_authority_is_found_outside_its_modules() {
    caught(
        "operations/encrypt.rs",
        "use crate::audit::{Draft, Slot};",
        "`Slot` is authority",
    );
    caught(
        "operations/encrypt.rs",
        "use crate::audit::Slot as Place;",
        "`Slot` is authority",
    );
    caught(
        "operations/encrypt.rs",
        "use crate::store::Committer;",
        "`Committer` is authority",
    );
    caught(
        "keys/create.rs",
        "fn f(root: &crate::token::Root) {}",
        "`Root` is authority",
    );
    caught("keys/create.rs", "use crate::token::*;", "hides what is used");
    caught("server.rs", "use crate::store::Committer;", "`Committer` is authority");
    caught("cli/audit.rs", "use crate::store::{self, open};", "`open` is authority");
    caught(
        "cli/audit.rs",
        "async fn f() { crate::store::open(options).await }",
        "`open` is authority",
    );
    caught(
        "keys/create.rs",
        "use crate::token::{Call, Token};",
        "`Call` is authority",
    );
    caught("grpc/health.rs", "use crate::token::Host;", "`Host` is authority");
    clean("server/node.rs", "use crate::{store, token::{Host, Root}};");
    clean("audit/writer.rs", "use crate::store::Committer;");
    clean("token/session.rs", "use keyreeve_pkcs11::Slot;");
}

#[test]
fn an_answer_taken_out_of_its_record_is_found() {
    caught(
        "grpc/crypto.rs",
        "let answer = recorded.release();",
        "leaves its `Recorded`",
    );
    caught(
        "operations/batch.rs",
        "results.map(Recorded::release)",
        "leaves its `Recorded`",
    );
    caught(
        "operations/batch.rs",
        "results.map(crate::policy::Recorded::release)",
        "leaves its `Recorded`",
    );
    clean("grpc/convert.rs", "let answer = recorded.release();");
}

#[test]
fn a_caller_made_up_by_a_handler_is_found() {
    caught(
        "grpc/crypto.rs",
        "let caller = Caller::job(\"init\", facts);",
        "`Caller::job`",
    );
    caught(
        "operations/encrypt.rs",
        "crate::identity::Caller::job(\"init\", facts)",
        "`Caller::job`",
    );
    caught(
        "server.rs",
        "Caller::job(\"destroy-due-versions\", facts)",
        "`Caller::job`",
    );
    clean("server/destroy_due.rs", "Caller::job(\"destroy-due-versions\", facts)");
}

#[test]
fn unsafe_code_and_a_module_without_a_place_are_found() {
    caught("store/row.rs", "fn f() { unsafe { g() } }", "`unsafe` belongs");
    caught("newcomer/mod.rs", "", "`newcomer` has no place");
    assert!(forbids_unsafe("//! x\n#![forbid(unsafe_code)]\n"));
    assert!(!forbids_unsafe("//! #![forbid(unsafe_code)]\n#![deny(unsafe_code)]"));
}

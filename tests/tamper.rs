//! A thief writes into the store, with any SQL he likes: whatever he does is found when the row is used, or by `audit verify`.

#![allow(clippy::unwrap_used)] // all of this file is a test

mod support;

use std::fs;
use std::path::{Path, PathBuf};

use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions, Connection, Row};
use support::{Client, Fault, Setup, TestServer, key_name};
use tonic::Code;

use keyreeve_proto::v1 as proto;

/// The key that the thief is after: compromised, so it opens nothing any more.
const STOPPED: &str = "dev/shop/stopped";
/// A key of another team.
const OTHER: &str = "dev/payments/other";

/// A server with two keys, one of them compromised; stopped, its data directory kept aside, so that each theft starts afresh.
struct Scene {
    server: TestServer,
    /// Data directories as they were: before the key was compromised, and after.
    before: PathBuf,
    after: PathBuf,
    sealed: Vec<u8>,
    sealed_other: Vec<u8>,
}

impl Scene {
    async fn new() -> Self {
        let mut server = Setup::default().init();
        server.serve().await;
        let admin = server.admin().await;
        admin.create_key(STOPPED).await.unwrap();
        admin.create_key(OTHER).await.unwrap();
        let sealed = admin.encrypt(STOPPED, b"loot", &[]).await.unwrap();
        let sealed_other = admin.encrypt(OTHER, b"other loot", &[]).await.unwrap();
        assert!(server.stop().await.success());
        let (before, after) = (server.path("before"), server.path("after"));
        copy(&server.data(), &before);
        server.serve().await;
        let request = proto::CompromiseKeyRequest {
            name: key_name(STOPPED),
            reason: "stolen".to_owned(),
            ..Default::default()
        };
        support::answer(server.admin().await.keys().compromise_key(request).await)
            .map(drop)
            .unwrap();
        assert!(server.stop().await.success());
        copy(&server.data(), &after);
        server.verifies();
        Self {
            server,
            before,
            after,
            sealed,
            sealed_other,
        }
    }

    /// The store as the thief finds it.
    async fn store(&self) -> SqliteConnection {
        open(&self.server.data()).await
    }

    async fn execute(&self, statements: &[&str]) {
        let mut store = self.store().await;
        let mut changed = 0;
        for statement in statements {
            let result = sqlx::raw_sql(sqlx::AssertSqlSafe((*statement).to_owned()))
                .execute(&mut store)
                .await;
            changed += result
                .unwrap_or_else(|error| panic!("{statement}: {error}"))
                .rows_affected();
        }
        assert!(changed > 0, "the theft changed nothing: {statements:?}");
        store.close().await.unwrap();
    }

    /// `verify` finds it, and a server that starts on it neither opens the loot nor says that all is well.
    async fn is_found(&mut self, what: &str) {
        let (well, said) = self.server.verify();
        assert!(!well, "{what}: `audit verify` found nothing: {said}");
        self.server.spawn(&[]);
        if self.server.is_ready().await {
            let admin = self.server.admin().await;
            for (key, sealed) in [(STOPPED, &self.sealed), (OTHER, &self.sealed_other)] {
                refuses_or_is_untouched(what, key, &admin, sealed).await;
            }
            let stopped = admin.decrypt(STOPPED, &self.sealed, &[]).await;
            assert!(stopped.is_err(), "{what}: the compromised key opens its ciphertext");
            self.server.kill();
        }
        fs::remove_dir_all(self.server.data()).unwrap();
        copy(&self.after, &self.server.data());
    }
}

/// What was tampered with is refused with the one error for it; what was not works as before.
async fn refuses_or_is_untouched(what: &str, key: &str, client: &Client, sealed: &[u8]) {
    let Err(fault) = client.decrypt(key, sealed, &[]).await else {
        return;
    };
    let expected: &[(Code, &str)] = match key {
        STOPPED => &[
            (Code::FailedPrecondition, "STATE_FORBIDS"),
            (Code::DataLoss, "INTEGRITY_FAILED"),
            (Code::NotFound, "NOT_FOUND"),
        ],
        _ => &[(Code::DataLoss, "INTEGRITY_FAILED")],
    };
    let Fault { code, reason, .. } = &fault;
    assert!(expected.contains(&(*code, reason.as_str())), "{what}: {fault:?}");
}

/// The version row of a key, by its name.
fn of(key: &str) -> String {
    format!("key_id = (SELECT id FROM keys WHERE name = '{}')", key_name(key))
}

#[tokio::test]
async fn every_kind_of_theft_is_found() {
    let mut scene = Scene::new().await;
    let (stopped, other) = (of(STOPPED), of(OTHER));

    scene
        .execute(&[&format!("UPDATE key_versions SET state = 'ACTIVE' WHERE {stopped}")])
        .await;
    scene.is_found("an edited state").await;

    scene
        .execute(&[&format!(
            "UPDATE keys SET owner = 'thief' WHERE name = '{}'",
            key_name(OTHER)
        )])
        .await;
    scene.is_found("an edited owner").await;

    let swap = format!(
        "CREATE TEMP TABLE aside AS SELECT blob FROM key_versions WHERE {stopped};
         UPDATE key_versions SET blob = (SELECT blob FROM key_versions WHERE {other}) WHERE {stopped};
         UPDATE key_versions SET blob = (SELECT blob FROM aside) WHERE {other};"
    );
    scene.execute(&[&swap]).await;
    scene.is_found("swapped blobs").await;

    let columns = "state, state_before, state_changed, state_reason, destroy_at, blob, at_birth, at_birth_observed, created, suite, iv_source, cka_id, kcv, row_version, change_seq, row_mac";
    let swap = format!(
        "PRAGMA foreign_keys = OFF;
         CREATE TEMP TABLE aside AS SELECT {columns} FROM key_versions WHERE {stopped};
         UPDATE key_versions SET ({columns}) = (SELECT {columns} FROM key_versions WHERE {other}) WHERE {stopped};
         UPDATE key_versions SET ({columns}) = (SELECT {columns} FROM aside) WHERE {other};"
    );
    scene.execute(&[&swap]).await;
    scene.is_found("swapped rows, with their MACs").await;

    let insert = format!(
        "INSERT INTO key_versions (key_id, number, {columns})
         SELECT key_id, 2, {columns} FROM key_versions WHERE {other};"
    );
    scene.execute(&[&insert]).await;
    scene.is_found("an inserted row").await;

    scene
        .execute(&[
            "PRAGMA foreign_keys = OFF",
            &format!("DELETE FROM key_versions WHERE {stopped}"),
        ])
        .await;
    scene.is_found("a deleted row").await;

    let rollback = format!(
        "ATTACH '{}' AS old;
         UPDATE key_versions SET ({columns}) = (SELECT {columns} FROM old.key_versions WHERE {stopped}) WHERE {stopped};",
        scene.before.join("store.db").display()
    );
    scene.execute(&[&rollback]).await;
    scene.is_found("one row rolled back, with the MAC it had").await;

    scene
        .execute(&[
            &rollback,
            "DELETE FROM changes WHERE seq = (SELECT max(seq) FROM changes)",
        ])
        .await;
    scene.is_found("one row rolled back, and the chain cut").await;

    scene
        .execute(&["UPDATE changes SET link = zeroblob(32) WHERE seq = (SELECT max(seq) / 2 FROM changes)"])
        .await;
    scene.is_found("an edited chain").await;
}

#[tokio::test]
async fn a_store_rolled_back_as_a_whole_does_not_start() {
    let mut scene = Scene::new().await;
    let data = scene.server.data();
    for file in ["store.db", "store.db-wal", "store.db-shm"] {
        let _ = fs::remove_file(data.join(file));
        if scene.before.join(file).exists() {
            fs::copy(scene.before.join(file), data.join(file)).unwrap();
        }
    }
    let (well, said) = scene.server.verify();
    assert!(!well, "{said}");
    scene.server.spawn(&[]);
    assert!(
        !scene.server.is_ready().await,
        "it serves a store that is behind its log"
    );
    let output = scene.server.output();
    assert!(output.contains("rolled back"), "{output}");
}

#[tokio::test]
async fn a_row_that_was_edited_under_a_running_server_is_not_believed() {
    let mut scene = Scene::new().await;
    scene.server.serve().await;
    let stopped = of(STOPPED);
    // Nobody has asked for the key since the start, so it is read when it is used.
    scene
        .execute(&[&format!("UPDATE key_versions SET state = 'ACTIVE' WHERE {stopped}")])
        .await;
    let admin = scene.server.admin().await;
    let fault = support::fault(admin.decrypt(STOPPED, &scene.sealed, &[]).await);
    assert!(
        ["INTEGRITY_FAILED", "STATE_FORBIDS"].contains(&fault.reason.as_str()),
        "{fault:?}"
    );
    assert_eq!(
        admin.decrypt(OTHER, &scene.sealed_other, &[]).await.unwrap(),
        b"other loot"
    );
}

#[tokio::test]
async fn nothing_in_the_store_is_a_key_in_clear() {
    // The blob is all there is of a version's key, and it has the length of a wrapped one: 198 B for 64 B.
    let scene = Scene::new().await;
    let mut store = scene.store().await;
    let rows = sqlx::query("SELECT blob FROM key_versions")
        .fetch_all(&mut store)
        .await
        .unwrap();
    assert_eq!(rows.len(), 2);
    for row in rows {
        let blob: Vec<u8> = row.get(0);
        assert_eq!((blob.len(), &blob[..4]), (198, [0xe5, 0x4b, 0x45, 0x59].as_slice()));
    }
}

async fn open(data: &Path) -> SqliteConnection {
    SqliteConnectOptions::new()
        .filename(data.join("store.db"))
        .connect()
        .await
        .unwrap()
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

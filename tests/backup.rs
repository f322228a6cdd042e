//! The drill: a backup of a server at work, everything wiped, restored, and the canary opens. The log begins a new epoch.

#![allow(clippy::unwrap_used)] // all of this file is a test

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use keyreeve_proto::v1::{GetStatusRequest, KeyResidency, KeySuite};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode};
use sqlx::{ConnectOptions, Connection};
use support::load::{self, Load};
use support::log::{assert_chained, frames};
use support::{Setup, TestServer, text};
use tonic::Code;

const KEY: &str = "dev/shop/canary";
/// Stands in a data directory whose restore did not complete.
const MARK: &str = "restore-unfinished";

/// A server, and a backup that was made while it worked.
struct Drill {
    server: TestServer,
    backup: PathBuf,
    canary: Vec<u8>,
}

impl Drill {
    async fn new() -> Self {
        let mut server = Setup::default().durability("fsync").init();
        server.serve().await;
        load::prepare(&server).await;
        let admin = server.admin().await;
        admin.create_key(KEY).await.unwrap();
        let canary = admin.encrypt(KEY, b"canary", &[("place", "mine")]).await.unwrap();
        let backup = server.path("backup");
        Self { server, backup, canary }
    }

    fn back_up(&self) {
        self.server.run_ok("backup", &[self.backup.to_str().unwrap()]);
    }

    fn restore(&self) -> std::process::Output {
        let from = self.backup.to_str().unwrap();
        self.server.run("restore", &[from, "--reason", "drill"])
    }

    /// Changes rows of the backup behind the store's back, and its manifest with them.
    async fn forge(&self, sql: &'static str) {
        let store = self.backup.join("store.db");
        let options = SqliteConnectOptions::new()
            .filename(&store)
            .journal_mode(SqliteJournalMode::Delete);
        let mut database = options.connect().await.unwrap();
        sqlx::raw_sql(sql).execute(&mut database).await.unwrap();
        database.close().await.unwrap();
        let bytes = fs::read(&store).unwrap();
        let manifest = self.backup.join("manifest.json");
        let mut json: serde_json::Value = serde_json::from_slice(&fs::read(&manifest).unwrap()).unwrap();
        let files = json["files"].as_array_mut().unwrap();
        let entry = files.iter_mut().find(|file| file["path"] == "store.db").unwrap();
        let sha256 = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &bytes);
        entry["size"] = bytes.len().into();
        entry["sha256"] = data_encoding::HEXLOWER.encode(sha256.as_ref()).into();
        fs::write(manifest, json.to_string()).unwrap();
    }

    /// `serve`, `init` and `doctor` say what happened and what to do, and change nothing.
    async fn refuses_what_lies_there(&mut self) {
        assert!(self.server.data().join(MARK).exists());
        let before = files(&self.server.data());
        self.server.spawn(&[]);
        assert!(!self.server.is_ready().await, "what was half restored is served");
        let init = self.server.init_command().output().unwrap();
        let doctor = self.server.run("doctor", &["--no-token"]);
        for said in [self.server.output(), text(&init), text(&doctor)] {
            assert!(
                said.contains("did not complete") && said.contains("`keyreeve restore` again"),
                "{said}"
            );
        }
        assert_eq!((init.status.code(), doctor.status.code()), (Some(1), Some(1)));
        assert_eq!(before, files(&self.server.data()));
    }

    async fn serves_after_a_restore(&mut self) {
        let restored = self.restore();
        assert!(restored.status.success(), "{}", text(&restored));
        assert!(!self.server.data().join(MARK).exists());
        self.server.serve().await;
        let admin = self.server.admin().await;
        let opened = admin.decrypt(KEY, &self.canary, &[("place", "mine")]).await;
        assert_eq!(opened.unwrap(), b"canary");
    }

    fn wipe(&self) {
        fs::remove_dir_all(self.server.data()).unwrap();
        fs::create_dir(self.server.data()).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_before_the_backup_is_there_after_wipe_and_restore() {
    let mut drill = Drill::new().await;
    let load = Load::start(&drill.server, "before", 2).await;
    load.acknowledged(100).await;
    let sealed_before = load::calls_without_a_change(&drill.server, "sealed", 10).await;
    drill.back_up();
    load.acknowledged(200).await;
    let admin = drill.server.admin().await;
    admin.create_key("dev/shop/too-late").await.unwrap();
    let after = admin.encrypt(KEY, b"after the backup", &[]).await.unwrap();
    drill.server.kill();
    load.ledger().await;
    let old_log = drill.server.records();

    drill.wipe();
    let restored = drill.restore();
    assert!(restored.status.success(), "{}", text(&restored));
    drill.server.serve().await;
    let admin = drill.server.admin().await;
    assert_eq!(
        admin.decrypt(KEY, &drill.canary, &[("place", "mine")]).await.unwrap(),
        b"canary"
    );
    assert_eq!(admin.decrypt(KEY, &after, &[]).await.unwrap(), b"after the backup");
    let lost = support::fault(admin.key("dev/shop/too-late").await);
    assert_eq!(lost.reason, "NOT_FOUND");
    admin.create_key("dev/shop/new").await.unwrap();
    assert!(drill.server.stop().await.success());
    drill.server.verifies();

    // Two epochs: the old one as far as the backup goes, and a new one that says why it was opened.
    let epochs = epochs(&drill.server);
    assert_eq!(epochs.len(), 2, "{epochs:?}");
    let old: Vec<_> = frames(&epochs[0]).into_iter().map(|frame| frame.record).collect();
    assert_chained(&old);
    for (before, kept) in old_log.iter().zip(&old) {
        assert_eq!(before.bytes, kept.bytes);
    }
    for promise in &sealed_before {
        let recorded = old.iter().filter(|record| record.request() == promise.id).count();
        assert_eq!(
            recorded, promise.records,
            "{} was answered before the backup began",
            promise.id
        );
    }
    let new = drill.server.records();
    assert_chained(&new);
    let first = String::from_utf8(new[0].bytes.clone()).unwrap();
    assert!(first.contains("drill"), "the new epoch says why: {first}");
}

#[tokio::test]
async fn a_damaged_backup_is_refused_and_nothing_is_written() {
    let mut drill = Drill::new().await;
    drill.back_up();
    assert!(drill.server.stop().await.success());
    drill.wipe();
    let files = files(&drill.backup);
    assert!(files.len() >= 3, "{files:?}");
    for file in &files {
        let whole = fs::read(file).unwrap();
        let mut damaged = whole.clone();
        match damaged.len() {
            0 => damaged.push(b'x'),
            length => damaged[length / 2] ^= 1,
        }
        for bytes in [Some(damaged), None] {
            match bytes {
                Some(bytes) => fs::write(file, bytes).unwrap(),
                None => fs::remove_file(file).unwrap(),
            }
            let restored = drill.restore();
            assert_eq!(restored.status.code(), Some(1), "{} was damaged", file.display());
            assert!(!drill.server.data().join("store.db").exists(), "{}", text(&restored));
        }
        fs::write(file, whole).unwrap();
    }
    let restored = drill.restore();
    assert!(restored.status.success(), "{}", text(&restored));
}

#[tokio::test]
async fn a_restore_does_not_overwrite_a_store_and_a_backup_no_backup() {
    let mut drill = Drill::new().await;
    drill.back_up();
    let again = drill.server.run("backup", &[drill.backup.to_str().unwrap()]);
    assert_eq!(again.status.code(), Some(1), "{}", text(&again));
    assert_eq!(drill.restore().status.code(), Some(1), "the server runs");
    assert!(drill.server.stop().await.success());
    assert_eq!(drill.restore().status.code(), Some(1), "the store is there");
    drill.server.serve().await;
    let admin = drill.server.admin().await;
    assert_eq!(
        admin.decrypt(KEY, &drill.canary, &[("place", "mine")]).await.unwrap(),
        b"canary"
    );
}

#[tokio::test]
async fn a_backup_is_of_no_use_without_the_token() {
    let drill = Drill::new().await;
    drill.back_up();
    // Another token, and the thief's own service around it.
    let mut thief = Setup::default().init();
    fs::remove_dir_all(thief.data()).unwrap();
    fs::create_dir(thief.data()).unwrap();
    let restored = thief.run("restore", &[drill.backup.to_str().unwrap(), "--reason", "theft"]);
    assert_eq!(restored.status.code(), Some(1), "{}", text(&restored));
    assert!(text(&restored).contains("does not verify"), "{}", text(&restored));
    // Whatever he makes of what lies there, the mark of the failed restore taken away, his token opens none of it.
    fs::remove_file(thief.data().join(MARK)).unwrap();
    thief.spawn(&[]);
    if thief.is_ready().await {
        let opened = thief
            .admin()
            .await
            .decrypt(KEY, &drill.canary, &[("place", "mine")])
            .await;
        assert_eq!(support::fault(opened).reason, "INTEGRITY_FAILED");
    }
}

#[tokio::test]
async fn a_restore_that_found_its_rows_tampered_with_leaves_nothing_that_serves() {
    let mut drill = Drill::new().await;
    drill.back_up();
    let good = drill.server.path("good");
    drill.server.run_ok("backup", &[good.to_str().unwrap()]);
    assert!(drill.server.stop().await.success());
    drill.forge("UPDATE keys SET owner = 'mallory'").await;
    drill.wipe();
    let restored = drill.restore();
    assert_eq!(restored.status.code(), Some(1), "{}", text(&restored));
    assert!(text(&restored).contains("does not verify"), "{}", text(&restored));
    assert!(drill.server.data().join("store.db").exists(), "it failed late");
    drill.refuses_what_lies_there().await;

    drill.backup = good;
    drill.wipe();
    drill.serves_after_a_restore().await;
}

#[tokio::test]
async fn a_restore_that_was_killed_midway_leaves_nothing_that_serves() {
    let mut drill = Drill::new().await;
    drill.back_up();
    assert!(drill.server.stop().await.success());
    drill.wipe();
    let from = drill.backup.to_str().unwrap();
    let mut command = drill.server.command("restore");
    command.args([from, "--reason", "drill"]);
    let mut restore = command.spawn().unwrap();
    let end = Instant::now() + support::PATIENCE;
    while !drill.server.data().join("store.db").exists() {
        assert!(Instant::now() < end, "the restore lays no store");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    restore.kill().unwrap();
    assert!(!restore.wait().unwrap().success(), "it was killed before its end");
    drill.refuses_what_lies_there().await;

    drill.wipe();
    drill.serves_after_a_restore().await;
}

/// What it sealed after the backup is counted nowhere: the next iv could be one too many.
#[tokio::test]
async fn a_version_of_suite_0001_encrypts_no_more_after_a_restore_until_it_is_rotated() {
    let mut drill = Drill::new().await;
    let (admin, cards) = (drill.server.admin().await, "dev/shop/cards");
    admin.create_key_of(cards, KeySuite::TokenGcm).await.unwrap();
    let sealed = admin.encrypt(cards, b"before", &[]).await.unwrap();
    drill.back_up();
    assert!(drill.server.stop().await.success());
    drill.wipe();
    drill.serves_after_a_restore().await;

    let admin = drill.server.admin().await;
    let refused = support::fault(admin.encrypt(cards, b"after", &[]).await);
    assert_eq!(
        (refused.code, refused.reason.as_str()),
        (Code::FailedPrecondition, "ROTATION_REQUIRED")
    );
    assert_eq!(admin.decrypt(cards, &sealed, &[]).await.unwrap(), b"before");
    let status = admin.system().get_status(GetStatusRequest {}).await.unwrap();
    assert_eq!(status.into_inner().rotations_due, 1);
    admin.rotate_key(cards).await.unwrap();
    let sealed = admin.encrypt(cards, b"after", &[]).await.unwrap();
    assert_eq!(admin.decrypt(cards, &sealed, &[]).await.unwrap(), b"after");
}

/// The token was not restored: what it made after the backup is there, and must not be taken for what comes now.
#[tokio::test]
async fn a_resident_key_opens_after_a_restore_and_its_rotation_passes_over_what_the_token_has() {
    let mut drill = Drill::new().await;
    let (admin, vault) = (drill.server.admin().await, "dev/shop/vault");
    let made = admin.create_key_in(vault, KeySuite::TokenGcm, KeyResidency::TokenResident);
    made.await.unwrap();
    let sealed = admin.encrypt(vault, b"before", &[]).await.unwrap();
    drill.back_up();
    admin.rotate_key(vault).await.unwrap();
    let lost = admin.encrypt(vault, b"after the backup", &[]).await.unwrap();
    assert!(drill.server.stop().await.success());
    drill.wipe();
    drill.serves_after_a_restore().await;

    let admin = drill.server.admin().await;
    assert_eq!(admin.decrypt(vault, &sealed, &[]).await.unwrap(), b"before");
    let rotated = admin.rotate_key(vault).await.unwrap();
    let numbers: Vec<u32> = rotated.versions.iter().map(|version| version.version).collect();
    assert_eq!(numbers, [1, 3]);
    let sealed = admin.encrypt(vault, b"now", &[]).await.unwrap();
    assert_eq!(admin.decrypt(vault, &sealed, &[]).await.unwrap(), b"now");
    assert_eq!(
        support::fault(admin.decrypt(vault, &lost, &[]).await).reason,
        "DECRYPT_FAILED"
    );
}

/// The directories that hold segments, the oldest first.
fn epochs(server: &TestServer) -> Vec<PathBuf> {
    let mut epochs: Vec<PathBuf> = support::log::segments_below(&server.data().join("audit"))
        .iter()
        .map(|segment| segment.parent().unwrap().to_path_buf())
        .collect();
    epochs.sort();
    epochs.dedup();
    epochs
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(self::files(&path));
        } else {
            files.push(path);
        }
    }
    files
}

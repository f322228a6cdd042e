//! A backup of a store in use, and what a restore refuses and brings back.

use std::{fs, path::PathBuf};

use super::{
    Change, LogEpoch, StoreError,
    backup::{self, LogEntry, Manifest, Snapshot},
    restore::{self, Target},
    testing::{Place, commit, creation, key, row_key, seed},
};
use crate::{
    clock::Timestamp,
    model::{KeyState, Version},
};

struct Backup {
    place: Place,
    into: PathBuf,
    manifest: Manifest,
    snapshot: Snapshot,
}

/// A backup with one key, one log segment and one record in the outbox, made while the store is open and used.
async fn made() -> (Backup, super::Directory, super::Committer) {
    let place = Place::new();
    let (directory, mut committer) = place.open().await.unwrap();
    let (_, team, _) = seed(&mut committer).await;
    let first = LogEpoch {
        node: "node-1".into(),
        epoch: 1,
        reason: "init".into(),
        opened: Timestamp::from_unix_ms(1),
        last: None,
        row_version: 0,
    };
    let mut transaction = committer.begin().await.unwrap();
    transaction.apply(&Change::new().insert(&first)).await.unwrap();
    transaction.outbox(17, b"record").await.unwrap();
    transaction.commit().await.unwrap();

    let into = place.root.path().join("backup");
    let snapshot = backup::snapshot(&place.directory(), &place.tombstone_file(), &row_key(), &into)
        .await
        .unwrap();
    assert!(
        !committer.writer.written_by_others().await.unwrap(),
        "a backup only reads"
    );
    commit(&mut committer, creation(&key(&team, "after"))).await.unwrap();
    fs::create_dir(into.join("log")).unwrap();
    fs::write(into.join("log/segment-0"), b"records").unwrap();
    let log = LogEntry {
        origin: "kms.example/audit/node-1/1".into(),
        size: 18,
        root: "00".repeat(32),
    };
    let manifest = backup::seal(&into, snapshot, log, Timestamp::from_unix_ms(0)).unwrap();
    let backup = Backup {
        place,
        into,
        manifest,
        snapshot,
    };
    (backup, directory, committer)
}

fn target(place: &Place) -> (PathBuf, PathBuf, PathBuf) {
    let root = place.root.path();
    (root.join("data"), root.join("log"), root.join("tombstones"))
}

#[tokio::test]
async fn a_restored_store_holds_what_the_backup_held_and_nothing_later() {
    let (backup, _, committer) = made().await;
    assert_eq!(backup.snapshot.outbox_through, Some(17));
    assert!(committer.head().seq > backup.snapshot.head.seq);
    let files: Vec<_> = backup.manifest.files.iter().map(|file| file.path.as_str()).collect();
    assert_eq!(files, ["log/segment-0", "store.db", "tombstones"]);

    let elsewhere = Place::new();
    let (directory, log_directory, tombstone_file) = target(&elsewhere);
    let target = Target {
        directory: &directory,
        log_directory: &log_directory,
        tombstone_file: &tombstone_file,
    };
    let manifest = restore::lay(&backup.into, &target).unwrap();
    assert_eq!(manifest, backup.manifest);
    assert_eq!(fs::read(log_directory.join("segment-0")).unwrap(), b"records");

    let (directory, mut committer) = elsewhere.open().await.unwrap();
    assert_eq!(committer.head(), backup.snapshot.head);
    assert_eq!(committer.outbox_rows(None).await.unwrap().len(), 1);
    assert_eq!(directory.log_epochs("node-1").await.unwrap().len(), 1);
    assert!(
        directory
            .key(&"dev/shop/orders".parse().unwrap())
            .await
            .unwrap()
            .is_some()
    );
    assert!(
        directory
            .key(&"dev/shop/after".parse().unwrap())
            .await
            .unwrap()
            .is_none()
    );
    // A second restore over it is refused.
    assert!(matches!(
        restore::lay(&backup.into, &target),
        Err(StoreError::NotEmpty { .. })
    ));
}

#[tokio::test]
async fn a_backup_that_was_changed_is_refused_and_nothing_is_laid() {
    let (backup, _, _) = made().await;
    let elsewhere = Place::new();
    let (directory, log_directory, tombstone_file) = target(&elsewhere);
    let target = Target {
        directory: &directory,
        log_directory: &log_directory,
        tombstone_file: &tombstone_file,
    };
    let refused = |needle: &str| {
        let error = restore::lay(&backup.into, &target).unwrap_err();
        assert!(error.to_string().contains(needle), "{error}");
        assert!(!log_directory.exists());
    };
    let segment = backup.into.join("log/segment-0");
    fs::write(&segment, b"recordz").unwrap();
    refused("`log/segment-0` is not as its manifest says");
    fs::remove_file(&segment).unwrap();
    refused("`log/segment-0` is missing");
    fs::write(&segment, b"records").unwrap();
    fs::write(backup.into.join("extra"), b"").unwrap();
    refused("`extra` is not in its manifest");
    fs::remove_file(backup.into.join("extra")).unwrap();
    fs::write(backup.into.join("manifest.json"), b"{}").unwrap();
    refused("its manifest cannot be read");
}

#[tokio::test]
async fn a_destroyed_key_is_not_revived_by_an_older_backup() {
    let (backup, directory, mut committer) = made().await;
    let name = "dev/shop/orders".parse().unwrap();
    let mut destroyed = Version::clone(&directory.key(&name).await.unwrap().unwrap().versions[0]);
    destroyed.state = KeyState::Destroyed;
    destroyed.blob = None;
    commit(&mut committer, Change::new().update(&destroyed)).await.unwrap();
    drop((directory, committer));

    // Back into the same place; the tombstone file was not in the directory that was lost.
    let (directory, log_directory, tombstone_file) = target(&backup.place);
    fs::remove_dir_all(&directory).unwrap();
    let target = Target {
        directory: &directory,
        log_directory: &log_directory,
        tombstone_file: &tombstone_file,
    };
    restore::lay(&backup.into, &target).unwrap();
    let (directory, _committer) = backup.place.open().await.unwrap();
    let key = directory.key(&name).await.unwrap().unwrap();
    assert_eq!((key.state(), key.versions[0].blob.is_none()), (KeyState::Active, true));
}

#[tokio::test]
async fn a_store_that_was_tampered_with_is_not_backed_up_as_good() {
    let (backup, _directory, _committer) = made().await;
    backup.place.tamper("UPDATE keys SET owner = 'mallory'").await;
    let into = backup.place.root.path().join("second");
    let refused = backup::snapshot(
        &backup.place.directory(),
        &backup.place.tombstone_file(),
        &row_key(),
        &into,
    )
    .await;
    assert!(matches!(refused, Err(StoreError::Tampered { .. })), "{refused:?}");
    let again = backup::snapshot(
        &backup.place.directory(),
        &backup.place.tombstone_file(),
        &row_key(),
        &into,
    )
    .await;
    assert!(matches!(again, Err(StoreError::NotEmpty { .. })), "{again:?}");
}

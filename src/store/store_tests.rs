//! Directory and committer together, on a real database.

use std::{fs, sync::Arc};

use super::{
    Applied, Change, ChangeError, LogEpoch, Remembered, StoreError, Table,
    testing::{Place, commit, creation, environment, key, seed, team, version},
};
use crate::{
    Error,
    clock::Timestamp,
    model::{KeyName, KeyState, KeyVersion, Version},
};

fn name(text: &str) -> KeyName {
    text.parse().unwrap()
}

#[tokio::test]
async fn what_was_stored_comes_back_with_its_versions_and_shares_its_team() {
    let place = Place::new();
    let (directory, mut committer) = place.open().await.unwrap();
    let (_, team, stored) = seed(&mut committer).await;
    commit(&mut committer, creation(&key(&team, "other"))).await.unwrap();

    assert!(directory.key_cached(&stored.name).is_none());
    let read = directory.key(&stored.name).await.unwrap().unwrap();
    assert_eq!(format!("{:?}", read.labels), r#"{"tier": "gold"}"#);
    assert_eq!((read.id, &read.owner, read.row_version), (stored.id, &stored.owner, 1));
    let (was, is) = (&stored.versions[0], &read.versions[0]);
    assert_eq!(
        (is.at_birth, is.blob.clone(), is.state),
        (was.at_birth, was.blob.clone(), was.state)
    );
    assert!(Arc::ptr_eq(&read, &directory.key_cached(&stored.name).unwrap()));

    let other = directory.key(&name("dev/shop/other")).await.unwrap().unwrap();
    assert!(Arc::ptr_eq(&read.team, &other.team));
    assert!(directory.key(&name("dev/shop/nothing")).await.unwrap().is_none());
    assert_eq!(directory.counts().await.unwrap(), (1, 2));

    drop((directory, committer));
    let (directory, committer) = place.open().await.unwrap();
    assert_eq!(committer.head().seq, 6);
    assert_eq!(directory.key(&stored.name).await.unwrap().unwrap().id, stored.id);
}

#[tokio::test]
async fn a_refused_change_leaves_nothing_and_the_others_of_its_transaction_stand() {
    let place = Place::new();
    let (directory, mut committer) = place.open().await.unwrap();
    let (environment, team_row, stored) = seed(&mut committer).await;
    let before = committer.head();

    let mut transaction = committer.begin().await.unwrap();
    let again = Change::new().insert(&*team(&environment, "till")).insert(&*team_row);
    let refused = transaction.apply(&again).await.unwrap_err();
    assert!(matches!(refused, ChangeError::Exists(Table::Teams)), "{refused}");
    let mut stale = Version::clone(&stored.versions[0]);
    stale.row_version = 7;
    let refused = transaction.apply(&Change::new().update(&stale)).await.unwrap_err();
    assert!(matches!(refused, ChangeError::Stale(Table::KeyVersions)), "{refused}");
    let applied = transaction.apply(&creation(&key(&team_row, "third"))).await.unwrap();
    transaction.outbox(41, b"record").await.unwrap();
    assert_eq!(transaction.commit().await.unwrap(), applied);

    assert_eq!(committer.head().seq, before.seq + 2);
    assert!(directory.team(&"dev/till".parse().unwrap()).await.unwrap().is_none());
    assert!(directory.key(&name("dev/shop/third")).await.unwrap().is_some());
    assert_eq!(committer.outbox_rows(None).await.unwrap()[0].record, b"record");
    assert!(committer.outbox_rows(Some(41)).await.unwrap().is_empty());
    committer.clear_outbox(41).await.unwrap();
    assert!(committer.outbox_rows(None).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_dropped_transaction_leaves_nothing_behind() {
    let place = Place::new();
    let (directory, mut committer) = place.open().await.unwrap();
    let (_, team, _) = seed(&mut committer).await;
    let before = committer.head();
    let mut transaction = committer.begin().await.unwrap();
    transaction.apply(&creation(&key(&team, "lost"))).await.unwrap();
    transaction.outbox(1, b"lost").await.unwrap();
    drop(transaction);
    assert_eq!(committer.head(), before);
    assert!(committer.outbox_rows(None).await.unwrap().is_empty());
    commit(&mut committer, creation(&key(&team, "found"))).await.unwrap();
    assert!(directory.key(&name("dev/shop/lost")).await.unwrap().is_none());
    assert!(directory.key(&name("dev/shop/found")).await.unwrap().is_some());
}

#[tokio::test]
async fn memory_obeys_a_commit_before_it_returns() {
    let place = Place::new();
    let (directory, mut committer) = place.open().await.unwrap();
    let (environment, _, stored) = seed(&mut committer).await;
    let read = directory.key(&stored.name).await.unwrap().unwrap();

    let mut suspended = Version::clone(&read.versions[0]);
    suspended.state = KeyState::Suspended;
    commit(&mut committer, Change::new().update(&suspended)).await.unwrap();
    assert!(directory.key_cached(&stored.name).is_none());
    let read = directory.key(&stored.name).await.unwrap().unwrap();
    assert_eq!((read.state(), read.versions[0].row_version), (KeyState::Suspended, 2));

    let mut rotated = (*read).clone();
    rotated.primary = KeyVersion::new(2).unwrap();
    let change = Change::new().insert(&version(read.id, 2)).update(&rotated);
    commit(&mut committer, change).await.unwrap();
    assert_eq!(directory.key(&stored.name).await.unwrap().unwrap().primary.number(), 2);

    let environment = directory.environment(&environment.name).await.unwrap().unwrap();
    let mut production = (*environment).clone();
    production.production = true;
    commit(&mut committer, Change::new().update(&production)).await.unwrap();
    let read = directory.key(&stored.name).await.unwrap().unwrap();
    assert!(read.team.environment.production);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_never_sees_a_state_older_than_a_commit_that_returned() {
    let place = Place::new();
    let (directory, mut committer) = place.open().await.unwrap();
    let (_, _, stored) = seed(&mut committer).await;
    let committed = Arc::new(std::sync::atomic::AtomicU64::new(1));
    let readers: Vec<_> = (0..4)
        .map(|_| {
            let (directory, committed, name) = (directory.clone(), committed.clone(), stored.name.clone());
            tokio::spawn(async move {
                loop {
                    let at_least = committed.load(std::sync::atomic::Ordering::SeqCst);
                    let seen = directory.key(&name).await.unwrap().unwrap().versions[0].row_version;
                    assert!(seen >= at_least, "saw {seen} after {at_least} was committed");
                    if at_least == 200 {
                        return;
                    }
                    tokio::task::yield_now().await;
                }
            })
        })
        .collect();
    for row_version in 1..200 {
        let mut next = Version::clone(&stored.versions[0]);
        next.row_version = row_version;
        commit(&mut committer, Change::new().update(&next)).await.unwrap();
        committed.store(row_version + 1, std::sync::atomic::Ordering::SeqCst);
    }
    for reader in readers {
        reader.await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_many_ask_for_at_once_is_loaded_once() {
    let place = Place::new();
    let (directory, mut committer) = place.open().await.unwrap();
    let (_, _, stored) = seed(&mut committer).await;
    let asking: Vec<_> = (0..64)
        .map(|_| {
            let (directory, name) = (directory.clone(), stored.name.clone());
            tokio::spawn(async move { directory.key(&name).await.unwrap().unwrap() })
        })
        .collect();
    let mut loaded = Vec::new();
    for asked in asking {
        loaded.push(asked.await.unwrap());
    }
    assert!(loaded.iter().all(|key| Arc::ptr_eq(key, &loaded[0])));
}

#[tokio::test]
async fn lists_come_in_pages_in_order_of_name() {
    let place = Place::new();
    let (directory, mut committer) = place.open().await.unwrap();
    let (environment_row, team_row, _) = seed(&mut committer).await;
    let elsewhere = team(&environment_row, "till");
    let change = Change::new().insert(&*elsewhere).insert(&*environment("prod"));
    commit(&mut committer, change).await.unwrap();
    for id in ["k3", "k1", "k2"] {
        commit(&mut committer, creation(&key(&team_row, id))).await.unwrap();
    }
    commit(&mut committer, creation(&key(&elsewhere, "k0"))).await.unwrap();

    let first = directory.keys(&team_row, None, 3).await.unwrap();
    let names: Vec<_> = first.items.iter().map(|key| key.name.id()).collect();
    assert_eq!((names.as_slice(), first.more), (&["k1", "k2", "k3"][..], true));
    let rest = directory.keys(&team_row, Some(&first.items[2].name), 3).await.unwrap();
    assert_eq!(
        (rest.items[0].name.id(), rest.items.len(), rest.more),
        ("orders", 1, false)
    );
    let teams = directory.teams(&environment_row, None, 10).await.unwrap();
    assert_eq!((teams.items.len(), teams.more), (2, false));
    let environments = directory.environments(None, 1).await.unwrap();
    assert_eq!(
        (environments.items[0].name.as_str(), environments.more),
        ("envs/dev", true)
    );
}

#[tokio::test]
async fn a_destroyed_version_leaves_its_tombstone_in_the_store_and_in_the_file() {
    let place = Place::new();
    let (directory, mut committer) = place.open().await.unwrap();
    let (_, _, stored) = seed(&mut committer).await;
    let due = Timestamp::from_unix_ms(50);

    let mut pending = Version::clone(&directory.key(&stored.name).await.unwrap().unwrap().versions[0]);
    pending.state = KeyState::PendingDestruction;
    pending.state_before = Some(KeyState::Deactivated);
    pending.destroy_at = Some(due);
    commit(&mut committer, Change::new().update(&pending)).await.unwrap();
    assert!(
        directory
            .due_for_destruction(Timestamp::from_unix_ms(49))
            .await
            .unwrap()
            .is_empty()
    );
    assert_eq!(
        directory.due_for_destruction(due).await.unwrap(),
        std::slice::from_ref(&stored.name)
    );

    let mut destroyed = pending.clone();
    destroyed.row_version = 2;
    destroyed.state = KeyState::Destroyed;
    destroyed.destroy_at = None;
    let refused = commit(&mut committer, Change::new().update(&destroyed)).await;
    assert!(matches!(refused, Err(ChangeError::Store(_))), "it still had its blob");
    destroyed.blob = None;
    commit(&mut committer, Change::new().update(&destroyed)).await.unwrap();

    assert!(directory.due_for_destruction(due).await.unwrap().is_empty());
    let file = fs::read_to_string(place.tombstone_file()).unwrap();
    assert!(file.starts_with(&format!("{} 1 2023-11-14T", stored.id)), "{file}");
    assert_eq!(
        super::verify(&place.directory(), &super::testing::row_key(), None)
            .await
            .unwrap()
            .findings,
        []
    );

    // A lost file is written again from the store.
    drop((directory, committer));
    fs::remove_file(place.tombstone_file()).unwrap();
    place.open().await.unwrap();
    assert!(
        fs::read_to_string(place.tombstone_file())
            .unwrap()
            .contains(&stored.id.to_string())
    );
}

#[tokio::test]
async fn a_version_in_the_tombstone_file_shows_no_blob_even_if_the_store_has_one() {
    let place = Place::new();
    let (directory, mut committer) = place.open().await.unwrap();
    let (_, _, stored) = seed(&mut committer).await;
    drop((directory, committer));
    fs::write(
        place.tombstone_file(),
        format!("{} 1 2023-11-14T22:13:20.007Z\n", stored.id),
    )
    .unwrap();
    let (directory, _committer) = place.open().await.unwrap();
    assert!(
        directory.key(&stored.name).await.unwrap().unwrap().versions[0]
            .blob
            .is_none()
    );
}

#[tokio::test]
async fn a_request_id_is_remembered_until_it_expires() {
    let place = Place::new();
    let (directory, mut committer) = place.open().await.unwrap();
    let now = crate::clock::Clock::now(&place.clock);
    let remembered = Remembered {
        caller: "spiffe://example/app".into(),
        method: "CreateKey",
        request_id: "r1".into(),
        request: [9; 32],
        object: "envs/dev".into(),
        expires_ms: now.unix_ms() + 1_000,
    };
    let change = || Change::new().remember(Some(remembered.clone()));
    commit(&mut committer, change()).await.unwrap();
    let found = directory
        .remembered(&remembered.caller, "CreateKey", "r1", now)
        .await
        .unwrap()
        .unwrap();
    assert_eq!((found.request, found.object), ([9; 32], "envs/dev".to_owned()));
    assert!(
        directory
            .remembered("someone else", "CreateKey", "r1", now)
            .await
            .unwrap()
            .is_none()
    );
    assert!(matches!(
        commit(&mut committer, change()).await,
        Err(ChangeError::RequestIdInUse)
    ));

    place.clock.advance_ms(1_000);
    let now = crate::clock::Clock::now(&place.clock);
    assert!(
        directory
            .remembered(&remembered.caller, "CreateKey", "r1", now)
            .await
            .unwrap()
            .is_none()
    );
    commit(&mut committer, change()).await.unwrap();

    place.clock.advance_ms(60_000);
    committer.begin().await.unwrap().commit().await.unwrap();
    let mut intruder = place.intruder().await;
    let left: i64 = sqlx::query_scalar("SELECT count(*) FROM remembered")
        .fetch_one(&mut intruder)
        .await
        .unwrap();
    assert_eq!(left, 0);
}

#[tokio::test]
async fn log_epochs_come_back_in_order() {
    let place = Place::new();
    let (directory, mut committer) = place.open().await.unwrap();
    let first = LogEpoch {
        node: "node-1".into(),
        epoch: 1,
        reason: "init".into(),
        opened: Timestamp::from_unix_ms(1),
        last: None,
        row_version: 0,
    };
    let second = LogEpoch {
        epoch: 2,
        reason: "restored after a fire".into(),
        last: Some((42, [3; 32])),
        ..first.clone()
    };
    commit(&mut committer, Change::new().insert(&second).insert(&first))
        .await
        .unwrap();
    let found = directory.log_epochs("node-1").await.unwrap();
    let stored = |epoch: LogEpoch| LogEpoch {
        row_version: 1,
        ..epoch
    };
    assert_eq!(found, [stored(first), stored(second)]);
    assert!(directory.log_epochs("node-2").await.unwrap().is_empty());
}

#[tokio::test]
async fn a_deleted_row_is_gone_and_its_key_is_never_used_again() {
    let place = Place::new();
    let (directory, mut committer) = place.open().await.unwrap();
    let epoch = |row_version| LogEpoch {
        node: "node-1".into(),
        epoch: 1,
        reason: "init".into(),
        opened: Timestamp::from_unix_ms(1),
        last: None,
        row_version,
    };
    commit(&mut committer, Change::new().insert(&epoch(0))).await.unwrap();
    let unused = environment("unused");
    commit(&mut committer, Change::new().insert(&*unused)).await.unwrap();
    let unused = directory.environment(&unused.name).await.unwrap().unwrap();
    commit(&mut committer, Change::new().delete(&epoch(1)).delete(&*unused))
        .await
        .unwrap();
    assert!(directory.log_epochs("node-1").await.unwrap().is_empty());
    assert!(directory.environment(&unused.name).await.unwrap().is_none());
    assert!(matches!(
        commit(&mut committer, Change::new().insert(&epoch(0))).await,
        Err(ChangeError::Exists(Table::LogEpochs))
    ));
    let report = super::verify(&place.directory(), &super::testing::row_key(), None)
        .await
        .unwrap();
    assert_eq!((report.findings, report.head.seq), (vec![], 4));
}

#[tokio::test]
async fn a_second_process_is_refused_and_a_newer_schema_too() {
    let place = Place::new();
    let (directory, committer) = place.open().await.unwrap();
    assert!(matches!(place.open().await, Err(StoreError::InUse { .. })));
    drop((directory, committer));
    place.tamper("INSERT INTO schema_version VALUES (999)").await;
    let error = place.open().await.err().unwrap();
    assert!(matches!(error, StoreError::Newer { found: 999, .. }), "{error}");
}

#[tokio::test]
async fn a_full_disk_refuses_the_change_and_the_store_works_on_once_there_is_room() {
    let place = Place::new();
    let (directory, mut committer) = place.open().await.unwrap();
    let (_, team, _) = seed(&mut committer).await;
    let before = committer.head();
    // SQLITE_FULL by a bound on pages: the same code as a full disk.
    committer.writer.limit_pages(true).await;
    let mut transaction = committer.begin().await.unwrap();
    let mut failed = false;
    for number in 0..1_000 {
        if transaction
            .apply(&creation(&key(&team, &format!("key-{number}"))))
            .await
            .is_err()
        {
            failed = true;
            break;
        }
    }
    assert!(failed);
    drop(transaction);
    committer.writer.limit_pages(false).await;
    commit(&mut committer, creation(&key(&team, "after"))).await.unwrap();
    assert_eq!(committer.head().seq, before.seq + 2);
    assert!(directory.key(&name("dev/shop/after")).await.unwrap().is_some());
    assert!(directory.key(&name("dev/shop/key-0")).await.unwrap().is_none());
}

#[cfg(unix)]
#[tokio::test]
async fn the_database_and_its_log_are_the_services_own() {
    use std::os::unix::fs::PermissionsExt as _;
    let place = Place::new();
    let (_directory, mut committer) = place.open().await.unwrap();
    seed(&mut committer).await;
    for file in ["store.db", "store.db-wal"] {
        let mode = fs::metadata(place.directory().join(file)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{file}");
    }
}

#[tokio::test]
async fn the_head_is_compared_with_what_the_log_knows() {
    let place = Place::new();
    let (_directory, mut committer) = place.open().await.unwrap();
    committer.check_head(Applied::NONE).await.unwrap();
    seed(&mut committer).await;
    let head = committer.head();
    committer.check_head(head).await.unwrap();
    let ahead = Applied {
        seq: head.seq + 1,
        ..head
    };
    assert!(matches!(
        committer.check_head(ahead).await,
        Err(StoreError::RolledBack { .. })
    ));
    let fork = Applied { seq: 2, link: [0; 32] };
    assert!(matches!(
        committer.check_head(fork).await,
        Err(StoreError::Tampered { .. })
    ));
}

#[tokio::test]
async fn a_store_that_fails_is_an_internal_error() {
    let place = Place::new();
    let (directory, _committer) = place.open().await.unwrap();
    place.tamper("DROP TABLE key_versions; DROP TABLE keys").await;
    let error = directory.key(&name("dev/shop/orders")).await.unwrap_err();
    assert!(matches!(error, Error::Internal(_)), "{error:?}");
}

//! Six kinds of tampering, done by SQL behind the store's back, and where each is found: at use, at the next commit, at start, by `verify`.

use super::{
    Applied, Change, Committer, Directory, StoreError,
    testing::{Place, commit, creation, key, row_key, seed},
    verify,
};
use crate::{
    Error,
    model::{Key, KeyState, Version},
};

const HEX_ID: &str = "(SELECT id FROM keys WHERE name = 'envs/dev/teams/shop/keys/orders')";

/// A store with `dev/shop/orders`, suspended since, and `dev/shop/other`; nothing in memory.
async fn store() -> (Place, Directory, Committer, Key) {
    let place = Place::new();
    let (_, mut committer) = place.open().await.unwrap();
    let (_, team, stored) = seed(&mut committer).await;
    commit(&mut committer, creation(&key(&team, "other"))).await.unwrap();
    // What the row was before: an intruder may have kept a copy.
    place
        .tamper("CREATE TABLE kept AS SELECT * FROM key_versions; CREATE TABLE kept_changes AS SELECT * FROM changes")
        .await;
    let mut suspended = Version::clone(&stored.versions[0]);
    suspended.row_version = 1;
    suspended.state = KeyState::Suspended;
    commit(&mut committer, Change::new().update(&suspended)).await.unwrap();
    drop(committer);
    let (directory, committer) = place.open().await.unwrap();
    assert_eq!(findings(&place, Some(committer.head())).await, [] as [String; 0]);
    (place, directory, committer, stored)
}

async fn findings(place: &Place, known: Option<Applied>) -> Vec<String> {
    let report = verify(&place.directory(), &row_key(), known).await.unwrap();
    let findings = report.findings.into_iter();
    findings
        .map(|finding| format!("{}: {}", finding.object, finding.problem))
        .collect()
}

async fn refused_at_use(directory: &Directory, key: &Key) {
    let error = directory.key(&key.name).await.unwrap_err();
    assert!(
        matches!(&error, Error::Tampered { object } if object == key.name.as_str()),
        "{error:?}"
    );
}

async fn refused_at_next_commit(committer: &mut Committer) {
    for _ in 0..2 {
        let refused = committer.begin().await.err();
        assert!(matches!(refused, Some(StoreError::Tampered { .. })), "{refused:?}");
    }
}

#[tokio::test]
async fn an_edited_row_is_refused() {
    let (place, directory, mut committer, key) = store().await;
    place
        .tamper(&format!(
            "UPDATE key_versions SET state = 'ACTIVE' WHERE key_id = {HEX_ID}"
        ))
        .await;
    refused_at_use(&directory, &key).await;
    let found = findings(&place, None).await;
    assert_eq!(found.len(), 1);
    assert!(
        found[0].starts_with(&format!("key_versions {}/1: its MAC", key.id)),
        "{found:?}"
    );
    refused_at_next_commit(&mut committer).await;
}

#[tokio::test]
async fn an_edit_is_found_at_the_next_commit_even_if_the_row_is_in_memory() {
    let (place, directory, mut committer, key) = store().await;
    directory.key(&key.name).await.unwrap();
    place
        .tamper(&format!("UPDATE keys SET owner = 'mallory' WHERE id = {HEX_ID}"))
        .await;
    assert!(directory.key(&key.name).await.is_ok(), "memory is not the database");
    refused_at_next_commit(&mut committer).await;
    refused_at_use(&directory, &key).await;
}

#[tokio::test]
async fn swapped_rows_are_refused() {
    let (place, directory, _committer, key) = store().await;
    place
        .tamper(
            "UPDATE keys SET name = 'x' WHERE name LIKE '%/orders'; \
             UPDATE keys SET name = 'envs/dev/teams/shop/keys/orders' WHERE name LIKE '%/other'; \
             UPDATE keys SET name = 'envs/dev/teams/shop/keys/other' WHERE name = 'x'",
        )
        .await;
    refused_at_use(&directory, &key).await;
    assert_eq!(findings(&place, None).await.len(), 2);
}

#[tokio::test]
async fn swapped_blobs_are_refused() {
    let (place, directory, _committer, key) = store().await;
    place
        .tamper(&format!("UPDATE key_versions SET blob = x'00' WHERE key_id = {HEX_ID}"))
        .await;
    refused_at_use(&directory, &key).await;
    assert_eq!(findings(&place, None).await.len(), 1);
}

#[tokio::test]
async fn an_inserted_row_is_refused() {
    let (place, directory, _committer, key) = store().await;
    // A second version, made of the first one with its MAC.
    place
        .tamper(&format!(
            "INSERT INTO key_versions SELECT key_id, 2, 'ACTIVE', NULL, state_changed, state_reason, NULL, blob, \
             at_birth, at_birth_observed, created, suite, iv_source, cka_id, kcv, row_version, change_seq, row_mac \
             FROM key_versions WHERE key_id = {HEX_ID}"
        ))
        .await;
    refused_at_use(&directory, &key).await;
    assert_eq!(findings(&place, None).await.len(), 1);
}

#[tokio::test]
async fn an_entry_put_into_the_chain_is_found() {
    let (place, directory, mut committer, key) = store().await;
    let seq = committer.head().seq;
    place
        .tamper(&format!(
            "INSERT INTO changes SELECT {seq} + 1, tbl, pk, 3, row_mac, link FROM changes WHERE seq = {seq}"
        ))
        .await;
    refused_at_use(&directory, &key).await;
    let found = findings(&place, None).await;
    assert!(
        found.iter().any(|finding| finding.contains("its link does not fit")),
        "{found:?}"
    );
    refused_at_next_commit(&mut committer).await;
    drop((directory, committer));
    assert!(matches!(place.open().await, Err(StoreError::Tampered { .. })));
}

#[tokio::test]
async fn a_deleted_version_is_missed_at_use_and_a_deleted_key_at_the_next_commit() {
    let (place, directory, mut committer, key) = store().await;
    place
        .tamper(&format!("DELETE FROM key_versions WHERE key_id = {HEX_ID}"))
        .await;
    refused_at_use(&directory, &key).await;
    let missing = format!("key_versions {}/1: its row is missing", key.id);
    assert_eq!(findings(&place, None).await, std::slice::from_ref(&missing));

    place.tamper(&format!("DELETE FROM keys WHERE id = {HEX_ID}")).await;
    let found = findings(&place, None).await;
    assert_eq!(found, [missing, format!("keys {}: its row is missing", key.id)]);
    refused_at_next_commit(&mut committer).await;
}

#[tokio::test]
async fn a_row_that_was_rolled_back_is_refused() {
    let (place, directory, _committer, key) = store().await;
    place
        .tamper(&format!(
            "DELETE FROM key_versions WHERE key_id = {HEX_ID}; \
             INSERT INTO key_versions SELECT * FROM kept WHERE key_id = {HEX_ID}"
        ))
        .await;
    refused_at_use(&directory, &key).await;
    let found = findings(&place, None).await;
    assert!(found.len() == 1 && found[0].contains("rolled back"), "{found:?}");
}

#[tokio::test]
async fn a_row_rolled_back_together_with_its_entry_in_the_chain_is_found_before_anything_is_committed() {
    let (place, directory, mut committer, _) = store().await;
    let head = committer.head();
    place
        .tamper(&format!(
            "DELETE FROM key_versions WHERE key_id = {HEX_ID}; \
             INSERT INTO key_versions SELECT * FROM kept WHERE key_id = {HEX_ID}; \
             DELETE FROM changes; INSERT INTO changes SELECT * FROM kept_changes"
        ))
        .await;
    refused_at_next_commit(&mut committer).await;
    let found = findings(&place, Some(head)).await;
    assert!(found.len() == 1 && found[0].contains("rolled back"), "{found:?}");
    // In itself the older store is whole: only the log's word tells.
    assert_eq!(findings(&place, None).await, [] as [String; 0]);
    drop((directory, committer));
    let (_directory, mut committer) = place.open().await.unwrap();
    let refused = committer.check_head(head).await;
    assert!(matches!(refused, Err(StoreError::RolledBack { .. })), "{refused:?}");
}

#[tokio::test]
async fn a_gap_in_the_chain_is_found_at_start() {
    let (place, directory, committer, _) = store().await;
    place.tamper("DELETE FROM changes WHERE seq = 3").await;
    let found = findings(&place, None).await;
    assert!(
        found
            .iter()
            .any(|finding| finding.contains("change 3 before it is missing")),
        "{found:?}"
    );
    drop((directory, committer));
    assert!(matches!(place.open().await, Err(StoreError::Tampered { .. })));
}

#[tokio::test]
async fn another_programs_harmless_write_stops_nothing() {
    let (place, directory, mut committer, key) = store().await;
    place.tamper("ANALYZE").await;
    commit(&mut committer, Change::new()).await.unwrap();
    directory.key(&key.name).await.unwrap();
}

#[tokio::test]
async fn a_store_under_another_key_is_all_findings_and_no_panic() {
    let (place, _directory, _committer, _) = store().await;
    let other = super::RowKey::new(keyreeve_envelope::subkey::SubkeyBytes::from_hmac_output(&[8; 64]));
    let report = verify(&place.directory(), &other, None).await.unwrap();
    assert_eq!(report.findings.len() as u64, report.rows);
    assert!(!report.is_clean());
}

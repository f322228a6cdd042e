//! The life of keys over a real store, a token in software and a clock that the tests move.

use keyreeve_envelope::KeyVersion;

use super::*;
use crate::{
    audit::Verdict,
    model::{EnvironmentName, KeyName, KeyState, Residency, TeamName},
    operations::testing::{Site, app, reason},
    policy::{Action, Context, action},
    token::TokenError,
};

const ORDERS: &str = "dev/shop/orders";
const DAY_MS: i64 = 86_400_000;

fn name() -> KeyName {
    ORDERS.parse().unwrap()
}

fn change(version: Option<u32>, reason: &str, request_id: &str) -> ChangeState {
    ChangeState {
        key: name(),
        version: version.and_then(KeyVersion::new),
        reason: Reason::new(reason.to_owned()).unwrap(),
        request_id: RequestId::new(request_id).unwrap(),
    }
}

fn destruction(key: &str, version: Option<u32>) -> DestroyKey {
    let version = version.and_then(KeyVersion::new);
    let reason = Reason::new("no longer used".to_owned()).unwrap();
    DestroyKey::new(key.parse().unwrap(), version, 7, reason, RequestId::default()).unwrap()
}

async fn destroy(site: &Site, key: &str, version: Option<u32>) -> Result<Recorded<Changed>> {
    let permit = site.permit::<action::DestroyKey>(&key.parse().unwrap()).await?;
    site.keys.destroy_key(permit, destruction(key, version)).await
}

async fn rotate(site: &Site) -> Result<Recorded<Changed>> {
    let permit = site.permit::<action::RotateKey>(&name()).await?;
    let request = RotateKey {
        key: name(),
        request_id: RequestId::default(),
    };
    site.keys.rotate_key(permit, request).await
}

async fn suspend(site: &Site) -> Result<Recorded<Changed>> {
    let permit = site.permit::<action::SuspendKey>(&name()).await?;
    site.keys.suspend_key(permit, change(None, "odd traffic", "")).await
}

async fn compromise(site: &Site) -> Result<Recorded<Changed>> {
    let permit = site.permit::<action::CompromiseKey>(&name()).await?;
    site.keys.compromise_key(permit, change(None, "leaked", "")).await
}

async fn states(site: &Site) -> Vec<KeyState> {
    site.key(ORDERS)
        .await
        .versions
        .iter()
        .map(|version| version.state)
        .collect()
}

#[tokio::test]
async fn a_new_key_is_active_owned_by_its_maker_and_what_is_answered_is_what_is_stored() {
    let site = Site::new().await;
    let made = site.create_key("dev/shop/refunds").await.unwrap();
    let stored = site.key("dev/shop/refunds").await;
    let made = made.as_ref();
    assert_eq!(stored.owner, "spiffe://acme.dev/app");
    assert_eq!((made.id, made.row_version), (stored.id, stored.row_version));
    assert_eq!(made.versions[0].row_version, stored.versions[0].row_version);
    assert_eq!(stored.state(), KeyState::Active);
    assert_eq!(reason(site.create_key("dev/shop/refunds").await), "ALREADY_EXISTS");
}

#[tokio::test]
async fn an_environment_without_a_token_group_is_refused() {
    let site = Site::empty().await;
    assert_eq!(
        reason(site.create_environment("unbound", false).await),
        "ENVIRONMENT_UNBOUND"
    );
    assert!(site.create_environment("dev", false).await.is_ok());
    assert_eq!(reason(site.create_environment("dev", false).await), "ALREADY_EXISTS");
}

#[tokio::test]
async fn a_suspended_key_works_no_more_until_it_is_resumed() {
    let site = Site::new().await;
    let sealed = site.encrypt(ORDERS, b"hello", &[]).await.unwrap();
    let changed = suspend(&site).await.unwrap();
    assert_eq!(changed.as_ref().key.row_version, site.key(ORDERS).await.row_version);
    assert_eq!(
        changed.as_ref().key.primary_version().row_version,
        site.key(ORDERS).await.primary_version().row_version
    );
    let record = site.last_record();
    assert_eq!(
        record.became.as_deref(),
        Some("from=ACTIVE to=SUSPENDED reason=odd traffic")
    );
    assert_eq!((record.code, record.detail), ("", None));
    let blob = site.key(ORDERS).await.primary_version().blob.clone().unwrap();
    assert_eq!(site.host.evicted(), [*blob.sha256()]);
    assert_eq!(reason(site.encrypt(ORDERS, b"hello", &[]).await), "STATE_FORBIDS");
    assert_eq!(reason(site.decrypt(ORDERS, &sealed, &[]).await), "STATE_FORBIDS");
    assert_eq!(reason(suspend(&site).await), "STATE_FORBIDS");
    assert_eq!(
        reason(rotate(&site).await),
        "STATE_FORBIDS",
        "it would lift the suspension"
    );

    let permit = site.permit::<action::ResumeKey>(&name()).await.unwrap();
    site.keys.resume_key(permit, change(None, "", "")).await.unwrap();
    assert_eq!(site.decrypt(ORDERS, &sealed, &[]).await.unwrap(), b"hello");
}

#[tokio::test]
async fn a_permit_from_before_the_suspension_works_the_key_no_more() {
    let site = Site::new().await;
    let sealed = site.encrypt(ORDERS, b"hello", &[]).await.unwrap();
    let encrypts = site.permit::<action::Encrypt>(&name()).await.unwrap();
    let decrypts = site.permit::<action::Decrypt>(&name()).await.unwrap();
    suspend(&site).await.unwrap();
    let evicted = site.host.evicted().len();
    assert_eq!(
        reason(site.encrypt_under(encrypts, ORDERS, b"x").await),
        "STATE_FORBIDS"
    );
    assert_eq!(
        reason(site.decrypt_under(decrypts, ORDERS, &sealed).await),
        "STATE_FORBIDS"
    );
    assert_eq!(
        site.host.evicted().len(),
        evicted + 2,
        "what was unwrapped again is forgotten again"
    );

    let before = site.permit::<action::Decrypt>(&name()).await.unwrap();
    let permit = site.permit::<action::ResumeKey>(&name()).await.unwrap();
    site.keys.resume_key(permit, change(None, "", "")).await.unwrap();
    assert_eq!(
        reason(site.decrypt_under(before, ORDERS, &sealed).await),
        "STATE_FORBIDS",
        "as it was read"
    );
    assert_eq!(site.decrypt(ORDERS, &sealed, &[]).await.unwrap(), b"hello");
}

#[tokio::test]
async fn a_rotation_lets_calls_under_way_finish_and_stops_late_ones() {
    let site = Site::new().await;
    let sealed = site.encrypt(ORDERS, b"hello", &[]).await.unwrap();
    let soon = site.permit::<action::Encrypt>(&name()).await.unwrap();
    let late = site.permit::<action::Encrypt>(&name()).await.unwrap();
    let opens = site.permit::<action::Decrypt>(&name()).await.unwrap();
    let old = site.key(ORDERS).await.primary_version().clone();
    rotate(&site).await.unwrap();
    assert!(site.encrypt_under(soon, ORDERS, b"x").await.is_ok());
    while site.directory.stopped(&old, crate::model::Use::Protect).is_none() {
        tokio::task::yield_now().await;
    }
    assert_eq!(reason(site.encrypt_under(late, ORDERS, b"x").await), "STATE_FORBIDS");
    assert_eq!(site.decrypt_under(opens, ORDERS, &sealed).await.unwrap(), b"hello");
}

#[tokio::test]
async fn after_a_rotation_the_old_version_opens_and_the_new_one_seals() {
    let site = Site::new().await;
    let old = site.encrypt(ORDERS, b"old", &[]).await.unwrap();
    let changed = rotate(&site).await.unwrap();
    let (answered, stored) = (&changed.as_ref().key, site.key(ORDERS).await);
    assert_eq!(answered.row_version, stored.row_version);
    assert_eq!(answered.primary, stored.primary);
    assert_eq!(states(&site).await, [KeyState::Deactivated, KeyState::Active]);
    let new = site.encrypt(ORDERS, b"new", &[]).await.unwrap();
    assert_eq!((old[27], new[27]), (1, 2));
    assert_eq!(site.decrypt(ORDERS, &old, &[]).await.unwrap(), b"old");
    assert_eq!(site.decrypt(ORDERS, &new, &[]).await.unwrap(), b"new");
}

#[tokio::test]
async fn of_two_changes_of_one_version_the_second_loses() {
    let site = Site::new().await;
    // Both were let in on the key as it was.
    let first = site.permit::<action::SuspendKey>(&name()).await.unwrap();
    let second = site.permit::<action::CompromiseKey>(&name()).await.unwrap();
    site.keys.suspend_key(first, change(None, "", "")).await.unwrap();
    let lost = site.keys.compromise_key(second, change(None, "", "")).await;
    assert_eq!(reason(lost), "CONFLICT");
    assert_eq!(site.last_record().verdict, Verdict::Refused);
    assert_eq!(states(&site).await, [KeyState::Suspended]);
}

#[tokio::test]
async fn destruction_waits_can_be_cancelled_and_then_deletes_the_wrapped_key() {
    let site = Site::new().await;
    let sealed = site.encrypt(ORDERS, b"hello", &[]).await.unwrap();
    destroy(&site, ORDERS, None).await.unwrap();
    assert_eq!(states(&site).await, [KeyState::PendingDestruction]);
    assert_eq!(reason(site.decrypt(ORDERS, &sealed, &[]).await), "STATE_FORBIDS");

    let permit = site.permit::<action::CancelKeyDestruction>(&name()).await.unwrap();
    let cancel = CancelDestruction {
        key: name(),
        version: None,
        reason: Reason::default(),
        request_id: RequestId::default(),
    };
    site.keys.cancel_key_destruction(permit, cancel).await.unwrap();
    assert_eq!(states(&site).await, [KeyState::Deactivated], "it was deactivated first");
    assert_eq!(site.decrypt(ORDERS, &sealed, &[]).await.unwrap(), b"hello");

    destroy(&site, ORDERS, None).await.unwrap();
    site.place.clock.advance_ms(7 * DAY_MS - 1);
    assert!(site.keys.due_for_destruction().await.unwrap().is_empty());
    let permit = site.permit::<action::EraseKey>(&name()).await.unwrap();
    assert_eq!(reason(site.keys.erase_key(permit).await), "STATE_FORBIDS");

    site.place.clock.advance_ms(1);
    assert_eq!(site.keys.due_for_destruction().await.unwrap(), [name()]);
    let evicted = site.host.evicted().len();
    let permit = site.permit::<action::EraseKey>(&name()).await.unwrap();
    site.keys.erase_key(permit).await.unwrap();
    let key = site.key(ORDERS).await;
    assert_eq!(key.state(), KeyState::Destroyed);
    assert!(key.primary_version().blob.is_none());
    assert_eq!(key.primary_version().state_reason, "no longer used");
    assert_eq!(site.host.evicted().len(), evicted + 1);
    assert_eq!(reason(site.decrypt(ORDERS, &sealed, &[]).await), "STATE_FORBIDS");
    assert!(site.keys.due_for_destruction().await.unwrap().is_empty());
    assert_eq!(reason(rotate(&site).await), "STATE_FORBIDS");
}

#[tokio::test]
async fn an_active_version_is_deactivated_first_and_each_transition_has_its_record() {
    let site = Site::new().await;
    let before = site.record_count();
    rotate(&site).await.unwrap();
    assert_eq!(
        told(&site, before),
        [
            (2, "to=ACTIVE replaces=1".to_owned()),
            (1, "from=ACTIVE to=DEACTIVATED reason=rotated to version 2".to_owned()),
        ]
    );
    let (before, due) = (site.record_count(), site.place.clock.now().plus_days(7).rfc3339());
    destroy(&site, ORDERS, None).await.unwrap();
    let pending = format!("from=DEACTIVATED to=PENDING_DESTRUCTION due={due} reason=no longer used");
    assert_eq!(
        told(&site, before),
        [
            (1, pending.clone()),
            (2, "from=ACTIVE to=DEACTIVATED reason=no longer used".to_owned()),
            (2, pending),
        ]
    );
}

/// Version and transition of each record after the first `before`.
fn told(site: &Site, before: usize) -> Vec<(u32, String)> {
    let records = site.records_after(before);
    records
        .into_iter()
        .map(|record| {
            assert_eq!((record.verdict, record.code), (Verdict::Success, ""));
            (record.key.unwrap().1, record.became.unwrap())
        })
        .collect()
}

#[tokio::test]
async fn a_compromised_version_ends_as_destroyed_compromised() {
    let site = Site::new().await;
    compromise(&site).await.unwrap();
    destroy(&site, ORDERS, None).await.unwrap();
    site.place.clock.advance_ms(7 * DAY_MS);
    let permit = site.permit::<action::EraseKey>(&name()).await.unwrap();
    site.keys.erase_key(permit).await.unwrap();
    assert_eq!(states(&site).await, [KeyState::DestroyedCompromised]);
}

#[tokio::test]
async fn compromise_drops_a_running_destruction() {
    let site = Site::new().await;
    destroy(&site, ORDERS, None).await.unwrap();
    compromise(&site).await.unwrap();
    let key = site.key(ORDERS).await;
    assert_eq!(key.state(), KeyState::Compromised);
    assert_eq!(key.primary_version().destroy_at, None);
}

#[tokio::test]
async fn one_version_is_destroyed_without_the_others() {
    let site = Site::new().await;
    rotate(&site).await.unwrap();
    destroy(&site, ORDERS, Some(1)).await.unwrap();
    assert_eq!(states(&site).await, [KeyState::PendingDestruction, KeyState::Active]);
    assert_eq!(reason(destroy(&site, ORDERS, Some(9)).await), "NOT_FOUND");
    assert!(site.encrypt(ORDERS, b"hello", &[]).await.is_ok());
}

#[tokio::test]
async fn a_production_key_is_not_destroyed_without_approval() {
    let site = Site::empty().await;
    site.create_team("prod", "shop", true).await;
    site.create_key("prod/shop/orders").await.unwrap();
    assert_eq!(
        reason(destroy(&site, "prod/shop/orders", None).await),
        "APPROVAL_REQUIRED"
    );
    assert_eq!(site.key("prod/shop/orders").await.state(), KeyState::Active);
}

#[test]
fn the_waiting_period_is_7_to_30_days() {
    let wait = |days| DestroyKey::new(name(), None, days, Reason::default(), RequestId::default()).is_ok();
    assert_eq!([0, 6, 7, 30, 31].map(wait), [true, false, true, true, false]);
}

#[tokio::test]
async fn a_repeated_request_is_done_once_and_answered_again_for_a_day() {
    const ID: &str = "5b2f6f2e-6f0c-4d0e-9a53-0d5e5b8a7c11";
    let site = Site::new().await;
    let first = site.create_key_once("dev/shop/refunds", ID).await.unwrap();
    let again = site.create_key_once("dev/shop/refunds", ID).await.unwrap();
    assert_eq!(first.as_ref().id, again.as_ref().id);
    assert_eq!(site.host.calls("MakeEnvelopeKey"), 2, "orders and refunds");
    assert_eq!(
        reason(site.create_key_once("dev/shop/other", ID).await),
        "REQUEST_ID_REUSED"
    );

    let permit = site.permit::<action::SuspendKey>(&name()).await.unwrap();
    site.keys.suspend_key(permit, change(None, "", ID)).await.unwrap();
    let permit = site.permit::<action::SuspendKey>(&name()).await.unwrap();
    let answered = site.keys.suspend_key(permit, change(None, "", ID)).await.unwrap();
    assert_eq!(answered.as_ref().key.state(), KeyState::Suspended);

    site.place.clock.advance_ms(DAY_MS + 1);
    assert_eq!(
        reason(site.create_key_once("dev/shop/refunds", ID).await),
        "ALREADY_EXISTS"
    );
}

#[tokio::test]
async fn lists_come_page_by_page_and_each_key_once() {
    let site = Site::new().await;
    for id in ["alpha", "beta", "gamma", "zeta"] {
        site.create_key(&format!("dev/shop/{id}")).await.unwrap();
    }
    let team: TeamName = "dev/shop".parse().unwrap();
    let (mut seen, mut token) = (Vec::new(), String::new());
    loop {
        let permit = site.permit::<action::ListKeys>(&team).await.unwrap();
        let request = ListRequest::new(2, token).unwrap();
        let page = site.keys.list_keys(permit, request).await.unwrap();
        seen.extend(page.as_ref().items.iter().map(|key| key.name.id().to_owned()));
        match &page.as_ref().next {
            Some(next) => token = next.clone(),
            None => break,
        }
    }
    assert_eq!(seen, ["alpha", "beta", "gamma", "orders", "zeta"]);

    let permit = site.permit::<action::ListKeys>(&team).await.unwrap();
    let page = site
        .keys
        .list_keys(permit, ListRequest::new(2, String::new()).unwrap())
        .await
        .unwrap();
    let stolen = page.as_ref().next.clone().unwrap();
    let environment: EnvironmentName = "dev".parse().unwrap();
    let permit = site.permit::<action::ListTeams>(&environment).await.unwrap();
    let other = site.keys.list_teams(permit, ListRequest::new(2, stolen).unwrap()).await;
    assert_eq!(reason(other), "INVALID_ARGUMENT");
}

#[tokio::test]
async fn an_attestation_shows_each_version_and_claims_nothing_of_destroyed_ones_in_use() {
    let site = Site::new().await;
    rotate(&site).await.unwrap();
    destroy(&site, ORDERS, Some(1)).await.unwrap();
    site.place.clock.advance_ms(7 * DAY_MS);
    let permit = site.permit::<action::EraseKey>(&name()).await.unwrap();
    site.keys.erase_key(permit).await.unwrap();

    let permit = site.permit::<action::AttestKey>(&name()).await.unwrap();
    let attested = site.keys.attest_key(permit).await.unwrap();
    let [destroyed, active] = &attested.as_ref().versions[..] else {
        panic!("two versions")
    };
    assert!(destroyed.in_use.is_none() && destroyed.kcv.is_none());
    assert!(destroyed.claims.iter().any(|words| words.contains("refused for ever")));
    assert!(active.in_use.is_some() && active.kcv.is_some());
    assert!(active.claims.contains(&"software token"));
    assert!(attested.as_ref().master_key_claims[0].starts_with("made in the token"));
}

#[tokio::test]
async fn a_name_outside_the_permit_is_refused() {
    let site = Site::new().await;
    let team: TeamName = "dev/shop".parse().unwrap();
    let permit = site
        .gate
        .permit::<action::CreateKey>(&app(), &team, Context::none())
        .await
        .unwrap();
    let request = CreateKey {
        name: "dev/other/orders".parse().unwrap(),
        purpose: crate::model::Purpose::EncryptDecrypt,
        residency: Residency::Wrapped,
        suite: crate::model::Suite::PrfCommit,
        owner: Owner::new(String::new()).unwrap(),
        labels: Labels::default(),
        request_id: RequestId::default(),
    };
    assert_eq!(reason(site.keys.create_key(permit, request).await), "INVALID_ARGUMENT");
    assert_eq!(site.last_record().operation, action::CreateKey::NAME);
}

/// Keys of both suites that live in the token.
async fn residents() -> [Site; 2] {
    let resident = Residency::TokenResident;
    [
        Site::with(Suite::PrfCommit, resident).await,
        Site::with(Suite::TokenGcm, resident).await,
    ]
}

#[tokio::test]
async fn a_resident_key_works_rotates_and_keeps_suite_and_residency_without_a_blob_in_the_store() {
    for site in residents().await {
        let sealed = site.encrypt(ORDERS, b"hello", &[]).await.unwrap();
        site.rotate_key(ORDERS).await;
        assert_eq!(site.decrypt(ORDERS, &sealed, &[]).await.unwrap(), b"hello");
        let key = site.key(ORDERS).await;
        assert_eq!(
            (key.residency, key.versions.len(), site.host.objects()),
            (Residency::TokenResident, 2, 2)
        );
        assert_eq!(key.versions[0].suite, key.versions[1].suite);
        let mut intruder = site.place.intruder().await;
        let kept: Vec<(Option<Vec<u8>>, Vec<u8>)> =
            sqlx::query_as("SELECT blob, cka_id FROM key_versions ORDER BY number")
                .fetch_all(&mut intruder)
                .await
                .unwrap();
        for ((blob, cka_id), number) in kept.iter().zip(1_u32..) {
            assert!(blob.is_none());
            assert_eq!(cka_id[..], [&key.id.as_bytes()[..], &number.to_be_bytes()].concat());
        }
    }
}

#[tokio::test]
async fn a_rotation_passes_over_numbers_that_the_token_holds_objects_of() {
    for site in residents().await {
        let key = site.key(ORDERS).await;
        for number in [2, 3] {
            site.host.occupy(key.id, KeyVersion::new(number).unwrap());
        }
        site.rotate_key(ORDERS).await;
        let numbers: Vec<u32> = site
            .key(ORDERS)
            .await
            .versions
            .iter()
            .map(|one| one.number.number())
            .collect();
        assert_eq!(numbers, [1, 4]);
        assert!(site.encrypt(ORDERS, b"hello", &[]).await.is_ok());
    }
}

#[tokio::test]
async fn a_destroyed_resident_version_is_removed_from_the_token_after_the_store_has_it_destroyed() {
    for site in residents().await {
        let sealed = site.encrypt(ORDERS, b"hello", &[]).await.unwrap();
        destroy(&site, ORDERS, None).await.unwrap();
        site.place.clock.advance_ms(30 * DAY_MS);
        let erase = async || {
            let permit = site.permit::<action::EraseKey>(&name()).await?;
            site.keys.erase_key(permit).await
        };
        assert!(erase().await.unwrap().as_ref().is_unfinished());
        assert_eq!(
            (site.key(ORDERS).await.state(), site.host.objects()),
            (KeyState::Destroyed, 1)
        );
        assert_eq!(reason(site.decrypt(ORDERS, &sealed, &[]).await), "STATE_FORBIDS");

        // A token that does not answer leaves it due.
        site.host.fail_with(Some(TokenError::Unavailable("gone".into())));
        assert_eq!(reason(erase().await), "TOKEN_UNAVAILABLE");
        site.host.fail_with(None);
        assert_eq!(site.keys.due_for_destruction().await.unwrap(), [name()]);

        assert!(!erase().await.unwrap().as_ref().is_unfinished());
        assert_eq!(site.host.objects(), 0);
        assert_eq!(site.last_record().became.as_deref(), Some("object=removed"));
        assert!(site.key(ORDERS).await.primary_version().blob.is_none());
        assert_eq!(site.keys.due_for_destruction().await.unwrap(), []);
        assert_eq!(reason(erase().await), "STATE_FORBIDS");
    }
}

#[tokio::test]
async fn an_attestation_of_a_resident_key_shows_what_the_token_reports_of_it() {
    for site in residents().await {
        let permit = site.permit::<action::AttestKey>(&name()).await.unwrap();
        let said = site.keys.attest_key(permit).await.unwrap();
        let version = &said.as_ref().versions[0];
        assert!(version.in_use.unwrap().never_extractable && version.version.at_birth.never_extractable);
        assert!(version.kcv.is_some());
        assert!(version.claims[0].contains("NEVER_EXTRACTABLE"), "{:?}", version.claims);
    }
}

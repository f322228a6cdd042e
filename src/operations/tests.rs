//! The operations over a real store and a token in software.

use std::sync::Arc;

use keyreeve_envelope::{KeyId, KeyVersion};

use super::{
    testing::{Site, app, bound, opening, reason},
    *,
};
use crate::{
    audit::Verdict,
    model::{KeyState, Suite, Version},
    policy::action,
    store::{
        Change,
        testing::{self as rows, commit},
    },
    token::{Host as _, TokenError, host::Place},
};

const ORDERS: &str = "dev/shop/orders";
const TABLE: &[(&str, &str)] = &[("table", "orders")];

/// Each of these with a key of suite 0002 and with one of suite 0001.
macro_rules! under_both_suites {
    ($($test:ident,)+) => {
        mod prf_commit {
            $(#[tokio::test]
            async fn $test() {
                super::$test(super::Suite::PrfCommit).await;
            })+
        }

        mod token_gcm {
            $(#[tokio::test]
            async fn $test() {
                super::$test(super::Suite::TokenGcm).await;
            })+
        }
    };
}

under_both_suites! {
    what_was_encrypted_decrypts_and_both_records_name_the_same_envelope,
    the_same_message_never_gives_the_same_envelope,
    every_single_bit_flip_of_an_envelope_fails_alike,
    another_key_or_context_fails_like_any_other_fault,
    a_data_key_is_opened_by_unwrap_only_and_a_message_by_decrypt_only,
    re_encrypt_keeps_the_data_key_flag_and_makes_a_record_for_each_key,
    a_data_key_that_a_faulty_token_sealed_is_not_given_out_and_latches_the_token,
    a_batch_of_data_keys_of_a_faulty_token_latches_it_too,
    a_batch_is_one_job_and_one_record_and_each_item_fails_alone,
    a_batch_of_data_keys_opens_again_as_a_batch,
    a_fault_of_the_token_reaches_caller_and_record,
    swapped_wrapped_keys_are_found_even_if_the_store_is_consistent,
    a_state_fault_shows_only_for_a_version_that_exists,
}

async fn data_key(site: &Site, key: &str) -> Result<(Vec<u8>, Vec<u8>)> {
    let permit = site.permit::<action::GenerateDataKey>(&key.parse().unwrap()).await?;
    let request = GenerateDataKey {
        key: key.parse().unwrap(),
        context: bound(TABLE),
    };
    let made = site.operations.generate_data_key(permit, request).await?;
    let made = made.as_ref();
    Ok((made.plaintext.as_bytes().to_vec(), made.sealed.ciphertext.clone()))
}

async fn unwrap(site: &Site, key: &str, ciphertext: &[u8]) -> Result<Vec<u8>> {
    let permit = site.permit::<action::UnwrapDataKey>(&key.parse().unwrap()).await?;
    let request = UnwrapDataKey {
        key: key.parse().unwrap(),
        opening: opening(ciphertext, TABLE),
    };
    let opened = site.operations.unwrap_data_key(permit, request).await?;
    Ok(opened.as_ref().plaintext.as_bytes().to_vec())
}

async fn reencrypt(site: &Site, from: &str, to: &str, ciphertext: &[u8]) -> Result<Vec<u8>> {
    let (from, to) = (from.parse().unwrap(), to.parse().unwrap());
    let none = crate::policy::Context::none;
    let (first, second) = site
        .gate
        .permit_pair::<action::ReEncryptFrom, action::ReEncryptTo>(&app(), (&from, none()), (&to, none()))
        .await?;
    let request = ReEncrypt {
        source: from,
        opening: opening(ciphertext, TABLE),
        destination: to,
        context: bound(TABLE),
    };
    let answer = site.operations.reencrypt(first, second, request).await?;
    Ok(answer.as_ref().sealed.ciphertext.clone())
}

async fn what_was_encrypted_decrypts_and_both_records_name_the_same_envelope(suite: Suite) {
    let site = Site::of(suite).await;
    let sealed = site.encrypt(ORDERS, b"hello", TABLE).await.unwrap();
    let overhead = 32 + suite.body_overhead();
    assert_eq!(sealed.len(), 5 + overhead);
    let encrypted = site.last_record();
    assert_eq!(site.decrypt(ORDERS, &sealed, TABLE).await.unwrap(), b"hello");
    let decrypted = site.last_record();
    assert_eq!(encrypted.ciphertexts, decrypted.ciphertexts);
    assert_eq!((encrypted.verdict, encrypted.items), (Verdict::Success, 1));
    assert_eq!((encrypted.bytes_in, encrypted.bytes_out), (5, 5 + overhead as u64));
    assert_eq!(encrypted.key, Some((site.key(ORDERS).await.id, 1)));
    assert_eq!(&*encrypted.token.unwrap().0, "software-1");
}

async fn the_same_message_never_gives_the_same_envelope(suite: Suite) {
    let site = Site::of(suite).await;
    let first = site.encrypt(ORDERS, b"hello", TABLE).await.unwrap();
    let second = site.encrypt(ORDERS, b"hello", TABLE).await.unwrap();
    match suite {
        Suite::TokenGcm => assert_ne!(first[32..44], second[32..44], "iv"),
        Suite::PrfCommit => {
            assert_ne!(first[32..64], second[32..64], "salt");
            assert_ne!(first[96..108], second[96..108], "iv");
        }
    }
}

async fn every_single_bit_flip_of_an_envelope_fails_alike(suite: Suite) {
    let site = Site::of(suite).await;
    let sealed = site.encrypt(ORDERS, b"hello", TABLE).await.unwrap();
    for bit in 0..sealed.len() * 8 {
        let mut flipped = sealed.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        let result = site.decrypt(ORDERS, &flipped, TABLE).await;
        assert_eq!(reason(result), "DECRYPT_FAILED", "bit {bit}");
    }
    for cut in [0, 31, 32, 59, sealed.len() - 1] {
        let result = site.decrypt(ORDERS, &sealed[..cut], TABLE).await;
        assert_eq!(reason(result), "DECRYPT_FAILED", "{cut} bytes");
    }
}

async fn another_key_or_context_fails_like_any_other_fault(suite: Suite) {
    let site = Site::of(suite).await;
    site.create_key("dev/shop/refunds").await.unwrap();
    let sealed = site.encrypt(ORDERS, b"hello", TABLE).await.unwrap();
    for (key, context) in [
        (ORDERS, &[("table", "refunds")][..]),
        (ORDERS, &[]),
        ("dev/shop/refunds", TABLE),
    ] {
        let result = site.decrypt(key, &sealed, context).await;
        assert_eq!(reason(result), "DECRYPT_FAILED", "{key} {context:?}");
    }
}

async fn a_data_key_is_opened_by_unwrap_only_and_a_message_by_decrypt_only(suite: Suite) {
    let site = Site::of(suite).await;
    let (plaintext, envelope) = data_key(&site, ORDERS).await.unwrap();
    assert_eq!((plaintext.len(), envelope.len()), (32, 64 + suite.body_overhead()));
    assert_eq!(envelope[5], 1, "the flag of a data key");
    assert_eq!(unwrap(&site, ORDERS, &envelope).await.unwrap(), plaintext);
    assert_eq!(reason(site.decrypt(ORDERS, &envelope, TABLE).await), "DECRYPT_FAILED");
    let message = site.encrypt(ORDERS, &plaintext, TABLE).await.unwrap();
    assert_eq!(reason(unwrap(&site, ORDERS, &message).await), "DECRYPT_FAILED");
}

async fn re_encrypt_keeps_the_data_key_flag_and_makes_a_record_for_each_key(suite: Suite) {
    let site = Site::of(suite).await;
    site.create_key("dev/shop/archive").await.unwrap();
    let (plaintext, envelope) = data_key(&site, ORDERS).await.unwrap();
    site.encrypt("dev/shop/archive", b"", TABLE).await.unwrap();
    let before = site.record_count();
    let moved = reencrypt(&site, ORDERS, "dev/shop/archive", &envelope).await.unwrap();
    assert_eq!(site.record_count(), before + 2);
    let record = site.last_record();
    assert_eq!(record.key.unwrap().0, site.key("dev/shop/archive").await.id);
    assert_eq!(record.ciphertexts.len(), 2);
    assert_eq!(unwrap(&site, "dev/shop/archive", &moved).await.unwrap(), plaintext);
    assert_eq!(
        reason(site.decrypt("dev/shop/archive", &moved, TABLE).await),
        "DECRYPT_FAILED"
    );

    let message = site.encrypt(ORDERS, b"hello", TABLE).await.unwrap();
    let moved = reencrypt(&site, ORDERS, "dev/shop/archive", &message).await.unwrap();
    assert_eq!(site.decrypt("dev/shop/archive", &moved, TABLE).await.unwrap(), b"hello");
}

async fn a_data_key_that_a_faulty_token_sealed_is_not_given_out_and_latches_the_token(suite: Suite) {
    let site = Site::of(suite).await;
    assert!(data_key(&site, ORDERS).await.is_ok());
    assert_eq!(site.host.status().fault, None);
    site.host.flip_answers();
    assert_eq!(reason(data_key(&site, ORDERS).await), "TOKEN_UNAVAILABLE");
    assert_eq!(site.last_record().verdict, Verdict::Error);
    assert!(site.host.status().fault.is_some(), "it must not work on");
}

async fn a_batch_of_data_keys_of_a_faulty_token_latches_it_too(suite: Suite) {
    let site = Site::of(suite).await;
    site.host.flip_answers();
    let key = ORDERS.parse().unwrap();
    let permit = site.permit::<action::GenerateDataKey>(&key).await.unwrap();
    let items = Items::parse(vec![(); 3], |()| 0, |()| Ok(bound(TABLE))).unwrap();
    let request = BatchGenerateDataKey { key, items };
    let made = site.operations.batch_generate_data_key(permit, request).await.unwrap();
    assert!(made.as_ref().0.iter().any(Result::is_err));
    assert!(site.host.status().fault.is_some());
}

#[tokio::test]
async fn a_header_of_another_suite_fails_like_any_other_fault() {
    for suite in [Suite::PrfCommit, Suite::TokenGcm] {
        let site = Site::of(suite).await;
        let mut sealed = site.encrypt(ORDERS, &[7; 100], TABLE).await.unwrap();
        sealed[7] ^= 3; // 1 becomes 2, and 2 becomes 1
        assert_eq!(reason(site.decrypt(ORDERS, &sealed, TABLE).await), "DECRYPT_FAILED");
    }
}

#[tokio::test]
async fn re_encrypt_moves_messages_and_data_keys_from_suite_to_suite_within_the_limit_of_each() {
    let site = Site::new().await;
    let cards = "dev/shop/cards";
    site.create_key_of(cards, Suite::TokenGcm, "").await.unwrap();
    let message = site.encrypt(ORDERS, b"hello", TABLE).await.unwrap();
    let there = reencrypt(&site, ORDERS, cards, &message).await.unwrap();
    assert_eq!(there[6..8], [0, 1]);
    let back = reencrypt(&site, cards, ORDERS, &there).await.unwrap();
    assert_eq!(site.decrypt(ORDERS, &back, TABLE).await.unwrap(), b"hello");

    let (plaintext, envelope) = data_key(&site, ORDERS).await.unwrap();
    let there = reencrypt(&site, ORDERS, cards, &envelope).await.unwrap();
    assert_eq!(unwrap(&site, cards, &there).await.unwrap(), plaintext);

    assert!(site.encrypt(cards, &[0; 8_192], TABLE).await.is_ok());
    let error = site.encrypt(cards, &[0; 8_193], TABLE).await.err().unwrap();
    assert!(error.to_string().contains("8192"), "{error}");
    let long = site.encrypt(ORDERS, &[0; 8_193], TABLE).await.unwrap();
    assert_eq!(reason(reencrypt(&site, ORDERS, cards, &long).await), "INVALID_ARGUMENT");
}

#[tokio::test]
async fn data_keys_differ_and_share_one_block_of_the_token() {
    let site = Site::new().await;
    let mut seen = Vec::new();
    for _ in 0..8 {
        seen.push(data_key(&site, ORDERS).await.unwrap().0);
    }
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 8);
    // The wall clock of the test stands still: a slow machine may count a jump, and draws again; 8 calls would be one for each.
    assert!(site.host.calls("Random") < 8);
}

async fn a_batch_is_one_job_and_one_record_and_each_item_fails_alone(suite: Suite) {
    let site = Site::of(suite).await;
    let key = ORDERS.parse().unwrap();
    let permit = site.permit::<action::Encrypt>(&key).await.unwrap();
    // Where uses are counted, the first one reserves a block, which has a record of its own.
    site.encrypt(ORDERS, b"", TABLE).await.unwrap();
    let (call, too_long) = match suite {
        Suite::PrfCommit => ("EnvelopeKeys", 70_000),
        Suite::TokenGcm => ("Seal", 9_000),
    };
    let raw: Vec<usize> = vec![3, too_long, 0, 5];
    let parse = |len: usize| Message::new(vec![b'x'; len].into(), bound(TABLE), None);
    let request = BatchEncrypt {
        key: key.clone(),
        items: Items::parse(raw, |_| 0, parse).unwrap(),
    };
    let (calls, records) = (site.host.calls(call), site.record_count());
    let answer = site.operations.batch_encrypt(permit, request).await.unwrap();
    assert_eq!(site.host.calls(call), calls + 1);
    assert_eq!(site.record_count(), records + 1);
    let record = site.last_record();
    assert_eq!(
        (record.items, record.failed, record.bytes_in, record.ciphertexts.len()),
        (4, 1, 8, 3)
    );
    let results = &answer.as_ref().0;
    assert_eq!(results[1].as_ref().err().unwrap().reason(), "INVALID_ARGUMENT");

    let mut sealed: Vec<Vec<u8>> = results
        .iter()
        .flatten()
        .map(|sealed| sealed.ciphertext.clone())
        .collect();
    sealed[1][40] ^= 1;
    let permit = site.permit::<action::Decrypt>(&key).await.unwrap();
    let request = BatchDecrypt {
        key,
        items: Items::parse(sealed, Vec::len, |sealed| Ok(opening(&sealed, TABLE))).unwrap(),
    };
    let answer = site.operations.batch_decrypt(permit, request).await.unwrap();
    let opened: Vec<Option<usize>> = answer
        .as_ref()
        .0
        .iter()
        .map(|item| item.as_ref().ok().map(|opened| opened.plaintext.as_bytes().len()))
        .collect();
    assert_eq!(opened, [Some(3), None, Some(5)]);
}

async fn a_batch_of_data_keys_opens_again_as_a_batch(suite: Suite) {
    let site = Site::of(suite).await;
    let key: crate::model::KeyName = ORDERS.parse().unwrap();
    let permit = site.permit::<action::GenerateDataKey>(&key).await.unwrap();
    let request = BatchGenerateDataKey {
        key: key.clone(),
        items: Items::parse(vec![(); 200], |()| 0, |()| Ok(bound(TABLE))).unwrap(),
    };
    let made = site.operations.batch_generate_data_key(permit, request).await.unwrap();
    let made: Vec<&DataKey> = made.as_ref().0.iter().map(|made| made.as_ref().ok().unwrap()).collect();
    let permit = site.permit::<action::UnwrapDataKey>(&key).await.unwrap();
    let envelopes: Vec<&[u8]> = made.iter().map(|made| &made.sealed.ciphertext[..]).collect();
    let request = BatchUnwrapDataKey {
        key,
        items: Items::parse(envelopes, |one| one.len(), |one| Ok(opening(one, TABLE))).unwrap(),
    };
    let opened = site.operations.batch_unwrap_data_key(permit, request).await.unwrap();
    for (made, opened) in made.iter().zip(&opened.as_ref().0) {
        let opened = opened.as_ref().ok().unwrap();
        assert_eq!(made.plaintext.as_bytes(), opened.plaintext.as_bytes());
    }
}

#[tokio::test]
async fn random_bytes_come_in_the_length_asked_for() {
    let site = Site::new().await;
    let environment: crate::model::EnvironmentName = "dev".parse().unwrap();
    for length in [1, 32, 4_096] {
        let permit = site.permit::<action::GenerateRandom>(&environment).await.unwrap();
        let request = GenerateRandom::new(environment.clone(), length).unwrap();
        let bytes = site.operations.generate_random(permit, request).await.unwrap();
        assert_eq!(bytes.as_ref().0.as_bytes().len(), length as usize);
    }
    for length in [0, 4_097] {
        assert!(GenerateRandom::new(environment.clone(), length).is_err(), "{length}");
    }
}

async fn a_fault_of_the_token_reaches_caller_and_record(suite: Suite) {
    let site = Site::of(suite).await;
    for (fault, expected) in [
        (
            TokenError::Unavailable("CKR_DEVICE_REMOVED".into()),
            "TOKEN_UNAVAILABLE",
        ),
        (TokenError::Refused("CKR_MECHANISM_INVALID".into()), "TOKEN_REFUSES"),
        (TokenError::Expired, "DEADLINE_EXCEEDED"),
        (TokenError::BlobTag, "INTEGRITY_FAILED"),
    ] {
        site.host.fail_with(Some(fault));
        assert_eq!(reason(site.encrypt(ORDERS, b"hello", TABLE).await), expected);
        assert_eq!(site.last_record().code, expected);
    }
    site.host.fail_with(None);
    assert!(site.encrypt(ORDERS, b"hello", TABLE).await.is_ok());
}

async fn swapped_wrapped_keys_are_found_even_if_the_store_is_consistent(suite: Suite) {
    let site = Site::of(suite).await;
    site.create_key("dev/shop/refunds").await.unwrap();
    let sealed = site.encrypt(ORDERS, b"hello", TABLE).await.unwrap();
    let (orders, refunds) = (site.key(ORDERS).await, site.key("dev/shop/refunds").await);
    let swapped = Version {
        blob: refunds.primary_version().blob.clone(),
        ..Version::clone(orders.primary_version())
    };
    commit(&mut *site.committer.lock().await, Change::new().update(&swapped))
        .await
        .unwrap();
    assert_eq!(reason(site.decrypt(ORDERS, &sealed, TABLE).await), "INTEGRITY_FAILED");
    assert_eq!(reason(site.encrypt(ORDERS, b"hello", TABLE).await), "INTEGRITY_FAILED");
}

async fn a_state_fault_shows_only_for_a_version_that_exists(suite: Suite) {
    let site = Site::of(suite).await;
    let sealed = site.encrypt(ORDERS, b"hello", TABLE).await.unwrap();
    let suspended = Version {
        state: KeyState::Suspended,
        ..Version::clone(site.key(ORDERS).await.primary_version())
    };
    commit(&mut *site.committer.lock().await, Change::new().update(&suspended))
        .await
        .unwrap();
    assert_eq!(reason(site.encrypt(ORDERS, b"hello", TABLE).await), "STATE_FORBIDS");
    assert_eq!(reason(site.decrypt(ORDERS, &sealed, TABLE).await), "STATE_FORBIDS");
    let mut unknown = sealed.clone();
    unknown[27] = 9;
    assert_eq!(reason(site.decrypt(ORDERS, &unknown, TABLE).await), "DECRYPT_FAILED");
}

#[tokio::test]
async fn the_published_envelopes_open_byte_for_byte() {
    let vectors: serde_json::Value = serde_json::from_str(include_str!("../../tests/vectors/formats-v1.json")).unwrap();
    let hex = |value: &serde_json::Value| {
        data_encoding::HEXLOWER
            .decode(value.as_str().unwrap().as_bytes())
            .unwrap()
    };
    let site = Site::new().await;
    let context = &[("app", "billing"), ("tenant", "acme")];
    for (name, id, suite) in [
        ("envelope_prf_commit", "vector", Suite::PrfCommit),
        ("envelope_token_gcm", "gcm-vector", Suite::TokenGcm),
    ] {
        let vector = &vectors[name];
        // The vectors share their key id, which a store cannot: each has a site of its own.
        let site = match suite {
            Suite::PrfCommit => &site,
            Suite::TokenGcm => &Site::new().await,
        };
        let key_id = KeyId::from_bytes(hex(&vector["key_id"]).try_into().unwrap());
        let number = KeyVersion::new(u32::try_from(vector["key_version"].as_u64().unwrap()).unwrap()).unwrap();
        let team = site.key(ORDERS).await.team.clone();
        let place = Place {
            environment: team.environment.id,
            key: key_id,
            version: number,
        };
        let blob = site.host.wrap(place, &hex(&vector["key"]));
        let mut key = rows::key(&team, id);
        key.id = key_id;
        key.primary = number;
        key.versions = vec![Arc::new(Version {
            suite,
            blob: Some(Arc::new(blob)),
            ..rows::version(key_id, number.number())
        })];
        commit(&mut *site.committer.lock().await, rows::creation(&key))
            .await
            .unwrap();
        let name = format!("dev/shop/{id}");
        let opened = site.decrypt(&name, &hex(&vector["envelope"]), context).await;
        assert_eq!(opened.unwrap(), hex(&vector["plaintext"]));
    }

    let vector = &vectors["data_key_envelope"];
    let name = "dev/shop/vector".parse().unwrap();
    let permit = site.permit::<action::UnwrapDataKey>(&name).await.unwrap();
    let request = UnwrapDataKey {
        key: name,
        opening: opening(&hex(&vector["envelope"]), context),
    };
    let opened = site.operations.unwrap_data_key(permit, request).await.unwrap();
    assert_eq!(opened.as_ref().plaintext.as_bytes(), hex(&vector["data_key"]));
}

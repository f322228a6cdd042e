//! Unit tests of `context.rs`, apart to keep that file short.

use super::*;
use crate::vectors::{array, bytes, section, unhex};
use proptest::prelude::*;
use serde_json::Value;

fn pairs_of(map: &Value) -> Vec<(&str, &str)> {
    map.as_object()
        .unwrap()
        .iter()
        .map(|(key, value)| (key.as_str(), value.as_str().unwrap()))
        .collect()
}

#[test]
fn pairs_encode_to_the_published_bytes_in_any_order() {
    let vector = section("encryption_context");
    let mut pairs = pairs_of(&vector["map"]);
    for _ in 0..2 {
        let context = EncryptionContext::from_pairs(pairs.iter().copied()).unwrap();
        assert_eq!(context.canonical(), bytes(&vector["canonical"]));
        assert_eq!(context.sha256(), array::<32>(&vector["sha256"]));
        assert_eq!(context.keys().collect::<Vec<_>>(), ["app", "tenant"]);
        assert_eq!(context.len(), 2);
        pairs.reverse();
    }
}

#[test]
fn the_empty_context_is_two_zero_bytes() {
    let vector = section("encryption_context");
    for context in [
        EncryptionContext::empty(),
        EncryptionContext::default(),
        EncryptionContext::from_pairs([]).unwrap(),
        EncryptionContext::from_canonical(&[0, 0]).unwrap(),
        EncryptionContext::empty().with_aad(b"").unwrap(),
    ] {
        assert_eq!(context.canonical(), bytes(&vector["empty_canonical"]));
        assert_eq!(context.sha256(), array::<32>(&vector["empty_sha256"]));
        assert_eq!(context.sha256(), sha256(context.canonical()));
        assert_eq!(context.canonical.capacity(), 0, "no allocation");
        assert!(context.is_empty() && context.pairs().next().is_none());
        assert_eq!(context, EncryptionContext::empty());
    }
}

#[test]
fn keys_sort_by_their_bytes_without_normalisation() {
    let vector = &section("encryption_context")["non_ascii"];
    let context = EncryptionContext::from_pairs(pairs_of(&vector["map"])).unwrap();
    assert_eq!(context.canonical(), bytes(&vector["canonical"]));
    assert_eq!(EncryptionContext::from_canonical(context.canonical()).unwrap(), context);
}

fn numbered(count: usize) -> Vec<(String, String)> {
    (0..count).map(|i| (format!("k{i:02}"), format!("v{i}"))).collect()
}

fn build(pairs: &[(String, String)]) -> Result<EncryptionContext, ContextError> {
    EncryptionContext::from_pairs(pairs.iter().map(|(key, value)| (key.as_str(), value.as_str())))
}

#[test]
fn thirty_two_pairs_are_the_most() {
    let vector = &section("encryption_context")["pairs_32"];
    let context = build(&numbered(32)).unwrap();
    assert_eq!(context.canonical().len() as u64, vector["length"].as_u64().unwrap());
    assert_eq!(context.sha256(), array::<32>(&vector["sha256"]));
    assert_eq!(context.len(), 32);
    assert_eq!(build(&numbered(33)), Err(ContextError::TooManyPairs));
}

#[test]
fn raw_associated_data_becomes_one_pair() {
    let vector = &section("encryption_context")["raw_aad"];
    let aad = bytes(&vector["aad"]);
    let context = EncryptionContext::empty().with_aad(&aad).unwrap();
    assert_eq!(context.canonical(), bytes(&vector["canonical"]));
    assert_eq!(EncryptionContext::from_canonical(context.canonical()).unwrap(), context);
    // Given as a pair it is the same context, so a stored context can be used again.
    assert_eq!(EncryptionContext::from_pairs(context.pairs()).unwrap(), context);
}

#[test]
fn associated_data_joins_other_pairs_in_order() {
    let plain = EncryptionContext::from_pairs([("z", "1"), ("a", "2")]).unwrap();
    let context = plain.with_aad(b"x").unwrap();
    assert_eq!(context.keys().collect::<Vec<_>>(), ["a", AAD_KEY, "z"]);
    assert_eq!(
        EncryptionContext::from_pairs_and_aad([("z", "1"), ("a", "2")], b"x").unwrap(),
        context
    );
    assert_eq!(context.with_aad(b"y"), Err(ContextError::AadTwice));
}

#[test]
fn associated_data_has_a_limit() {
    let at_limit = vec![7; MAX_AAD_LEN];
    assert!(EncryptionContext::empty().with_aad(&at_limit).is_ok());
    let above = vec![7; MAX_AAD_LEN + 1];
    assert_eq!(
        EncryptionContext::empty().with_aad(&above),
        Err(ContextError::AadTooLong { length: 65_537 })
    );
    // 32 pairs leave no room for the digest.
    assert_eq!(
        build(&numbered(32)).unwrap().with_aad(b"x"),
        Err(ContextError::TooManyPairs)
    );
}

#[test]
fn the_nine_published_faults_are_refused_each_for_its_reason() {
    let vector = section("encryption_context");
    let refused = vector["refused"].as_array().unwrap();
    assert_eq!(refused.len(), 9);
    for case in refused {
        let why = case["why"].as_str().unwrap();
        let error = EncryptionContext::from_canonical(&bytes(&case["bytes"])).unwrap_err();
        let expected = match why {
            "keys not ascending" => matches!(error, ContextError::NotAscending { index: 1 }),
            "duplicate key" => matches!(error, ContextError::DuplicateKey { index: 1, .. }),
            "trailing byte" => matches!(error, ContextError::TrailingBytes { length: 1 }),
            "truncated" => matches!(error, ContextError::Truncated { index: 1 }),
            "count too large" => matches!(error, ContextError::Truncated { index: 2 }),
            "invalid UTF-8" => matches!(error, ContextError::NotUtf8 { index: 0 }),
            "empty key" => matches!(error, ContextError::EmptyKey { index: 0 }),
            "reserved key" => matches!(error, ContextError::ReservedKey { index: 0, .. }),
            "33 pairs" => matches!(error, ContextError::TooManyPairs),
            other => panic!("unknown case {other}"),
        };
        assert!(expected, "{why}: {error:?}");
    }
}

#[test]
fn callers_learn_which_field_is_wrong() {
    let long_key = "k".repeat(129);
    let long_value = "v".repeat(1_025);
    for (pair, field) in [
        (("", "x"), "encryption_context[1].key"),
        ((long_key.as_str(), "x"), "encryption_context[1].key"),
        (("a", "x"), "encryption_context[1].key"),
        (("kms:", "x"), "encryption_context[1].key"),
        (("kms:other", "x"), "encryption_context[1].key"),
        (("b", long_value.as_str()), "encryption_context[1].value"),
        ((AAD_KEY, "not a digest"), "encryption_context[1].value"),
        ((AAD_KEY, &"AB".repeat(32)), "encryption_context[1].value"),
    ] {
        let error = EncryptionContext::from_pairs([("a", "1"), pair]).unwrap_err();
        assert_eq!(error.field(), field, "{error}");
    }
    assert_eq!(ContextError::AadTwice.field(), "aad");
    assert_eq!(ContextError::TooManyPairs.field(), "encryption_context");
}

#[test]
fn the_limits_themselves_are_allowed() {
    let key = "k".repeat(128);
    let value = "v".repeat(1_024);
    assert!(EncryptionContext::from_pairs([(key.as_str(), value.as_str())]).is_ok());
    assert!(EncryptionContext::from_pairs([("KMS:x", ""), ("kms", "")]).is_ok());
    // Seven pairs of 4 + 2 + 1,024 bytes and one that fills up to 8,192 with the count.
    let mut pairs: Vec<_> = (0..7).map(|i| (format!("k{i}"), value.clone())).collect();
    pairs.push(("k7".to_owned(), "v".repeat(8_192 - 2 - 7 * 1_030 - 6)));
    assert_eq!(build(&pairs).unwrap().canonical().len(), MAX_CONTEXT_LEN);
    pairs[7].1.push('v');
    assert_eq!(build(&pairs), Err(ContextError::TooLong { length: 8_193 }));
}

#[test]
fn debug_hides_the_values() {
    let context = EncryptionContext::from_pairs([("tenant", "acme")]).unwrap();
    assert_eq!(format!("{context:?}"), r#"EncryptionContext {"tenant"}"#);
}

#[test]
fn a_single_flipped_bit_never_reads_as_the_same_context() {
    let canonical = unhex("00020003617070000762696c6c696e67000674656e616e74000461636d65");
    let original = EncryptionContext::from_canonical(&canonical).unwrap();
    for bit in 0..canonical.len() * 8 {
        let mut flipped = canonical.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        if let Ok(context) = EncryptionContext::from_canonical(&flipped) {
            assert_ne!(context, original);
        }
    }
}

proptest! {
    #[test]
    fn pairs_survive_their_canonical_form(map in proptest::collection::btree_map("[a-zß-ü:]{1,20}", "\\PC{0,30}", 0..20)) {
        prop_assume!(map.keys().all(|key| !key.starts_with(RESERVED_PREFIX)));
        let context = EncryptionContext::from_pairs(map.iter().map(|(k, v)| (k.as_str(), v.as_str()))).unwrap();
        let again = EncryptionContext::from_canonical(context.canonical()).unwrap();
        prop_assert_eq!(&again, &context);
        let pairs: Vec<_> = map.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        prop_assert_eq!(again.pairs().collect::<Vec<_>>(), pairs);
    }

    #[test]
    fn what_is_accepted_re_encodes_to_the_same_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
        if let Ok(context) = EncryptionContext::from_canonical(&bytes) {
            prop_assert_eq!(context.canonical(), &bytes[..]);
            let rebuilt = EncryptionContext::from_pairs(context.pairs()).unwrap();
            prop_assert_eq!(rebuilt.canonical(), &bytes[..]);
        }
    }
}

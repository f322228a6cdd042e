use super::*;
use crate::sealed::tests::Fixture;
use crate::vectors::{bytes, section};
use proptest::prelude::*;

fn message() -> Vec<u8> {
    Fixture::new().seal(b"hello")
}

/// A header by hand: each length field as given.
fn raw(flags: u8, header_len: u32, context: (u16, &[u8]), wrapped: (u16, &[u8])) -> Vec<u8> {
    let mut bytes = vec![0xe5, 0x53, 0x45, 0x41, 1, flags, 1, 1];
    bytes.extend_from_slice(&[0x11; 16]);
    bytes.extend_from_slice(&header_len.to_be_bytes());
    bytes.extend_from_slice(&context.0.to_be_bytes());
    bytes.extend_from_slice(&wrapped.0.to_be_bytes());
    bytes.extend_from_slice(context.1);
    bytes.extend_from_slice(wrapped.1);
    bytes
}

#[test]
fn the_smallest_header_has_an_empty_wrapped_key_of_any_kind() {
    let bytes = raw(0, 36, (0, b""), (1, &[7, 0, 0, 0]));
    let header = Header::parse(&bytes).unwrap();
    assert_eq!(header.wrapped_keys()[0].kind(), 7);
    assert_eq!((header.encode(), header.encoded_len()), (bytes, 36));
}

#[test]
fn unknown_magic_version_flags_and_suite_are_refused() {
    let message = message();
    for (offset, values) in [
        (0, &[0x00, 0xe4][..]),
        (1, &[0x45]),
        (3, &[0x42]),
        (4, &[0, 2]),
        (5, &[0, 2, 3, 0x80]),
        (6, &[0, 2]),
        (7, &[0, 2]),
    ] {
        for value in values {
            let mut changed = message.clone();
            changed[offset] = *value;
            assert!(Header::split(&changed).is_err(), "byte {offset} = {value}");
        }
    }
}

#[test]
fn lengths_that_do_not_match_exactly_are_refused() {
    let wrapped = [1, 0, 0, 2, 0xaa, 0xbb];
    let context: &[u8] = &[0, 1, 0, 1, b'a', 0, 0];
    let whole = 32 + 7 + 6;
    assert!(Header::parse(&raw(1, whole, (7, context), (1, &wrapped))).is_ok());
    for (flags, header_len, context_len, count) in [
        (1, whole - 1, 7, 1),
        (1, whole + 1, 7, 1),
        (1, 0, 7, 1),
        (1, 31, 7, 1),
        (1, u32::MAX, 7, 1),
        (1, 65_537, 7, 1),
        (1, whole, 6, 1),
        (1, whole, 8, 1),
        (1, whole, 0, 1),
        (1, whole, u16::MAX, 1),
        (0, whole, 7, 1),
        (1, whole, 7, 0),
        (1, whole, 7, 2),
        (1, whole, 7, u16::MAX),
    ] {
        let bytes = raw(flags, header_len, (context_len, context), (count, &wrapped));
        let case = format!("{flags} {header_len} {context_len} {count}");
        assert_eq!(Header::parse(&bytes), Err(DecryptFailed), "{case}");
        assert!(Header::split(&[&bytes[..], &[0; 99]].concat()).is_err(), "{case}");
    }
}

#[test]
fn a_length_within_a_wrapped_key_that_runs_on_is_refused() {
    for (wrapped, count) in [
        (&[1, 0, 0, 3, 0xaa, 0xbb][..], 1),
        (&[1, 0, 0, 1, 0xaa, 0xbb], 1),
        (&[1, 0, 0, 0, 1, 0, 0, 1], 2),
        (&[1, 0, 0xff, 0xff, 1, 0, 0, 0], 2),
        (&[1, 1, 0, 0], 1),
        (&[1, 0x80, 0, 0], 1),
    ] {
        let bytes = raw(0, 32 + wrapped.len() as u32, (0, b""), (count, wrapped));
        assert_eq!(Header::parse(&bytes), Err(DecryptFailed), "{wrapped:?}");
    }
}

#[test]
fn a_header_may_be_65536_bytes_long_and_no_longer() {
    let first = [&[7, 0, 0x80, 0][..], &[0; 0x8000]].concat();
    let rest = 65_536 - 32 - first.len() - 4;
    let wrapped = |rest: usize| [&first[..], &[7, 0], &(rest as u16).to_be_bytes(), &vec![0; rest]].concat();
    let longest = raw(0, 65_536, (0, b""), (2, &wrapped(rest)));
    assert!(Header::parse(&longest).is_ok());
    let longer = raw(0, 65_537, (0, b""), (2, &wrapped(rest + 1)));
    assert_eq!(Header::parse(&longer), Err(DecryptFailed));
}

#[test]
fn sixteen_wrapped_keys_are_allowed_and_seventeen_are_not() {
    let fixture = Fixture::new();
    let header = fixture.begin(true).header().clone();
    let keys = |count| vec![fixture.wrapped(); count];
    let most = header.with_wrapped_keys(keys(16)).unwrap();
    assert_eq!(Header::parse(&most.encode()), Ok(most));
    assert_eq!(header.with_wrapped_keys(keys(17)), Err(SealError::TooManyWrappedKeys));
    assert_eq!(header.with_wrapped_keys(keys(0)), Err(SealError::NoWrappedKey));
    let seventeen = [7, 0, 0, 0].repeat(17);
    let bytes = raw(0, 32 + 17 * 4, (0, b""), (17, &seventeen));
    assert_eq!(Header::parse(&bytes), Err(DecryptFailed));
}

#[test]
fn limits_hold_for_what_is_made_too() {
    let header = Fixture::new().begin(true).header().clone();
    let key = |length| WrappedKey {
        kind: 9,
        bytes: vec![0; length],
    };
    let length = 65_536;
    let long = header.with_wrapped_keys(vec![key(length)]);
    assert_eq!(long, Err(SealError::WrappedKeyTooLong { length }));
    let long = header.with_wrapped_keys(vec![key(40_000), key(40_000)]);
    assert!(matches!(long, Err(SealError::HeaderTooLong { .. })));
}

#[test]
fn a_stored_context_counts_only_as_canonical_bytes() {
    let refused = section("encryption_context");
    let refused = refused["refused"].as_array().unwrap();
    assert_eq!(refused.len(), 9);
    for case in refused {
        let context = bytes(&case["bytes"]);
        let header_len = 36 + context.len() as u32;
        let bytes = raw(1, header_len, (context.len() as u16, &context), (1, &[7, 0, 0, 0]));
        assert_eq!(Header::parse(&bytes), Err(DecryptFailed), "{case}");
    }
    let empty = raw(1, 38, (2, &[0, 0]), (1, &[7, 0, 0, 0]));
    assert!(Header::parse(&empty).unwrap().stored_context().unwrap().is_empty());
}

#[test]
fn only_data_key_envelopes_of_32_bytes_are_wrapped_keys() {
    let fixture = Fixture::new();
    let named = fixture.wrapped().envelope_header().unwrap();
    assert_eq!(named.key_id().to_string(), "00112233-4455-6677-8899-aabbccddeeff");
    let message = bytes(&section("envelope_prf_commit")["envelope"]);
    assert!(WrappedKey::from_envelope(message).is_err(), "not flagged as a data key");
    let mut short = fixture.envelope.clone();
    short.pop();
    assert!(WrappedKey::from_envelope(short.clone()).is_err());
    short[28..32].copy_from_slice(&123_u32.to_be_bytes());
    assert!(WrappedKey::from_envelope(short).is_err(), "31 bytes");
    assert!(WrappedKey::from_envelope(Vec::new()).is_err());
    let other_kind = WrappedKey {
        kind: 2,
        bytes: fixture.envelope,
    };
    assert!(other_kind.envelope_header().is_none());
}

proptest! {
    #[test]
    fn what_parses_encodes_back(mut bytes in proptest::collection::vec(any::<u8>(), 32..200), fix: bool) {
        if fix {
            bytes[..8].copy_from_slice(&[0xe5, 0x53, 0x45, 0x41, 1, 0, 1, 1]);
            let length = bytes.len() as u32;
            bytes[24..28].copy_from_slice(&length.to_be_bytes());
            bytes[28..30].fill(0);
            bytes[30..32].copy_from_slice(&[0, 1]);
            if bytes.len() >= 36 {
                bytes[33] = 0;
                let rest = bytes.len() as u16 - 36;
                bytes[34..36].copy_from_slice(&rest.to_be_bytes());
            }
        }
        match Header::parse(&bytes) {
            Ok(header) => prop_assert_eq!(header.encode(), bytes),
            Err(_) => prop_assert!(!fix || bytes.len() < 36),
        }
    }

    #[test]
    fn a_prefix_never_asks_for_more_than_a_header_may_have(bytes: [u8; 32]) {
        let mut bytes = bytes;
        bytes[..8].copy_from_slice(&[0xe5, 0x53, 0x45, 0x41, 1, 0, 1, 1]);
        if let Ok(prefix) = Prefix::parse(&bytes) {
            prop_assert!((36..=65_536).contains(&prefix.header_len()));
        }
    }
}

//! Unit tests of `blob.rs`, apart to keep that file short. What the token computes is done in software.

use super::*;
use crate::vectors::{array, bytes, hmac_sha256, hmac_sha512, section};
use aws_lc_rs::key_wrap::{AES_256, AesKek, KeyWrap};
use proptest::prelude::*;
use serde_json::Value;

struct Fixture {
    vector: Value,
    bind: Vec<u8>,
    kek: Vec<u8>,
}

impl Fixture {
    /// `name`: `wrapped_key_blob` or `wrapped_key_blob_aes`; the second shares ids and keys with the first.
    fn new(name: &str) -> Self {
        let first = section("wrapped_key_blob");
        Self {
            vector: section(name),
            bind: bytes(&first["bind"]),
            kek: bytes(&first["kek"]),
        }
    }

    fn blob(&self) -> Vec<u8> {
        bytes(&self.vector["blob"])
    }

    fn tag(&self, input: &[u8]) -> [u8; 32] {
        hmac_sha256(&self.bind, input)
    }

    /// The blob with a change, tagged anew: what only a rule of the format can stop.
    fn retagged(&self, change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        let mut blob = self.blob();
        blob.truncate(blob.len() - TAG_LEN);
        change(&mut blob);
        let tag = self.tag(&[TAG_LABEL, &blob].concat());
        blob.extend_from_slice(&tag);
        blob
    }
}

fn wrap(kek: &[u8], secret: &[u8]) -> Vec<u8> {
    let mut wrapped = vec![0; secret.len() + 8];
    AesKek::new(&AES_256, kek).unwrap().wrap(secret, &mut wrapped).unwrap();
    wrapped
}

/// Builds the blob of a vector from its parts and compares every byte.
fn check_vector(name: &str, secret: &[u8], key_type: KeyType, kcv: impl FnOnce(&[u8]) -> [u8; 16]) {
    let fixture = Fixture::new(name);
    let ids = section("wrapped_key_blob");
    let envelope = section("envelope_prf_commit");
    let key_id = KeyId::from_bytes(array(&envelope["key_id"]));
    let key_version = KeyVersion::new(envelope["key_version"].as_u64().unwrap() as u32).unwrap();
    let input = kcv_input(key_id, key_version, key_type);
    assert_eq!(input, array(&fixture.vector["kcv_input"]));
    let kcv = kcv(&input);
    assert_eq!(kcv, array(&fixture.vector["kcv"]));
    let wrapped = wrap(&fixture.kek, secret);
    let key = WrappedKey {
        imported: false,
        suite: WrapSuite::Kw,
        environment: EnvironmentId::from_bytes(array(&ids["environment"])),
        key_id,
        key_version,
        key_type,
        usage: KeyUsage::Envelope,
        kek_id: KekId::from_bytes(array(&ids["kek_id"])),
        kek_epoch: ids["epoch"].as_u64().unwrap() as u32,
        created_ms: ids["created_ms"].as_u64().unwrap(),
        kcv,
        wrapped: &wrapped,
    };
    let tag = fixture.tag(&key.tag_input().unwrap());
    let blob = key.encode(&tag).unwrap();
    assert_eq!(blob, fixture.blob());
    assert_eq!(blob.len() as u64, fixture.vector["length"].as_u64().unwrap());

    let unverified = WrappedKey::parse(&blob).unwrap();
    assert_eq!(unverified.sha256(), array::<32>(&fixture.vector["sha256"]));
    assert_eq!((unverified.kek_id(), unverified.kek_epoch()), (key.kek_id, 3));
    assert_eq!(unverified.tag_input(), key.tag_input().unwrap());
    let parsed = unverified.verify(&fixture.tag(&unverified.tag_input())).unwrap();
    assert_eq!(parsed, key);
    assert!(parsed.kcv_is(&kcv) && !parsed.kcv_is(&[0; 16]));
}

#[test]
fn the_published_blob_of_a_prf_secret_comes_out_byte_for_byte() {
    let secret = bytes(&section("envelope_prf_commit")["key"]);
    check_vector("wrapped_key_blob", &secret, KeyType::EnvelopePrf, |input| {
        hmac_sha512(&secret, input)[..16].try_into().unwrap()
    });
}

#[test]
fn the_published_blob_of_an_aes_key_comes_out_byte_for_byte() {
    let secret = bytes(&section("wrapped_key_blob_aes")["key"]);
    check_vector("wrapped_key_blob_aes", &secret, KeyType::Aes256, |input| {
        let key = aws_lc_rs::cmac::Key::new(aws_lc_rs::cmac::AES_256, &secret).unwrap();
        aws_lc_rs::cmac::sign(&key, input).unwrap().as_ref().try_into().unwrap()
    });
}

#[test]
fn every_single_bit_flip_is_refused() {
    let fixture = Fixture::new("wrapped_key_blob");
    let blob = fixture.blob();
    for bit in 0..blob.len() * 8 {
        let mut flipped = blob.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        let opened = WrappedKey::parse(&flipped).and_then(|key| key.verify(&fixture.tag(&key.tag_input())));
        assert!(opened.is_err(), "bit {bit}");
    }
}

#[test]
fn a_tag_of_another_blob_or_epoch_is_refused() {
    let (prf, aes) = (Fixture::new("wrapped_key_blob"), Fixture::new("wrapped_key_blob_aes"));
    let (blob, other) = (prf.blob(), aes.blob());
    let key = WrappedKey::parse(&blob).unwrap();
    let other_tag = prf.tag(&WrappedKey::parse(&other).unwrap().tag_input());
    assert_eq!(key.verify(&other_tag), Err(BlobError::Tag));
    assert_eq!(
        key.verify(&hmac_sha256(&[0x34; 32], &key.tag_input())),
        Err(BlobError::Tag)
    );
}

#[test]
fn a_broken_rule_is_refused_though_the_tag_is_right() {
    let fixture = Fixture::new("wrapped_key_blob");
    let set = |at: usize, value: u8| fixture.retagged(|blob| blob[at] = value);
    for (blob, error) in [
        (set(0, 0xe4), BlobError::Version),
        (set(4, 2), BlobError::Version),
        (set(5, 2), BlobError::Flags),
        (set(7, 0), BlobError::Suite),
        (set(7, 3), BlobError::Suite),
        (fixture.retagged(|blob| blob[40..44].fill(0)), BlobError::KeyVersion),
        (set(45, 0), BlobError::Type),
        (set(45, 10), BlobError::Type),
        (set(45, 2), BlobError::WrappedLength), // an AES key of 64 bytes
        (set(45, 8), BlobError::Usage),
        (set(47, 0), BlobError::Usage),
        (set(47, 3), BlobError::Usage), // two bits
        (set(47, 0x20), BlobError::Usage),
        (set(93, 71), BlobError::Length),
        (fixture.retagged(|blob| blob.push(0)), BlobError::Length),
    ] {
        assert_eq!(WrappedKey::parse(&blob).err(), Some(error));
    }
    // The imported bit is the one flag there is.
    let imported = set(5, 1);
    let key = WrappedKey::parse(&imported).unwrap();
    assert!(key.verify(&fixture.tag(&key.tag_input())).unwrap().imported);
    for length in 0..fixture.blob().len() {
        assert!(WrappedKey::parse(&fixture.blob()[..length]).is_err(), "{length} bytes");
    }
}

#[test]
fn each_type_has_its_usage_and_only_rsa_has_two() {
    let types: Vec<_> = (0..=u16::MAX).filter_map(KeyType::from_number).collect();
    let usages: Vec<_> = (0..=u16::MAX).filter_map(KeyUsage::from_bits).collect();
    assert_eq!((types.len(), usages.len()), (9, 5));
    let allowed: Vec<(u16, Vec<u16>)> = types
        .iter()
        .map(|t| {
            (
                t.number(),
                usages.iter().filter(|u| t.allows(**u)).map(|u| *u as u16).collect(),
            )
        })
        .collect();
    let table = [
        (1, vec![1]),
        (2, vec![1]),
        (3, vec![4]),
        (4, vec![4]),
        (5, vec![4, 8]),
        (6, vec![16]),
        (7, vec![4]),
        (8, vec![2]),
        (9, vec![4]),
    ];
    assert_eq!(allowed, table);
}

#[test]
fn wrapped_lengths_fit_their_type() {
    let lengths = |key_type: KeyType| (0..100).filter(|n| key_type.wraps_to(*n)).collect::<Vec<_>>();
    assert_eq!(lengths(KeyType::EnvelopePrf), [72]);
    assert_eq!(lengths(KeyType::Aes256), [40]);
    assert_eq!(lengths(KeyType::Mac), [40, 48, 56, 64, 72]);
    assert_eq!(lengths(KeyType::Rsa).first(), Some(&24));
}

#[test]
fn fields_that_break_a_rule_are_not_encoded() {
    let blob = Fixture::new("wrapped_key_blob").blob();
    let unverified = WrappedKey::parse(&blob).unwrap();
    let key = unverified.key;
    let wrong_usage = WrappedKey {
        usage: KeyUsage::Mac,
        ..key
    };
    assert_eq!(wrong_usage.tag_input(), Err(BlobError::Usage));
    assert_eq!(wrong_usage.encode(&[0; 32]), Err(BlobError::Usage));
    assert_eq!(
        WrappedKey {
            wrapped: &[0; 40],
            ..key
        }
        .encode(&[0; 32]),
        Err(BlobError::WrappedLength)
    );
    let long = vec![0; 65_536];
    let rsa = WrappedKey {
        key_type: KeyType::Rsa,
        usage: KeyUsage::Sign,
        wrapped: &long,
        ..key
    };
    assert_eq!(rsa.encode(&[0; 32]), Err(BlobError::WrappedLength));
}

proptest! {
    #[test]
    fn what_parses_encodes_to_the_same_bytes(mut body in proptest::collection::vec(any::<u8>(), 92..140), number in 0u8..11, usage in 0u32..6, fix: bool) {
        if fix {
            body[..8].copy_from_slice(&[0xe5, 0x4b, 0x45, 0x59, 1, 0, 0, 1]);
            body[44..48].copy_from_slice(&[0, number, 0, (1u32 << usage >> 1) as u8]);
            body.resize(94 + if number % 2 == 0 { 40 } else { 72 }, 7);
            let wrapped = (body.len() - 94) as u16;
            body[92..94].copy_from_slice(&wrapped.to_be_bytes());
        }
        body.extend_from_slice(&[9; 32]);
        if let Ok(unverified) = WrappedKey::parse(&body) {
            let key = unverified.verify(&[9; 32]).unwrap();
            prop_assert_eq!(key.encode(&[9; 32]).unwrap(), body);
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = WrappedKey::parse(&bytes);
    }
}

//! Unit tests of `prf_commit.rs`, apart to keep that file short. The token's HMAC is done in software.

use super::*;
use crate::context::EncryptionContext;
use crate::ids::{KeyId, KeyVersion};
use crate::limits::{MAX_PLAINTEXT_LEN, PRF_COMMIT_OVERHEAD};
use crate::sha256;
use crate::vectors::{array, bytes, hmac_sha512, section};
use proptest::prelude::*;
use serde_json::Value;

/// What every vector of the suite shares.
struct Fixture {
    key: Vec<u8>,
    key_id: KeyId,
    version: KeyVersion,
    salt: [u8; 32],
    iv: [u8; 12],
    ec_hash: [u8; 32],
}

impl Fixture {
    fn new() -> Self {
        let vector = section("envelope_prf_commit");
        Self {
            key: bytes(&vector["key"]),
            key_id: KeyId::from_bytes(array(&vector["key_id"])),
            version: KeyVersion::new(vector["key_version"].as_u64().unwrap() as u32).unwrap(),
            salt: array(&vector["salt"]),
            iv: array(&vector["iv"]),
            ec_hash: array(&section("encryption_context")["sha256"]),
        }
    }

    fn header(&self, data_key: bool, plaintext: &[u8]) -> Header {
        Header::new(Suite::PrfCommit, self.key_id, self.version, data_key, plaintext.len()).unwrap()
    }

    fn keys(&self, kdf_input: &[u8; 111]) -> MessageKeys {
        MessageKeys::from_prf_output(&hmac_sha512(&self.key, kdf_input))
    }

    fn seal(&self, data_key: bool, plaintext: &[u8]) -> Vec<u8> {
        let header = self.header(data_key, plaintext);
        let keys = self.keys(&kdf_input(&header.encode(), &self.salt, &self.ec_hash));
        let mut out = Vec::new();
        seal(&keys, &header, &self.salt, &self.iv, &self.ec_hash, plaintext, &mut out).unwrap();
        assert_eq!(out.capacity(), out.len(), "one allocation of the right size");
        out
    }

    /// As the service does: parse, compare the key, ask the token, open.
    fn open(&self, envelope: &[u8], ec_hash: &[u8; 32]) -> Result<Plaintext, DecryptFailed> {
        let envelope = Envelope::parse(envelope)?;
        if envelope.header().key_id() != self.key_id || envelope.header().key_version() != self.version {
            return Err(DecryptFailed);
        }
        open(&self.keys(&envelope.kdf_input(ec_hash)), &envelope, ec_hash)
    }
}

fn check_sealed(envelope: &[u8], vector: &Value) {
    assert_eq!(envelope.len() as u64, vector["length"].as_u64().unwrap());
    assert_eq!(sha256(envelope), array::<32>(&vector["sha256"]));
    if vector["envelope"].is_string() {
        assert_eq!(envelope, bytes(&vector["envelope"]));
    }
}

#[test]
fn the_published_envelope_comes_out_byte_for_byte() {
    let (fixture, vector) = (Fixture::new(), section("envelope_prf_commit"));
    let plaintext = bytes(&vector["plaintext"]);
    let header = fixture.header(false, &plaintext).encode();
    assert_eq!(header, array(&vector["header"]));
    let input = kdf_input(&header, &fixture.salt, &fixture.ec_hash);
    assert_eq!(input, array(&vector["kdf_input"]));
    let keys = fixture.keys(&input);
    assert_eq!(
        keys.split(),
        (&array(&vector["message_key"]), &array(&vector["commitment"]))
    );
    let envelope = fixture.seal(false, &plaintext);
    check_sealed(&envelope, &vector);
    assert_eq!(fixture.open(&envelope, &fixture.ec_hash).unwrap().as_bytes(), plaintext);
    assert_eq!(Envelope::parse(&envelope).unwrap().audit_link(), keys.split().1[..16]);
}

#[test]
fn the_empty_and_the_largest_plaintext_match_their_vectors() {
    let (fixture, vector) = (Fixture::new(), section("envelope_prf_commit"));
    check_sealed(&fixture.seal(false, b""), &vector["empty_plaintext"]);
    let largest: Vec<u8> = (0..MAX_PLAINTEXT_LEN).map(|i| i as u8).collect();
    let envelope = fixture.seal(false, &largest);
    check_sealed(&envelope, &vector["largest"]);
    assert!(fixture.open(&envelope, &fixture.ec_hash).unwrap().as_bytes() == largest);
}

#[test]
fn the_published_data_key_envelope_comes_out_byte_for_byte() {
    let (fixture, vector) = (Fixture::new(), section("data_key_envelope"));
    let data_key = bytes(&vector["data_key"]);
    let envelope = fixture.seal(true, &data_key);
    check_sealed(&envelope, &vector);
    let parsed = Envelope::parse(&envelope).unwrap();
    assert!(parsed.header().is_data_key());
    let keys = fixture.keys(&parsed.kdf_input(&fixture.ec_hash));
    assert_eq!(
        keys.split(),
        (&array(&vector["message_key"]), &array(&vector["commitment"]))
    );
    assert_eq!(
        fixture
            .open(&envelope, &fixture.ec_hash)
            .unwrap()
            .into_inner()
            .as_slice(),
        data_key
    );
}

#[test]
fn the_published_salt_comes_out_byte_for_byte() {
    let (fixture, vector) = (Fixture::new(), section("hedged_salt"));
    let key = HedgeKey::new(&array(&vector["hedge_key"]));
    let (r, plaintext) = (array(&vector["r"]), bytes(&vector["plaintext"]));
    assert_eq!(key.salt(&r, &fixture.ec_hash, &plaintext), array(&vector["salt"]));
    // The key is kept ready: a second use gives the same.
    assert_eq!(key.salt(&r, &fixture.ec_hash, &plaintext), array(&vector["salt"]));
    assert_ne!(key.salt(&r, &fixture.ec_hash, b"other"), array(&vector["salt"]));
}

#[test]
fn every_single_bit_flip_fails_with_the_one_error() {
    let fixture = Fixture::new();
    for data_key in [false, true] {
        let envelope = fixture.seal(data_key, b"attack at dawn");
        for bit in 0..envelope.len() * 8 {
            let mut flipped = envelope.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(fixture.open(&flipped, &fixture.ec_hash).is_err(), "bit {bit}");
        }
    }
}

#[test]
fn another_context_or_key_fails_at_the_commitment() {
    let mut fixture = Fixture::new();
    let envelope = fixture.seal(false, b"attack at dawn");
    let other = EncryptionContext::from_pairs([("app", "acme"), ("tenant", "billing")]).unwrap();
    assert!(fixture.open(&envelope, &other.sha256()).is_err());
    assert!(fixture.open(&envelope, &EncryptionContext::empty().sha256()).is_err());
    fixture.key[0] ^= 1;
    assert!(fixture.open(&envelope, &fixture.ec_hash).is_err());
}

#[test]
fn a_wrong_commitment_is_refused_though_the_cipher_would_open() {
    let fixture = Fixture::new();
    let plaintext = b"attack at dawn";
    let header = fixture.header(false, plaintext);
    let input = kdf_input(&header.encode(), &fixture.salt, &fixture.ec_hash);
    let mut output = hmac_sha512(&fixture.key, &input);
    let honest = MessageKeys::from_prf_output(&output);
    output[63] ^= 1;
    let forged = MessageKeys::from_prf_output(&output);
    let mut out = Vec::new();
    seal(
        &forged,
        &header,
        &fixture.salt,
        &fixture.iv,
        &fixture.ec_hash,
        plaintext,
        &mut out,
    )
    .unwrap();
    let envelope = Envelope::parse(&out).unwrap();
    // Same message key and a consistent tag: only the commitment differs.
    assert!(open(&forged, &envelope, &fixture.ec_hash).is_ok());
    assert!(open(&honest, &envelope, &fixture.ec_hash).is_err());
}

#[test]
fn a_header_of_another_length_or_suite_seals_nothing() {
    let fixture = Fixture::new();
    let keys = MessageKeys::from_prf_output(&[7; 64]);
    let gcm = Header::new(Suite::TokenGcm, fixture.key_id, fixture.version, false, 3).unwrap();
    for header in [fixture.header(false, b"four"), gcm] {
        let mut out = b"kept".to_vec();
        let result = seal(
            &keys,
            &header,
            &fixture.salt,
            &fixture.iv,
            &fixture.ec_hash,
            b"abc",
            &mut out,
        );
        assert_eq!((result, out), (Err(SealError::WrongHeader), b"kept".to_vec()));
    }
}

#[test]
fn an_envelope_is_appended_to_what_is_there() {
    let fixture = Fixture::new();
    let header = fixture.header(false, b"abc");
    let keys = fixture.keys(&kdf_input(&header.encode(), &fixture.salt, &fixture.ec_hash));
    let mut out = b"before".to_vec();
    seal(
        &keys,
        &header,
        &fixture.salt,
        &fixture.iv,
        &fixture.ec_hash,
        b"abc",
        &mut out,
    )
    .unwrap();
    assert_eq!(&out[..6], b"before");
    assert_eq!(out[6..], fixture.seal(false, b"abc"));
    assert_eq!(out.len(), 6 + 3 + PRF_COMMIT_OVERHEAD);
}

#[test]
fn keys_written_in_place_equal_copied_ones_and_errors_pass_through() {
    let output = [9; 64];
    let Ok(keys) = MessageKeys::fill_with(|buffer| {
        buffer.copy_from_slice(&output);
        Ok::<(), ()>(())
    }) else {
        panic!("filling failed")
    };
    assert_eq!(keys.split(), MessageKeys::from_prf_output(&output).split());
    assert!(matches!(
        MessageKeys::fill_with(|_| Err("token gone")),
        Err("token gone")
    ));
}

#[test]
fn envelopes_of_suite_0001_are_refused() {
    let envelope = bytes(&section("envelope_token_gcm")["envelope"]);
    assert!(Envelope::parse(&envelope).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn whatever_is_sealed_opens(plaintext in proptest::collection::vec(any::<u8>(), 0..2_000), salt: [u8; 32], iv: [u8; 12], data_key: bool) {
        let fixture = Fixture { salt, iv, ..Fixture::new() };
        let envelope = fixture.seal(data_key, &plaintext);
        prop_assert_eq!(envelope.len(), plaintext.len() + PRF_COMMIT_OVERHEAD);
        let opened = fixture.open(&envelope, &fixture.ec_hash).unwrap();
        prop_assert_eq!(opened.as_bytes(), &plaintext[..]);
    }

    #[test]
    fn arbitrary_bytes_never_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..300), fix: bool) {
        if fix && bytes.len() >= 32 {
            bytes[..8].copy_from_slice(&[0xe5, 0x45, 0x4e, 0x56, 1, 0, 0, 2]);
            let body = (bytes.len() - 32) as u32;
            bytes[28..32].copy_from_slice(&body.to_be_bytes());
        }
        if let Ok(envelope) = Envelope::parse(&bytes) {
            let fixture = Fixture::new();
            prop_assert!(open(&fixture.keys(&envelope.kdf_input(&fixture.ec_hash)), &envelope, &fixture.ec_hash).is_err());
        }
    }
}

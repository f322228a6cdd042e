use super::*;
use crate::sealed::tests::Fixture;
use crate::vectors::{array, bytes};

#[test]
fn key_base_and_commitment_are_as_published() {
    let fixture = Fixture::new();
    let key = fixture.begin(true).into_key();
    assert_eq!(*key.base, array::<12>(&fixture.vector["nonce_base"]));
    assert_eq!(key.identity.commitment, array::<32>(&fixture.vector["commitment"]));
    // The key itself shows in what it seals.
    let published = UnboundKey::new(&AES_256_GCM, &bytes(&fixture.vector["payload_key"])).unwrap();
    let nonce = aws_lc_rs::aead::Nonce::assume_unique_for_key(*key.base);
    let mut sealed = b"hello".to_vec();
    LessSafeKey::new(published)
        .seal_in_place_append_tag(nonce, aws_lc_rs::aead::Aad::empty(), &mut sealed)
        .unwrap();
    assert!(fixture.seal(b"hello").ends_with(&sealed));
}

#[test]
fn another_data_key_context_id_salt_or_commitment_unlocks_nothing() {
    let fixture = Fixture::new();
    let sealing = fixture.begin(true);
    let front = sealing.front();
    let prefix: [u8; PAYLOAD_PREFIX_LEN] = *front.last_chunk().unwrap();
    let header = sealing.header();
    assert!(PayloadKey::unlock(&fixture.data_key, header, &prefix, &fixture.context).is_ok());

    let other = DataKey::copied(&[0x43; 32]).unwrap();
    assert!(PayloadKey::unlock(&other, header, &prefix, &fixture.context).is_err());
    let empty = EncryptionContext::empty();
    assert!(PayloadKey::unlock(&fixture.data_key, header, &prefix, &empty).is_err());
    for at in 0..PAYLOAD_PREFIX_LEN {
        let mut changed = prefix;
        changed[at] ^= 1;
        assert!(
            PayloadKey::unlock(&fixture.data_key, header, &changed, &fixture.context).is_err(),
            "byte {at}"
        );
    }
    // Whether the context is stored is bound, too: the flag lies within the bound bytes.
    let bare = fixture.begin(false);
    assert!(PayloadKey::unlock(&fixture.data_key, bare.header(), &prefix, &fixture.context).is_err());
}

/// T8: a file cannot be made to open under two data keys by adding a wrapped key that opens to the other.
#[test]
fn a_message_commits_to_its_data_key() {
    let fixture = Fixture::new();
    let message = fixture.seal(b"hello");
    let other = DataKey::copied(&[0x43; 32]).unwrap();
    assert!(crate::sealed::tests::open(&other, &fixture.context, &message).is_err());
}

#[test]
fn every_message_gets_an_id_and_a_salt_of_its_own() {
    let fixture = Fixture::new();
    let begin = || Sealing::begin(&fixture.data_key, &fixture.context, false, vec![fixture.wrapped()]).unwrap();
    let mut seen = std::collections::HashSet::new();
    for _ in 0..100 {
        let sealing = begin();
        assert!(seen.insert(sealing.header().message_id().to_bytes().to_vec()));
        assert!(seen.insert(sealing.salt.to_vec()));
        assert!(seen.insert(sealing.key().identity().commitment.to_vec()));
    }
}

#[test]
fn data_keys_have_32_bytes() {
    for length in [0, 16, 31, 33, 64] {
        assert!(DataKey::copied(&vec![1; length]).is_none());
    }
    let key = DataKey::copied(&[1; 32]).unwrap();
    assert!(key.is_same_as(&key.duplicate()));
    assert!(!key.is_same_as(&DataKey::copied(&[2; 32]).unwrap()));
}

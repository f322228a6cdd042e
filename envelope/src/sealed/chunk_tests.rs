use super::*;
use crate::sealed::tests::Fixture;

#[test]
fn in_place_and_out_of_place_make_the_same_bytes() {
    let key = Fixture::new().begin(true).into_key();
    for (index, length) in [(0, 0), (1, 5), (7, CHUNK_LEN - 1), (1 << 20, CHUNK_LEN)] {
        let plaintext = vec![0x5a; length];
        let mut into = vec![0; length + TAG_LEN];
        key.seal_chunk_into(index, &plaintext, &mut into).unwrap();
        let mut slot = [&plaintext[..], &[0; TAG_LEN]].concat();
        key.seal_chunk(index, &mut slot).unwrap();
        assert_eq!(slot, into);
        let mut opened = vec![0; length];
        key.open_chunk_into(index, &into, &mut opened).unwrap();
        assert_eq!(opened, plaintext);
        assert_eq!(key.open_chunk(index, &mut slot).unwrap(), plaintext);
    }
}

#[test]
fn the_nonce_is_the_base_xor_the_index_as_a_12_byte_integer() {
    let key = Fixture::new().begin(true).into_key();
    let nonce = |index: u64| *key.nonce(index).as_ref();
    assert_eq!(nonce(0), *key.base);
    let mut expected = *key.base;
    expected[11] ^= 2;
    expected[10] ^= 1;
    assert_eq!(nonce(0x102), expected);
    let mut expected = *key.base;
    expected[8..].iter_mut().for_each(|byte| *byte ^= 0xff);
    assert_eq!(nonce(0xffff_ffff), expected);
}

#[test]
fn a_chunk_opens_at_its_index_only() {
    let key = Fixture::new().begin(true).into_key();
    let mut sealed = vec![0; 5 + TAG_LEN];
    key.seal_chunk_into(3, b"hello", &mut sealed).unwrap();
    let mut opened = [0xee; 5];
    for index in [0, 2, 4, 3 + (1 << 32), 3 | 1 << 20] {
        assert!(key.open_chunk_into(index, &sealed, &mut opened).is_err());
    }
    assert_eq!(opened, [0xee; 5].map(|_| 0), "wiped, not half open");
    assert!(key.open_chunk_into(3, &sealed, &mut opened).is_ok());
}

#[test]
fn what_does_not_verify_is_wiped() {
    let key = Fixture::new().begin(true).into_key();
    let mut sealed = vec![0; 5 + TAG_LEN];
    key.seal_chunk_into(0, b"hello", &mut sealed).unwrap();
    sealed[20] ^= 1;
    assert!(key.open_chunk(0, &mut sealed).is_err());
    assert!(sealed.iter().all(|byte| *byte == 0));
}

#[test]
fn chunks_too_long_too_short_or_too_far_are_refused() {
    let key = Fixture::new().begin(true).into_key();
    let seal = |index, length: usize| key.seal_chunk(index, &mut vec![0; length]);
    assert_eq!(seal(0, SEALED_CHUNK_LEN + 1), Err(SealError::TooLong));
    assert_eq!(seal(0, TAG_LEN - 1), Err(SealError::TooLong));
    assert_eq!(seal(MAX_CHUNKS, TAG_LEN), Err(SealError::TooLong));
    // The last possible chunk must be short, or the message would never end.
    assert_eq!(seal(MAX_CHUNKS - 1, SEALED_CHUNK_LEN), Err(SealError::TooLong));
    assert_eq!(seal(MAX_CHUNKS - 1, SEALED_CHUNK_LEN - 1), Ok(()));
    assert_eq!(key.seal_chunk_into(0, b"hello", &mut [0; 20]), Err(SealError::TooLong));

    for length in [0, TAG_LEN - 1, SEALED_CHUNK_LEN + 1] {
        assert!(key.open_chunk(0, &mut vec![0; length]).is_err());
    }
    assert!(key.open_chunk_into(0, &[0; 21], &mut [0; 6]).is_err());
}

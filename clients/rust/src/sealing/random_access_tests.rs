use std::io::Cursor;

use super::*;
use crate::sealing::{
    Sealer,
    double::{Double, ORDERS, context, plaintext},
};
use proptest::prelude::*;

const LENGTH: usize = 3 * CHUNK_LEN + 500;

struct Fixture {
    opener: Opener,
    sealed: Vec<u8>,
}

impl Fixture {
    async fn new(length: usize) -> Self {
        let double = Double::new();
        let sealer = Sealer::new(double.clone(), ORDERS);
        Self {
            sealed: sealer.seal(&plaintext(length), &context(&[])).await.unwrap(),
            opener: Opener::new(double, ORDERS),
        }
    }

    async fn open(&self, message: Vec<u8>) -> RandomAccess<Cursor<Vec<u8>>> {
        let expected = Expectation::context(context(&[]));
        self.opener
            .random_access(Cursor::new(message), &expected)
            .await
            .unwrap()
    }
}

#[tokio::test]
async fn no_length_is_told_before_the_last_chunk_was_opened() {
    let fixture = Fixture::new(LENGTH).await;
    let mut message = fixture.open(fixture.sealed.clone()).await;
    let mut first = [0; 100];
    message.read_exact(&mut first).unwrap();
    assert_eq!(first[..], plaintext(LENGTH)[..100]);
    assert_eq!(message.completeness().to_string(), "prefix, not proved complete");
    assert_eq!(message.prove_complete().unwrap(), LENGTH as u64);
    assert_eq!(message.completeness(), Completeness::Proved { length: LENGTH as u64 });

    let mut message = fixture.open(fixture.sealed.clone()).await;
    assert_eq!(message.seek(SeekFrom::End(-7)).unwrap(), LENGTH as u64 - 7);
    assert_eq!(message.completeness().to_string(), format!("complete, {LENGTH} bytes"));
    let mut end = Vec::new();
    message.read_to_end(&mut end).unwrap();
    assert_eq!(end, plaintext(LENGTH)[LENGTH - 7..]);
}

/// A cut at the end of a chunk leaves chunks that all verify: only the end tells.
#[tokio::test]
async fn a_message_that_was_cut_reads_as_a_prefix_and_has_no_end() {
    let fixture = Fixture::new(LENGTH).await;
    let front = fixture.sealed.len() - 3 * SEALED_CHUNK_LEN - 516;
    for chunks in 0..=3 {
        for more in [0, 9, 100] {
            let cut = front + chunks * SEALED_CHUNK_LEN + more;
            let mut message = fixture.open(fixture.sealed[..cut].to_vec()).await;
            let mut got = Vec::new();
            let error = message.read_to_end(&mut got).unwrap_err();
            assert_eq!(ClientError::from_io(error).reason, "DECRYPT_FAILED");
            assert!(got == plaintext(LENGTH)[..chunks * CHUNK_LEN], "{cut}");
            assert!(message.prove_complete().is_err() && message.seek(SeekFrom::End(0)).is_err());
            assert_eq!(message.completeness(), Completeness::Prefix);
            message.seek(SeekFrom::Start(1 << 40)).unwrap();
            assert!(message.read(&mut [0; 1]).is_err(), "beyond the end is an end, too");
        }
    }
}

#[tokio::test]
async fn chunks_in_each_others_places_do_not_open() {
    let fixture = Fixture::new(LENGTH).await;
    let mut sealed = fixture.sealed.clone();
    let front = sealed.len() - 3 * SEALED_CHUNK_LEN - 516;
    sealed[front..].rotate_left(SEALED_CHUNK_LEN);
    let mut message = fixture.open(sealed).await;
    message.seek(SeekFrom::Start(CHUNK_LEN as u64)).unwrap();
    assert!(message.read(&mut [0; 1]).is_err());
}

#[tokio::test]
async fn an_offset_beyond_a_proved_end_reads_nothing_and_one_before_the_start_is_refused() {
    let fixture = Fixture::new(CHUNK_LEN).await;
    let mut message = fixture.open(fixture.sealed.clone()).await;
    for offset in [CHUNK_LEN as u64, CHUNK_LEN as u64 + 1, u64::MAX] {
        message.seek(SeekFrom::Start(offset)).unwrap();
        assert_eq!(message.read(&mut [0; 9]).unwrap(), 0, "{offset}");
    }
    message.rewind().unwrap();
    assert!(message.seek(SeekFrom::Current(-1)).is_err());
    assert!(message.seek(SeekFrom::End(-(CHUNK_LEN as i64) - 1)).is_err());
    assert_eq!(
        message.seek(SeekFrom::End(i64::MIN)).unwrap_err().kind(),
        io::ErrorKind::InvalidInput
    );
}

/// The message may stand behind something else.
#[tokio::test]
async fn a_message_need_not_start_at_the_start() {
    let fixture = Fixture::new(100).await;
    let mut input = Cursor::new([&[7; 33][..], &fixture.sealed].concat());
    input.set_position(33);
    let expected = Expectation::context(context(&[]));
    let mut message = fixture.opener.random_access(input, &expected).await.unwrap();
    let mut all = Vec::new();
    message.read_to_end(&mut all).unwrap();
    assert_eq!(all, plaintext(100));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn any_piece_is_what_it_is_in_the_whole(length in 0usize..3 * CHUNK_LEN, pieces in prop::collection::vec((any::<prop::sample::Index>(), 0usize..40_000), 1..6)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let mut message = runtime.block_on(async {
            let fixture = Fixture::new(length).await;
            fixture.open(fixture.sealed.clone()).await
        });
        let whole = plaintext(length);
        for (start, size) in pieces {
            let start = start.index(length + 1);
            let mut piece = Vec::new();
            message.seek(SeekFrom::Start(start as u64)).unwrap();
            message.by_ref().take(size as u64).read_to_end(&mut piece).unwrap();
            prop_assert!(piece == whole[start..length.min(start + size)]);
        }
    }
}

//! Project Wycheproof vectors of the payload's construction, C2SP chunked-encryption with AES-256-GCM ("Cobblestone-256"), made by
//! another implementation. Each is tried whole, chunk by chunk as a stream, and from its end.

use super::*;
use crate::DecryptFailed;
use aws_lc_rs::digest::{SHA512, digest};
use wycheproof::TestResult;
use wycheproof::chunked_encryption::{Test, TestFlag, TestName, TestSet};

/// What a reader gets of one payload.
struct Read {
    /// The longest prefix that verified.
    prefix: Vec<u8>,
    /// Whether it ended as it should.
    whole: bool,
    /// Whether the chunk at the end opened at its index.
    end_proved: bool,
}

fn read(test: &Test, payload: &[u8]) -> Result<Read, DecryptFailed> {
    let key: &[u8; 32] = test.key[..].try_into().map_err(|_| DecryptFailed)?;
    let (front, chunks) = payload.split_first_chunk().ok_or(DecryptFailed)?;
    let key = PayloadKey::unlock_in(key, front, &test.ctx)?;
    let mut prefix = Vec::new();
    let mut whole = false;
    for (index, sealed) in chunks.chunks(SEALED_CHUNK_LEN).enumerate() {
        match key.open_chunk(index as u64, &mut sealed.to_vec()) {
            Ok(text) => prefix.extend_from_slice(text),
            Err(DecryptFailed) => break,
        }
        whole = sealed.len() < SEALED_CHUNK_LEN;
    }
    let end_proved = Extent::of_sealed(chunks.len() as u64).is_ok_and(|extent| {
        let at = chunks.len() - extent.last_len() - TAG_LEN;
        key.open_chunk(extent.last_index(), &mut chunks[at..].to_vec()).is_ok()
    });
    Ok(Read {
        prefix,
        whole,
        end_proved,
    })
}

#[test]
fn the_payload_opens_as_published() {
    let set = TestSet::load(TestName::Cobblestone256).unwrap();
    let mut tried = 0;
    for test in set.test_groups.iter().flat_map(|group| &group.tests) {
        tried += 1;
        let case = format!("test {}: {}", test.tc_id, test.comment);
        let payload = miniz_oxide::inflate::decompress_to_vec_zlib(&test.ct).unwrap();
        let has = |flag| test.flags.contains(&flag);
        let outcome = read(test, &payload);
        assert_eq!(outcome.is_err(), has(TestFlag::HeaderFailure), "{case}");
        let Ok(outcome) = outcome else {
            continue;
        };
        let valid = test.result == TestResult::Valid;
        assert_eq!(outcome.whole, valid, "{case}");
        assert_eq!(outcome.end_proved, valid || has(TestFlag::ValidFinalChunk), "{case}");
        assert_eq!(outcome.prefix.len(), test.msg_length.unwrap_or(0), "{case}");
        if let Some(hash) = &test.msg_sha512 {
            assert_eq!(digest(&SHA512, &outcome.prefix).as_ref(), &hash[..], "{case}");
        }
    }
    assert_eq!(tried, 35);
}

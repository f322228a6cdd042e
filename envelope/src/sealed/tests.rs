//! The published messages byte for byte, and what every reader must refuse. `Fixture` here also serves the modules' own tests.

use super::*;
use crate::vectors::{array, bytes, section, unhex};
use crate::{DecryptFailed, EncryptionContext};
use proptest::prelude::*;
use serde_json::Value;

/// Message id, salt, data key, wrapped key and context of the published vectors.
pub(super) struct Fixture {
    pub vector: Value,
    pub context: EncryptionContext,
    pub data_key: DataKey,
    pub envelope: Vec<u8>,
}

impl Fixture {
    pub fn new() -> Self {
        let vector = section("sealed_message");
        let context = bytes(&section("encryption_context")["canonical"]);
        Self {
            context: EncryptionContext::from_canonical(&context).unwrap(),
            data_key: DataKey::copied(&bytes(&vector["data_key"])).unwrap(),
            envelope: bytes(&section("data_key_envelope")["envelope"]),
            vector,
        }
    }

    pub fn wrapped(&self) -> WrappedKey {
        WrappedKey::from_envelope(self.envelope.clone()).unwrap()
    }

    pub fn begin(&self, store_context: bool) -> Sealing {
        let (id, salt) = (array(&self.vector["message_id"]), array(&self.vector["salt"]));
        let wrapped = vec![self.wrapped()];
        Sealing::begin_with_fixed(&self.data_key, &self.context, store_context, wrapped, id, salt).unwrap()
    }

    pub fn seal(&self, plaintext: &[u8]) -> Vec<u8> {
        seal(&self.begin(true), plaintext)
    }

    pub fn open(&self, message: &[u8]) -> Result<Vec<u8>, DecryptFailed> {
        open(&self.data_key, &self.context, message)
    }
}

/// The whole message, chunk after chunk.
pub(super) fn seal(sealing: &Sealing, plaintext: &[u8]) -> Vec<u8> {
    let extent = Extent::of_plaintext(plaintext.len() as u64).unwrap();
    let mut message = sealing.front();
    for index in 0..=extent.last_index() {
        let at = index as usize * CHUNK_LEN;
        let text = &plaintext[at..plaintext.len().min(at + CHUNK_LEN)];
        let start = message.len();
        message.resize(start + text.len() + TAG_LEN, 0);
        sealing
            .key()
            .seal_chunk_into(index, text, &mut message[start..])
            .unwrap();
    }
    assert_eq!(message.len() as u64, sealing.front().len() as u64 + extent.sealed_len());
    message
}

/// The plaintext of a whole message, as a careful reader gets it.
pub(super) fn open(data_key: &DataKey, context: &EncryptionContext, message: &[u8]) -> Result<Vec<u8>, DecryptFailed> {
    let (header, payload) = Header::split(message)?;
    let context = header.stored_context().unwrap_or(context);
    let (prefix, chunks) = payload.split_first_chunk().ok_or(DecryptFailed)?;
    let key = PayloadKey::unlock(data_key, &header, prefix, context)?;
    let extent = Extent::of_sealed(chunks.len() as u64)?;
    let mut plaintext = vec![0; extent.plaintext_len() as usize];
    for (index, sealed) in chunks.chunks(SEALED_CHUNK_LEN).enumerate() {
        let at = index * CHUNK_LEN;
        let text = &mut plaintext[at..at + sealed.len() - TAG_LEN];
        key.open_chunk_into(index as u64, sealed, text)?;
    }
    Ok(plaintext)
}

fn check(message: &[u8], published: &Value) {
    assert_eq!(message.len() as u64, published["length"].as_u64().unwrap());
    assert_eq!(
        crate::sha256(message)[..],
        bytes(&published["sha256"])[..],
        "{}",
        published["name"]
    );
}

/// `hex:…`, or `aa x 20480`.
fn plaintext(text: &str) -> Vec<u8> {
    match text.split_once(" x ") {
        Some((byte, count)) => unhex(byte).repeat(count.parse().unwrap()),
        None => unhex(text.strip_prefix("hex:").unwrap()),
    }
}

#[test]
fn the_published_messages_are_made_and_opened() {
    let fixture = Fixture::new();
    let sealing = fixture.begin(true);
    assert_eq!(
        sealing.header().encoded_len() as u64,
        fixture.vector["header_length"].as_u64().unwrap()
    );
    let cases = fixture.vector["cases"].as_array().unwrap();
    assert_eq!(cases.len(), 4);
    for case in cases {
        let plaintext = plaintext(case["plaintext"].as_str().unwrap());
        let message = fixture.seal(&plaintext);
        check(&message, case);
        assert_eq!(fixture.open(&message).unwrap(), plaintext, "{}", case["name"]);
    }
    let bare = seal(&fixture.begin(false), b"hello");
    check(&bare, &fixture.vector["hello_without_stored_context"]);
    assert_eq!(fixture.open(&bare).unwrap(), b"hello");
}

#[test]
fn a_wrapped_key_of_an_unknown_kind_is_kept_and_passed_over() {
    let fixture = Fixture::new();
    let published = &fixture.vector["hello_two_wrapped_keys"];
    let message = bytes(&published["message"]);
    check(&message, published);
    let (header, _) = Header::split(&message).unwrap();
    assert_eq!(header.wrapped_keys().len(), 2);
    assert_eq!(header.wrapped_keys()[0].kind(), 9);
    assert!(header.wrapped_keys()[0].envelope_header().is_none());
    assert_eq!(header.wrapped_keys()[1], fixture.wrapped());
    assert_eq!(header.encode(), message[..header.encoded_len()]);
    assert_eq!(fixture.open(&message).unwrap(), b"hello");
}

#[test]
fn a_rewrap_changes_no_byte_of_the_payload_and_no_identity() {
    let fixture = Fixture::new();
    let message = fixture.seal(b"hello");
    let two = bytes(&fixture.vector["hello_two_wrapped_keys"]["message"]);
    let ((one_header, one), (two_header, two)) = (Header::split(&message).unwrap(), Header::split(&two).unwrap());
    assert_eq!(one, two);
    let again = one_header
        .with_wrapped_keys(two_header.wrapped_keys().to_vec())
        .unwrap();
    assert_eq!(again, two_header);
}

#[test]
fn every_flipped_bit_of_a_small_message_is_refused_or_changes_a_wrapped_key_only() {
    let fixture = Fixture::new();
    let message = fixture.seal(b"hello");
    let (header, _) = Header::split(&message).unwrap();
    let envelope = header.encoded_len() - fixture.envelope.len()..header.encoded_len();
    let kind = envelope.start - 4;
    for bit in 0..message.len() * 8 {
        let mut flipped = message.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        let opened = fixture.open(&flipped);
        if envelope.contains(&(bit / 8)) || bit / 8 == kind {
            // Outside of what the payload is bound to: whoever unwraps it notices, or the commitment does.
            let (header, _) = Header::split(&flipped).unwrap();
            assert_ne!(header.wrapped_keys()[0], fixture.wrapped(), "bit {bit}");
            assert_eq!(opened.unwrap(), b"hello", "bit {bit}");
        } else {
            assert_eq!(opened, Err(DecryptFailed), "bit {bit}");
        }
    }
}

#[test]
fn chunks_cannot_be_cut_off_dropped_doubled_or_moved() {
    let fixture = Fixture::new();
    let plaintext: Vec<u8> = (0..3 * CHUNK_LEN + 100).map(|at| (at / 7) as u8).collect();
    let message = fixture.seal(&plaintext);
    let front = fixture.begin(true).front();
    let chunks: Vec<&[u8]> = message[front.len()..].chunks(SEALED_CHUNK_LEN).collect();
    assert_eq!(chunks.len(), 4);
    let with = |order: &[usize]| {
        let chosen = order.iter().map(|&at| chunks[at]);
        [&front[..]].into_iter().chain(chosen).collect::<Vec<_>>().concat()
    };
    assert_eq!(fixture.open(&with(&[0, 1, 2, 3])).unwrap(), plaintext);
    for order in [
        &[][..],
        &[0],
        &[0, 1, 2],
        &[0, 1, 3],
        &[1, 2, 3],
        &[3],
        &[0, 0, 1, 2, 3],
        &[0, 1, 2, 3, 3],
        &[1, 0, 2, 3],
        &[0, 2, 1, 3],
        &[3, 0, 1, 2],
    ] {
        assert_eq!(fixture.open(&with(order)), Err(DecryptFailed), "{order:?}");
    }
    for length in (0..front.len()).chain((front.len()..message.len()).step_by(97)) {
        assert_eq!(fixture.open(&message[..length]), Err(DecryptFailed), "{length} bytes");
    }
    let longer = [&message[..], &[0]].concat();
    assert_eq!(fixture.open(&longer), Err(DecryptFailed));
}

#[test]
fn chunks_of_another_message_under_the_same_data_key_do_not_fit() {
    let fixture = Fixture::new();
    let begin = || Sealing::begin(&fixture.data_key, &fixture.context, true, vec![fixture.wrapped()]).unwrap();
    let (a, b) = (begin(), begin());
    assert_ne!(a.header().message_id(), b.header().message_id());
    let (mut a, b) = (seal(&a, b"one"), seal(&b, b"two"));
    let at = a.len() - 19;
    a[at..].copy_from_slice(&b[at..]);
    assert_eq!(fixture.open(&a), Err(DecryptFailed));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn whatever_is_sealed_opens(length in 0usize..3 * CHUNK_LEN, byte: u8, store: bool) {
        let fixture = Fixture::new();
        let plaintext = vec![byte; length];
        let sealing = Sealing::begin(&fixture.data_key, &fixture.context, store, vec![fixture.wrapped()]).unwrap();
        let message = seal(&sealing, &plaintext);
        prop_assert!(!message.windows(24).any(|window| window == [byte; 24]));
        prop_assert_eq!(fixture.open(&message).unwrap(), plaintext);
    }

    #[test]
    fn a_message_that_was_cut_or_changed_anywhere_does_not_open(length in 0usize..2 * CHUNK_LEN, at: prop::sample::Index, cut: bool, bit in 0u8..8) {
        let fixture = Fixture::new();
        let mut message = fixture.seal(&vec![7; length]);
        let header = fixture.begin(true).header().encoded_len();
        // The wrapped key is not bound; its own tests are above.
        let at = header + at.index(message.len() - header);
        match cut {
            true => message.truncate(at),
            false => message[at] ^= 1 << bit,
        }
        prop_assert_eq!(fixture.open(&message), Err(DecryptFailed));
    }
}

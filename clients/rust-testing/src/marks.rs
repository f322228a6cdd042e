//! What tells keys and ciphertexts of a double from those of a service.
//!
//! The service draws key ids as UUIDs of version 4. A double's have version 8 (RFC 9562, for private use) and begin with the ASCII of
//! "double": `646f7562-6c65-8…`, whatever language it is in. The key id is in the header of every ciphertext and bound by it, so that the
//! mark cannot be taken off, and no service has a key of such an id (`docs/formats.md`, section 3).

use aws_lc_rs::rand;
use keyreeve_envelope::{Header, KeyId, sealed};

const PREFIX: &[u8; 6] = b"double";
const VERSION: u8 = 8;

/// A marked id; 74 bits of it are random.
pub fn new_key_id() -> keyreeve::Result<KeyId> {
    let mut id = [0; 16];
    rand::fill(&mut id).map_err(keyreeve::Error::internal)?;
    id[..6].copy_from_slice(PREFIX);
    id[6] = id[6] & 0x0F | VERSION << 4;
    id[8] = id[8] & 0x3F | 0x80;
    Ok(KeyId::from_bytes(id))
}

/// Is it the id of a key of a double? Its text, as a UUID is written.
pub fn is_test_key_id(key_id: &str) -> bool {
    uuid::Uuid::try_parse(key_id).is_ok_and(|id| is_marked(id.as_bytes()))
}

/// Was it made by a double? A ciphertext, a wrapped data key, or a sealed message, any of whose keys is a double's.
pub fn is_test_ciphertext(data: &[u8]) -> bool {
    if let Ok(header) = Header::parse(data) {
        return is_marked(header.key_id().as_bytes());
    }
    let Ok((message, _)) = sealed::Header::split(data) else {
        return false;
    };
    let mut envelopes = message.wrapped_keys().iter().filter_map(|key| key.envelope_header());
    envelopes.any(|header| is_marked(header.key_id().as_bytes()))
}

fn is_marked(id: &[u8; 16]) -> bool {
    id.starts_with(PREFIX) && id[6] >> 4 == VERSION && id[8] >> 6 == 0b10
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn new_ids_are_marked_and_differ() {
        let ids: std::collections::BTreeSet<_> = (0..100).map(|_| *new_key_id().unwrap().as_bytes()).collect();
        assert_eq!(ids.len(), 100);
        for id in ids {
            let id = uuid::Uuid::from_bytes(id);
            assert_eq!((id.get_version_num(), id.get_variant()), (8, uuid::Variant::RFC4122));
            assert!(is_test_key_id(&id.to_string()));
        }
    }

    #[test]
    fn ids_of_a_service_and_other_texts_are_not_marked() {
        let of_a_service = uuid::Uuid::new_v4().to_string();
        for other in [
            &of_a_service,
            "646f7562-6c65-4000-8000-000000000000",
            "646f7562-6c65-8000-0000-000000000000",
            "",
        ] {
            assert!(!is_test_key_id(other), "{other}");
        }
        assert!(
            is_test_key_id("646f7562-6c65-8000-8000-000000000000"),
            "as Python writes it"
        );
    }

    /// Suite 0002, version 1 of a key: header, salt, commitment, iv and tag of an empty message.
    #[test]
    fn the_mark_is_read_out_of_the_header_of_any_envelope() {
        let envelope = |key: &str| {
            let key = uuid::Uuid::try_parse(key).unwrap();
            let (start, end) = (b"\xe5ENV\x01\x00\x00\x02", [0, 0, 0, 1, 0, 0, 0, 92]);
            [&start[..], key.as_bytes(), &end, &[7; 92]].concat()
        };
        assert!(is_test_ciphertext(&envelope("646f7562-6c65-8abc-9def-000000000001")));
        assert!(!is_test_ciphertext(&envelope(&uuid::Uuid::new_v4().to_string())));
    }

    #[test]
    fn what_is_no_ciphertext_is_not_a_doubles() {
        for other in [&b""[..], b"double", &[0; 64]] {
            assert!(!is_test_ciphertext(other));
        }
    }
}

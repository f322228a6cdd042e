//! Arbitrary bytes as a sealed message: no panic, what parses encodes back, and nothing opens.

#![no_main]

use keyreeve_envelope::EncryptionContext;
use keyreeve_envelope::sealed::{DataKey, Extent, Header, PayloadKey, Prefix};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let prefix = bytes.first_chunk().and_then(|prefix| Prefix::parse(prefix).ok());
    let Ok((header, payload)) = Header::split(bytes) else {
        return;
    };
    let length = prefix.expect("what splits has a prefix").header_len();
    assert_eq!(length, header.encoded_len());
    assert_eq!(header.encode(), bytes[..length]);
    assert_eq!(Header::parse(&bytes[..length]), Ok(header.clone()));
    for key in header.wrapped_keys() {
        if let Some(envelope) = key.envelope_header() {
            assert!(key.kind() == 1 && envelope.is_data_key() && envelope.envelope_len() == key.as_bytes().len());
        }
    }
    let Some((front, chunks)) = payload.split_first_chunk() else {
        return;
    };
    if let Ok(extent) = Extent::of_sealed(chunks.len() as u64) {
        assert_eq!(extent.sealed_len(), chunks.len() as u64);
    }
    // Nobody finds a commitment of 32 bytes by chance.
    let data_key = DataKey::copied(&[7; 32]).expect("32 bytes");
    assert!(PayloadKey::unlock(&data_key, &header, front, &EncryptionContext::empty()).is_err());
});

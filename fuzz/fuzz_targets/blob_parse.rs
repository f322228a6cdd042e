//! Arbitrary bytes as a wrapped key blob: no panic, and what parses encodes back to the same bytes.

#![no_main]

use keyreeve_envelope::blob::WrappedKey;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(unverified) = WrappedKey::parse(bytes) else {
        return;
    };
    let tag: [u8; 32] = *bytes.last_chunk().expect("what parses has a tag");
    let mut other = tag;
    other[0] ^= 1;
    assert!(unverified.verify(&other).is_err());
    let key = unverified.verify(&tag).expect("its own tag");
    assert_eq!(key.encode(&tag).expect("what parses keeps the rules"), bytes);
    assert_eq!(
        key.tag_input().expect("what parses keeps the rules"),
        unverified.tag_input()
    );
});

//! Arbitrary bytes as a canonical context: accepted only if building it anew from its pairs gives the same bytes.

#![no_main]

use keyreeve_envelope::EncryptionContext;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    match EncryptionContext::from_canonical(bytes) {
        Ok(context) => {
            assert_eq!(context.canonical(), bytes);
            assert_eq!(context.len(), context.pairs().count());
            let again = EncryptionContext::from_pairs(context.pairs()).expect("a valid context");
            assert_eq!(again.canonical(), bytes);
        }
        Err(error) => assert!(!error.to_string().is_empty() && !error.field().is_empty()),
    }
});

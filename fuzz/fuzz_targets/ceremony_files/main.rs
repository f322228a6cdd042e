//! Arbitrary bytes as each file that a ceremony reads: no panic; what parses is what Keyreeve would write, byte for byte, has no field
//! that it does not know, and is signed by nobody.

#![no_main]

mod token;

use libfuzzer_sys::fuzz_target;

use token::{
    ceremony::{
        signed::{Signed, Statement},
        statements::{EnrolRequest, Receipt, Transfer},
    },
    custodians::Signatures,
    manifest::Manifest,
};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(manifest) = Manifest::parse(bytes) {
        let written = manifest.bytes();
        assert_eq!(Manifest::parse(&written).expect("it was a manifest"), manifest);
        refuses_an_unknown_field(&written, |bytes| Manifest::parse(bytes).is_ok());
        for token in manifest.tokens() {
            let (audit, transport) = (token.audit_key(), token.transport_key());
            assert!(audit.is_none_or(|key| !key.verifies(bytes, bytes)));
            assert!(transport.is_none_or(|key| key.bits() >= 3072));
        }
    }
    if let Ok(signatures) = Signatures::parse(bytes) {
        let written = serde_json::to_vec(&signatures).expect("strings always serialise");
        assert_eq!(Signatures::parse(&written).expect("they were signatures"), signatures);
        refuses_an_unknown_field(&written, |bytes| Signatures::parse(bytes).is_ok());
    }
    statement::<EnrolRequest>(bytes);
    statement::<Transfer>(bytes);
    statement::<Receipt>(bytes);
});

fn statement<S: Statement>(bytes: &[u8]) {
    if let Ok(file) = Signed::<S>::parse(bytes) {
        assert_eq!(file.text(), bytes);
        assert_eq!(file.sha256().len(), 64);
        refuses_an_unknown_field(bytes, |bytes| Signed::<S>::parse(bytes).is_ok());
    }
}

/// The first object is the outermost: with one field more nobody may take it.
fn refuses_an_unknown_field(written: &[u8], is_taken: impl Fn(&[u8]) -> bool) {
    let more = [b"{\"unknown\":0,", &written[1..]].concat();
    assert!(!is_taken(&more));
}

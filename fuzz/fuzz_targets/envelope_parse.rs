//! Arbitrary bytes as an envelope: no panic, and what parses encodes back to the same header and lengths.

#![no_main]

use keyreeve_envelope::{Header, Suite, prf_commit, token_gcm};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let header = Header::parse(bytes);
    let prf_commit = prf_commit::Envelope::parse(bytes);
    let token_gcm = token_gcm::Envelope::parse(bytes);
    let Ok(header) = header else {
        assert!(prf_commit.is_err() && token_gcm.is_err());
        return;
    };
    assert_eq!(header.encode(), bytes[..32]);
    assert_eq!(header.envelope_len(), bytes.len());
    assert_eq!(prf_commit.is_ok(), header.suite() == Suite::PrfCommit);
    assert_eq!(token_gcm.is_ok(), header.suite() == Suite::TokenGcm);
    if let Ok(envelope) = prf_commit {
        let input = envelope.kdf_input(&[7; 32]);
        assert_eq!(input[11..75], bytes[..64]);
        // Nobody finds a commitment of 32 bytes by chance.
        let keys = prf_commit::MessageKeys::from_prf_output(&[0x5a; 64]);
        let honest = bytes[64..96] == [0x5a; 32];
        assert!(honest || prf_commit::open(&keys, &envelope, &[7; 32]).is_err());
    }
    if let Ok(envelope) = token_gcm {
        assert_eq!(envelope.audit_link(), bytes[bytes.len() - 16..]);
    }
});

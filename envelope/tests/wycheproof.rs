//! Project Wycheproof vectors for the primitives under the formats, as aws-lc-rs computes them on this machine:
//! AES-256-GCM (envelopes), HMAC-SHA-256 and HMAC-SHA-512 (tags, salts, key derivation), AES-CMAC (key check values),
//! AES-256 key wrap with and without padding (blobs), HKDF-SHA-512 (payload keys of sealed messages).

#![allow(clippy::unwrap_used, reason = "helpers of tests may stop at the first surprise, too")]

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::key_wrap::{AES_256, AesKek, KeyWrap, KeyWrapPadded};
use aws_lc_rs::{cmac, hkdf, hmac};
use wycheproof::{TestResult, aead, keywrap, mac};

#[test]
fn aes_256_gcm_seals_and_opens_as_published() {
    let set = aead::TestSet::load(aead::TestName::AesGcm).unwrap();
    let mut tried = 0;
    // 96-bit nonces and 128-bit tags are all that the formats use and all that aws-lc-rs offers.
    for group in set
        .test_groups
        .iter()
        .filter(|g| (g.key_size, g.nonce_size, g.tag_size) == (256, 96, 128))
    {
        for test in &group.tests {
            let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &test.key).unwrap());
            let nonce = || Nonce::try_assume_unique_for_key(&test.nonce).unwrap();
            let valid = test.result == TestResult::Valid;

            let mut opened = vec![0; test.ct.len()];
            let result = key.open_separate_gather(nonce(), Aad::from(&test.aad[..]), &test.ct, &test.tag, &mut opened);
            assert_eq!(result.is_ok(), valid, "test {}", test.tc_id);
            if valid {
                assert_eq!(opened, test.pt[..], "test {}", test.tc_id);
            }

            let mut sealed = test.pt.to_vec();
            let tag = key
                .seal_in_place_separate_tag(nonce(), Aad::from(&test.aad[..]), &mut sealed)
                .unwrap();
            assert_eq!(
                sealed == test.ct[..] && tag.as_ref() == &test.tag[..],
                valid,
                "test {}",
                test.tc_id
            );
            tried += 1;
        }
    }
    assert!(tried > 60, "{tried} vectors");
}

#[test]
fn hmac_is_computed_as_published() {
    for (name, algorithm) in [
        (mac::TestName::HmacSha256, hmac::HMAC_SHA256),
        (mac::TestName::HmacSha512, hmac::HMAC_SHA512),
    ] {
        check_macs(
            name,
            |_| true,
            |key, message| hmac::sign(&hmac::Key::new(algorithm, key), message).as_ref().to_vec(),
        );
    }
}

#[test]
fn aes_256_cmac_is_computed_as_published() {
    check_macs(
        mac::TestName::AesCmac,
        |key_size| key_size == 256,
        |key, message| {
            let key = cmac::Key::new(cmac::AES_256, key).unwrap();
            cmac::sign(&key, message).unwrap().as_ref().to_vec()
        },
    );
}

#[test]
fn hkdf_sha_512_is_computed_as_published() {
    struct Length(usize);
    impl hkdf::KeyType for Length {
        fn len(&self) -> usize {
            self.0
        }
    }
    let set = wycheproof::hkdf::TestSet::load(wycheproof::hkdf::TestName::HkdfSha512).unwrap();
    let mut tried = 0;
    for test in set.test_groups.iter().flat_map(|group| &group.tests) {
        let key = hkdf::Salt::new(hkdf::HKDF_SHA512, &test.salt).extract(&test.ikm);
        let mut output = vec![0; test.size];
        let info = [&test.info[..]];
        let made = key
            .expand(&info, Length(test.size))
            .and_then(|made| made.fill(&mut output));
        assert_eq!(made.is_ok(), test.result == TestResult::Valid, "test {}", test.tc_id);
        if made.is_ok() {
            assert_eq!(output, test.okm[..], "test {}", test.tc_id);
        }
        tried += 1;
    }
    assert!(tried > 60, "{tried} vectors");
}

/// Tags may be published truncated: so many first bytes are compared.
fn check_macs(name: mac::TestName, key_size: impl Fn(usize) -> bool, compute: impl Fn(&[u8], &[u8]) -> Vec<u8>) {
    let set = mac::TestSet::load(name).unwrap();
    let mut tried = 0;
    for group in set.test_groups.iter().filter(|group| key_size(group.key_size)) {
        for test in &group.tests {
            let computed = compute(&test.key, &test.msg);
            let equal = computed[..group.tag_size / 8] == test.tag[..];
            assert_eq!(equal, test.result == TestResult::Valid, "{name:?}, test {}", test.tc_id);
            tried += 1;
        }
    }
    assert!(tried > 60, "{tried} vectors of {name:?}");
}

#[test]
fn aes_256_key_wrap_wraps_and_unwraps_as_published() {
    check_key_wrap(
        keywrap::TestName::AesKeyWrap,
        |kek, secret, out| kek.wrap(secret, out).map(|wrapped| wrapped.len()),
        |kek, wrapped, out| kek.unwrap(wrapped, out).map(|secret| secret.len()),
    );
}

#[test]
fn aes_256_key_wrap_with_padding_wraps_and_unwraps_as_published() {
    check_key_wrap(
        keywrap::TestName::AesKeyWrapWithPadding,
        |kek, secret, out| kek.wrap_with_padding(secret, out).map(|wrapped| wrapped.len()),
        |kek, wrapped, out| kek.unwrap_with_padding(wrapped, out).map(|secret| secret.len()),
    );
}

/// Input, output buffer; answers how much of the buffer was written.
type KeyWrapCall = fn(AesKek, &[u8], &mut [u8]) -> Result<usize, aws_lc_rs::error::Unspecified>;

fn check_key_wrap(name: keywrap::TestName, wrap: KeyWrapCall, unwrap: KeyWrapCall) {
    let set = keywrap::TestSet::load(name).unwrap();
    let mut tried = 0;
    for group in set.test_groups.iter().filter(|group| group.key_size == 256) {
        for test in &group.tests {
            let kek = || AesKek::new(&AES_256, &test.key).unwrap();
            let mut buffer = vec![0; test.ct.len().max(test.pt.len()) + 16];
            let unwrapped = unwrap(kek(), &test.ct, &mut buffer);
            match test.result {
                TestResult::Invalid => assert!(unwrapped.is_err(), "{name:?}, test {}", test.tc_id),
                TestResult::Acceptable if unwrapped.is_err() => {}
                TestResult::Valid | TestResult::Acceptable => {
                    assert_eq!(
                        buffer[..unwrapped.unwrap()],
                        test.pt[..],
                        "{name:?}, test {}",
                        test.tc_id
                    );
                    let length = wrap(kek(), &test.pt, &mut buffer).unwrap();
                    assert_eq!(buffer[..length], test.ct[..], "{name:?}, test {}", test.tc_id);
                }
            }
            tried += 1;
        }
    }
    assert!(tried > 60, "{tried} vectors of {name:?}");
}

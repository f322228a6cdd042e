//! Loads `tests/vectors/formats-v1.json` for the unit tests.

use serde_json::Value;

/// The section `name` of the vector file.
pub(crate) fn section(name: &str) -> Value {
    let file = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/vectors/formats-v1.json"));
    let mut vectors: Value = serde_json::from_str(file).unwrap();
    vectors[name].take()
}

pub(crate) fn unhex(hex: &str) -> Vec<u8> {
    data_encoding::HEXLOWER.decode(hex.as_bytes()).unwrap()
}

pub(crate) fn bytes(value: &Value) -> Vec<u8> {
    unhex(value.as_str().unwrap())
}

pub(crate) fn array<const N: usize>(value: &Value) -> [u8; N] {
    bytes(value).try_into().unwrap()
}

/// What a token computes with a type 1 key.
pub(crate) fn hmac_sha512(key: &[u8], input: &[u8]) -> [u8; 64] {
    let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA512, key);
    aws_lc_rs::hmac::sign(&key, input).as_ref().try_into().unwrap()
}

pub(crate) fn hmac_sha256(key: &[u8], input: &[u8]) -> [u8; 32] {
    let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, key);
    aws_lc_rs::hmac::sign(&key, input).as_ref().try_into().unwrap()
}

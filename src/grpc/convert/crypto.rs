//! Answers of `CryptoService`. Checksums are computed over the buffer that is sent.

use bytes::Bytes;
use crc32c::crc32c;
use keyreeve_envelope::Plaintext;
use keyreeve_proto::v1 as proto;
use proto::{
    batch_decrypt_response, batch_encrypt_response, batch_generate_data_key_response, batch_unwrap_data_key_response,
};

use super::item_error;
use crate::operations::{Batch, DataKey, Opened, RandomBytes, ReEncrypted, Sealed};

pub(super) fn encrypted(sealed: Sealed) -> proto::EncryptResponse {
    proto::EncryptResponse {
        ciphertext_crc32c: crc32c(&sealed.ciphertext),
        ciphertext: sealed.ciphertext.into(),
        key_version: sealed.version.number(),
    }
}

pub(super) fn decrypted(opened: Opened) -> proto::DecryptResponse {
    proto::DecryptResponse {
        plaintext_crc32c: crc32c(opened.plaintext.as_bytes()),
        plaintext: wiped(opened.plaintext),
        key_version: opened.version.number(),
    }
}

pub(super) fn reencrypted(answer: ReEncrypted) -> proto::ReEncryptResponse {
    proto::ReEncryptResponse {
        ciphertext_crc32c: crc32c(&answer.sealed.ciphertext),
        ciphertext: answer.sealed.ciphertext.into(),
        source_key_version: answer.source_version.number(),
        key_version: answer.sealed.version.number(),
    }
}

pub(super) fn data_key(made: DataKey) -> proto::GenerateDataKeyResponse {
    proto::GenerateDataKeyResponse {
        plaintext_crc32c: crc32c(made.plaintext.as_bytes()),
        ciphertext_crc32c: crc32c(&made.sealed.ciphertext),
        plaintext: wiped(made.plaintext),
        ciphertext: made.sealed.ciphertext.into(),
        key_version: made.sealed.version.number(),
    }
}

pub(super) fn data_key_envelope(sealed: Sealed) -> proto::GenerateDataKeyWithoutPlaintextResponse {
    proto::GenerateDataKeyWithoutPlaintextResponse {
        ciphertext_crc32c: crc32c(&sealed.ciphertext),
        ciphertext: sealed.ciphertext.into(),
        key_version: sealed.version.number(),
    }
}

pub(super) fn wrapped(sealed: Sealed) -> proto::WrapDataKeyResponse {
    proto::WrapDataKeyResponse {
        ciphertext_crc32c: crc32c(&sealed.ciphertext),
        ciphertext: sealed.ciphertext.into(),
        key_version: sealed.version.number(),
    }
}

pub(super) fn unwrapped(opened: Opened) -> proto::UnwrapDataKeyResponse {
    proto::UnwrapDataKeyResponse {
        plaintext_crc32c: crc32c(opened.plaintext.as_bytes()),
        plaintext: wiped(opened.plaintext),
        key_version: opened.version.number(),
    }
}

pub(super) fn random(bytes: RandomBytes) -> proto::GenerateRandomResponse {
    proto::GenerateRandomResponse {
        data_crc32c: crc32c(bytes.0.as_bytes()),
        data: wiped(bytes.0),
    }
}

/// A function from a batch to its response: each item by the function for the call alone, or its error.
macro_rules! batch {
    ($($name:ident: $answer:ty => $response:ident, $module:ident by $item:path;)+) => {
        $(
            pub(super) fn $name(batch: Batch<$answer>) -> proto::$response {
                let results = batch.0.into_iter().map(|item| $module::Result {
                    result: Some(match item {
                        Ok(item) => $module::result::Result::Success($item(item)),
                        Err(error) => $module::result::Result::Error(item_error(&error)),
                    }),
                });
                proto::$response { results: results.collect() }
            }
        )+
    };
}

batch! {
    batch_encrypted: Sealed => BatchEncryptResponse, batch_encrypt_response by encrypted;
    batch_decrypted: Opened => BatchDecryptResponse, batch_decrypt_response by decrypted;
    batch_data_keys: DataKey => BatchGenerateDataKeyResponse, batch_generate_data_key_response by data_key;
    batch_unwrapped: Opened => BatchUnwrapDataKeyResponse, batch_unwrap_data_key_response by unwrapped;
}

/// The same buffer as the message takes it, still wiped when it is dropped.
fn wiped(plaintext: Plaintext) -> Bytes {
    Bytes::from_owner(plaintext.into_inner())
}

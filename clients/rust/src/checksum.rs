//! CRC32C (Castagnoli) of what may not change on its way: set on requests, checked on answers.

use crate::{ClientError, v1};

/// A request: fills in the checksums that its caller left out.
pub(crate) trait Outgoing {
    fn set_checksums(&mut self) {}
}

/// An answer: names the first field whose checksum does not match.
pub(crate) trait Incoming {
    fn check(&self) -> Result<(), ClientError> {
        Ok(())
    }
}

fn set(of: &[u8], checksum: &mut Option<u32>) {
    checksum.get_or_insert_with(|| crc32c::crc32c(of));
}

fn check(field: &str, of: &[u8], checksum: u32) -> Result<(), ClientError> {
    if crc32c::crc32c(of) == checksum {
        Ok(())
    } else {
        Err(ClientError::checksum(field))
    }
}

macro_rules! outgoing {
    ($($message:ty: $field:ident, $checksum:ident;)+) => {$(
        impl Outgoing for $message {
            fn set_checksums(&mut self) {
                set(&self.$field, &mut self.$checksum);
            }
        }
    )+};
}

macro_rules! outgoing_items {
    ($($message:ty: $field:ident, $checksum:ident;)+) => {$(
        impl Outgoing for $message {
            fn set_checksums(&mut self) {
                for item in &mut self.items {
                    set(&item.$field, &mut item.$checksum);
                }
            }
        }
    )+};
}

macro_rules! incoming {
    ($($message:ty: $($field:ident, $checksum:ident),+;)+) => {$(
        impl Incoming for $message {
            fn check(&self) -> Result<(), ClientError> {
                $(check(stringify!($field), &self.$field, self.$checksum)?;)+
                Ok(())
            }
        }
    )+};
}

macro_rules! incoming_results {
    ($($message:ty: $result:path;)+) => {$(
        impl Incoming for $message {
            fn check(&self) -> Result<(), ClientError> {
                for result in &self.results {
                    if let Some($result(answer)) = &result.result {
                        answer.check()?;
                    }
                }
                Ok(())
            }
        }
    )+};
}

macro_rules! plain {
    ($($request:ident => $response:ident;)+) => {$(
        impl Outgoing for v1::$request {}
        impl Incoming for v1::$response {}
    )+};
}

outgoing! {
    v1::EncryptRequest: plaintext, plaintext_crc32c;
    v1::DecryptRequest: ciphertext, ciphertext_crc32c;
    v1::ReEncryptRequest: ciphertext, ciphertext_crc32c;
    v1::WrapDataKeyRequest: plaintext, plaintext_crc32c;
    v1::UnwrapDataKeyRequest: ciphertext, ciphertext_crc32c;
}
impl Outgoing for v1::GenerateDataKeyRequest {}
impl Outgoing for v1::GenerateDataKeyWithoutPlaintextRequest {}
impl Outgoing for v1::GenerateRandomRequest {}
impl Outgoing for v1::BatchGenerateDataKeyRequest {}
outgoing_items! {
    v1::BatchEncryptRequest: plaintext, plaintext_crc32c;
    v1::BatchDecryptRequest: ciphertext, ciphertext_crc32c;
    v1::BatchUnwrapDataKeyRequest: ciphertext, ciphertext_crc32c;
}

incoming! {
    v1::EncryptResponse: ciphertext, ciphertext_crc32c;
    v1::DecryptResponse: plaintext, plaintext_crc32c;
    v1::ReEncryptResponse: ciphertext, ciphertext_crc32c;
    v1::GenerateDataKeyResponse: plaintext, plaintext_crc32c, ciphertext, ciphertext_crc32c;
    v1::GenerateDataKeyWithoutPlaintextResponse: ciphertext, ciphertext_crc32c;
    v1::WrapDataKeyResponse: ciphertext, ciphertext_crc32c;
    v1::UnwrapDataKeyResponse: plaintext, plaintext_crc32c;
    v1::GenerateRandomResponse: data, data_crc32c;
}
incoming_results! {
    v1::BatchEncryptResponse: v1::batch_encrypt_response::result::Result::Success;
    v1::BatchDecryptResponse: v1::batch_decrypt_response::result::Result::Success;
    v1::BatchGenerateDataKeyResponse: v1::batch_generate_data_key_response::result::Result::Success;
    v1::BatchUnwrapDataKeyResponse: v1::batch_unwrap_data_key_response::result::Result::Success;
}

plain! {
    CreateEnvironmentRequest => CreateEnvironmentResponse;
    GetEnvironmentRequest => GetEnvironmentResponse;
    ListEnvironmentsRequest => ListEnvironmentsResponse;
    CreateTeamRequest => CreateTeamResponse;
    GetTeamRequest => GetTeamResponse;
    ListTeamsRequest => ListTeamsResponse;
    CreateKeyRequest => CreateKeyResponse;
    GetKeyRequest => GetKeyResponse;
    ListKeysRequest => ListKeysResponse;
    RotateKeyRequest => RotateKeyResponse;
    SuspendKeyRequest => SuspendKeyResponse;
    ResumeKeyRequest => ResumeKeyResponse;
    DeactivateKeyRequest => DeactivateKeyResponse;
    CompromiseKeyRequest => CompromiseKeyResponse;
    DestroyKeyRequest => DestroyKeyResponse;
    CancelKeyDestructionRequest => CancelKeyDestructionResponse;
    AttestKeyRequest => AttestKeyResponse;
    VerifyKeysRequest => VerifyKeysResponse;
    GetStatusRequest => GetStatusResponse;
    WhoAmIRequest => WhoAmIResponse;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_get_the_checksum_their_caller_left_out() {
        let mut request = v1::EncryptRequest {
            plaintext: "123456789".into(),
            ..Default::default()
        };
        request.set_checksums();
        // Check value of CRC-32C: RFC 3720, appendix B.4 (and every catalogue of CRCs).
        assert_eq!(request.plaintext_crc32c, Some(0xE306_9283));
        request.plaintext_crc32c = Some(7);
        request.set_checksums();
        assert_eq!(request.plaintext_crc32c, Some(7), "a checksum of the caller is kept");
    }

    #[test]
    fn an_answer_that_changed_on_its_way_is_refused() {
        let mut answer = v1::GenerateDataKeyResponse {
            plaintext: "key".into(),
            plaintext_crc32c: crc32c::crc32c(b"key"),
            ciphertext: "envelope".into(),
            ciphertext_crc32c: crc32c::crc32c(b"envelope"),
            ..Default::default()
        };
        assert!(answer.check().is_ok());
        answer.ciphertext = "enveIope".into();
        let error = answer.check().expect_err("it is refused");
        assert_eq!(error.reason, "CHECKSUM_MISMATCH");
        assert!(error.message.contains("`ciphertext`"), "{error}");
    }

    #[test]
    fn every_item_of_a_batch_is_checked() {
        use v1::batch_decrypt_response::{Result as Item, result::Result::Success};
        let item = |crc| Item {
            result: Some(Success(v1::DecryptResponse {
                plaintext: "a".into(),
                key_version: 1,
                plaintext_crc32c: crc,
            })),
        };
        let right = crc32c::crc32c(b"a");
        let results = vec![item(right), item(right ^ 1)];
        assert!(v1::BatchDecryptResponse { results }.check().is_err());
    }
}

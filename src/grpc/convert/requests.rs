//! Requests of the wire, parsed once: names, versions, limits, checksums, encryption contexts.

use bytes::Bytes;
use keyreeve_proto::v1 as proto;

use crate::{
    Error, Result,
    keys::{
        CancelDestruction, ChangeState, CreateEnvironment, CreateKey, CreateTeam, DestroyKey, Labels, Owner, Reason,
        RequestId, RotateKey, WatchRequest,
    },
    model::{EnvironmentName, FullName, KeyName, KeyVersion, Purpose, Residency, Suite, TeamName},
    operations::{
        BatchDecrypt, BatchEncrypt, BatchGenerateDataKey, BatchUnwrapDataKey, BoundContext, Decrypt, Encrypt,
        GenerateDataKey, GenerateDataKeyWithoutPlaintext, GenerateRandom, Items, Message, Opening, ReEncrypt,
        UnwrapDataKey, WrapDataKey,
    },
    store::Applied,
};

/// A resource name in `field`.
pub(in crate::grpc) fn named<N: FullName>(field: &'static str, name: &str) -> Result<N> {
    N::parse_full(name).map_err(|error| Error::invalid(field, error))
}

/// A resource name in the field `name`.
pub(in crate::grpc) fn one_name<N: FullName>(name: &str) -> Result<N> {
    named("name", name)
}

/// The name of a key in the field `name`.
pub(in crate::grpc) fn key_name(name: &str) -> Result<KeyName> {
    one_name(name)
}

impl TryFrom<proto::EncryptRequest> for Encrypt {
    type Error = Error;

    fn try_from(request: proto::EncryptRequest) -> Result<Self> {
        let context = context(&request.encryption_context, &request.aad)?;
        Ok(Self {
            key: key_name(&request.name)?,
            message: Message::new(request.plaintext, context, request.plaintext_crc32c)?,
        })
    }
}

impl TryFrom<proto::DecryptRequest> for Decrypt {
    type Error = Error;

    fn try_from(request: proto::DecryptRequest) -> Result<Self> {
        Ok(Self {
            key: key_name(&request.name)?,
            opening: opening(
                request.ciphertext,
                &request.encryption_context,
                &request.aad,
                request.ciphertext_crc32c,
            )?,
        })
    }
}

impl TryFrom<proto::ReEncryptRequest> for ReEncrypt {
    type Error = Error;

    fn try_from(request: proto::ReEncryptRequest) -> Result<Self> {
        let source: KeyName = named("source_name", &request.source_name)?;
        let destination = if request.destination_name.is_empty() {
            source.clone()
        } else {
            named("destination_name", &request.destination_name)?
        };
        Ok(Self {
            source,
            opening: opening(
                request.ciphertext,
                &request.source_encryption_context,
                &request.source_aad,
                request.ciphertext_crc32c,
            )?,
            destination,
            context: context(&request.destination_encryption_context, &request.destination_aad)?,
        })
    }
}

impl TryFrom<proto::GenerateDataKeyRequest> for GenerateDataKey {
    type Error = Error;

    fn try_from(request: proto::GenerateDataKeyRequest) -> Result<Self> {
        Ok(Self {
            key: key_name(&request.name)?,
            context: context(&request.encryption_context, &request.aad)?,
        })
    }
}

impl TryFrom<proto::GenerateDataKeyWithoutPlaintextRequest> for GenerateDataKeyWithoutPlaintext {
    type Error = Error;

    fn try_from(request: proto::GenerateDataKeyWithoutPlaintextRequest) -> Result<Self> {
        Ok(Self {
            key: key_name(&request.name)?,
            context: context(&request.encryption_context, &request.aad)?,
        })
    }
}

impl TryFrom<proto::WrapDataKeyRequest> for WrapDataKey {
    type Error = Error;

    fn try_from(request: proto::WrapDataKeyRequest) -> Result<Self> {
        let context = context(&request.encryption_context, &request.aad)?;
        let data_key = Message::new(request.plaintext, context, request.plaintext_crc32c)?;
        Self::new(key_name(&request.name)?, data_key)
    }
}

impl TryFrom<proto::UnwrapDataKeyRequest> for UnwrapDataKey {
    type Error = Error;

    fn try_from(request: proto::UnwrapDataKeyRequest) -> Result<Self> {
        Ok(Self {
            key: key_name(&request.name)?,
            opening: opening(
                request.ciphertext,
                &request.encryption_context,
                &request.aad,
                request.ciphertext_crc32c,
            )?,
        })
    }
}

impl TryFrom<proto::GenerateRandomRequest> for GenerateRandom {
    type Error = Error;

    fn try_from(request: proto::GenerateRandomRequest) -> Result<Self> {
        Self::new(named("environment", &request.environment)?, request.length)
    }
}

impl TryFrom<proto::BatchEncryptRequest> for BatchEncrypt {
    type Error = Error;

    fn try_from(request: proto::BatchEncryptRequest) -> Result<Self> {
        let size = |item: &proto::batch_encrypt_request::Item| {
            item.plaintext.len() + item.aad.len() + pairs_len(&item.encryption_context)
        };
        let parse = |item: proto::batch_encrypt_request::Item| {
            let context = context(&item.encryption_context, &item.aad)?;
            Message::new(item.plaintext, context, item.plaintext_crc32c)
        };
        Ok(Self {
            key: key_name(&request.name)?,
            items: Items::parse(request.items, size, parse)?,
        })
    }
}

impl TryFrom<proto::BatchDecryptRequest> for BatchDecrypt {
    type Error = Error;

    fn try_from(request: proto::BatchDecryptRequest) -> Result<Self> {
        let size = |item: &proto::batch_decrypt_request::Item| {
            item.ciphertext.len() + item.aad.len() + pairs_len(&item.encryption_context)
        };
        let parse = |item: proto::batch_decrypt_request::Item| {
            opening(
                item.ciphertext,
                &item.encryption_context,
                &item.aad,
                item.ciphertext_crc32c,
            )
        };
        Ok(Self {
            key: key_name(&request.name)?,
            items: Items::parse(request.items, size, parse)?,
        })
    }
}

impl TryFrom<proto::BatchGenerateDataKeyRequest> for BatchGenerateDataKey {
    type Error = Error;

    fn try_from(request: proto::BatchGenerateDataKeyRequest) -> Result<Self> {
        let size =
            |item: &proto::batch_generate_data_key_request::Item| item.aad.len() + pairs_len(&item.encryption_context);
        let parse = |item: proto::batch_generate_data_key_request::Item| context(&item.encryption_context, &item.aad);
        Ok(Self {
            key: key_name(&request.name)?,
            items: Items::parse(request.items, size, parse)?,
        })
    }
}

impl TryFrom<proto::BatchUnwrapDataKeyRequest> for BatchUnwrapDataKey {
    type Error = Error;

    fn try_from(request: proto::BatchUnwrapDataKeyRequest) -> Result<Self> {
        let size = |item: &proto::batch_unwrap_data_key_request::Item| {
            item.ciphertext.len() + item.aad.len() + pairs_len(&item.encryption_context)
        };
        let parse = |item: proto::batch_unwrap_data_key_request::Item| {
            opening(
                item.ciphertext,
                &item.encryption_context,
                &item.aad,
                item.ciphertext_crc32c,
            )
        };
        Ok(Self {
            key: key_name(&request.name)?,
            items: Items::parse(request.items, size, parse)?,
        })
    }
}

impl TryFrom<proto::CreateEnvironmentRequest> for CreateEnvironment {
    type Error = Error;

    fn try_from(request: proto::CreateEnvironmentRequest) -> Result<Self> {
        // The id alone, not a longer name that happens to parse.
        let name: EnvironmentName = named("environment_id", &format!("envs/{}", request.environment_id))?;
        Ok(Self {
            name,
            production: request.production,
            request_id: RequestId::new(&request.request_id)?,
        })
    }
}

impl TryFrom<proto::CreateTeamRequest> for CreateTeam {
    type Error = Error;

    fn try_from(request: proto::CreateTeamRequest) -> Result<Self> {
        let parent: EnvironmentName = named("parent", &request.parent)?;
        let name: TeamName = parent
            .team(&request.team_id)
            .map_err(|error| Error::invalid("team_id", error))?;
        Ok(Self {
            name,
            request_id: RequestId::new(&request.request_id)?,
        })
    }
}

impl TryFrom<proto::CreateKeyRequest> for CreateKey {
    type Error = Error;

    fn try_from(request: proto::CreateKeyRequest) -> Result<Self> {
        let parent: TeamName = named("parent", &request.parent)?;
        let name = parent
            .key(&request.key_id)
            .map_err(|error| Error::invalid("key_id", error))?;
        let purpose = match proto::KeyPurpose::try_from(request.purpose) {
            Ok(proto::KeyPurpose::Unspecified | proto::KeyPurpose::EncryptDecrypt) => Purpose::EncryptDecrypt,
            Err(_) => return Err(Error::invalid("purpose", "it is not known: use ENCRYPT_DECRYPT")),
        };
        let residency = match proto::KeyResidency::try_from(request.residency) {
            Ok(proto::KeyResidency::Unspecified | proto::KeyResidency::Wrapped) => Residency::Wrapped,
            Ok(proto::KeyResidency::TokenResident) => Residency::TokenResident,
            Err(_) => {
                return Err(Error::invalid(
                    "residency",
                    "it is not known: use WRAPPED or TOKEN_RESIDENT",
                ));
            }
        };
        let suite = match proto::KeySuite::try_from(request.suite) {
            Ok(proto::KeySuite::Unspecified | proto::KeySuite::PrfCommit) => Suite::PrfCommit,
            Ok(proto::KeySuite::TokenGcm) => Suite::TokenGcm,
            Err(_) => return Err(Error::invalid("suite", "it is not known: use PRF_COMMIT or TOKEN_GCM")),
        };
        Ok(Self {
            name,
            purpose,
            residency,
            suite,
            owner: Owner::new(request.owner)?,
            labels: Labels::new(request.labels)?,
            request_id: RequestId::new(&request.request_id)?,
        })
    }
}

impl TryFrom<proto::RotateKeyRequest> for RotateKey {
    type Error = Error;

    fn try_from(request: proto::RotateKeyRequest) -> Result<Self> {
        Ok(Self {
            key: key_name(&request.name)?,
            request_id: RequestId::new(&request.request_id)?,
        })
    }
}

impl TryFrom<proto::WatchRequest> for WatchRequest {
    type Error = Error;

    fn try_from(request: proto::WatchRequest) -> Result<Self> {
        let keys = request.names.iter().map(|name| named("names", name));
        let after = request.after.map(|after| match after.link[..].try_into() {
            Ok(link) => Ok(Applied {
                seq: after.sequence,
                link,
            }),
            Err(_) => Err(Error::invalid(
                "after",
                "its `link` has not 32 bytes: give a position back as it came",
            )),
        });
        Self::new(keys.collect::<Result<_>>()?, after.transpose()?)
    }
}

macro_rules! change_state {
    ($($request:ident)+) => {
        $(
            impl TryFrom<proto::$request> for ChangeState {
                type Error = Error;

                fn try_from(request: proto::$request) -> Result<Self> {
                    Ok(Self {
                        key: key_name(&request.name)?,
                        version: KeyVersion::new(request.version),
                        reason: Reason::new(request.reason)?,
                        request_id: RequestId::new(&request.request_id)?,
                    })
                }
            }
        )+
    };
}

change_state! { SuspendKeyRequest ResumeKeyRequest DeactivateKeyRequest CompromiseKeyRequest }

impl TryFrom<proto::DestroyKeyRequest> for DestroyKey {
    type Error = Error;

    fn try_from(request: proto::DestroyKeyRequest) -> Result<Self> {
        Self::new(
            key_name(&request.name)?,
            KeyVersion::new(request.version),
            request.wait_days,
            Reason::new(request.reason)?,
            RequestId::new(&request.request_id)?,
        )
    }
}

impl TryFrom<proto::CancelKeyDestructionRequest> for CancelDestruction {
    type Error = Error;

    fn try_from(request: proto::CancelKeyDestructionRequest) -> Result<Self> {
        Ok(Self {
            key: key_name(&request.name)?,
            version: KeyVersion::new(request.version),
            reason: Reason::new(request.reason)?,
            request_id: RequestId::new(&request.request_id)?,
        })
    }
}

fn context(pairs: &[proto::ContextPair], aad: &[u8]) -> Result<BoundContext> {
    BoundContext::new(pairs.iter().map(|pair| (pair.key.as_str(), pair.value.as_str())), aad)
}

fn opening(ciphertext: Bytes, pairs: &[proto::ContextPair], aad: &[u8], crc32c: Option<u32>) -> Result<Opening> {
    Opening::new(ciphertext, context(pairs, aad)?, crc32c)
}

fn pairs_len(pairs: &[proto::ContextPair]) -> usize {
    pairs.iter().map(|pair| pair.key.len() + pair.value.len()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "envs/dev/teams/shop/keys/orders";

    fn encrypt(plaintext: &[u8]) -> proto::EncryptRequest {
        proto::EncryptRequest {
            name: KEY.to_owned(),
            plaintext: Bytes::copy_from_slice(plaintext),
            ..Default::default()
        }
    }

    fn reason<T>(result: Result<T>) -> (&'static str, String) {
        let Err(error) = result else { panic!("it parsed") };
        (error.reason(), error.to_string())
    }

    #[test]
    fn a_checksum_that_does_not_match_is_refused_before_any_work() {
        let mut request = encrypt(b"hello");
        request.plaintext_crc32c = Some(crc32c::crc32c(b"hello"));
        assert!(Encrypt::try_from(request.clone()).is_ok());
        request.plaintext_crc32c = Some(0);
        assert_eq!(reason(Encrypt::try_from(request)).0, "CHECKSUM_MISMATCH");
    }

    #[test]
    fn a_plaintext_over_the_limit_and_a_context_with_a_key_twice_are_refused() {
        assert!(Encrypt::try_from(encrypt(&[0; 65_536])).is_ok());
        assert_eq!(reason(Encrypt::try_from(encrypt(&[0; 65_537]))).0, "INVALID_ARGUMENT");
        let mut request = encrypt(b"");
        let pair = proto::ContextPair {
            key: "table".to_owned(),
            value: "orders".to_owned(),
        };
        request.encryption_context = vec![pair.clone(), pair];
        assert!(reason(Encrypt::try_from(request)).1.contains("encryption_context"));
    }

    #[test]
    fn a_batch_over_its_limits_is_refused_and_a_bad_item_is_not() {
        let item = |len: usize| proto::batch_encrypt_request::Item {
            plaintext: vec![0; len].into(),
            ..Default::default()
        };
        let parsed = |items| {
            BatchEncrypt::try_from(proto::BatchEncryptRequest {
                name: KEY.to_owned(),
                items,
            })
        };
        assert!(reason(parsed(vec![])).1.contains("items"));
        assert!(reason(parsed(vec![item(0); 1_001])).1.contains("1001"));
        assert!(reason(parsed(vec![item(65_536); 17])).1.contains("bytes"));
        let batch = parsed(vec![item(1), item(65_537), item(2)]).unwrap();
        assert_eq!((batch.items.len(), batch.items.good().count()), (3, 2));
    }

    #[test]
    fn an_environment_id_is_one_part_and_no_path() {
        let create = |id: &str| {
            CreateEnvironment::try_from(proto::CreateEnvironmentRequest {
                environment_id: id.to_owned(),
                ..Default::default()
            })
        };
        assert_eq!(create("dev").unwrap().name.as_str(), "envs/dev");
        for id in ["", "envs/dev", "dev/shop", "Dev"] {
            assert!(create(id).is_err(), "{id}");
        }
    }

    #[test]
    fn a_suite_and_a_residency_have_defaults_and_unknown_ones_are_refused() {
        let create = |suite: i32, residency: i32| {
            CreateKey::try_from(proto::CreateKeyRequest {
                parent: "envs/dev/teams/shop".to_owned(),
                key_id: "orders".to_owned(),
                suite,
                residency,
                ..Default::default()
            })
        };
        let by_default = create(0, 0).unwrap();
        assert_eq!(
            (by_default.suite, by_default.residency),
            (Suite::PrfCommit, Residency::Wrapped)
        );
        let other = create(1, 2).unwrap();
        assert_eq!(
            (other.suite, other.residency),
            (Suite::TokenGcm, Residency::TokenResident)
        );
        assert!(reason(create(3, 0)).1.contains("suite"));
        assert!(reason(create(0, 3)).1.contains("residency"));
    }

    #[test]
    fn re_encrypt_without_a_destination_stays_with_the_source() {
        let request = proto::ReEncryptRequest {
            source_name: KEY.to_owned(),
            ..Default::default()
        };
        let parsed = ReEncrypt::try_from(request).unwrap();
        assert_eq!(parsed.source, parsed.destination);
    }
}

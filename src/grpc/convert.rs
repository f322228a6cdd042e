//! Answers of the wire, built from recorded answers only: what was not recorded has no way out.
//!
//! This is the one place of the wire that may release a [`Recorded`]. Below: `requests` (parsing), `crypto` and `keys` (fields).

mod crypto;
mod keys;
mod requests;

use std::sync::Arc;

use keyreeve_proto::v1 as proto;

use crate::{
    Error,
    keys::{Attestation, Changed, Checked, Listed, Told},
    model::{Environment, Key, Team},
    operations::{Batch, DataKey, Me, Opened, RandomBytes, ReEncrypted, Sealed, Status},
    policy::Recorded,
};

pub(super) use requests::{key_name, named, one_name};

/// `From<Recorded<T>>` of a response whose only field shows the answer.
macro_rules! shown {
    ($($answer:ty => $response:ident { $field:ident: $show:path },)+) => {
        $(
            impl From<Recorded<$answer>> for proto::$response {
                fn from(recorded: Recorded<$answer>) -> Self {
                    Self { $field: Some($show(recorded.release().borrow_shown())) }
                }
            }
        )+
    };
}

/// `From<Recorded<T>>` by one function.
macro_rules! converted {
    ($($answer:ty => $response:ident by $convert:path,)+) => {
        $(
            impl From<Recorded<$answer>> for proto::$response {
                fn from(recorded: Recorded<$answer>) -> Self {
                    $convert(recorded.release())
                }
            }
        )+
    };
}

converted! {
    Sealed => EncryptResponse by crypto::encrypted,
    Opened => DecryptResponse by crypto::decrypted,
    ReEncrypted => ReEncryptResponse by crypto::reencrypted,
    DataKey => GenerateDataKeyResponse by crypto::data_key,
    Sealed => GenerateDataKeyWithoutPlaintextResponse by crypto::data_key_envelope,
    Sealed => WrapDataKeyResponse by crypto::wrapped,
    Opened => UnwrapDataKeyResponse by crypto::unwrapped,
    RandomBytes => GenerateRandomResponse by crypto::random,
    Batch<Sealed> => BatchEncryptResponse by crypto::batch_encrypted,
    Batch<Opened> => BatchDecryptResponse by crypto::batch_decrypted,
    Batch<DataKey> => BatchGenerateDataKeyResponse by crypto::batch_data_keys,
    Batch<Opened> => BatchUnwrapDataKeyResponse by crypto::batch_unwrapped,
    Listed<Arc<Environment>> => ListEnvironmentsResponse by keys::environments,
    Listed<Arc<Team>> => ListTeamsResponse by keys::teams,
    Listed<Arc<Key>> => ListKeysResponse by keys::keys,
    Attestation => AttestKeyResponse by keys::attestation,
    Listed<Checked> => VerifyKeysResponse by keys::verified,
    Told => WatchResponse by keys::told,
    Me => WhoAmIResponse by keys::me,
}

shown! {
    Arc<Environment> => CreateEnvironmentResponse { environment: keys::environment },
    Arc<Environment> => GetEnvironmentResponse { environment: keys::environment },
    Arc<Team> => CreateTeamResponse { team: keys::team },
    Arc<Team> => GetTeamResponse { team: keys::team },
    Arc<Key> => CreateKeyResponse { key: keys::key },
    Arc<Key> => GetKeyResponse { key: keys::key },
    Changed => RotateKeyResponse { key: keys::key },
    Changed => SuspendKeyResponse { key: keys::key },
    Changed => ResumeKeyResponse { key: keys::key },
    Changed => DeactivateKeyResponse { key: keys::key },
    Changed => CompromiseKeyResponse { key: keys::key },
    Changed => DestroyKeyResponse { key: keys::key },
    Changed => CancelKeyDestructionResponse { key: keys::key },
}

/// What a response of one field shows of an answer.
trait Shown {
    type Of;
    fn borrow_shown(&self) -> &Self::Of;
}

impl<T> Shown for Arc<T> {
    type Of = T;
    fn borrow_shown(&self) -> &T {
        self
    }
}

impl Shown for Changed {
    type Of = Key;
    fn borrow_shown(&self) -> &Key {
        &self.key
    }
}

/// The state of the service; version, node and start are the process's own.
pub(super) fn status(recorded: Recorded<Status>, about: &super::system_service::About) -> proto::GetStatusResponse {
    keys::status(recorded.release(), about)
}

/// Why one item failed: what the call alone would have answered.
pub fn item_error(error: &Error) -> proto::ItemError {
    proto::ItemError {
        code: super::status::code(error) as i32,
        reason: error.reason().to_owned(),
        message: error.to_string(),
        retry_after_ms: error
            .retry_after()
            .map_or(0, |delay| u32::try_from(delay.as_millis()).unwrap_or(u32::MAX)),
    }
}

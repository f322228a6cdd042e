//! Which calls may be tried again (docs/clients.md, first table).

use uuid::Uuid;

use crate::v1;

/// A request: says whether it may be sent again after a failure, and makes itself fit for that if it can.
pub(crate) trait Repeatable {
    /// `once`: the caller wants no `request_id` made.
    fn prepare(&mut self, _once: bool) -> bool {
        true
    }

    /// Whether two of it may be under way at once.
    fn may_be_hedged(&self) -> bool {
        true
    }
}

macro_rules! repeatable {
    ($($request:ident)+) => {$(
        impl Repeatable for v1::$request {}
    )+};
}

/// Changes: sent again only under a `request_id`, by which the service knows them.
macro_rules! mutations {
    ($($request:ident)+) => {$(
        impl Repeatable for v1::$request {
            fn prepare(&mut self, once: bool) -> bool {
                if self.request_id.is_empty() && !once {
                    self.request_id = Uuid::new_v4().to_string();
                }
                !self.request_id.is_empty()
            }

            fn may_be_hedged(&self) -> bool {
                false
            }
        }
    )+};
}

repeatable! {
    EncryptRequest DecryptRequest ReEncryptRequest GenerateDataKeyRequest GenerateDataKeyWithoutPlaintextRequest
    WrapDataKeyRequest UnwrapDataKeyRequest GenerateRandomRequest
    BatchEncryptRequest BatchDecryptRequest BatchGenerateDataKeyRequest BatchUnwrapDataKeyRequest
    GetEnvironmentRequest ListEnvironmentsRequest GetTeamRequest ListTeamsRequest GetKeyRequest ListKeysRequest
    AttestKeyRequest VerifyKeysRequest
    GetStatusRequest WhoAmIRequest
}

mutations! {
    CreateEnvironmentRequest CreateTeamRequest CreateKeyRequest RotateKeyRequest
    SuspendKeyRequest ResumeKeyRequest DeactivateKeyRequest CompromiseKeyRequest
    DestroyKeyRequest CancelKeyDestructionRequest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_gets_a_request_id_unless_its_caller_gave_one_or_wants_none() {
        let mut made = v1::RotateKeyRequest::default();
        assert!(made.prepare(false));
        assert!(Uuid::parse_str(&made.request_id).is_ok_and(|id| id.get_version_num() == 4));

        let mut given = v1::CreateKeyRequest {
            request_id: "given".into(),
            ..Default::default()
        };
        assert!(given.prepare(true));
        assert_eq!(given.request_id, "given");

        let mut none = v1::DestroyKeyRequest::default();
        assert!(!none.prepare(true));
        assert!(none.request_id.is_empty());
    }
}

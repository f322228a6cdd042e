//! One method for each RPC, under the RPC's name. What each needs and answers is said in `proto/keyreeve/v1/*.proto`.

use tonic::{IntoStreamingRequest, Request, Streaming};

use crate::{
    Client, ClientError,
    v1::{
        self, crypto_service_client::CryptoServiceClient, event_service_client::EventServiceClient,
        key_service_client::KeyServiceClient, system_service_client::SystemServiceClient,
    },
};

macro_rules! unary {
    ($($service:ident { $($method:ident($request:ident) -> $response:ident;)+ })+) => {
        impl Client {
            $($(
                #[doc = concat!("What it needs and answers is said at [`", stringify!($service), "::", stringify!($method), "`].")]
                pub async fn $method(&self, request: v1::$request) -> Result<v1::$response, ClientError> {
                    let method = stringify!($request).trim_end_matches("Request");
                    self.unary(method, request, async move |channel, request| $service::new(channel).$method(request).await).await
                }
            )+)+
        }
    };
}

unary! {
    CryptoServiceClient {
        encrypt(EncryptRequest) -> EncryptResponse;
        decrypt(DecryptRequest) -> DecryptResponse;
        re_encrypt(ReEncryptRequest) -> ReEncryptResponse;
        generate_data_key(GenerateDataKeyRequest) -> GenerateDataKeyResponse;
        generate_data_key_without_plaintext(GenerateDataKeyWithoutPlaintextRequest) -> GenerateDataKeyWithoutPlaintextResponse;
        wrap_data_key(WrapDataKeyRequest) -> WrapDataKeyResponse;
        unwrap_data_key(UnwrapDataKeyRequest) -> UnwrapDataKeyResponse;
        generate_random(GenerateRandomRequest) -> GenerateRandomResponse;
        batch_encrypt(BatchEncryptRequest) -> BatchEncryptResponse;
        batch_decrypt(BatchDecryptRequest) -> BatchDecryptResponse;
        batch_generate_data_key(BatchGenerateDataKeyRequest) -> BatchGenerateDataKeyResponse;
        batch_unwrap_data_key(BatchUnwrapDataKeyRequest) -> BatchUnwrapDataKeyResponse;
    }
    KeyServiceClient {
        create_environment(CreateEnvironmentRequest) -> CreateEnvironmentResponse;
        get_environment(GetEnvironmentRequest) -> GetEnvironmentResponse;
        list_environments(ListEnvironmentsRequest) -> ListEnvironmentsResponse;
        create_team(CreateTeamRequest) -> CreateTeamResponse;
        get_team(GetTeamRequest) -> GetTeamResponse;
        list_teams(ListTeamsRequest) -> ListTeamsResponse;
        create_key(CreateKeyRequest) -> CreateKeyResponse;
        get_key(GetKeyRequest) -> GetKeyResponse;
        list_keys(ListKeysRequest) -> ListKeysResponse;
        rotate_key(RotateKeyRequest) -> RotateKeyResponse;
        suspend_key(SuspendKeyRequest) -> SuspendKeyResponse;
        resume_key(ResumeKeyRequest) -> ResumeKeyResponse;
        deactivate_key(DeactivateKeyRequest) -> DeactivateKeyResponse;
        compromise_key(CompromiseKeyRequest) -> CompromiseKeyResponse;
        destroy_key(DestroyKeyRequest) -> DestroyKeyResponse;
        cancel_key_destruction(CancelKeyDestructionRequest) -> CancelKeyDestructionResponse;
        attest_key(AttestKeyRequest) -> AttestKeyResponse;
        verify_keys(VerifyKeysRequest) -> VerifyKeysResponse;
    }
    SystemServiceClient {
        get_status(GetStatusRequest) -> GetStatusResponse;
        who_am_i(WhoAmIRequest) -> WhoAmIResponse;
    }
}

impl Client {
    /// Changes of keys, as they happen: one stream, which ends. A [`KeyWatcher`](crate::KeyWatcher) begins it again for ever.
    ///
    /// Raw: no deadline, no retry.
    pub async fn watch(&self, request: v1::WatchRequest) -> Result<Streaming<v1::WatchResponse>, ClientError> {
        self.stream(Request::new(request), async move |channel, request| {
            EventServiceClient::new(channel).watch(request).await
        })
        .await
    }

    /// Many operations in flight on one stream; answers carry the request's tag and come in any order. A
    /// [`Pipeline`](crate::Pipeline) does that for many callers.
    ///
    /// Raw: no deadline, no retry, and checksums are left to the caller, who can set and check them as his pace allows. A lost stream ends with
    /// a status, which [`ClientError`] is made from.
    pub async fn crypt(
        &self,
        requests: impl IntoStreamingRequest<Message = v1::CryptRequest>,
    ) -> Result<Streaming<v1::CryptResponse>, ClientError> {
        self.stream(requests.into_streaming_request(), async move |channel, requests| {
            CryptoServiceClient::new(channel).crypt(requests).await
        })
        .await
    }
}

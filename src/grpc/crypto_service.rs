//! `CryptoService`: each handler parses, asks for a permit, calls one operation, converts its recorded answer.

use std::sync::Arc;

use keyreeve_proto::v1::{self as proto, crypto_service_server};
use tonic::{Request, Response, Status, Streaming};

use super::{caller::take_caller, crypt_stream::CryptStream, stream_life::StreamLife};
use crate::{
    Error, Result,
    identity::Caller,
    operations::{
        BatchDecrypt, BatchEncrypt, BatchGenerateDataKey, BatchUnwrapDataKey, Decrypt, Encrypt, GenerateDataKey,
        GenerateDataKeyWithoutPlaintext, GenerateRandom, Operations, ReEncrypt, UnwrapDataKey, WrapDataKey,
    },
    policy::{Context, Gate, action},
};

/// The service. Cheap to clone.
#[derive(Clone)]
pub struct CryptoService {
    calls: Arc<Calls>,
}

/// The calls that come alone and on streams alike.
pub(super) struct Calls {
    gate: Gate,
    operations: Arc<Operations>,
}

impl CryptoService {
    pub fn new(gate: Gate, operations: Arc<Operations>) -> Self {
        Self {
            calls: Arc::new(Calls::new(gate, operations)),
        }
    }
}

impl Calls {
    pub(super) fn new(gate: Gate, operations: Arc<Operations>) -> Self {
        Self { gate, operations }
    }

    pub(super) async fn encrypt(
        &self,
        caller: &Caller,
        request: proto::EncryptRequest,
    ) -> Result<proto::EncryptResponse> {
        let encrypt = Encrypt::try_from(request)?;
        let permit = self
            .gate
            .permit::<action::Encrypt>(caller, &encrypt.key, encrypt.facts())
            .await?;
        Ok(self.operations.encrypt(permit, encrypt).await?.into())
    }

    pub(super) async fn decrypt(
        &self,
        caller: &Caller,
        request: proto::DecryptRequest,
    ) -> Result<proto::DecryptResponse> {
        let decrypt = Decrypt::try_from(request)?;
        let permit = self
            .gate
            .permit::<action::Decrypt>(caller, &decrypt.key, decrypt.facts())
            .await?;
        Ok(self.operations.decrypt(permit, decrypt).await?.into())
    }

    pub(super) async fn re_encrypt(
        &self,
        caller: &Caller,
        request: proto::ReEncryptRequest,
    ) -> Result<proto::ReEncryptResponse> {
        let reencrypt = ReEncrypt::try_from(request)?;
        let (source, destination) = reencrypt.facts();
        let (from, to) = self
            .gate
            .permit_pair::<action::ReEncryptFrom, action::ReEncryptTo>(
                caller,
                (&reencrypt.source, source),
                (&reencrypt.destination, destination),
            )
            .await?;
        Ok(self.operations.reencrypt(from, to, reencrypt).await?.into())
    }

    pub(super) async fn generate_data_key(
        &self,
        caller: &Caller,
        request: proto::GenerateDataKeyRequest,
    ) -> Result<proto::GenerateDataKeyResponse> {
        let generate = GenerateDataKey::try_from(request)?;
        let permit = self
            .gate
            .permit::<action::GenerateDataKey>(caller, &generate.key, generate.facts())
            .await?;
        Ok(self.operations.generate_data_key(permit, generate).await?.into())
    }

    pub(super) async fn generate_data_key_without_plaintext(
        &self,
        caller: &Caller,
        request: proto::GenerateDataKeyWithoutPlaintextRequest,
    ) -> Result<proto::GenerateDataKeyWithoutPlaintextResponse> {
        let generate = GenerateDataKeyWithoutPlaintext::try_from(request)?;
        let permit = self
            .gate
            .permit::<action::GenerateDataKeyWithoutPlaintext>(caller, &generate.key, generate.facts())
            .await?;
        let recorded = self
            .operations
            .generate_data_key_without_plaintext(permit, generate)
            .await?;
        Ok(recorded.into())
    }

    pub(super) async fn unwrap_data_key(
        &self,
        caller: &Caller,
        request: proto::UnwrapDataKeyRequest,
    ) -> Result<proto::UnwrapDataKeyResponse> {
        let unwrap = UnwrapDataKey::try_from(request)?;
        let permit = self
            .gate
            .permit::<action::UnwrapDataKey>(caller, &unwrap.key, unwrap.facts())
            .await?;
        Ok(self.operations.unwrap_data_key(permit, unwrap).await?.into())
    }
}

#[tonic::async_trait]
impl crypto_service_server::CryptoService for CryptoService {
    type CryptStream = CryptStream;

    async fn encrypt(
        &self,
        request: Request<proto::EncryptRequest>,
    ) -> Result<Response<proto::EncryptResponse>, Status> {
        let (caller, request) = take_caller(request)?;
        Ok(Response::new(self.calls.encrypt(&caller, request).await?))
    }

    async fn decrypt(
        &self,
        request: Request<proto::DecryptRequest>,
    ) -> Result<Response<proto::DecryptResponse>, Status> {
        let (caller, request) = take_caller(request)?;
        Ok(Response::new(self.calls.decrypt(&caller, request).await?))
    }

    async fn re_encrypt(
        &self,
        request: Request<proto::ReEncryptRequest>,
    ) -> Result<Response<proto::ReEncryptResponse>, Status> {
        let (caller, request) = take_caller(request)?;
        Ok(Response::new(self.calls.re_encrypt(&caller, request).await?))
    }

    async fn generate_data_key(
        &self,
        request: Request<proto::GenerateDataKeyRequest>,
    ) -> Result<Response<proto::GenerateDataKeyResponse>, Status> {
        let (caller, request) = take_caller(request)?;
        Ok(Response::new(self.calls.generate_data_key(&caller, request).await?))
    }

    async fn generate_data_key_without_plaintext(
        &self,
        request: Request<proto::GenerateDataKeyWithoutPlaintextRequest>,
    ) -> Result<Response<proto::GenerateDataKeyWithoutPlaintextResponse>, Status> {
        let (caller, request) = take_caller(request)?;
        let answer = self.calls.generate_data_key_without_plaintext(&caller, request);
        Ok(Response::new(answer.await?))
    }

    async fn wrap_data_key(
        &self,
        request: Request<proto::WrapDataKeyRequest>,
    ) -> Result<Response<proto::WrapDataKeyResponse>, Status> {
        let (caller, request) = take_caller(request)?;
        let wrap = WrapDataKey::try_from(request)?;
        let permit = self
            .calls
            .gate
            .permit::<action::WrapDataKey>(&caller, &wrap.key, wrap.facts())
            .await?;
        let recorded = self.calls.operations.wrap_data_key(permit, wrap).await?;
        Ok(Response::new(recorded.into()))
    }

    async fn unwrap_data_key(
        &self,
        request: Request<proto::UnwrapDataKeyRequest>,
    ) -> Result<Response<proto::UnwrapDataKeyResponse>, Status> {
        let (caller, request) = take_caller(request)?;
        Ok(Response::new(self.calls.unwrap_data_key(&caller, request).await?))
    }

    async fn generate_random(
        &self,
        request: Request<proto::GenerateRandomRequest>,
    ) -> Result<Response<proto::GenerateRandomResponse>, Status> {
        let (caller, request) = take_caller(request)?;
        let generate = GenerateRandom::try_from(request)?;
        let Calls { gate, operations } = &*self.calls;
        let permit = gate
            .permit::<action::GenerateRandom>(&caller, &generate.environment, Context::none())
            .await?;
        Ok(Response::new(
            operations.generate_random(permit, generate).await?.into(),
        ))
    }

    async fn batch_encrypt(
        &self,
        request: Request<proto::BatchEncryptRequest>,
    ) -> Result<Response<proto::BatchEncryptResponse>, Status> {
        let (caller, request) = take_caller(request)?;
        let batch = BatchEncrypt::try_from(request)?;
        let Calls { gate, operations } = &*self.calls;
        let permit = gate
            .permit::<action::Encrypt>(&caller, &batch.key, batch.facts())
            .await?;
        Ok(Response::new(operations.batch_encrypt(permit, batch).await?.into()))
    }

    async fn batch_decrypt(
        &self,
        request: Request<proto::BatchDecryptRequest>,
    ) -> Result<Response<proto::BatchDecryptResponse>, Status> {
        let (caller, request) = take_caller(request)?;
        let batch = BatchDecrypt::try_from(request)?;
        let Calls { gate, operations } = &*self.calls;
        let permit = gate
            .permit::<action::Decrypt>(&caller, &batch.key, batch.facts())
            .await?;
        Ok(Response::new(operations.batch_decrypt(permit, batch).await?.into()))
    }

    async fn batch_generate_data_key(
        &self,
        request: Request<proto::BatchGenerateDataKeyRequest>,
    ) -> Result<Response<proto::BatchGenerateDataKeyResponse>, Status> {
        let (caller, request) = take_caller(request)?;
        let batch = BatchGenerateDataKey::try_from(request)?;
        let Calls { gate, operations } = &*self.calls;
        let permit = gate
            .permit::<action::GenerateDataKey>(&caller, &batch.key, batch.facts())
            .await?;
        let recorded = operations.batch_generate_data_key(permit, batch).await?;
        Ok(Response::new(recorded.into()))
    }

    async fn batch_unwrap_data_key(
        &self,
        request: Request<proto::BatchUnwrapDataKeyRequest>,
    ) -> Result<Response<proto::BatchUnwrapDataKeyResponse>, Status> {
        let (caller, request) = take_caller(request)?;
        let batch = BatchUnwrapDataKey::try_from(request)?;
        let Calls { gate, operations } = &*self.calls;
        let permit = gate
            .permit::<action::UnwrapDataKey>(&caller, &batch.key, batch.facts())
            .await?;
        let recorded = operations.batch_unwrap_data_key(permit, batch).await?;
        Ok(Response::new(recorded.into()))
    }

    async fn crypt(
        &self,
        mut request: Request<Streaming<proto::CryptRequest>>,
    ) -> Result<Response<CryptStream>, Status> {
        let life = request.extensions_mut().remove::<StreamLife>();
        let life = life.ok_or(Error::Unauthenticated("the connection has no client identity"))?;
        let (caller, incoming) = take_caller(request)?;
        let stream = CryptStream::new(self.calls.clone(), caller, life, incoming);
        Ok(Response::new(stream))
    }
}

//! Many callers, one stream: each awaits his own operation, and all of them go over `Crypt` (docs/clients.md, row "Pipeline").

use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, timeout_at},
};

use crate::{
    Client, ClientError,
    checksum::{Incoming, Outgoing},
    crypt_stream::{Answer, Driver, Job, Loss},
    tries::Tries,
    v1::{self, crypt_request, crypt_response},
};

/// Operations that wait for a place on the stream; more callers wait to hand theirs over.
const WAITING: usize = 256;

/// Encrypts and decrypts for many callers over one stream, with up to 64 operations under way: cheaper for both sides than a call for
/// each. Cheap to clone; the stream ends when the last clone is gone.
///
/// An operation is repeatable: it has the client's deadline, is tried again like a call if it is refused for the moment, and goes to a new
/// stream if its stream was lost; in an outage, until its deadline.
#[derive(Debug, Clone)]
pub struct Pipeline {
    client: Client,
    jobs: mpsc::Sender<Job>,
    loss: Loss,
}

impl Client {
    /// Starts a pipeline with this client's deadline; its stream is opened by the first operation. To be called within a tokio runtime.
    pub fn pipeline(&self) -> Pipeline {
        let ((jobs, waiting), loss) = (mpsc::channel(WAITING), Loss::default());
        tokio::spawn(Driver::new(self.clone(), waiting, loss.clone()).run());
        Pipeline {
            client: self.clone(),
            jobs,
            loss,
        }
    }
}

macro_rules! operations {
    ($($method:ident($request:ident) -> $response:ident, $variant:ident;)+) => {
        impl Pipeline {
            $(
                #[doc = concat!("As [`Client::", stringify!($method), "`].")]
                pub async fn $method(&self, request: v1::$request) -> Result<v1::$response, ClientError> {
                    let method = stringify!($variant);
                    let send = |request: &v1::$request| crypt_request::Request::$variant(request.clone());
                    self.operate(method, request, send, |answer| match answer {
                        crypt_response::Response::$variant(answer) => Some(answer),
                        _ => None,
                    })
                    .await
                }
            )+
        }
    };
}

operations! {
    encrypt(EncryptRequest) -> EncryptResponse, Encrypt;
    decrypt(DecryptRequest) -> DecryptResponse, Decrypt;
    re_encrypt(ReEncryptRequest) -> ReEncryptResponse, ReEncrypt;
    generate_data_key(GenerateDataKeyRequest) -> GenerateDataKeyResponse, GenerateDataKey;
    generate_data_key_without_plaintext(GenerateDataKeyWithoutPlaintextRequest)
        -> GenerateDataKeyWithoutPlaintextResponse, GenerateDataKeyWithoutPlaintext;
    unwrap_data_key(UnwrapDataKeyRequest) -> UnwrapDataKeyResponse, UnwrapDataKey;
}

impl Pipeline {
    async fn operate<Req: Outgoing, Res: Incoming>(
        &self,
        method: &'static str,
        mut message: Req,
        send: impl Fn(&Req) -> crypt_request::Request,
        read: impl Fn(crypt_response::Response) -> Option<Res>,
    ) -> Result<Res, ClientError> {
        message.set_checksums();
        let mut tries = Tries::new(&self.client.shared, method, true, &self.client.options);
        loop {
            tries.ride();
            let answer = match timeout_at(tries.time.deadline, self.send(send(&message), tries.time.deadline)).await {
                Ok(Answer::Of(answer)) => answered(answer, &read),
                Ok(Answer::Lost(error)) => return Err(tries.ended(error)),
                Err(_) => match self.loss.error() {
                    Some(error) => return Err(tries.ended(error)),
                    None => Err(tries.time.out()),
                },
            };
            match answer {
                Ok(answer) => {
                    tries.succeeded();
                    return Ok(answer);
                }
                Err(error) => tries.failed(error, None).await?,
            }
        }
    }

    async fn send(&self, request: crypt_request::Request, deadline: Instant) -> Answer {
        let (answer, answered) = oneshot::channel();
        let job = Job {
            request,
            deadline,
            answer,
        };
        let closed = || Answer::Lost(ClientError::closed("the pipeline"));
        match self.jobs.send(job).await {
            Ok(()) => answered.await.unwrap_or_else(|_| closed()),
            Err(_) => closed(),
        }
    }
}

fn answered<Res: Incoming>(
    answer: crypt_response::Response,
    read: impl Fn(crypt_response::Response) -> Option<Res>,
) -> Result<Res, ClientError> {
    if let crypt_response::Response::Error(item) = answer {
        return Err(ClientError::of_item(item));
    }
    let answer = read(answer).ok_or_else(|| ClientError::unexpected("the answer is of another operation".into()))?;
    answer.check()?;
    Ok(answer)
}

//! A connection, and how one call over it is made. The calls themselves are in `calls.rs`.

use std::time::Duration;

use tokio::time::timeout;
use tonic::{Request, Response, Status, transport::Channel};

use crate::{
    ClientConfig, ClientError,
    checksum::{Incoming, Outgoing},
    connector,
};

/// A connection to one service. Cheap to clone; clones share the connection, which carries many calls at once.
#[derive(Clone)]
pub struct Client {
    channel: Channel,
    deadline: Duration,
    identity: [u8; 32],
}

impl Client {
    /// Connects at once, so that a wrong address or certificate shows here. Later the connection is restored by itself.
    pub async fn connect(config: ClientConfig) -> Result<Self, ClientError> {
        let (channel, identity) = connector::connect(&config).await?;
        Ok(Self {
            channel,
            deadline: config.deadline,
            identity,
        })
    }

    /// SHA-256 of the certificate that this client shows: tells identities apart, and names none.
    pub fn identity(&self) -> [u8; 32] {
        self.identity
    }

    /// The channel itself, for generated stubs: no deadline, no checksum, no error conversion.
    pub fn channel(&self) -> Channel {
        self.channel.clone()
    }

    /// One unary call: checksums, deadline on both sides, the error's details.
    pub(crate) async fn unary<Req: Outgoing, Res: Incoming>(
        &self,
        mut message: Req,
        call: impl AsyncFnOnce(Channel, Request<Req>) -> Result<Response<Res>, Status>,
    ) -> Result<Res, ClientError> {
        message.set_checksums();
        let mut request = Request::new(message);
        request.set_timeout(self.deadline);
        let answer = timeout(self.deadline, call(self.channel(), request))
            .await
            .map_err(|_| ClientError::deadline(self.deadline))??
            .into_inner();
        answer.check()?;
        Ok(answer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::v1;

    /// Compiles only while the future of a call can move between threads.
    #[test]
    fn calls_can_be_spawned() {
        fn spawnable(_: impl Future + Send + 'static) {}
        let _ = |client: Client| spawnable(async move { client.encrypt(v1::EncryptRequest::default()).await.is_ok() });
        let _ = |config: ClientConfig| spawnable(Client::connect(config));
    }
}

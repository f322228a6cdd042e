//! `Crypt`: many tagged requests in flight on one stream, answered as they get ready.
//!
//! One task, the connection's own, drives it: it takes messages while fewer than [`IN_FLIGHT`] are worked on, and otherwise leaves
//! them to HTTP/2, whose window then holds the caller back. Each message asks for its own permit, so the log's queue is flow control, too.
//! A message that fails answers with its error; the stream goes on. It ends when the caller has ended his side and all is answered.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures_util::{StreamExt, future::BoxFuture, stream::FuturesUnordered};
use keyreeve_proto::v1::{self as proto, crypt_request::Request, crypt_response::Response};
use tokio_stream::Stream;
use tonic::{Status, Streaming};

use super::{convert::item_error, crypto_service::Calls};
use crate::{Error, Result, identity::Caller};

/// Messages worked on at once.
pub const IN_FLIGHT: usize = 64;

/// Time for each message from its arrival, if the stream has that long.
const MESSAGE_WITHIN: Duration = Duration::from_secs(10);

/// The answers of one stream.
pub struct CryptStream {
    calls: Arc<Calls>,
    caller: Caller,
    /// `None` once the caller has ended his side.
    incoming: Option<BoxedRequests>,
    in_flight: FuturesUnordered<BoxFuture<'static, proto::CryptResponse>>,
}

type BoxedRequests = Pin<Box<dyn Stream<Item = Result<proto::CryptRequest, Status>> + Send>>;

impl CryptStream {
    pub(super) fn new(calls: Arc<Calls>, caller: Caller, incoming: Streaming<proto::CryptRequest>) -> Self {
        Self::over(calls, caller, Box::pin(incoming))
    }

    fn over(calls: Arc<Calls>, caller: Caller, incoming: BoxedRequests) -> Self {
        Self {
            calls,
            caller,
            incoming: Some(incoming),
            in_flight: FuturesUnordered::new(),
        }
    }

    /// Takes what has arrived, up to the limit. Errors: the stream is broken, or not of such messages.
    fn take_arrived(&mut self, context: &mut Context<'_>) -> Result<(), Status> {
        while self.in_flight.len() < IN_FLIGHT {
            let Some(incoming) = &mut self.incoming else { break };
            match incoming.as_mut().poll_next(context) {
                Poll::Ready(Some(Ok(request))) => {
                    let caller = self.caller.for_message(MESSAGE_WITHIN);
                    let calls = self.calls.clone();
                    self.in_flight.push(Box::pin(answer(calls, caller, request)));
                }
                Poll::Ready(Some(Err(broken))) => {
                    self.incoming = None;
                    return Err(broken);
                }
                Poll::Ready(None) => self.incoming = None,
                Poll::Pending => break,
            }
        }
        Ok(())
    }
}

impl Stream for CryptStream {
    type Item = Result<proto::CryptResponse, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let Err(broken) = self.take_arrived(context) {
            // What is under way is dropped with the stream, and recorded as aborted.
            self.in_flight.clear();
            return Poll::Ready(Some(Err(broken)));
        }
        match self.in_flight.poll_next_unpin(context) {
            Poll::Ready(Some(answer)) => Poll::Ready(Some(Ok(answer))),
            // Nothing is under way, but the caller may still send: `take_arrived` has left word with his side.
            Poll::Ready(None) if self.incoming.is_some() => Poll::Pending,
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    }
}

async fn answer(calls: Arc<Calls>, caller: Caller, message: proto::CryptRequest) -> proto::CryptResponse {
    let within = caller.facts().deadline.into();
    let worked = tokio::time::timeout_at(within, work(&calls, &caller, message.request)).await;
    let response = match worked {
        Ok(Ok(response)) => response,
        Ok(Err(error)) => Response::Error(item_error(&error)),
        Err(_) => Response::Error(item_error(&Error::DeadlineExceeded)),
    };
    proto::CryptResponse {
        tag: message.tag,
        response: Some(response),
    }
}

async fn work(calls: &Calls, caller: &Caller, request: Option<Request>) -> Result<Response> {
    match request {
        Some(Request::Encrypt(request)) => calls.encrypt(caller, request).await.map(Response::Encrypt),
        Some(Request::Decrypt(request)) => calls.decrypt(caller, request).await.map(Response::Decrypt),
        Some(Request::ReEncrypt(request)) => calls.re_encrypt(caller, request).await.map(Response::ReEncrypt),
        Some(Request::GenerateDataKey(request)) => {
            let answer = calls.generate_data_key(caller, request).await;
            answer.map(Response::GenerateDataKey)
        }
        Some(Request::GenerateDataKeyWithoutPlaintext(request)) => {
            let answer = calls.generate_data_key_without_plaintext(caller, request).await;
            answer.map(Response::GenerateDataKeyWithoutPlaintext)
        }
        Some(Request::UnwrapDataKey(request)) => {
            let answer = calls.unwrap_data_key(caller, request).await;
            answer.map(Response::UnwrapDataKey)
        }
        None => Err(Error::invalid(
            "request",
            "it is empty, or of a kind that this release does not know",
        )),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::operations::testing::{Site, app};

    const ORDERS: &str = "dev/shop/orders";

    fn encrypt(tag: u64, name: &str) -> Result<proto::CryptRequest, Status> {
        let request = proto::EncryptRequest {
            name: name.to_owned(),
            plaintext: vec![b'x'; 64].into(),
            ..Default::default()
        };
        Ok(proto::CryptRequest {
            tag,
            request: Some(Request::Encrypt(request)),
        })
    }

    fn stream(
        site: &Site,
        requests: impl Stream<Item = Result<proto::CryptRequest, Status>> + Send + 'static,
    ) -> CryptStream {
        let calls = Calls::new(site.gate.clone(), site.operations.clone());
        CryptStream::over(Arc::new(calls), app(), Box::pin(requests))
    }

    #[tokio::test]
    async fn every_message_is_answered_under_its_tag_and_the_stream_ends_after_the_caller() {
        let site = Site::new().await;
        let requests = tokio_stream::iter((0..500).map(|tag| encrypt(tag, ORDERS)));
        let answers: Vec<_> = stream(&site, requests).collect().await;
        let tags: BTreeSet<u64> = answers.iter().map(|answer| answer.as_ref().ok().unwrap().tag).collect();
        assert_eq!((answers.len(), tags), (500, (0..500).collect()));
        for answer in answers {
            let response = answer.ok().unwrap().response;
            assert!(matches!(response, Some(Response::Encrypt(sealed)) if sealed.ciphertext.len() == 188));
        }
    }

    #[tokio::test]
    async fn a_message_that_fails_does_not_end_the_stream() {
        let site = Site::new().await;
        let empty = proto::CryptRequest { tag: 2, request: None };
        let requests = tokio_stream::iter([encrypt(1, "not a name"), Ok(empty), encrypt(3, ORDERS)]);
        let mut answers: Vec<_> = stream(&site, requests)
            .map(|answer| answer.ok().unwrap())
            .collect()
            .await;
        answers.sort_by_key(|answer| answer.tag);
        let reasons: Vec<Option<String>> = answers
            .into_iter()
            .map(|answer| match answer.response {
                Some(Response::Error(error)) => Some(error.reason),
                _ => None,
            })
            .collect();
        let invalid = Some("INVALID_ARGUMENT".to_owned());
        assert_eq!(reasons, [invalid.clone(), invalid, None]);
    }

    #[tokio::test]
    async fn no_more_messages_are_taken_than_are_worked_on() {
        let site = Site::new().await;
        let taken = Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let counter = taken.clone();
        let requests = tokio_stream::iter((0..1_000).map(move |tag| {
            counter.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            encrypt(tag, ORDERS)
        }));
        let mut answers = stream(&site, requests);
        for answered in 1..=10 {
            answers.next().await.unwrap().ok().unwrap();
            assert!(taken.load(std::sync::atomic::Ordering::SeqCst) <= IN_FLIGHT + answered);
        }
    }

    #[tokio::test]
    async fn a_broken_stream_ends_with_its_error() {
        let site = Site::new().await;
        let requests = tokio_stream::iter([encrypt(1, ORDERS), Err(Status::data_loss("cut"))]);
        let mut answers = stream(&site, requests);
        let mut last = answers.next().await;
        while let Some(Ok(_)) = last {
            last = answers.next().await;
        }
        assert_eq!(last.unwrap().err().unwrap().code(), tonic::Code::DataLoss);
        assert!(answers.next().await.is_none());
    }
}

//! `Crypt`: many tagged requests in flight on one stream, answered as they get ready.
//!
//! One task, the connection's own, drives it: it takes messages while fewer than [`IN_FLIGHT`] are worked on, and otherwise leaves
//! them to HTTP/2, whose window then holds the caller back. Each message asks for its own permit, so the log's queue is flow control, too.
//! A message that fails answers with its error; the stream goes on. It ends when the caller has ended his side and all is answered;
//! with `DRAINING` when the node stops or the connection is old: what is under way is answered first, what has arrived is refused;
//! with `UNAUTHENTICATED` when the caller's certificate has expired or was revoked.

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

use super::{
    convert::item_error,
    crypto_service::Calls,
    status::REQUEST_ID,
    stream_life::{Ending, StreamLife, is_over},
};
use crate::{Error, Result, identity::Caller};

/// Messages worked on at once.
pub const IN_FLIGHT: usize = 64;

/// Time for each message from its arrival, if the stream has that long.
const MESSAGE_WITHIN: Duration = Duration::from_secs(10);

/// The answers of one stream.
pub struct CryptStream {
    calls: Arc<Calls>,
    caller: Caller,
    life: StreamLife,
    /// `None` once the connection is to end.
    ending: Option<Ending>,
    /// Messages that may still be refused while the stream ends: somebody who sends on and on does not keep it open.
    refusals_left: usize,
    /// Said once, after the last answer.
    last_words: Option<Error>,
    /// `None` once nothing more is taken.
    incoming: Option<BoxedRequests>,
    in_flight: FuturesUnordered<BoxFuture<'static, proto::CryptResponse>>,
}

type BoxedRequests = Pin<Box<dyn Stream<Item = Result<proto::CryptRequest, Status>> + Send>>;

impl CryptStream {
    pub(super) fn new(
        calls: Arc<Calls>,
        caller: Caller,
        life: StreamLife,
        incoming: Streaming<proto::CryptRequest>,
    ) -> Self {
        Self::over(calls, caller, life, Box::pin(incoming))
    }

    fn over(calls: Arc<Calls>, caller: Caller, life: StreamLife, incoming: BoxedRequests) -> Self {
        Self {
            calls,
            caller,
            ending: Some(life.ending()),
            life,
            refusals_left: IN_FLIGHT,
            last_words: None,
            incoming: Some(incoming),
            in_flight: FuturesUnordered::new(),
        }
    }

    /// Takes what has arrived, up to the limit. Errors: the stream is broken, or not of such messages.
    fn take_arrived(&mut self, context: &mut Context<'_>) -> Result<(), Status> {
        let ending = is_over(&mut self.ending, context);
        while self.in_flight.len() < IN_FLIGHT {
            let Some(incoming) = &mut self.incoming else { break };
            match incoming.as_mut().poll_next(context) {
                Poll::Ready(Some(Ok(request))) if ending => {
                    self.in_flight.push(Box::pin(refuse(request.tag)));
                    self.refusals_left -= 1;
                    if self.refusals_left == 0 {
                        self.end(Error::Draining);
                    }
                }
                Poll::Ready(Some(Ok(request))) => {
                    if let Err(error) = self.life.check() {
                        self.end(error);
                        break;
                    }
                    let caller = self.caller.for_message(MESSAGE_WITHIN);
                    let calls = self.calls.clone();
                    self.in_flight.push(Box::pin(answer(calls, caller, request)));
                }
                Poll::Ready(Some(Err(broken))) => {
                    self.incoming = None;
                    return Err(broken);
                }
                Poll::Ready(None) => self.incoming = None,
                Poll::Pending if ending => self.end(Error::Draining),
                Poll::Pending => break,
            }
        }
        Ok(())
    }

    /// Takes nothing more; says why once all is answered.
    fn end(&mut self, why: Error) {
        self.incoming = None;
        self.last_words = Some(why);
    }

    /// The status that ends the stream, with the id of its request.
    fn said(&self, error: Error) -> Status {
        REQUEST_ID.sync_scope(self.caller.facts().request_id.clone(), || Status::from(error))
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
            Poll::Ready(None) => Poll::Ready(self.last_words.take().map(|error| Err(self.said(error)))),
            Poll::Pending => Poll::Pending,
        }
    }
}

async fn refuse(tag: u64) -> proto::CryptResponse {
    proto::CryptResponse {
        tag,
        response: Some(Response::Error(item_error(&Error::Draining))),
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

    use tokio::sync::watch;

    use super::*;
    use crate::operations::testing::{Site, app};

    const ORDERS: &str = "envs/dev/teams/shop/keys/orders";

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
        stream_with(site, StreamLife::endless(), requests)
    }

    fn stream_with(
        site: &Site,
        life: StreamLife,
        requests: impl Stream<Item = Result<proto::CryptRequest, Status>> + Send + 'static,
    ) -> CryptStream {
        let calls = Calls::new(site.gate.clone(), site.operations.clone());
        CryptStream::over(Arc::new(calls), app(), life, Box::pin(requests))
    }

    fn error_of(answer: Result<proto::CryptResponse, Status>) -> Option<String> {
        match answer.ok().unwrap().response {
            Some(Response::Error(error)) => Some(error.reason),
            _ => None,
        }
    }

    #[tokio::test]
    async fn an_ending_stream_answers_what_is_under_way_refuses_what_has_arrived_and_says_why() {
        let site = Site::new().await;
        let (end, ending) = watch::channel(false);
        // Two messages, then one that arrives after the end was told; the caller would keep the stream open for ever.
        let told = tokio_stream::once(3_u64).map(move |tag| {
            end.send(true).unwrap();
            encrypt(tag, ORDERS)
        });
        let first = tokio_stream::iter((1..=2).map(|tag| encrypt(tag, ORDERS)));
        let late = tokio_stream::iter((4..=5).map(|tag| encrypt(tag, ORDERS)));
        let requests = first.chain(told).chain(late).chain(tokio_stream::pending());
        let mut answers = stream_with(&site, StreamLife::new(ending, || Ok(())), requests);
        // All five are read before the end is looked at; then one poll sees the end.
        let mut reasons = Vec::new();
        let last = loop {
            match answers.next().await.expect("a last word") {
                Ok(answer) => reasons.push(error_of(Ok(answer))),
                Err(status) => break status,
            }
        };
        assert_eq!(reasons, vec![None; 5]);
        assert_eq!(last.code(), tonic::Code::Unavailable);
        assert!(answers.next().await.is_none());
    }

    #[tokio::test]
    async fn somebody_who_sends_on_and_on_does_not_keep_an_ending_stream_open() {
        let site = Site::new().await;
        let (end, ending) = watch::channel(true);
        // Not `tokio_stream::iter`, which says now and then that nothing has arrived.
        let requests = futures_util::stream::iter((0..).map(|tag| encrypt(tag, ORDERS)));
        let answers: Vec<_> = stream_with(&site, StreamLife::new(ending, || Ok(())), requests)
            .collect()
            .await;
        drop(end);
        let (last, refused) = answers.split_last().unwrap();
        assert_eq!(last.as_ref().err().unwrap().code(), tonic::Code::Unavailable);
        assert_eq!(refused.len(), IN_FLIGHT);
        for answer in refused {
            assert_eq!(error_of(answer.clone()).as_deref(), Some("DRAINING"));
        }
    }

    #[tokio::test]
    async fn an_idle_stream_is_woken_to_end() {
        let site = Site::new().await;
        let (end, ending) = watch::channel(false);
        let mut answers = stream_with(&site, StreamLife::new(ending, || Ok(())), tokio_stream::pending());
        let mut next = std::pin::pin!(answers.next());
        let pending = std::future::poll_fn(|context| Poll::Ready(next.as_mut().poll(context).is_pending()));
        assert!(pending.await);
        end.send(true).unwrap();
        assert_eq!(next.await.unwrap().err().unwrap().code(), tonic::Code::Unavailable);
    }

    #[tokio::test]
    async fn a_certificate_that_is_no_longer_good_ends_the_stream_at_the_next_message() {
        let site = Site::new().await;
        let good = std::sync::atomic::AtomicBool::new(true);
        let (_end, ending) = watch::channel(false);
        let life = StreamLife::new(ending, move || {
            match good.swap(false, std::sync::atomic::Ordering::SeqCst) {
                true => Ok(()),
                false => Err(Error::Unauthenticated("the client certificate is revoked")),
            }
        });
        let requests = tokio_stream::iter((1..=3).map(|tag| encrypt(tag, ORDERS)));
        let answers: Vec<_> = stream_with(&site, life, requests).collect().await;
        assert_eq!(answers.len(), 2);
        assert_eq!(error_of(answers[0].clone()), None);
        assert_eq!(answers[1].as_ref().err().unwrap().code(), tonic::Code::Unauthenticated);
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

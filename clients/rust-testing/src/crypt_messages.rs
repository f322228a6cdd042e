//! The messages of one `Crypt` stream, each of which is a call: faults are met and records made one by one.
//!
//! Messages are handed on in the bytes they came in. A refusal takes its place between the service's answers.

use std::{
    collections::HashMap,
    convert::Infallible,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use http::{Request, Response};
use http_body_util::BodyExt as _;
use hyper::body::{Body as HttpBody, Frame, Incoming};
use keyreeve::grpc::{Services, item_error};
use keyreeve_proto::v1::{
    CryptRequest, CryptResponse, crypt_request::Request as Message, crypt_response::Response as Answered,
};
use prost::Message as _;
use tokio::sync::mpsc;
use tonic::{Status, body::Body};

use crate::{
    faults::Fault,
    front::{Asker, MESSAGE_PREFIX, OK, UnderWay, Watch},
};

type Arrived = Result<Frame<Bytes>, hyper::Error>;

/// Calls under way by their tags, and whether their answers are to be lost.
type Open = Arc<Mutex<HashMap<u64, (UnderWay, bool)>>>;

pub async fn carry(
    services: Arc<Services>,
    watch: Watch,
    asker: Asker,
    request: Request<Incoming>,
) -> Result<Response<Body>, Infallible> {
    let (parts, incoming) = request.into_parts();
    let (to_service, arriving) = mpsc::channel(1);
    let (refuse, refusals) = mpsc::unbounded_channel();
    let open = Open::default();
    let taken = Taken {
        watch,
        asker,
        to_service,
        refuse,
        open: open.clone(),
    };
    tokio::spawn(taken.take(incoming));
    let response = services.route(Request::from_parts(parts, FromCaller(arriving))).await?;
    Ok(response.map(|answers| {
        Body::new(ToCaller {
            answers,
            refusals,
            open,
            last: None,
        })
    }))
}

/// Takes the caller's messages apart.
struct Taken {
    watch: Watch,
    asker: Asker,
    to_service: mpsc::Sender<Arrived>,
    refuse: mpsc::UnboundedSender<Bytes>,
    open: Open,
}

impl Taken {
    /// Until the caller has ended his side, or the stream is gone.
    async fn take(self, mut incoming: Incoming) {
        let mut buffer = BytesMut::new();
        while let Some(arrived) = incoming.frame().await {
            let handed_on = match arrived.map(Frame::into_data) {
                Ok(Ok(data)) => {
                    buffer.put(data);
                    self.hand_on(&mut buffer).await
                }
                Ok(Err(other)) => self.to_service.send(Ok(other)).await.is_ok(),
                Err(broken) => self.to_service.send(Err(broken)).await.is_ok(),
            };
            if !handed_on {
                return;
            }
        }
        if !buffer.is_empty() {
            // Half a message, which the service refuses.
            let _ = self.to_service.send(Ok(Frame::data(buffer.freeze()))).await;
        }
    }

    /// Every whole message. Returns whether there is still somebody to take them.
    async fn hand_on(&self, buffer: &mut BytesMut) -> bool {
        while let Some(message) = next_message(buffer) {
            if !self.meet(message).await {
                return false;
            }
        }
        true
    }

    async fn meet(&self, message: Bytes) -> bool {
        let Some((tag, method, names)) = read(&message) else {
            return self.to_service.send(Ok(Frame::data(message))).await.is_ok();
        };
        let call = UnderWay::new(&self.watch, &self.asker, method, &names);
        let fault = self.watch.faults.take(method, &names);
        if let Some(Fault::Refuse { reason, retry_after }) = fault {
            let error = item_error(&call.refusal(reason, retry_after));
            call.end(reason);
            return self.refuse.send(answer(tag, Answered::Error(error))).is_ok();
        }
        let is_lost = fault == Some(Fault::LoseAnswer);
        lock(&self.open).insert(tag, (call, is_lost));
        if let Some(Fault::Slow(by)) = fault {
            let to_service = self.to_service.clone();
            tokio::spawn(async move {
                tokio::time::sleep(by).await;
                let _ = to_service.send(Ok(Frame::data(message))).await;
            });
            return true;
        }
        self.to_service.send(Ok(Frame::data(message))).await.is_ok()
    }
}

/// The caller's side, for the service.
struct FromCaller(mpsc::Receiver<Arrived>);

impl HttpBody for FromCaller {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Arrived>> {
        self.0.poll_recv(context)
    }
}

/// The service's side, for the caller.
struct ToCaller {
    answers: Body,
    refusals: mpsc::UnboundedReceiver<Bytes>,
    open: Open,
    /// What the service ends with; refusals come before it.
    last: Option<Option<Result<Frame<Bytes>, Status>>>,
}

impl ToCaller {
    /// Notes what became of each message; takes the answers out that are to be lost.
    fn seen(&self, data: Bytes) -> Bytes {
        let mut buffer = BytesMut::from(data);
        let mut seen = BytesMut::new();
        while let Some(message) = next_message(&mut buffer) {
            seen.put(self.seen_message(message));
        }
        seen.put(buffer);
        seen.freeze()
    }

    fn seen_message(&self, message: Bytes) -> Bytes {
        let Ok(said) = CryptResponse::decode(&message[MESSAGE_PREFIX..]) else {
            return message;
        };
        let Some((call, is_lost)) = lock(&self.open).remove(&said.tag) else {
            return message;
        };
        match said.response {
            Some(Answered::Error(error)) => call.end(&error.reason),
            _ if is_lost => {
                let reason = "LOG_UNAVAILABLE";
                let error = item_error(&call.refusal(reason, Duration::ZERO));
                call.end(reason);
                return answer(said.tag, Answered::Error(error));
            }
            _ => call.end(OK),
        }
        message
    }
}

impl HttpBody for ToCaller {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        loop {
            if let Poll::Ready(Some(refusal)) = self.refusals.poll_recv(context) {
                return Poll::Ready(Some(Ok(Frame::data(refusal))));
            }
            if let Some(last) = self.last.take() {
                return Poll::Ready(last);
            }
            match ready!(Pin::new(&mut self.answers).poll_frame(context)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => return Poll::Ready(Some(Ok(Frame::data(self.seen(data))))),
                    Err(trailers) => self.last = Some(Some(Ok(trailers))),
                },
                end => self.last = Some(end),
            }
        }
    }
}

/// Takes one whole message off the front, with its prefix.
fn next_message(buffer: &mut BytesMut) -> Option<Bytes> {
    let length = usize::try_from(buffer.get(1..MESSAGE_PREFIX)?.get_u32()).ok()?;
    let whole = MESSAGE_PREFIX.checked_add(length)?;
    (buffer.len() >= whole).then(|| buffer.split_to(whole).freeze())
}

/// Tag, method and resource names of a message; `None` for one that the service refuses anyhow.
fn read(message: &[u8]) -> Option<(u64, &'static str, Vec<String>)> {
    let CryptRequest { tag, request } = CryptRequest::decode(&message[MESSAGE_PREFIX..]).ok()?;
    let (method, names) = match request? {
        Message::Encrypt(request) => ("Encrypt", vec![request.name]),
        Message::Decrypt(request) => ("Decrypt", vec![request.name]),
        Message::ReEncrypt(request) => ("ReEncrypt", vec![request.source_name, request.destination_name]),
        Message::GenerateDataKey(request) => ("GenerateDataKey", vec![request.name]),
        Message::GenerateDataKeyWithoutPlaintext(request) => ("GenerateDataKeyWithoutPlaintext", vec![request.name]),
        Message::UnwrapDataKey(request) => ("UnwrapDataKey", vec![request.name]),
    };
    Some((tag, method, names))
}

fn answer(tag: u64, response: Answered) -> Bytes {
    let answer = CryptResponse {
        tag,
        response: Some(response),
    };
    let mut message = BytesMut::new();
    message.put_u8(0);
    message.put_u32(u32::try_from(answer.encoded_len()).unwrap_or(u32::MAX));
    message.put(&answer.encode_to_vec()[..]);
    message.freeze()
}

fn lock(open: &Open) -> MutexGuard<'_, HashMap<u64, (UnderWay, bool)>> {
    open.lock().unwrap_or_else(PoisonError::into_inner)
}

//! A client whose certificate comes from the SPIFFE Workload API, of an agent in this process.

#![cfg(feature = "spiffe")]
#![allow(clippy::unwrap_used)] // all of this is a test
#![allow(dead_code)] // of the scripted service

#[path = "scripted/certificates.rs"]
mod certificates;
#[path = "scripted/service.rs"]
mod service;

use std::{convert::Infallible, path::Path, sync::Arc, time::Duration};

use certificates::{Authority, Leaf};
use hyper_util::rt::{TokioExecutor, TokioIo};
use keyreeve_client::{Client, ClientConfig, WorkloadApi, v1};
use service::Service;
use tokio::{net::UnixListener, sync::watch};
use tokio_stream::{StreamExt as _, wrappers::WatchStream};
use tonic::{Request, Response, Status, body::Body, server::Grpc};
use tonic_prost::ProstCodec;

/// `X509SVIDResponse` of the Workload API.
#[derive(Clone, PartialEq, prost::Message)]
struct Svids {
    #[prost(message, repeated, tag = "1")]
    svids: Vec<Svid>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Svid {
    #[prost(string, tag = "1")]
    spiffe_id: String,
    #[prost(bytes = "vec", tag = "2")]
    x509_svid: Vec<u8>,
    #[prost(bytes = "vec", tag = "3")]
    x509_svid_key: Vec<u8>,
    #[prost(bytes = "vec", tag = "4")]
    bundle: Vec<u8>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Asked {}

const ID: &str = "spiffe://flows.test/app";

fn svids(authority: &Authority, leaf: &Leaf) -> Svids {
    Svids {
        svids: vec![Svid {
            spiffe_id: ID.to_owned(),
            x509_svid: leaf.certificate.to_vec(),
            x509_svid_key: leaf.key.secret_der().to_vec(),
            bundle: authority.certificate.to_vec(),
        }],
    }
}

/// Serves the newest SVID to whoever asks for one, and each that follows.
async fn agent(socket: &Path, newest: watch::Receiver<Svids>) {
    let listener = UnixListener::bind(socket).unwrap();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let newest = newest.clone();
        let answer = move |request: http::Request<hyper::body::Incoming>| {
            let newest = newest.clone();
            async move {
                assert_eq!(request.uri().path(), "/SpiffeWorkloadAPI/FetchX509SVID");
                let fetch = |_: Request<Asked>| {
                    let newest = newest.clone();
                    async move { Ok::<_, Status>(Response::new(WatchStream::new(newest).map(Ok))) }
                };
                let mut grpc = Grpc::new(ProstCodec::<Svids, Asked>::default());
                let answer = grpc.server_streaming(tower::service_fn(fetch), request.map(Body::new));
                Ok::<_, Infallible>(answer.await)
            }
        };
        let http2 = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
        let connection = http2.serve_connection(TokioIo::new(stream), hyper::service::service_fn(answer));
        tokio::spawn(connection);
    }
}

#[tokio::test]
async fn the_certificate_of_an_agent_is_shown_and_the_next_one_after_it() {
    let authority = Arc::new(Authority::new());
    let directory = tempfile::TempDir::new().unwrap();
    let socket = directory.path().join("agent.sock");
    let (first, second) = (authority.workload(ID), authority.workload(ID));
    let (renew, newest) = watch::channel(svids(&authority, &first));
    let serving = socket.clone();
    tokio::spawn(async move { agent(&serving, newest).await });
    while !socket.exists() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let address = format!("unix://{}", socket.display());
    let connected = tokio::time::timeout(Duration::from_secs(20), WorkloadApi::connect_to(&address)).await;
    let api = connected.expect("the agent's answer is good").unwrap();
    let service = Service::start(&authority).await;
    let config = ClientConfig::with_certificates(service.url(), Arc::new(api));
    let client = Client::connect(config).await.unwrap();
    let call = async || {
        client.encrypt(v1::EncryptRequest::default()).await.map(drop).unwrap();
        service.seen().last().unwrap().certificate.clone()
    };
    assert_eq!(call().await, first.certificate.to_vec());
    renew.send_replace(svids(&authority, &second));
    let end = std::time::Instant::now() + Duration::from_secs(20);
    while call().await != second.certificate.to_vec() {
        assert!(std::time::Instant::now() < end, "the next certificate is not shown");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn an_agent_that_is_not_there_is_a_fault_of_the_configuration() {
    let connecting = WorkloadApi::connect_to("not a socket");
    assert_eq!(connecting.await.err().unwrap().reason, "CONFIGURATION");
}

//! Operations over one stream that is slow, refuses, ends and comes back.

use std::time::Duration;

use keyreeve_client::{Code, EventName, Pipeline, v1};
use tokio::task::JoinSet;

use crate::{
    World, encrypt,
    service::{Reply, Service, overloaded, status},
};

async fn pipeline(world: &World, service: &Service) -> Pipeline {
    world.client(&[service]).await.pipeline()
}

/// So many operations at once; each with a plaintext of its own.
fn at_once(pipeline: &Pipeline, count: usize) -> JoinSet<Result<bool, keyreeve_client::ClientError>> {
    let mut all = JoinSet::new();
    for number in 0..count {
        let pipeline = pipeline.clone();
        all.spawn(async move {
            let request = v1::EncryptRequest {
                plaintext: number.to_string().into(),
                ..encrypt()
            };
            Ok(pipeline.encrypt(request).await?.ciphertext == number.to_string().as_bytes())
        });
    }
    all
}

fn streams(service: &Service) -> usize {
    service.seen().iter().filter(|seen| seen.method == "Crypt").count()
}

#[tokio::test]
async fn everybody_gets_the_answer_to_what_he_asked_over_one_stream() {
    let world = World::new();
    let service = world.service().await;
    let pipeline = pipeline(&world, &service).await;
    for answer in at_once(&pipeline, 1_000).join_all().await {
        assert!(answer.unwrap());
    }
    assert_eq!((streams(&service), service.seen().len()), (1, 1));
    assert_eq!(world.told(EventName::Call).len(), 1_000);
}

#[tokio::test]
async fn no_more_than_the_service_works_on_is_under_way() {
    let world = World::new();
    let service = world.service().await;
    service.always(Reply::Silence);
    let pipeline = pipeline(&world, &service).await;
    let mut all = at_once(&pipeline, 200);
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(service.messages(), 64);
    all.abort_all();
    while all.join_next().await.is_some() {}
}

#[tokio::test]
async fn what_a_lost_stream_left_unanswered_is_sent_again_on_a_new_one() {
    let world = World::new();
    let service = world.service().await;
    let pipeline = pipeline(&world, &service).await;
    *service.script.stream_ends_after.lock().unwrap() = Some((40, status(Code::Unavailable, "DRAINING", None)));
    for answer in at_once(&pipeline, 100).join_all().await {
        assert!(answer.unwrap());
    }
    assert_eq!(streams(&service), 3, "40, 40, 20");
    // Not one for each message: a new stream is one retry.
    assert_eq!(world.told(EventName::Retry).len(), 2);
}

#[tokio::test]
async fn what_a_draining_node_refused_goes_to_the_next_stream_and_nothing_more_to_this_one() {
    let world = World::new();
    let service = world.service().await;
    let pipeline = pipeline(&world, &service).await;
    pipeline.encrypt(encrypt()).await.unwrap();
    let refused = || Reply::Refuse(status(Code::Unavailable, "DRAINING", None));
    service.reply([Reply::Good, refused(), refused()]);
    for _ in 0..3 {
        for answer in at_once(&pipeline, 3).join_all().await {
            assert!(answer.unwrap());
        }
    }
    assert_eq!((streams(&service), service.messages()), (2, 1 + 9 + 2));
    assert_eq!(world.told(EventName::Retry).len(), 1);
}

#[tokio::test]
async fn an_overloaded_message_is_sent_again_after_its_delay_and_the_stream_goes_on() {
    let world = World::new();
    let service = world.service().await;
    let pipeline = pipeline(&world, &service).await;
    service.reply([overloaded(100)]);
    let begun = std::time::Instant::now();
    pipeline.encrypt(encrypt()).await.unwrap();
    assert!(begun.elapsed() >= Duration::from_millis(100));
    assert_eq!((streams(&service), service.messages()), (1, 2));
}

#[tokio::test]
async fn a_refused_or_damaged_message_comes_out_and_the_stream_goes_on() {
    let world = World::new();
    let service = world.service().await;
    let pipeline = pipeline(&world, &service).await;
    service.reply([
        Reply::Refuse(status(Code::PermissionDenied, "PERMISSION_DENIED", None)),
        Reply::Damaged,
    ]);
    for reason in ["PERMISSION_DENIED", "CHECKSUM_MISMATCH"] {
        assert_eq!(pipeline.encrypt(encrypt()).await.err().unwrap().reason, reason);
    }
    pipeline.encrypt(encrypt()).await.unwrap();
    assert_eq!((streams(&service), service.messages()), (1, 3));
}

#[tokio::test]
async fn a_message_without_an_answer_meets_its_deadline() {
    let world = World::new();
    let service = world.service().await;
    service.reply([Reply::Silence]);
    let client = world
        .client(&[&service])
        .await
        .with_deadline(Duration::from_millis(200))
        .unwrap();
    let pipeline = client.pipeline();
    assert_eq!(
        pipeline.encrypt(encrypt()).await.err().unwrap().reason,
        "DEADLINE_EXCEEDED"
    );
    pipeline.encrypt(encrypt()).await.unwrap();
}

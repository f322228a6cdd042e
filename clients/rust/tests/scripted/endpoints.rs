//! Several endpoints, and a certificate that changes.

use std::{fs, time::Duration};

use keyreeve_client::{CircuitState, Client, EventName};

use crate::{
    World,
    certificates::Authority,
    encrypt,
    service::{Reply, status, unavailable},
};

#[tokio::test]
async fn a_draining_node_costs_no_call_while_another_serves_and_is_used_again_later() {
    let world = World::new();
    let (one, two) = (world.service().await, world.service().await);
    let client = world.client(&[&one, &two]).await;
    client.encrypt(encrypt()).await.unwrap();
    one.always(unavailable("DRAINING"));
    for _ in 0..20 {
        client.encrypt(encrypt()).await.unwrap();
    }
    assert_eq!(two.seen().len(), 20, "rule 3: there at once");
    let opened = world.told(EventName::CircuitOpened);
    assert_eq!((opened.len(), opened[0].reason.as_str()), (1, "DRAINING"));

    one.always(Reply::Good);
    let end = std::time::Instant::now() + Duration::from_secs(10);
    while client.endpoints()[0].circuit != CircuitState::Closed {
        assert!(std::time::Instant::now() < end);
        client.encrypt(encrypt()).await.unwrap();
    }
}

#[tokio::test]
async fn rule_3_a_node_whose_token_is_away_is_left_at_once_though_its_circuit_is_closed() {
    let world = World::new();
    let (one, two) = (world.service().await, world.service().await);
    let client = world.client(&[&one, &two]).await;
    one.reply([unavailable("TOKEN_UNAVAILABLE")]);
    client.encrypt(encrypt()).await.unwrap();
    assert_eq!((one.seen().len(), two.seen().len()), (1, 1));
    assert_eq!(world.told(EventName::Retry)[0].wait, Some(Duration::ZERO));
    assert!(world.told(EventName::CircuitOpened).is_empty(), "rule 7");
}

#[tokio::test]
async fn one_endpoint_is_enough_to_begin() {
    let world = World::new();
    let (mut one, two) = (world.service().await, world.service().await);
    one.kill().await;
    let client = world.client(&[&one, &two]).await;
    client.encrypt(encrypt()).await.unwrap();
    assert_eq!(two.seen().len(), 1);
}

#[tokio::test]
async fn a_program_may_start_before_the_service() {
    let world = World::new();
    let mut service = world.service().await;
    service.kill().await;
    let config = world.config(&[&service]);
    assert_eq!(
        Client::connect(config.clone()).await.err().unwrap().reason,
        "UNREACHABLE"
    );
    let client = Client::new(config).unwrap();
    let service = service.again().await;
    client.encrypt(encrypt()).await.unwrap();
    assert_eq!(service.seen().len(), 1);
}

#[tokio::test]
async fn rule_8_changed_files_are_taken_up_and_files_that_do_not_fit_are_not() {
    let world = World::new();
    let service = world.service().await;
    let client = world.client(&[&service]).await;
    client.encrypt(encrypt()).await.unwrap();
    let identity = client.identity();

    // A key without its certificate.
    let next = world.authority.leaf();
    fs::write(world.directory.path().join("own.key"), &next.key_pem).unwrap();
    tokio::time::sleep(Duration::from_millis(1_050)).await;
    client.encrypt(encrypt()).await.unwrap();
    client.encrypt(encrypt()).await.unwrap();
    assert_eq!(world.told(EventName::CertificateUnusable).len(), 1);
    assert_eq!(client.identity(), identity);

    next.write(world.directory.path());
    tokio::time::sleep(Duration::from_millis(1_050)).await;
    client.encrypt(encrypt()).await.unwrap();
    assert_eq!(world.told(EventName::CertificateReloaded).len(), 1);
    assert_ne!(client.identity(), identity);
    let seen = service.seen();
    assert_eq!(seen[2].certificate, seen[0].certificate);
    assert_eq!(seen[3].certificate, next.certificate.to_vec());
}

#[tokio::test]
async fn rule_8_a_refused_certificate_is_tried_again_if_the_files_have_changed() {
    let world = World::new();
    let service = world.service().await;
    let client = world.client(&[&service]).await;
    let refused = || Reply::Refuse(status(tonic::Code::Unauthenticated, "UNAUTHENTICATED", None));
    let next = world.authority.leaf();
    next.write(world.directory.path());
    service.reply([refused()]);
    client.encrypt(encrypt()).await.unwrap();
    let seen = service.seen();
    assert_eq!((seen.len(), &seen[1].certificate), (2, &next.certificate.to_vec()));
    service.reply([refused()]);
    assert_eq!(client.encrypt(encrypt()).await.err().unwrap().tries, 1);
}

#[tokio::test]
async fn a_service_of_another_authority_is_not_spoken_to() {
    let world = World::new();
    let service = world.service().await;
    fs::write(world.directory.path().join("ca.pem"), &Authority::new().pem).unwrap();
    let error = Client::connect(world.config(&[&service])).await.err().unwrap();
    assert_eq!(error.reason, "UNREACHABLE");
    assert!(error.message.contains("certificate"), "{error}");
}

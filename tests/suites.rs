//! Keys of suite 0001, and keys that live in the token, over the wire on each token: every operation, the limit, rotation, what is shown
//! and claimed of them.

#![allow(clippy::unwrap_used)] // all of this file is a test

mod support;

use keyreeve_proto::v1 as proto;
use proto::{KeyResidency, KeySuite};
use support::{Client, Setup, TestServer, answer, fault, key_name, pairs};
use tonic::Code;

const CARDS: &str = "dev/shop/cards";
const CONTEXT: &[(&str, &str)] = &[("table", "cards")];
/// What an envelope of suite 0001 adds to its plaintext.
const OVERHEAD: usize = 60;

/// A server on SoftHSM, and one on Kryoptic where there is one, with the module in threads and in workers; each with a key of suite 0001.
async fn servers() -> Vec<TestServer> {
    let mut servers = Vec::new();
    let tokens = [
        (false, "thread"),
        (false, "process"),
        (true, "thread"),
        (true, "process"),
    ];
    for (kryoptic, isolation) in tokens {
        if kryoptic && std::env::var_os("KEYREEVE_KRYOPTIC").is_none() {
            continue;
        }
        let setup = Setup {
            kryoptic,
            ..Setup::default()
        };
        let mut server = setup.with("token", "isolation", format!("{isolation:?}")).init();
        server.serve().await;
        let made = server
            .admin()
            .await
            .create_key_of(CARDS, KeySuite::TokenGcm)
            .await
            .unwrap();
        assert!(made.suite() == KeySuite::TokenGcm);
        assert_eq!(made.versions[0].suite, "0001 TOKEN-GCM");
        let expected = if kryoptic { "TOKEN_MESSAGE" } else { "TOKEN_RANDOM" };
        assert_eq!(made.versions[0].iv_source, expected);
        servers.push(server);
    }
    servers
}

#[tokio::test]
async fn messages_up_to_the_limit_open_under_their_context_only() {
    for server in servers().await {
        let client = server.admin().await;
        for length in [0, 1, 8_192] {
            let plaintext = vec![7; length];
            let sealed = client.encrypt(CARDS, &plaintext, CONTEXT).await.unwrap();
            assert_eq!(sealed.len(), length + OVERHEAD);
            assert_eq!(client.decrypt(CARDS, &sealed, CONTEXT).await.unwrap(), plaintext);
            assert_eq!(
                fault(client.decrypt(CARDS, &sealed, &[]).await).reason,
                "DECRYPT_FAILED"
            );
        }
        let refused = fault(client.encrypt(CARDS, &[0; 8_193], CONTEXT).await);
        assert_eq!(
            (refused.code, refused.fields),
            (Code::InvalidArgument, vec!["plaintext".to_owned()])
        );
        assert!(refused.message.contains("8192"), "{}", refused.message);
    }
}

#[tokio::test]
async fn every_flipped_bit_is_the_one_error_and_trips_nothing() {
    for server in servers().await {
        let client = server.admin().await;
        let sealed = client.encrypt(CARDS, b"hello", CONTEXT).await.unwrap();
        let items = (0..sealed.len() * 8).map(|bit| {
            let mut flipped = sealed.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            proto::batch_decrypt_request::Item {
                ciphertext: flipped.into(),
                encryption_context: pairs(CONTEXT),
                ..Default::default()
            }
        });
        let request = proto::BatchDecryptRequest {
            name: key_name(CARDS),
            items: items.collect(),
        };
        let results = answer(client.crypto().batch_decrypt(request).await).unwrap().results;
        for (bit, result) in results.into_iter().enumerate() {
            use proto::batch_decrypt_response::result::Result::Error;
            match result.result {
                Some(Error(error)) => assert_eq!(error.reason, "DECRYPT_FAILED", "bit {bit}"),
                _ => panic!("bit {bit} passed"),
            }
        }
        assert_eq!(client.decrypt(CARDS, &sealed, CONTEXT).await.unwrap(), b"hello");
        let status = answer(client.system().get_status(proto::GetStatusRequest {}).await).unwrap();
        assert!(status.tokens.iter().all(|token| token.serving));
    }
}

#[tokio::test]
async fn data_keys_batches_and_streams_work_as_under_the_other_suite() {
    for server in servers().await {
        let client = server.admin().await;
        let (plain, envelope) = client.data_key(CARDS, CONTEXT).await.unwrap();
        assert_eq!((envelope.len(), envelope[5]), (32 + OVERHEAD, 1));
        assert_eq!(client.unwrap_data_key(CARDS, &envelope, CONTEXT).await.unwrap(), plain);
        assert_eq!(
            fault(client.decrypt(CARDS, &envelope, CONTEXT).await).reason,
            "DECRYPT_FAILED"
        );

        let items = (0..200_usize).map(|at| proto::batch_encrypt_request::Item {
            plaintext: vec![7; if at == 9 { 8_193 } else { at }].into(),
            ..Default::default()
        });
        let request = proto::BatchEncryptRequest {
            name: key_name(CARDS),
            items: items.collect(),
        };
        let results = answer(client.crypto().batch_encrypt(request).await).unwrap().results;
        for (at, result) in results.into_iter().enumerate() {
            use proto::batch_encrypt_response::result::Result::{Error, Success};
            match (at, result.result) {
                (9, Some(Error(error))) => assert_eq!(error.reason, "INVALID_ARGUMENT"),
                (_, Some(Success(made))) => {
                    assert_eq!(client.decrypt(CARDS, &made.ciphertext, &[]).await.unwrap().len(), at);
                }
                _ => panic!("item {at}"),
            }
        }
        assert_eq!(streamed(&client, 300).await, 300);
    }
}

/// How many messages of a stream were sealed.
async fn streamed(client: &Client, messages: u64) -> usize {
    let requests = (0..messages).map(|tag| proto::CryptRequest {
        tag,
        request: Some(proto::crypt_request::Request::Encrypt(proto::EncryptRequest {
            name: key_name(CARDS),
            plaintext: tag.to_be_bytes().to_vec().into(),
            ..Default::default()
        })),
    });
    let requests = tokio_stream::iter(requests.collect::<Vec<_>>());
    let mut answers = answer(client.crypto().crypt(requests).await).unwrap();
    let mut sealed = std::collections::HashSet::new();
    while let Some(message) = answers.message().await.unwrap() {
        match message.response {
            Some(proto::crypt_response::Response::Encrypt(made)) => assert!(sealed.insert(made.ciphertext)),
            _ => panic!("another answer"),
        }
    }
    sealed.len()
}

#[tokio::test]
async fn a_rotation_keeps_the_suite_and_what_is_claimed_is_of_this_suite() {
    for mut server in servers().await {
        let client = server.admin().await;
        let old = client.encrypt(CARDS, b"old", CONTEXT).await.unwrap();
        let rotated = client.rotate_key(CARDS).await.unwrap();
        assert_eq!(rotated.versions[1].suite, "0001 TOKEN-GCM");
        let new = client.encrypt(CARDS, b"new", CONTEXT).await.unwrap();
        assert_eq!(new[27], 2);

        let request = proto::AttestKeyRequest { name: key_name(CARDS) };
        let said = answer(client.keys().attest_key(request).await).unwrap();
        for version in &said.versions {
            let claims = version.claims.join("\n");
            assert!(claims.contains("suite 0001") && claims.contains("ivs"), "{claims}");
            assert!(
                claims.contains("does not commit") && !claims.contains("suite 0002"),
                "{claims}"
            );
            assert_eq!((version.uses, version.kcv.len()), (65_536, 32));
        }

        // Another process unwraps them again, and opens both.
        assert!(server.stop().await.success());
        server.serve().await;
        let client = server.admin().await;
        assert_eq!(client.decrypt(CARDS, &old, CONTEXT).await.unwrap(), b"old");
        assert_eq!(client.decrypt(CARDS, &new, CONTEXT).await.unwrap(), b"new");
    }
}

#[tokio::test]
async fn resident_keys_of_both_suites_work_rotate_and_outlive_a_restart() {
    for mut server in servers().await {
        let keys = [
            ("dev/shop/vault", KeySuite::PrfCommit),
            ("dev/shop/vault-gcm", KeySuite::TokenGcm),
        ];
        let mut sealed = Vec::new();
        let client = server.admin().await;
        for (key, suite) in keys {
            let made = client
                .create_key_in(key, suite, KeyResidency::TokenResident)
                .await
                .unwrap();
            assert!(made.residency() == KeyResidency::TokenResident && made.suite() == suite);
            let old = client.encrypt(key, b"old", CONTEXT).await.unwrap();
            let rotated = client.rotate_key(key).await.unwrap();
            assert!(rotated.residency() == KeyResidency::TokenResident && rotated.suite() == suite);
            let (plain, data_key) = client.data_key(key, CONTEXT).await.unwrap();
            sealed.push((key, old, plain, data_key));
        }
        assert!(server.stop().await.success());
        server.serve().await;
        let client = server.admin().await;
        for (key, old, plain, data_key) in &sealed {
            assert_eq!(client.decrypt(key, old, CONTEXT).await.unwrap(), b"old");
            assert_eq!(client.unwrap_data_key(key, data_key, CONTEXT).await.unwrap(), *plain);
            let request = proto::AttestKeyRequest { name: key_name(key) };
            let said = answer(client.keys().attest_key(request).await).unwrap();
            assert_eq!(said.versions.len(), 2);
            for version in said.versions {
                for seen in [version.at_birth.unwrap(), version.in_use.unwrap()] {
                    assert!(seen.local && seen.always_sensitive && seen.never_extractable && !seen.extractable);
                }
                let claims = version.claims.join("\n");
                assert!(
                    claims.contains("kept there") && claims.contains("lost with that token"),
                    "{claims}"
                );
                assert!(!claims.contains("key wrap"), "{claims}");
            }
        }
    }
}

#[tokio::test]
async fn re_encrypt_goes_from_one_suite_to_the_other() {
    for server in servers().await {
        let (client, orders) = (server.admin().await, "dev/shop/orders");
        client.create_key_of(orders, KeySuite::PrfCommit).await.unwrap();
        let reencrypt = async |from: &str, ciphertext: Vec<u8>, to: &str| {
            let request = proto::ReEncryptRequest {
                source_name: key_name(from),
                ciphertext: ciphertext.into(),
                source_encryption_context: pairs(CONTEXT),
                destination_name: key_name(to),
                destination_encryption_context: pairs(CONTEXT),
                ..Default::default()
            };
            answer(client.crypto().re_encrypt(request).await)
                .unwrap()
                .ciphertext
                .to_vec()
        };
        let sealed = client.encrypt(orders, b"hello", CONTEXT).await.unwrap();
        let there = reencrypt(orders, sealed, CARDS).await;
        assert_eq!(client.decrypt(CARDS, &there, CONTEXT).await.unwrap(), b"hello");
        let back = reencrypt(CARDS, there, orders).await;
        assert_eq!(client.decrypt(orders, &back, CONTEXT).await.unwrap(), b"hello");
    }
}

//! Encryption over the wire: every operation on a real token behind a real server, and every way a ciphertext can be wrong.

#![allow(clippy::unwrap_used)] // all of this file is a test

mod support;

use keyreeve_proto::v1 as proto;
use support::{Client, SHOP, Setup, answer, fault, key_name, pairs, shared};
use tonic::Code;

/// What an envelope of suite 0002 adds to its plaintext.
const OVERHEAD: usize = 124;
const ORDERS: &[(&str, &str)] = &[("table", "orders"), ("row", "7")];

/// A fresh key of team `dev/shop`, and a caller who may use it.
async fn key(name: &str) -> (Client, String) {
    let server = shared().await;
    let key = format!("dev/shop/{name}");
    server.admin().await.create_key(&key).await.unwrap();
    (server.client(SHOP).await, key)
}

#[tokio::test]
async fn what_was_encrypted_decrypts_under_its_context() {
    let (client, key) = key("round-trip").await;
    for plaintext in [&b""[..], b"x", b"attack at dawn", &[0xa5; 65_536]] {
        let sealed = client.encrypt(&key, plaintext, ORDERS).await.unwrap();
        assert_eq!(sealed.len(), plaintext.len() + OVERHEAD);
        let mut turned = ORDERS.to_vec();
        turned.reverse();
        assert_eq!(
            client.decrypt(&key, &sealed, &turned).await.unwrap(),
            plaintext,
            "the order of the pairs does not matter"
        );
    }
}

#[tokio::test]
async fn equal_plaintexts_give_different_ciphertexts() {
    let (client, key) = key("fresh").await;
    let (one, two) = (
        client.encrypt(&key, b"same", &[]).await.unwrap(),
        client.encrypt(&key, b"same", &[]).await.unwrap(),
    );
    assert_eq!(one[..32], two[..32], "the header is the same");
    assert!(
        one[32..64] != two[32..64] && one[64..96] != two[64..96],
        "salt and commitment differ"
    );
}

#[tokio::test]
async fn every_fault_of_a_ciphertext_is_the_same_one_error() {
    let (client, key) = key("faults").await;
    let (_, other) = self::key("faults-other").await;
    let sealed = client.encrypt(&key, b"hello", ORDERS).await.unwrap();
    let data_key = client.data_key(&key, ORDERS).await.unwrap().1;
    let cut = &sealed[..sealed.len() - 1];
    let longer = [sealed.as_slice(), b"\0"].concat();
    let version = changed(&sealed, 27);
    let mut faults = Vec::new();
    for (what, key, ciphertext, context) in [
        ("no context", &key, sealed.as_slice(), [].as_slice()),
        ("another value", &key, &sealed, &[("table", "orders"), ("row", "8")]),
        (
            "another key of the context",
            &key,
            &sealed,
            &[("table", "orders"), ("Row", "7")],
        ),
        ("one pair less", &key, &sealed, &[("table", "orders")]),
        (
            "one pair more",
            &key,
            &sealed,
            &[("table", "orders"), ("row", "7"), ("x", "")],
        ),
        ("another key", &other, &sealed, ORDERS),
        ("a data key's envelope", &key, &data_key, ORDERS),
        ("an empty ciphertext", &key, b"", ORDERS),
        ("a header alone", &key, &sealed[..32], ORDERS),
        ("a cut ciphertext", &key, cut, ORDERS),
        ("a longer ciphertext", &key, &longer, ORDERS),
        ("noise", &key, &[0x5a; 200], ORDERS),
        ("a version that does not exist", &key, &version, ORDERS),
    ] {
        faults.push((what, fault(client.decrypt(key, ciphertext, context).await)));
    }
    faults.push((
        "a message to unwrap",
        fault(client.unwrap_data_key(&key, &sealed, ORDERS).await),
    ));
    for (what, fault) in &faults {
        assert_eq!(
            (fault.code, fault.reason.as_str()),
            (Code::InvalidArgument, "DECRYPT_FAILED"),
            "{what}"
        );
        assert_eq!(fault, &faults[0].1, "{what} looks like the others");
    }
}

#[tokio::test]
async fn a_flipped_bit_anywhere_is_found() {
    let (client, key) = key("bits").await;
    let sealed = client.encrypt(&key, b"attack at dawn", ORDERS).await.unwrap();
    // Every bit of the header, and one of each byte that follows: the unit tests of `envelope` flip all.
    let header = (0..32 * 8).map(|bit| (bit / 8, bit % 8));
    let body = (32..sealed.len()).map(|byte| (byte, byte % 8));
    let items: Vec<_> = header
        .chain(body)
        .map(|(byte, bit)| {
            let mut flipped = sealed.clone();
            flipped[byte] ^= 1 << bit;
            decrypt_item(&flipped, ORDERS)
        })
        .collect();
    let count = items.len();
    let request = proto::BatchDecryptRequest {
        name: key_name(&key),
        items,
    };
    let results = answer(client.crypto().batch_decrypt(request).await).unwrap().results;
    assert_eq!(results.len(), count);
    for (at, result) in results.into_iter().enumerate() {
        let Some(proto::batch_decrypt_response::result::Result::Error(error)) = result.result else {
            panic!("flip {at} was not found");
        };
        assert_eq!(
            (error.code, error.reason.as_str()),
            (Code::InvalidArgument as i32, "DECRYPT_FAILED")
        );
    }
    assert_eq!(client.decrypt(&key, &sealed, ORDERS).await.unwrap(), b"attack at dawn");
}

#[tokio::test]
async fn raw_associated_data_must_be_given_again() {
    let (client, key) = key("aad").await;
    let request = |aad: &[u8]| proto::EncryptRequest {
        name: key_name(&key),
        plaintext: b"hello".to_vec().into(),
        aad: aad.to_vec().into(),
        ..Default::default()
    };
    let sealed = answer(client.crypto().encrypt(request(b"header bytes")).await)
        .unwrap()
        .ciphertext;
    for (aad, opens) in [(&b"header bytes"[..], true), (b"header byteS", false), (b"", false)] {
        let request = proto::DecryptRequest {
            name: key_name(&key),
            ciphertext: sealed.clone(),
            aad: aad.to_vec().into(),
            ..Default::default()
        };
        let opened = answer(client.crypto().decrypt(request).await);
        assert_eq!(opened.is_ok(), opens);
    }
}

#[tokio::test]
async fn a_data_key_comes_back_from_its_envelope_and_only_by_unwrap() {
    let (client, key) = key("data-keys").await;
    let (plain, envelope) = client.data_key(&key, ORDERS).await.unwrap();
    assert_eq!((plain.len(), envelope.len()), (32, 32 + OVERHEAD));
    assert_eq!(client.unwrap_data_key(&key, &envelope, ORDERS).await.unwrap(), plain);
    assert_eq!(
        fault(client.decrypt(&key, &envelope, ORDERS).await).reason,
        "DECRYPT_FAILED"
    );
    assert_eq!(
        fault(client.unwrap_data_key(&key, &envelope, &[]).await).reason,
        "DECRYPT_FAILED"
    );
    assert_ne!(client.data_key(&key, ORDERS).await.unwrap().0, plain);
    // The flag is bound: taking it away does not turn a data key into a message.
    let mut unflagged = envelope.clone();
    unflagged[5] ^= 1;
    assert_eq!(
        fault(client.decrypt(&key, &unflagged, ORDERS).await).reason,
        "DECRYPT_FAILED"
    );

    let request = proto::GenerateDataKeyWithoutPlaintextRequest {
        name: key_name(&key),
        encryption_context: pairs(ORDERS),
        ..Default::default()
    };
    let made = answer(client.crypto().generate_data_key_without_plaintext(request).await).unwrap();
    let opened = client.unwrap_data_key(&key, &made.ciphertext, ORDERS).await.unwrap();
    assert_eq!(opened.len(), 32);
}

#[tokio::test]
async fn a_data_key_of_another_service_is_wrapped_and_opens_by_unwrap_alone() {
    let (client, key) = key("wrap").await;
    let theirs = [0x5a; 32];
    let request = |data_key: &[u8]| proto::WrapDataKeyRequest {
        name: key_name(&key),
        plaintext: data_key.to_vec().into(),
        encryption_context: pairs(ORDERS),
        plaintext_crc32c: Some(crc32c::crc32c(data_key)),
        ..Default::default()
    };
    let wrapped = answer(client.crypto().wrap_data_key(request(&theirs)).await).unwrap();
    assert_eq!((wrapped.ciphertext.len(), wrapped.key_version), (32 + OVERHEAD, 1));
    assert_eq!(wrapped.ciphertext_crc32c, crc32c::crc32c(&wrapped.ciphertext));
    let opened = client.unwrap_data_key(&key, &wrapped.ciphertext, ORDERS).await.unwrap();
    assert_eq!(opened, theirs);
    for refused in [
        fault(client.decrypt(&key, &wrapped.ciphertext, ORDERS).await),
        fault(client.unwrap_data_key(&key, &wrapped.ciphertext, &[]).await),
    ] {
        assert_eq!(refused.reason, "DECRYPT_FAILED");
    }
    for length in [0, 31, 33, 64] {
        let refused = fault(answer(client.crypto().wrap_data_key(request(&vec![1; length])).await));
        assert_eq!(refused.code, Code::InvalidArgument, "{length}");
    }
    let flipped = proto::WrapDataKeyRequest {
        plaintext_crc32c: Some(1),
        ..request(&theirs)
    };
    let refused = fault(answer(client.crypto().wrap_data_key(flipped).await));
    assert_eq!(refused.reason, "CHECKSUM_MISMATCH");
}

#[tokio::test]
async fn re_encryption_moves_a_ciphertext_to_another_key_and_context() {
    let (client, from) = key("move-from").await;
    let (_, to) = key("move-to").await;
    let sealed = client.encrypt(&from, b"moved", ORDERS).await.unwrap();
    let (plain, data_key) = client.data_key(&from, ORDERS).await.unwrap();
    let move_it = async |ciphertext: &[u8], context: &[(&str, &str)]| {
        let request = proto::ReEncryptRequest {
            source_name: key_name(&from),
            ciphertext: ciphertext.to_vec().into(),
            source_encryption_context: pairs(context),
            destination_name: key_name(&to),
            destination_encryption_context: pairs(&[("table", "refunds")]),
            ..Default::default()
        };
        answer(client.crypto().re_encrypt(request).await).map(|answer| answer.ciphertext.to_vec())
    };
    let moved = move_it(&sealed, ORDERS).await.unwrap();
    assert_eq!(
        client.decrypt(&to, &moved, &[("table", "refunds")]).await.unwrap(),
        b"moved"
    );
    assert_eq!(
        fault(client.decrypt(&to, &moved, ORDERS).await).reason,
        "DECRYPT_FAILED"
    );
    assert_eq!(fault(move_it(&sealed, &[]).await).reason, "DECRYPT_FAILED");
    // What was a data key stays one.
    let moved = move_it(&data_key, ORDERS).await.unwrap();
    assert_eq!(
        fault(client.decrypt(&to, &moved, &[("table", "refunds")]).await).reason,
        "DECRYPT_FAILED"
    );
    assert_eq!(
        client
            .unwrap_data_key(&to, &moved, &[("table", "refunds")])
            .await
            .unwrap(),
        plain
    );
}

#[tokio::test]
async fn random_bytes_come_in_the_length_asked_for() {
    let client = shared().await.admin().await;
    let random = async |length: u32| {
        let request = proto::GenerateRandomRequest {
            environment: "envs/dev".to_owned(),
            length,
        };
        answer(client.crypto().generate_random(request).await)
    };
    for length in [1, 32, 4_096] {
        let answer = random(length).await.unwrap();
        assert_eq!(answer.data.len(), length as usize);
        assert_eq!(answer.data_crc32c, crc32c::crc32c(&answer.data));
    }
    assert_ne!(random(32).await.unwrap().data, random(32).await.unwrap().data);
    for length in [0, 4_097, u32::MAX] {
        assert_eq!(fault(random(length).await).code, Code::InvalidArgument, "{length}");
    }
}

#[tokio::test]
async fn checksums_are_checked_before_a_key_is_used_and_given_with_every_answer() {
    let (client, key) = key("checksums").await;
    let request = |crc: u32| proto::EncryptRequest {
        name: key_name(&key),
        plaintext: b"hello".to_vec().into(),
        plaintext_crc32c: Some(crc),
        ..Default::default()
    };
    let right = crc32c::crc32c(b"hello");
    let sealed = answer(client.crypto().encrypt(request(right)).await).unwrap();
    assert_eq!(sealed.ciphertext_crc32c, crc32c::crc32c(&sealed.ciphertext));
    let wrong = fault(answer(client.crypto().encrypt(request(right ^ 1)).await));
    assert_eq!(
        (wrong.code, wrong.reason.as_str()),
        (Code::InvalidArgument, "CHECKSUM_MISMATCH")
    );
    assert_eq!(wrong.fields, ["plaintext"]);
    // A ciphertext that changed on its way is told from one that cannot be opened.
    let request = |crc: u32| proto::DecryptRequest {
        name: key_name(&key),
        ciphertext: sealed.ciphertext.clone(),
        ciphertext_crc32c: Some(crc),
        ..Default::default()
    };
    let opened = answer(client.crypto().decrypt(request(sealed.ciphertext_crc32c)).await).unwrap();
    assert_eq!(opened.plaintext_crc32c, right);
    let wrong = fault(answer(
        client.crypto().decrypt(request(sealed.ciphertext_crc32c ^ 1)).await,
    ));
    assert_eq!(
        (wrong.reason.as_str(), wrong.fields),
        ("CHECKSUM_MISMATCH", vec!["ciphertext".to_owned()])
    );
}

#[tokio::test]
async fn a_batch_answers_each_item_by_itself_and_in_order() {
    let (client, key) = key("batches").await;
    let mut items: Vec<_> = (0..100u8)
        .map(|at| proto::batch_encrypt_request::Item {
            plaintext: vec![at; usize::from(at)].into(),
            encryption_context: pairs(&[("item", &at.to_string())]),
            ..Default::default()
        })
        .collect();
    items[40].plaintext_crc32c = Some(1);
    items[41].encryption_context = pairs(&[("twice", "1"), ("twice", "2")]);
    let request = proto::BatchEncryptRequest {
        name: key_name(&key),
        items,
    };
    let results = answer(client.crypto().batch_encrypt(request).await).unwrap().results;
    assert_eq!(results.len(), 100);
    let mut sealed = Vec::new();
    for (at, result) in results.into_iter().enumerate() {
        use proto::batch_encrypt_response::result::Result::{Error, Success};
        match (at, result.result) {
            (40, Some(Error(error))) => assert_eq!(error.reason, "CHECKSUM_MISMATCH"),
            (41, Some(Error(error))) => assert_eq!(error.reason, "INVALID_ARGUMENT"),
            (_, Some(Success(made))) => sealed.push((at, made.ciphertext)),
            (_, _) => panic!("item {at}"),
        }
    }
    assert_eq!(sealed.len(), 98);
    let mut items: Vec<_> = sealed
        .iter()
        .map(|(at, ciphertext)| decrypt_item(ciphertext, &[("item", &at.to_string())]))
        .collect();
    items[3] = decrypt_item(&sealed[3].1, &[("item", "4")]);
    let request = proto::BatchDecryptRequest {
        name: key_name(&key),
        items,
    };
    let results = answer(client.crypto().batch_decrypt(request).await).unwrap().results;
    for (index, (result, (at, _))) in results.into_iter().zip(&sealed).enumerate() {
        use proto::batch_decrypt_response::result::Result::{Error, Success};
        match (index, result.result) {
            (3, Some(Error(error))) => assert_eq!(error.reason, "DECRYPT_FAILED"),
            (_, Some(Success(opened))) => assert_eq!(opened.plaintext, vec![u8::try_from(*at).unwrap(); *at]),
            (_, _) => panic!("item {index}"),
        }
    }
}

#[tokio::test]
async fn a_batch_of_data_keys_opens_again() {
    let (client, key) = key("data-key-batch").await;
    let items = vec![
        proto::batch_generate_data_key_request::Item {
            encryption_context: pairs(ORDERS),
            ..Default::default()
        };
        20
    ];
    let request = proto::BatchGenerateDataKeyRequest {
        name: key_name(&key),
        items,
    };
    let results = answer(client.crypto().batch_generate_data_key(request).await)
        .unwrap()
        .results;
    let made: Vec<_> = results
        .into_iter()
        .map(|result| match result.result {
            Some(proto::batch_generate_data_key_response::result::Result::Success(made)) => made,
            _ => panic!("an item failed"),
        })
        .collect();
    let request = proto::BatchUnwrapDataKeyRequest {
        name: key_name(&key),
        items: made
            .iter()
            .map(|made| proto::batch_unwrap_data_key_request::Item {
                ciphertext: made.ciphertext.clone(),
                encryption_context: pairs(ORDERS),
                ..Default::default()
            })
            .collect(),
    };
    let results = answer(client.crypto().batch_unwrap_data_key(request).await)
        .unwrap()
        .results;
    assert_eq!(results.len(), 20);
    for (made, result) in made.iter().zip(results) {
        match result.result {
            Some(proto::batch_unwrap_data_key_response::result::Result::Success(opened)) => {
                assert_eq!(opened.plaintext, made.plaintext);
            }
            _ => panic!("an item failed"),
        }
    }
}

#[tokio::test]
async fn a_stream_keeps_many_operations_in_flight_and_survives_a_bad_one() {
    let (client, key) = key("streams").await;
    const MESSAGES: u64 = 500;
    let encrypt = |tag: u64| proto::CryptRequest {
        tag,
        request: Some(proto::crypt_request::Request::Encrypt(proto::EncryptRequest {
            name: key_name(if tag == 7 { "dev/shop/no-such-key" } else { &key }),
            plaintext: tag.to_be_bytes().to_vec().into(),
            ..Default::default()
        })),
    };
    let requests: Vec<_> = (0..MESSAGES).map(encrypt).collect();
    let mut answers = answer(client.crypto().crypt(tokio_stream::iter(requests)).await).unwrap();
    let mut sealed = std::collections::BTreeMap::new();
    let mut failed = Vec::new();
    while let Some(message) = answers.message().await.unwrap() {
        use proto::crypt_response::Response::{Encrypt, Error};
        match message.response {
            Some(Encrypt(made)) => assert!(sealed.insert(message.tag, made.ciphertext).is_none(), "answered twice"),
            Some(Error(error)) => failed.push((message.tag, error.code)),
            _ => panic!("another answer"),
        }
    }
    assert_eq!(failed, [(7, Code::NotFound as i32)]);
    assert_eq!(sealed.len() as u64, MESSAGES - 1);
    let requests: Vec<_> = sealed
        .iter()
        .map(|(tag, ciphertext)| proto::CryptRequest {
            tag: *tag,
            request: Some(proto::crypt_request::Request::Decrypt(proto::DecryptRequest {
                name: key_name(&key),
                ciphertext: ciphertext.clone(),
                ..Default::default()
            })),
        })
        .collect();
    let mut answers = answer(client.crypto().crypt(tokio_stream::iter(requests)).await).unwrap();
    let mut opened = 0;
    while let Some(message) = answers.message().await.unwrap() {
        match message.response {
            Some(proto::crypt_response::Response::Decrypt(made)) => {
                assert_eq!(made.plaintext, message.tag.to_be_bytes().to_vec());
                opened += 1;
            }
            _ => panic!("another answer"),
        }
    }
    assert_eq!(opened, MESSAGES - 1);
}

#[tokio::test]
async fn both_tokens_serve_the_same_way() {
    // `make test` sets the variable; without it there is no second token to ask.
    if std::env::var_os("KEYREEVE_KRYOPTIC").is_none() {
        return;
    }
    let setup = Setup {
        kryoptic: true,
        ..Setup::default()
    };
    let mut server = setup.init();
    server.serve().await;
    let client = server.admin().await;
    client.create_key("dev/shop/orders").await.unwrap();
    let sealed = client.encrypt("dev/shop/orders", b"hello", ORDERS).await.unwrap();
    let (plain, envelope) = client.data_key("dev/shop/orders", ORDERS).await.unwrap();
    assert!(server.stop().await.success());
    server.serve().await;
    let client = server.admin().await;
    assert_eq!(
        client.decrypt("dev/shop/orders", &sealed, ORDERS).await.unwrap(),
        b"hello"
    );
    assert_eq!(
        client
            .unwrap_data_key("dev/shop/orders", &envelope, ORDERS)
            .await
            .unwrap(),
        plain
    );
    assert_eq!(
        fault(client.decrypt("dev/shop/orders", &sealed, &[]).await).reason,
        "DECRYPT_FAILED"
    );
}

fn decrypt_item(ciphertext: &[u8], context: &[(&str, &str)]) -> proto::batch_decrypt_request::Item {
    proto::batch_decrypt_request::Item {
        ciphertext: ciphertext.to_vec().into(),
        encryption_context: pairs(context),
        ..Default::default()
    }
}

fn changed(bytes: &[u8], at: usize) -> Vec<u8> {
    let mut changed = bytes.to_vec();
    changed[at] ^= 0x40;
    changed
}

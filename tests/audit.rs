//! The log: one record for each call and key, whatever became of the call; and no change of it that stays unseen.

#![allow(clippy::unwrap_used)] // all of this file is a test

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use keyreeve_proto::v1 as proto;
use support::log::{Frame, Record, assert_chained, frames};
use support::{Client, SHOP, Setup, TestServer, answer, ca::spiffe, key_name, pairs, shared, with_id};

/// What the records of one call must say: operation, result, code of each, in any order.
type Expected = (&'static str, Vec<(&'static str, &'static str, &'static str)>);

/// One call of every kind, each under an id of its own.
async fn session(admin: &Client, shop: &Client) -> Vec<Expected> {
    let one = |id, operation, result, code| (id, vec![(operation, result, code)]);
    let name = || key_name("dev/shop/recorded");
    let mut expected = Vec::new();
    macro_rules! call {
        ($client:ident.$service:ident.$method:ident, $id:literal, $request:ident { $($field:ident: $value:expr),* }) => {{
            #[allow(clippy::needless_update)]
            let request = proto::$request { $($field: $value,)* ..Default::default() };
            answer($client.$service().$method(with_id(request, $id)).await)
        }};
    }
    let parent = || support::team_name("dev/shop");
    call!(
        admin.keys.create_key,
        "create",
        CreateKeyRequest {
            parent: parent(),
            key_id: "recorded".to_owned()
        }
    )
    .map(drop)
    .unwrap();
    expected.push(one("create", "CreateKey", "success", ""));
    let sealed = call!(
        shop.crypto.encrypt,
        "encrypt",
        EncryptRequest {
            name: name(),
            plaintext: b"hello".to_vec().into(),
            encryption_context: pairs(&[("table", "orders")])
        }
    );
    let sealed = sealed.unwrap().ciphertext;
    expected.push(one("encrypt", "Encrypt", "success", ""));
    call!(
        shop.crypto.decrypt,
        "decrypt",
        DecryptRequest {
            name: name(),
            ciphertext: sealed.clone(),
            encryption_context: pairs(&[("table", "orders")])
        }
    )
    .map(drop)
    .unwrap();
    expected.push(one("decrypt", "Decrypt", "success", ""));
    call!(
        shop.crypto.decrypt,
        "decrypt-wrong",
        DecryptRequest {
            name: name(),
            ciphertext: sealed.clone()
        }
    )
    .map(drop)
    .unwrap_err();
    expected.push(one("decrypt-wrong", "Decrypt", "error", "DECRYPT_FAILED"));
    call!(
        shop.crypto.re_encrypt,
        "re-encrypt",
        ReEncryptRequest {
            source_name: name(),
            ciphertext: sealed,
            source_encryption_context: pairs(&[("table", "orders")])
        }
    )
    .map(drop)
    .unwrap();
    expected.push((
        "re-encrypt",
        vec![("ReEncryptFrom", "success", ""), ("ReEncryptTo", "success", "")],
    ));
    let key = call!(
        shop.crypto.generate_data_key,
        "data-key",
        GenerateDataKeyRequest { name: name() }
    )
    .unwrap();
    expected.push(one("data-key", "GenerateDataKey", "success", ""));
    call!(
        shop.crypto.unwrap_data_key,
        "unwrap",
        UnwrapDataKeyRequest {
            name: name(),
            ciphertext: key.ciphertext
        }
    )
    .map(drop)
    .unwrap();
    expected.push(one("unwrap", "UnwrapDataKey", "success", ""));
    let mut items = vec![proto::batch_encrypt_request::Item::default(); 5];
    items[2].plaintext_crc32c = Some(1);
    call!(
        shop.crypto.batch_encrypt,
        "batch",
        BatchEncryptRequest {
            name: name(),
            items: items
        }
    )
    .map(drop)
    .unwrap();
    expected.push(one("batch", "Encrypt", "success", ""));
    call!(
        admin.crypto.generate_random,
        "random",
        GenerateRandomRequest {
            environment: "envs/dev".to_owned(),
            length: 8
        }
    )
    .map(drop)
    .unwrap();
    expected.push(one("random", "GenerateRandom", "success", ""));
    call!(
        admin.crypto.encrypt,
        "absent",
        EncryptRequest {
            name: key_name("dev/shop/absent")
        }
    )
    .map(drop)
    .unwrap_err();
    expected.push(one("absent", "Encrypt", "error", "NOT_FOUND"));
    call!(shop.keys.rotate_key, "denied", RotateKeyRequest { name: name() })
        .map(drop)
        .unwrap_err();
    expected.push(one("denied", "RotateKey", "refused", "PERMISSION_DENIED"));
    call!(
        admin.keys.suspend_key,
        "suspend",
        SuspendKeyRequest {
            name: name(),
            reason: "a test".to_owned()
        }
    )
    .map(drop)
    .unwrap();
    expected.push(one("suspend", "SuspendKey", "success", ""));
    call!(shop.crypto.encrypt, "suspended", EncryptRequest { name: name() })
        .map(drop)
        .unwrap_err();
    expected.push(one("suspended", "Encrypt", "error", "STATE_FORBIDS"));
    call!(admin.keys.get_key, "read", GetKeyRequest { name: name() })
        .map(drop)
        .unwrap();
    expected.push(one("read", "ReadKey", "success", ""));
    call!(admin.keys.list_keys, "list", ListKeysRequest { parent: parent() })
        .map(drop)
        .unwrap();
    expected.push(one("list", "ListKeys", "success", ""));
    call!(admin.system.get_status, "status", GetStatusRequest {})
        .map(drop)
        .unwrap();
    expected.push(one("status", "ReadStatus", "success", ""));
    call!(shop.system.who_am_i, "who", WhoAmIRequest {}).map(drop).unwrap();
    expected.push(one("who", "WhoAmI", "success", ""));
    expected
}

#[tokio::test]
async fn each_call_of_a_session_has_one_record_for_each_key_and_a_restart_continues_the_chain() {
    let mut server = Setup::default().init();
    server.serve().await;
    let admin = server.admin().await;
    let before = server.records().len();
    let expected = session(&admin, &server.client(SHOP).await).await;
    let records = server.records();
    let mut of_call: BTreeMap<&str, Vec<&Record>> = BTreeMap::new();
    for record in &records[before..] {
        of_call.entry(record.request()).or_default().push(record);
    }
    for (id, expected) in &expected {
        let mut said: Vec<_> = of_call[id]
            .iter()
            .map(|record| (record.operation(), record.result(), record.code()))
            .collect();
        said.sort_unstable();
        assert_eq!(&said, expected, "{id}");
    }
    let count: usize = expected.iter().map(|(_, records)| records.len()).sum();
    assert_eq!(records.len() - before, count, "and no record but these");
    the_records_say_what_was_done(&of_call);

    assert!(server.stop().await.success());
    server.verifies();
    server.serve().await;
    server.admin().await.key("dev/shop/recorded").await.unwrap();
    assert!(server.stop().await.success());
    let after = server.records();
    for (old, new) in records.iter().zip(&after) {
        assert_eq!(old.bytes, new.bytes, "what was written stays as it was");
    }
    assert_chained(&after);
    server.verifies();
}

fn the_records_say_what_was_done(of_call: &BTreeMap<&str, Vec<&Record>>) {
    let encrypt = of_call["encrypt"][0];
    assert_eq!(encrypt.actor(), spiffe(SHOP));
    assert_eq!(encrypt.object(), key_name("dev/shop/recorded"));
    assert_eq!(encrypt.json["environment"], "envs/dev");
    assert_eq!(encrypt.json["ec_keys"], serde_json::json!(["table"]));
    assert_eq!(
        (
            encrypt.number("items"),
            encrypt.number("failed"),
            encrypt.number("bytes_in")
        ),
        (1, 0, 5)
    );
    assert_eq!(encrypt.json["key"]["ver"], 1);
    assert_eq!(encrypt.json["actor"]["method"], "mtls");
    assert_eq!(encrypt.json["actor"]["cert_sha256"].as_str().unwrap().len(), 64);
    // The same ciphertext is recognised when it is decrypted, and so is the same context, without showing its value.
    assert_eq!(encrypt.json["ct"], of_call["decrypt"][0].json["ct"]);
    assert_eq!(encrypt.json["ec_mac"], of_call["decrypt"][0].json["ec_mac"]);
    assert_ne!(encrypt.json["ec_mac"], of_call["decrypt-wrong"][0].json["ec_mac"]);
    let batch = of_call["batch"][0];
    assert_eq!((batch.number("items"), batch.number("failed")), (5, 1));
    assert_eq!(batch.json["ct"].as_array().unwrap().len(), 4);
    // A change stands in the chain of changes; a call without one does not.
    assert!(of_call["create"][0].json["chg"]["seq"].as_u64() < of_call["suspend"][0].json["chg"]["seq"].as_u64());
    assert!(encrypt.json["chg"].is_null());
}

#[tokio::test]
async fn each_message_of_a_stream_has_a_record() {
    let server = shared().await;
    let client = server.admin().await;
    client.create_key("dev/shop/streamed").await.unwrap();
    let message = |tag| proto::CryptRequest {
        tag,
        request: Some(proto::crypt_request::Request::Encrypt(proto::EncryptRequest {
            name: key_name("dev/shop/streamed"),
            ..Default::default()
        })),
    };
    let requests: Vec<_> = (0..50).map(message).collect();
    let request = with_id(tokio_stream::iter(requests), "stream");
    let mut answers = answer(client.crypto().crypt(request).await).unwrap();
    let mut count = 0;
    while answers.message().await.unwrap().is_some() {
        count += 1;
    }
    let records = server.records();
    let encrypted = records
        .iter()
        .filter(|record| record.object() == key_name("dev/shop/streamed"));
    assert_eq!(
        (
            count,
            encrypted.filter(|record| record.operation() == "Encrypt").count()
        ),
        (50, 50)
    );
}

#[tokio::test]
async fn a_changed_log_is_found() {
    let mut server = Setup::default().init();
    server.serve().await;
    let admin = server.admin().await;
    admin.create_key("dev/shop/orders").await.unwrap();
    for _ in 0..30 {
        admin.encrypt("dev/shop/orders", b"x", &[]).await.unwrap();
    }
    assert!(server.stop().await.success());
    server.verifies();
    let directory = server.log_directory();
    let all = frames(&directory);
    assert!(all.len() > 30, "{} records", all.len());
    let middle = all.len() / 2;
    let tampered = |what: &str, tamper: &dyn Fn(&mut Vec<u8>, &[Frame])| {
        let path = &all[middle].path;
        assert!(all.iter().all(|frame| &frame.path == path), "one segment");
        let before = fs::read(path).unwrap();
        let mut bytes = before.clone();
        tamper(&mut bytes, &all);
        assert_ne!(bytes, before);
        fs::write(path, &bytes).unwrap();
        let (well, said) = server.verify_log();
        assert!(!well, "{what} was not found: {said}");
        fs::write(path, before).unwrap();
    };
    for at in [0, 1, middle, all.len() - 2] {
        // Every part of a record counts: its length, its first and last byte, a letter of a value.
        for within in [
            0,
            1,
            2,
            2 + all[at].record.bytes.len() / 2,
            1 + all[at].record.bytes.len(),
        ] {
            tampered(&format!("byte {within} of record {at}"), &|bytes, all| {
                bytes[all[at].offset + within] ^= 1
            });
        }
    }
    tampered("a record edited, of the same length", &|bytes, all| {
        let (start, end) = span(&all[middle]);
        let text = String::from_utf8(bytes[start + 2..end].to_vec()).unwrap();
        bytes.splice(start + 2..end, text.replace("/admin", "/nimda").into_bytes());
    });
    tampered("a record deleted", &|bytes, all| {
        let (start, end) = span(&all[middle]);
        bytes.drain(start..end);
        bytes.resize(bytes.len() + (end - start), 0);
    });
    tampered("two records swapped", &|bytes, all| {
        let (first, second) = (span(&all[middle]), span(&all[middle + 1]));
        let swapped = [&bytes[second.0..second.1], &bytes[first.0..first.1]].concat();
        bytes.splice(first.0..second.1, swapped);
    });
    tampered("a record inserted twice", &|bytes, all| {
        let (start, end) = span(&all[middle]);
        let copy = bytes[start..end].to_vec();
        bytes.splice(start..start, copy);
    });
    tampered("bytes after the end", &|bytes, all| {
        let (_, end) = span(all.last().unwrap());
        bytes[end + 100] = 1;
    });
    server.verifies();
}

#[tokio::test]
async fn a_missing_segment_is_found() {
    let mut server = Setup::default().init();
    server.serve().await;
    let admin = server.admin().await;
    admin.create_key("dev/shop/orders").await.unwrap();
    // Segments of 1 MiB: a few thousand records fill more than two.
    while segments(&server) < 3 {
        let requests = (0..1_000).map(|tag| proto::CryptRequest {
            tag,
            request: Some(proto::crypt_request::Request::Encrypt(proto::EncryptRequest {
                name: key_name("dev/shop/orders"),
                ..Default::default()
            })),
        });
        let requests: Vec<_> = requests.collect();
        let mut answers = answer(admin.crypto().crypt(tokio_stream::iter(requests)).await).unwrap();
        while answers.message().await.unwrap().is_some() {}
    }
    assert!(server.stop().await.success());
    server.verifies();
    assert_chained(&server.records());
    let list = support::log::segments_below(&server.log_directory());
    for removed in &list[..list.len() - 1] {
        let aside = removed.with_extension("aside");
        fs::rename(removed, &aside).unwrap();
        let (well, said) = server.verify_log();
        assert!(!well, "{} is gone: {said}", removed.display());
        fs::rename(aside, removed).unwrap();
    }
    server.verifies();
}

fn segments(server: &TestServer) -> usize {
    support::log::segments_below(&server.log_directory()).len()
}

fn span(frame: &Frame) -> (usize, usize) {
    (frame.offset, frame.offset + 2 + frame.record.bytes.len())
}

#[test]
fn the_reader_of_the_tests_sees_what_a_segment_holds() {
    let directory = tempfile::tempdir().unwrap();
    let record = br#"{"seq":0,"prev":"0000000000000000000000000000000000000000000000000000000000000000"}"#;
    let mut segment = u16::try_from(record.len()).unwrap().to_be_bytes().to_vec();
    segment.extend_from_slice(record);
    segment.resize(4_096, 0);
    let write = |path: &Path| fs::write(path, &segment).unwrap();
    write(&directory.path().join("00000000000000000000.seg"));
    write(&directory.path().join("next.tmp"));
    let read: Vec<Record> = frames(directory.path()).into_iter().map(|frame| frame.record).collect();
    assert_eq!(read.len(), 1);
    assert_chained(&read);
}

//! Who may do what: nothing without a policy, nothing across environments, and nobody learns what he may not see.

#![allow(clippy::unwrap_used)] // all of this file is a test

mod support;

use std::sync::atomic::{AtomicU32, Ordering};

use keyreeve_proto::v1 as proto;
use support::{
    Client, Fault, SHOP, STAGING, STRANGER, answer, ca::spiffe, fault, key_name, shared, team_name, with_id,
};
use tonic::Code;

/// A request id that no other call has.
fn fresh_id() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("access-{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Calls each operation on `key` once; answers the name of the operation, the id it ran under, and how it ended.
async fn try_all(client: &Client, key: &str) -> Vec<(&'static str, String, Result<(), Fault>)> {
    let name = key_name(key);
    let (team, key_id) = key.rsplit_once('/').unwrap();
    let parent = team_name(team);
    let mut results = Vec::new();
    macro_rules! call {
        ($operation:literal, $service:ident.$method:ident, $request:ident { $($field:ident: $value:expr),* }) => {{
            let id = fresh_id();
            #[allow(clippy::needless_update)]
            let request = proto::$request { $($field: $value,)* ..Default::default() };
            let result = answer(client.$service().$method(with_id(request, &id)).await).map(drop);
            results.push(($operation, id, result));
        }};
    }
    let ciphertext = bytes::Bytes::from_static(&[0xe5; 200]);
    call!("Encrypt", crypto.encrypt, EncryptRequest { name: name.clone() });
    call!(
        "Decrypt",
        crypto.decrypt,
        DecryptRequest {
            name: name.clone(),
            ciphertext: ciphertext.clone()
        }
    );
    call!(
        "GenerateDataKey",
        crypto.generate_data_key,
        GenerateDataKeyRequest { name: name.clone() }
    );
    call!(
        "GenerateDataKeyWithoutPlaintext",
        crypto.generate_data_key_without_plaintext,
        GenerateDataKeyWithoutPlaintextRequest { name: name.clone() }
    );
    call!(
        "WrapDataKey",
        crypto.wrap_data_key,
        WrapDataKeyRequest {
            name: name.clone(),
            plaintext: vec![7; 32].into()
        }
    );
    call!(
        "UnwrapDataKey",
        crypto.unwrap_data_key,
        UnwrapDataKeyRequest {
            name: name.clone(),
            ciphertext: ciphertext
        }
    );
    call!(
        "Encrypt",
        crypto.batch_encrypt,
        BatchEncryptRequest {
            name: name.clone(),
            items: vec![proto::batch_encrypt_request::Item::default()]
        }
    );
    call!(
        "CreateKey",
        keys.create_key,
        CreateKeyRequest {
            parent: parent,
            key_id: format!("{key_id}-new")
        }
    );
    call!("ReadKey", keys.get_key, GetKeyRequest { name: name.clone() });
    call!("RotateKey", keys.rotate_key, RotateKeyRequest { name: name.clone() });
    call!("SuspendKey", keys.suspend_key, SuspendKeyRequest { name: name.clone() });
    call!("ResumeKey", keys.resume_key, ResumeKeyRequest { name: name.clone() });
    call!(
        "DeactivateKey",
        keys.deactivate_key,
        DeactivateKeyRequest { name: name.clone() }
    );
    call!(
        "CompromiseKey",
        keys.compromise_key,
        CompromiseKeyRequest { name: name.clone() }
    );
    call!("DestroyKey", keys.destroy_key, DestroyKeyRequest { name: name.clone() });
    call!(
        "CancelKeyDestruction",
        keys.cancel_key_destruction,
        CancelKeyDestructionRequest { name: name.clone() }
    );
    call!("AttestKey", keys.attest_key, AttestKeyRequest { name: name });
    results
}

/// All refused, each with one record that says so.
async fn all_are_refused_and_recorded(caller: &str, key: &str) {
    let server = shared().await;
    let client = server.client(caller).await;
    for (operation, id, result) in try_all(&client, key).await {
        let fault = result.expect_err(operation);
        assert_eq!(
            (fault.code, fault.reason.as_str()),
            (Code::PermissionDenied, "PERMISSION_DENIED"),
            "{operation}"
        );
        let records = server.records_of(&id);
        assert_eq!(records.len(), 1, "{operation}");
        assert_eq!((records[0].operation(), records[0].result()), (operation, "refused"));
        assert_eq!(
            (records[0].actor(), records[0].code()),
            (spiffe(caller).as_str(), "PERMISSION_DENIED")
        );
        assert!(!records[0].rule().is_empty(), "the record says which rule decided");
    }
}

#[tokio::test]
async fn whom_no_policy_knows_may_do_nothing_but_ask_who_he_is() {
    let server = shared().await;
    let key = "dev/shop/strange";
    server.admin().await.create_key(key).await.unwrap();
    all_are_refused_and_recorded(STRANGER, key).await;
    let me = server
        .client(STRANGER)
        .await
        .system()
        .who_am_i(proto::WhoAmIRequest {})
        .await;
    let me = answer(me).unwrap();
    assert_eq!(me.identity, spiffe(STRANGER));
    assert!(me.environments.is_empty() && me.roles.is_empty());
    let status = server
        .client(STRANGER)
        .await
        .system()
        .get_status(proto::GetStatusRequest {})
        .await;
    assert_eq!(fault(answer(status)).code, Code::PermissionDenied);
}

#[tokio::test]
async fn an_admin_of_another_environment_is_a_stranger_here() {
    let server = shared().await;
    let admin = server.admin().await;
    admin.create_key("dev/shop/isolated").await.unwrap();
    admin.create_key("staging/shop/isolated").await.unwrap();
    all_are_refused_and_recorded(STAGING, "dev/shop/isolated").await;
    let staging = server.client(STAGING).await;
    let sealed = staging.encrypt("staging/shop/isolated", b"hello", &[]).await.unwrap();
    assert_eq!(
        staging.decrypt("staging/shop/isolated", &sealed, &[]).await.unwrap(),
        b"hello"
    );
    // A ciphertext of one environment is no way into another, and neither is ReEncrypt.
    assert_eq!(
        fault(admin.decrypt("dev/shop/isolated", &sealed, &[]).await).reason,
        "DECRYPT_FAILED"
    );
    for (from, to) in [
        ("staging/shop/isolated", "dev/shop/isolated"),
        ("dev/shop/isolated", "staging/shop/isolated"),
    ] {
        let id = fresh_id();
        let request = proto::ReEncryptRequest {
            source_name: key_name(from),
            ciphertext: sealed.clone().into(),
            destination_name: key_name(to),
            ..Default::default()
        };
        let fault = fault(answer(staging.crypto().re_encrypt(with_id(request, &id)).await));
        assert_eq!(fault.code, Code::PermissionDenied, "{from} to {to}");
        let results: Vec<String> = server
            .records_of(&id)
            .iter()
            .map(|record| record.result().to_owned())
            .collect();
        assert_eq!(results.len(), 2, "one record for each key");
        assert!(results.contains(&"refused".to_owned()) && !results.contains(&"success".to_owned()));
    }
    let page = proto::ListEnvironmentsRequest::default();
    let listed = answer(admin.keys().list_environments(page).await)
        .unwrap()
        .environments
        .len();
    assert_eq!(listed, 3);
}

#[tokio::test]
async fn who_uses_keys_may_not_manage_them() {
    let server = shared().await;
    let key = "dev/shop/used-not-managed";
    server.admin().await.create_key(key).await.unwrap();
    let may = [
        "Encrypt",
        "Decrypt",
        "GenerateDataKey",
        "GenerateDataKeyWithoutPlaintext",
        "WrapDataKey",
        "UnwrapDataKey",
        "ReadKey",
    ];
    for (operation, _, result) in try_all(&server.client(SHOP).await, key).await {
        let denied = result.is_err_and(|fault| fault.code == Code::PermissionDenied);
        assert_eq!(denied, !may.contains(&operation), "{operation}");
    }
    // And the keys of another team of the same environment are not his.
    server.admin().await.create_key("dev/payments/theirs").await.unwrap();
    all_are_refused_and_recorded(SHOP, "dev/payments/theirs").await;
}

#[tokio::test]
async fn what_is_absent_looks_like_what_is_forbidden() {
    let server = shared().await;
    let admin = server.admin().await;
    admin.create_key("dev/payments/present").await.unwrap();
    for caller in [SHOP, STAGING, STRANGER] {
        let client = server.client(caller).await;
        let present = try_all(&client, "dev/payments/present").await;
        for absent in [
            "dev/payments/absent1",
            "dev/nowhere/present",
            "nowhere/payments/present",
        ] {
            for (there, not_there) in present.iter().zip(try_all(&client, absent).await) {
                let (there, not_there) = (there.2.as_ref().unwrap_err(), not_there.2.unwrap_err());
                let unnamed = |fault: &Fault, key: &str| {
                    let (team, id) = key.rsplit_once('/').unwrap();
                    let message = fault
                        .message
                        .replace(&team_name(team), "TEAM")
                        .replace(&format!("/keys/{id}"), "/KEY");
                    Fault {
                        message,
                        ..fault.clone()
                    }
                };
                assert_eq!(unnamed(there, "dev/payments/present"), unnamed(&not_there, absent));
            }
        }
    }
    // Who may see the team is told the truth.
    let truth = fault(admin.encrypt("dev/payments/absent1", b"x", &[]).await);
    assert_eq!((truth.code, truth.reason.as_str()), (Code::NotFound, "NOT_FOUND"));
}

#[tokio::test]
async fn a_refusal_comes_before_the_ciphertext_is_looked_at() {
    let server = shared().await;
    let admin = server.admin().await;
    admin.create_key("dev/payments/sealed").await.unwrap();
    let sealed = admin.encrypt("dev/payments/sealed", b"hello", &[]).await.unwrap();
    let client = server.client(SHOP).await;
    let good = fault(client.decrypt("dev/payments/sealed", &sealed, &[]).await);
    let noise = fault(client.decrypt("dev/payments/sealed", &[0; 10], &[]).await);
    assert_eq!(good, noise);
    assert_eq!(good.code, Code::PermissionDenied);
}

#[tokio::test]
async fn changed_policies_are_taken_up_without_a_restart() {
    // A server of its own: its policies are changed.
    let mut server = support::Setup::default().init();
    server.serve().await;
    let admin = server.admin().await;
    admin.create_key("dev/shop/orders").await.unwrap();
    let client = server.client(SHOP).await;
    client.encrypt("dev/shop/orders", b"x", &[]).await.unwrap();
    let file = server.path("policy").join("no-more.cedar");
    let rule = format!(
        "@id(\"shop-is-closed\")\nforbid (principal == Workload::\"{}\", action, resource);\n",
        spiffe(SHOP)
    );
    std::fs::write(file, rule).unwrap();
    rustix::process::kill_process(server.pid(), rustix::process::Signal::HUP).unwrap();
    let end = std::time::Instant::now() + support::PATIENCE;
    let refused = loop {
        if let Err(fault) = client.encrypt("dev/shop/orders", b"x", &[]).await {
            break fault;
        }
        assert!(std::time::Instant::now() < end, "the new policy has no effect");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    };
    assert_eq!(refused.code, Code::PermissionDenied);
    let last = server.records().pop().unwrap();
    assert_eq!((last.result(), last.rule()), ("refused", "shop-is-closed"));
}

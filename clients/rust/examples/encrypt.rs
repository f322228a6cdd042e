//! Encrypts a value under a key of the service, and decrypts it; what fails is told with what to do next.
//!
//!     . /tmp/keyreeve-dev-1234/env                  # named by `keyreeve dev`
//!     keyreeve keys create dev/shop/orders
//!     cargo run --example encrypt
#![allow(clippy::print_stdout)] // it shows what it does

use std::process::ExitCode;

use keyreeve_client::{Client, ClientConfig, ClientError, Code, v1};

const KEY: &str = "envs/dev/teams/shop/keys/orders";

#[tokio::main]
async fn main() -> ExitCode {
    match there_and_back().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error} ({}, request {})", error.reason, error.request_id);
            eprintln!("{}", error.next_step());
            ExitCode::FAILURE
        }
    }
}

async fn there_and_back() -> Result<(), ClientError> {
    // Retries, lost connections, a service that starts again: all that is the client's business.
    let client = Client::connect(ClientConfig::from_env()?).await?;
    let context = vec![v1::ContextPair {
        key: "table".into(),
        value: "orders".into(),
    }];
    let sealed = client
        .encrypt(v1::EncryptRequest {
            name: KEY.into(),
            plaintext: "hello".into(),
            encryption_context: context.clone(),
            ..Default::default()
        })
        .await?;
    println!("version {}: {} bytes", sealed.key_version, sealed.ciphertext.len());

    let mut request = v1::DecryptRequest {
        name: KEY.into(),
        ciphertext: sealed.ciphertext,
        encryption_context: context,
        ..Default::default()
    };
    let opened = client.decrypt(request.clone()).await?;
    assert_eq!(opened.plaintext, "hello");

    // Programs branch on code and reason, never on the text.
    request.encryption_context.clear();
    match client.decrypt(request).await {
        Err(error) if error.code == Code::InvalidArgument && error.reason == "DECRYPT_FAILED" => {
            println!("without its context: {error}");
            Ok(())
        }
        other => other.map(drop),
    }
}

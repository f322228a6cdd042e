//! Single operations of many tasks over one stream.
//!
//!     . /tmp/keyreeve-dev-1234/env                  # named by `keyreeve dev`
//!     keyreeve keys create dev/shop/orders
//!     cargo run --example pipeline
#![allow(clippy::print_stdout)] // it shows what it does

use std::time::{Duration, Instant};

use keyreeve_client::{Client, ClientConfig, ClientError, EventName, v1};
use tokio::task::JoinSet;

const KEY: &str = "envs/dev/teams/shop/keys/orders";
const OPERATIONS: u32 = 1_000;

#[tokio::main]
async fn main() -> Result<(), ClientError> {
    // Retries, circuits, certificates: to be counted, or looked at.
    let config = ClientConfig::from_env()?.on_event(|event| {
        if event.name != EventName::Call {
            eprintln!("{} {} {} {:?}", event.name, event.method, event.reason, event.wait);
        }
    });
    let client = Client::connect(config).await?.with_deadline(Duration::from_secs(20))?;
    let (pipeline, begun) = (client.pipeline(), Instant::now());
    let mut tasks = JoinSet::new();
    for number in 0..OPERATIONS {
        let pipeline = pipeline.clone();
        tasks.spawn(async move {
            let request = v1::EncryptRequest {
                name: KEY.into(),
                plaintext: number.to_string().into(),
                ..Default::default()
            };
            pipeline.encrypt(request).await.map(drop)
        });
    }
    for outcome in tasks.join_all().await {
        outcome?;
    }
    println!("{OPERATIONS} operations in {:?}", begun.elapsed());
    Ok(())
}

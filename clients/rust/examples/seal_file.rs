//! Seals a file of any size on this host, under a data key that the service makes, and opens it again.
//!
//!     . /tmp/keyreeve-dev-1234/env                  # named by `keyreeve dev`
//!     keyreeve keys create dev/shop/orders
//!     cargo run --example seal_file -- Cargo.toml
#![allow(clippy::print_stdout)] // it shows what it does

use std::{error::Error, fs, path::PathBuf};

use keyreeve_client::{Client, ClientConfig, EncryptionContext, Expectation, Opener, Sealer};

const KEY: &str = "envs/dev/teams/shop/keys/orders";

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let source = PathBuf::from(std::env::args_os().nth(1).ok_or("name a file")?);
    let (sealed, opened) = (
        source.with_added_extension("sealed"),
        source.with_added_extension("opened"),
    );
    let client = Client::connect(ClientConfig::from_env()?).await?;
    // The same pairs are needed to open it.
    let context = EncryptionContext::from_pairs([("table", "orders")])?;

    // Both appear whole, or not at all.
    Sealer::new(client.clone(), KEY)
        .seal_file(&source, &sealed, &context)
        .await?;
    Opener::new(client, KEY)
        .open_file(&sealed, &opened, &Expectation::context(context))
        .await?;
    assert!(fs::read(&source)? == fs::read(&opened)?);
    println!("{} and {}", sealed.display(), opened.display());
    Ok(())
}

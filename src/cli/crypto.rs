//! `encrypt`, `decrypt`, `reencrypt`, `datakey`, `wrap`, `unwrap`, `random`.
//!
//! Plaintext goes in by standard input or a file, never as an argument: arguments are seen by every user of the host.

use std::path::{Path, PathBuf};

use clap::Args;
use data_encoding::BASE64;
use keyreeve_client::v1;
use serde::Serialize;

use super::{
    connection::Connection,
    failure::{Failure, Outcome},
    files::{self, Secrecy},
    output::{self, Format},
};
use crate::model::{EnvironmentName, KeyName};

/// What is authenticated along with a message.
#[derive(Debug, Args)]
pub struct Context {
    /// A pair of the encryption context; repeat it for more. Not secret; the same pairs are needed to decrypt
    #[arg(long = "context", value_name = "KEY=VALUE", value_parser = pair)]
    pairs: Vec<(String, String)>,
    /// Associated data: a file whose bytes are authenticated too
    #[arg(long, value_name = "FILE")]
    aad: Option<PathBuf>,
}

/// Where bytes come from and go to.
#[derive(Debug, Args)]
pub struct Streams {
    /// Read this file; `-` or nothing: standard input
    #[arg(long = "in", value_name = "FILE")]
    input: Option<PathBuf>,
    /// Write this file, whole or not at all; `-` or nothing: standard output
    #[arg(long = "out", value_name = "FILE")]
    out: Option<PathBuf>,
    /// Ciphertext as base64 text instead of raw bytes
    #[arg(long)]
    base64: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  echo 'hello' | keyreeve encrypt dev/shop/orders --context table=orders --base64
  keyreeve encrypt dev/shop/orders --in letter.txt --out letter.sealed")]
pub struct Encrypt {
    /// The key, as in dev/shop/orders
    #[arg(value_name = "KEY")]
    name: KeyName,
    #[command(flatten)]
    context: Context,
    #[command(flatten)]
    streams: Streams,
    #[command(flatten)]
    connection: Connection,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  keyreeve decrypt dev/shop/orders --in letter.sealed --context table=orders
  keyreeve encrypt dev/shop/orders --base64 <letter | keyreeve decrypt dev/shop/orders --base64")]
pub struct Decrypt {
    /// The key, as in dev/shop/orders
    #[arg(value_name = "KEY")]
    name: KeyName,
    #[command(flatten)]
    context: Context,
    #[command(flatten)]
    streams: Streams,
    #[command(flatten)]
    connection: Connection,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  keyreeve reencrypt dev/shop/orders --in old.sealed --out new.sealed
  keyreeve reencrypt dev/shop/orders --to dev/shop/archive --to-context table=archive <old.sealed >new.sealed")]
pub struct ReEncrypt {
    /// The key that opens
    #[arg(value_name = "KEY")]
    name: KeyName,
    /// The key that seals; without it the same key, under its primary version
    #[arg(long, value_name = "KEY")]
    to: Option<KeyName>,
    #[command(flatten)]
    context: Context,
    /// Encryption context of the new ciphertext; without --to-context it keeps the pairs of --context
    #[arg(long, value_name = "KEY=VALUE", value_parser = pair)]
    to_context: Vec<(String, String)>,
    #[command(flatten)]
    streams: Streams,
    #[command(flatten)]
    connection: Connection,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  keyreeve datakey dev/shop/orders --out key.wrapped --plaintext-out key.bin
  keyreeve datakey dev/shop/orders --out key.wrapped          # only the envelope; open it later with `keyreeve unwrap`")]
pub struct DataKey {
    /// The key, as in dev/shop/orders
    #[arg(value_name = "KEY")]
    name: KeyName,
    #[command(flatten)]
    context: Context,
    /// Where the envelope goes; `-` or nothing: standard output
    #[arg(long = "out", value_name = "FILE")]
    out: Option<PathBuf>,
    /// Where the data key itself goes, 32 bytes (a file gets mode 0600); without it the service does not reveal it
    #[arg(long, value_name = "FILE")]
    plaintext_out: Option<PathBuf>,
    /// Base64 text instead of raw bytes
    #[arg(long)]
    base64: bool,
    #[command(flatten)]
    connection: Connection,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  keyreeve wrap dev/shop/orders --in key.bin --out key.wrapped")]
pub struct Wrap {
    /// The key, as in dev/shop/orders
    #[arg(value_name = "KEY")]
    name: KeyName,
    #[command(flatten)]
    context: Context,
    #[command(flatten)]
    streams: Streams,
    #[command(flatten)]
    connection: Connection,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  keyreeve unwrap dev/shop/orders --in key.wrapped --out key.bin")]
pub struct Unwrap {
    /// The key, as in dev/shop/orders
    #[arg(value_name = "KEY")]
    name: KeyName,
    #[command(flatten)]
    context: Context,
    #[command(flatten)]
    streams: Streams,
    #[command(flatten)]
    connection: Connection,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  keyreeve random dev --bytes 32 --base64")]
pub struct Random {
    /// The environment whose token makes the bytes
    #[arg(value_name = "ENVIRONMENT")]
    environment: EnvironmentName,
    /// How many, 1 to 4096
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=4096))]
    bytes: u32,
    /// Write this file (mode 0600); `-` or nothing: standard output
    #[arg(long = "out", value_name = "FILE")]
    out: Option<PathBuf>,
    /// Base64 text instead of raw bytes
    #[arg(long)]
    base64: bool,
    #[command(flatten)]
    connection: Connection,
}

/// The answer for `-o json`; bytes in base64.
#[derive(Serialize)]
struct Answer {
    #[serde(skip_serializing_if = "Option::is_none")]
    plaintext: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ciphertext: Option<String>,
    key_version: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    source_key_version: Option<u32>,
}

impl Answer {
    fn sealed(ciphertext: &[u8], key_version: u32) -> Self {
        Self {
            plaintext: None,
            ciphertext: Some(BASE64.encode(ciphertext)),
            key_version,
            source_key_version: None,
        }
    }

    fn opened(plaintext: &[u8], key_version: u32) -> Self {
        Self {
            plaintext: Some(BASE64.encode(plaintext)),
            ciphertext: None,
            key_version,
            source_key_version: None,
        }
    }
}

impl Encrypt {
    pub async fn run(self, format: Format) -> Outcome {
        let plaintext = files::read(self.streams.input.as_deref())?;
        let request = v1::EncryptRequest {
            name: self.name.to_string(),
            plaintext: plaintext.into(),
            aad: self.context.aad()?,
            encryption_context: self.context.pairs(),
            plaintext_crc32c: None,
        };
        let answer = self.connection.open().await?.encrypt(request).await?;
        self.streams.answer(format, &answer.ciphertext, Secrecy::Open, || {
            Answer::sealed(&answer.ciphertext, answer.key_version)
        })
    }
}

impl Decrypt {
    pub async fn run(self, format: Format) -> Outcome {
        let ciphertext = files::read_ciphertext(self.streams.input.as_deref(), self.streams.base64)?;
        let request = v1::DecryptRequest {
            name: self.name.to_string(),
            ciphertext: ciphertext.into(),
            aad: self.context.aad()?,
            encryption_context: self.context.pairs(),
            ciphertext_crc32c: None,
        };
        let answer = self.connection.open().await?.decrypt(request).await?;
        self.streams.answer(format, &answer.plaintext, Secrecy::Secret, || {
            Answer::opened(&answer.plaintext, answer.key_version)
        })
    }
}

impl ReEncrypt {
    pub async fn run(self, format: Format) -> Outcome {
        let ciphertext = files::read_ciphertext(self.streams.input.as_deref(), self.streams.base64)?;
        let to = match self.to_context.is_empty() {
            true => self.context.pairs(),
            false => wire_pairs(&self.to_context),
        };
        let aad = self.context.aad()?;
        let request = v1::ReEncryptRequest {
            source_name: self.name.to_string(),
            ciphertext: ciphertext.into(),
            source_encryption_context: self.context.pairs(),
            source_aad: aad.clone(),
            destination_name: self.to.as_ref().map(KeyName::to_string).unwrap_or_default(),
            destination_encryption_context: to,
            destination_aad: aad,
            ciphertext_crc32c: None,
        };
        let answer = self.connection.open().await?.re_encrypt(request).await?;
        self.streams
            .answer(format, &answer.ciphertext, Secrecy::Open, || Answer {
                source_key_version: Some(answer.source_key_version),
                ..Answer::sealed(&answer.ciphertext, answer.key_version)
            })
    }
}

impl DataKey {
    pub async fn run(self, format: Format) -> Outcome {
        let in_clear = self.plaintext_out.as_deref();
        let to_stdout = |file: Option<&Path>| file.is_none_or(|file| file == Path::new("-"));
        if format == Format::Table && in_clear.is_some() && to_stdout(in_clear) && to_stdout(self.out.as_deref()) {
            return Err(Failure::usage(
                "key and envelope cannot both go to standard output: name a file with --out or --plaintext-out, or use -o json",
            ));
        }
        let (name, aad) = (self.name.to_string(), self.context.aad()?);
        let encryption_context = self.context.pairs();
        let client = self.connection.open().await?;
        let (plaintext, ciphertext, key_version) = match in_clear {
            None => {
                let request = v1::GenerateDataKeyWithoutPlaintextRequest {
                    name,
                    encryption_context,
                    aad,
                };
                let answer = client.generate_data_key_without_plaintext(request).await?;
                (None, answer.ciphertext, answer.key_version)
            }
            Some(_) => {
                let request = v1::GenerateDataKeyRequest {
                    name,
                    encryption_context,
                    aad,
                };
                let answer = client.generate_data_key(request).await?;
                (Some(answer.plaintext), answer.ciphertext, answer.key_version)
            }
        };
        let mut shown = Answer::sealed(&ciphertext, key_version);
        if let Some(plaintext) = &plaintext {
            if format == Format::Json && to_stdout(in_clear) {
                shown.plaintext = Some(BASE64.encode(plaintext));
            } else {
                files::write(in_clear, plaintext, self.base64, Secrecy::Secret)?;
            }
        }
        if format == Format::Json && to_stdout(self.out.as_deref()) {
            return output::print_json(&shown);
        }
        files::write(self.out.as_deref(), &ciphertext, self.base64, Secrecy::Open)
    }
}

impl Wrap {
    pub async fn run(self, format: Format) -> Outcome {
        let data_key = files::read(self.streams.input.as_deref())?;
        let request = v1::WrapDataKeyRequest {
            name: self.name.to_string(),
            plaintext: data_key.into(),
            aad: self.context.aad()?,
            encryption_context: self.context.pairs(),
            plaintext_crc32c: None,
        };
        let answer = self.connection.open().await?.wrap_data_key(request).await?;
        self.streams.answer(format, &answer.ciphertext, Secrecy::Open, || {
            Answer::sealed(&answer.ciphertext, answer.key_version)
        })
    }
}

impl Unwrap {
    pub async fn run(self, format: Format) -> Outcome {
        let ciphertext = files::read_ciphertext(self.streams.input.as_deref(), self.streams.base64)?;
        let request = v1::UnwrapDataKeyRequest {
            name: self.name.to_string(),
            ciphertext: ciphertext.into(),
            aad: self.context.aad()?,
            encryption_context: self.context.pairs(),
            ciphertext_crc32c: None,
        };
        let answer = self.connection.open().await?.unwrap_data_key(request).await?;
        self.streams.answer(format, &answer.plaintext, Secrecy::Secret, || {
            Answer::opened(&answer.plaintext, answer.key_version)
        })
    }
}

impl Random {
    pub async fn run(self, format: Format) -> Outcome {
        let request = v1::GenerateRandomRequest {
            environment: self.environment.to_string(),
            length: self.bytes,
        };
        let answer = self.connection.open().await?.generate_random(request).await?;
        match format {
            Format::Json if self.out.is_none() => {
                output::print_json(&serde_json::json!({ "data": BASE64.encode(&answer.data) }))
            }
            _ => files::write(self.out.as_deref(), &answer.data, self.base64, Secrecy::Secret),
        }
    }
}

impl Context {
    fn pairs(&self) -> Vec<v1::ContextPair> {
        wire_pairs(&self.pairs)
    }

    fn aad(&self) -> Result<bytes::Bytes, Failure> {
        match &self.aad {
            None => Ok(bytes::Bytes::new()),
            Some(file) => Ok(files::read(Some(file))?.into()),
        }
    }
}

impl Streams {
    /// Bytes to where they belong; `-o json` shows them on standard output, unless a file was named.
    fn answer(&self, format: Format, bytes: &[u8], secrecy: Secrecy, json: impl FnOnce() -> Answer) -> Outcome {
        match format {
            Format::Json if self.out.is_none() => output::print_json(&json()),
            // What is opened comes out as it went in: --base64 is about the ciphertext.
            _ => files::write(
                self.out.as_deref(),
                bytes,
                self.base64 && secrecy == Secrecy::Open,
                secrecy,
            ),
        }
    }
}

fn wire_pairs(pairs: &[(String, String)]) -> Vec<v1::ContextPair> {
    let pair = |(key, value): &(String, String)| v1::ContextPair {
        key: key.clone(),
        value: value.clone(),
    };
    pairs.iter().map(pair).collect()
}

/// `key=value`; the value may hold more `=`.
pub fn pair(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("write it as key=value")?;
    if key.is_empty() {
        return Err("the key before `=` is empty".into());
    }
    Ok((key.to_owned(), value.to_owned()))
}

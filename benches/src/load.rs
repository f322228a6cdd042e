//! The load generator: a fixed number of calls in flight over a fixed number of connections, for a fixed time.

use std::{
    io::BufRead,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures_util::{StreamExt, stream::FuturesUnordered};
use hdrhistogram::Histogram;
use keyreeve_client::{Client, ClientConfig};
use keyreeve_proto::v1::{crypto_service_client::CryptoServiceClient, key_service_client::KeyServiceClient, *};
use serde::{Deserialize, Serialize};
use tonic::transport::Channel;

use crate::Failure;

#[derive(clap::Args)]
pub struct Options {
    #[arg(long)]
    address: String,
    #[arg(long)]
    ca: PathBuf,
    #[arg(long)]
    certificate: PathBuf,
    #[arg(long)]
    key: PathBuf,
    #[arg(long)]
    operation: Operation,
    /// Resource name of a key; `{}` in it becomes a number below `--keys`.
    #[arg(long, default_value = "envs/dev/teams/shop/keys/bench")]
    name: String,
    #[arg(long, default_value_t = 1)]
    keys: u64,
    /// Plaintext bytes.
    #[arg(long, default_value_t = 64)]
    payload: usize,
    /// Calls in flight.
    #[arg(long, default_value_t = 64)]
    concurrency: usize,
    #[arg(long, default_value_t = 4)]
    connections: usize,
    #[arg(long, default_value_t = 1000)]
    milliseconds: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Operation {
    Encrypt,
    Decrypt,
    DataKey,
    /// BatchEncrypt of 100 items; counts items.
    Batch,
    /// Encrypts over one Crypt stream a connection.
    Stream,
    /// Makes `--keys` keys, once.
    CreateKeys,
    /// Connects, and closes.
    Handshake,
}

/// What one run measured.
#[derive(Serialize, Deserialize)]
pub struct Measured {
    pub operations: u64,
    pub errors: u64,
    pub p50_us: u64,
    pub p99_us: u64,
    pub seconds: f64,
}

/// True for a line `go`, false at the end of standard input.
pub fn wait_for_go() -> Result<bool, Failure> {
    let mut line = String::new();
    Ok(std::io::stdin().lock().read_line(&mut line)? > 0)
}

/// Connects and warms up, says `ready`; for each `go` works once and prints what it measured as JSON; ends with its input.
pub async fn run(options: Options) -> Result<(), Failure> {
    let options = Arc::new(options);
    let mut channels = Vec::new();
    for _ in 0..options.connections {
        channels.push(connect(&options).await?);
    }
    if options.operation != Operation::CreateKeys && options.operation != Operation::Handshake {
        work(&options, &channels, Duration::from_millis(200)).await?;
    }
    println!("ready");
    while tokio::task::block_in_place(wait_for_go)? {
        let measured = match options.operation {
            Operation::CreateKeys => create_keys(&options, &channels).await?,
            _ => work(&options, &channels, Duration::from_millis(options.milliseconds)).await?,
        };
        println!("{}", serde_json::to_string(&measured)?);
    }
    Ok(())
}

async fn connect(options: &Options) -> Result<Channel, Failure> {
    let config = ClientConfig::new(&options.address, &options.ca, &options.certificate, &options.key);
    Ok(Client::connect(config).await?.channel())
}

/// Keeps `concurrency` calls in flight until `time` has passed.
async fn work(options: &Arc<Options>, channels: &[Channel], time: Duration) -> Result<Measured, Failure> {
    let (errors, next) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let started = Instant::now();
    let end = started + time;
    let mut tasks = Vec::new();
    if options.operation == Operation::Stream {
        let per_stream = options.concurrency.div_ceil(channels.len());
        for channel in channels {
            tasks.push(tokio::spawn(stream(
                options.clone(),
                channel.clone(),
                per_stream,
                end,
                errors.clone(),
            )));
        }
    } else {
        for index in 0..options.concurrency {
            let channel = channels[index % channels.len()].clone();
            tasks.push(tokio::spawn(calls(
                options.clone(),
                channel,
                end,
                errors.clone(),
                next.clone(),
            )));
        }
    }
    let mut all = Histogram::<u64>::new(3)?;
    for task in tasks {
        all += task.await??;
    }
    let per_call = if options.operation == Operation::Batch {
        BATCH as u64
    } else {
        1
    };
    Ok(measured(&all, per_call, &errors, started))
}

const BATCH: usize = 100;

async fn calls(
    options: Arc<Options>,
    channel: Channel,
    end: Instant,
    errors: Arc<AtomicU64>,
    next: Arc<AtomicU64>,
) -> Result<Histogram<u64>, Failure> {
    let mut latencies = Histogram::<u64>::new(3)?;
    let mut client = CryptoServiceClient::new(channel);
    let plaintext = Bytes::from(vec![7; options.payload]);
    let mut ciphertext = None;
    if options.operation == Operation::Decrypt {
        ciphertext = Some(
            client
                .encrypt(encrypt(&options, &next, &plaintext))
                .await?
                .into_inner()
                .ciphertext,
        );
    }
    while Instant::now() < end {
        let call = Instant::now();
        let failed = match options.operation {
            Operation::Encrypt => client.encrypt(encrypt(&options, &next, &plaintext)).await.is_err(),
            Operation::Decrypt => {
                let ciphertext = ciphertext.clone().unwrap_or_default();
                client
                    .decrypt(DecryptRequest {
                        name: name(&options, 0),
                        ciphertext,
                        ..Default::default()
                    })
                    .await
                    .is_err()
            }
            Operation::DataKey => {
                let request = GenerateDataKeyRequest {
                    name: name(&options, 0),
                    ..Default::default()
                };
                client.generate_data_key(request).await.is_err()
            }
            Operation::Batch => {
                let item = batch_encrypt_request::Item {
                    plaintext: plaintext.clone(),
                    ..Default::default()
                };
                let request = BatchEncryptRequest {
                    name: name(&options, 0),
                    items: vec![item; BATCH],
                };
                client.batch_encrypt(request).await.is_err()
            }
            Operation::Handshake => connect(&options).await.is_err(),
            Operation::Stream | Operation::CreateKeys => return Err("not a single call".into()),
        };
        errors.fetch_add(u64::from(failed), Ordering::Relaxed);
        latencies.record(micros(call))?;
    }
    Ok(latencies)
}

/// One Crypt stream with `window` messages in flight.
async fn stream(
    options: Arc<Options>,
    channel: Channel,
    window: usize,
    end: Instant,
    errors: Arc<AtomicU64>,
) -> Result<Histogram<u64>, Failure> {
    let mut latencies = Histogram::<u64>::new(3)?;
    let plaintext = Bytes::from(vec![7; options.payload]);
    let next = AtomicU64::new(0);
    let (sender, receiver) = tokio::sync::mpsc::channel(window);
    let request = |tag| CryptRequest {
        tag,
        request: Some(crypt_request::Request::Encrypt(encrypt(&options, &next, &plaintext))),
    };
    let mut started = vec![Instant::now(); window];
    for slot in 0..window {
        sender.send(request(slot as u64)).await?;
    }
    let requests = tokio_stream::wrappers::ReceiverStream::new(receiver);
    let mut answers = CryptoServiceClient::new(channel).crypt(requests).await?.into_inner();
    let mut in_flight = window;
    while in_flight > 0 {
        let answer = answers.next().await.ok_or("the stream ended early")??;
        let slot = answer.tag as usize;
        latencies.record(micros(started[slot]))?;
        let failed = matches!(answer.response, None | Some(crypt_response::Response::Error(_)));
        errors.fetch_add(u64::from(failed), Ordering::Relaxed);
        if Instant::now() < end {
            started[slot] = Instant::now();
            sender.send(request(answer.tag)).await?;
        } else {
            in_flight -= 1;
        }
    }
    Ok(latencies)
}

/// Makes the keys `{}` = 0 … `keys` - 1 with `concurrency` calls in flight; those that exist already count as made.
async fn create_keys(options: &Arc<Options>, channels: &[Channel]) -> Result<Measured, Failure> {
    let (started, errors) = (Instant::now(), AtomicU64::new(0));
    let mut latencies = Histogram::<u64>::new(3)?;
    let make = |number: u64| {
        let mut client = KeyServiceClient::new(channels[number as usize % channels.len()].clone());
        let (parent, id) = parent_and_id(&name(options, number));
        async move {
            let call = Instant::now();
            let made = client
                .create_key(CreateKeyRequest {
                    parent,
                    key_id: id,
                    ..Default::default()
                })
                .await;
            let failed = made.is_err_and(|status| status.code() != tonic::Code::AlreadyExists);
            (failed, micros(call))
        }
    };
    let mut in_flight = FuturesUnordered::new();
    let mut number = 0;
    loop {
        while in_flight.len() < options.concurrency && number < options.keys {
            in_flight.push(make(number));
            number += 1;
        }
        let Some((failed, latency)) = in_flight.next().await else {
            break;
        };
        errors.fetch_add(u64::from(failed), Ordering::Relaxed);
        latencies.record(latency)?;
    }
    Ok(measured(&latencies, 1, &errors, started))
}

fn encrypt(options: &Options, next: &AtomicU64, plaintext: &Bytes) -> EncryptRequest {
    let number = next.fetch_add(1, Ordering::Relaxed);
    EncryptRequest {
        name: name(options, number),
        plaintext: plaintext.clone(),
        ..Default::default()
    }
}

/// The name of key `number`; numbers are spread so that neighbours in time are not neighbours in the store.
fn name(options: &Options, number: u64) -> String {
    if options.keys == 1 {
        return options.name.replace("{}", "0");
    }
    let spread = if options.operation == Operation::CreateKeys {
        number
    } else {
        number.wrapping_mul(0x9E37_79B9) % options.keys
    };
    options.name.replace("{}", &spread.to_string())
}

fn parent_and_id(name: &str) -> (String, String) {
    let (parent, id) = name.split_once("/keys/").unwrap_or((name, ""));
    (parent.to_owned(), id.to_owned())
}

fn micros(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX)
}

fn measured(latencies: &Histogram<u64>, per_call: u64, errors: &AtomicU64, started: Instant) -> Measured {
    Measured {
        operations: latencies.len() * per_call,
        errors: errors.load(Ordering::Relaxed),
        p50_us: latencies.value_at_quantile(0.5),
        p99_us: latencies.value_at_quantile(0.99),
        seconds: started.elapsed().as_secs_f64(),
    }
}

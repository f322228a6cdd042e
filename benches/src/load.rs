//! The load generator: a fixed number of calls in flight over a fixed number of connections, for a fixed time.

use std::{
    io::BufRead,
    path::PathBuf,
    sync::{
        Arc, OnceLock,
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
use tonic::{Code, Status, transport::Channel};

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
    /// Calls a second that are begun whether others are answered or not; without it, `--concurrency` are kept in flight.
    #[arg(long)]
    rate: Option<u64>,
    /// Deadline of each call, sent to the service.
    #[arg(long)]
    deadline_ms: Option<u64>,
    /// Keys are used as often as Zipf's law says, with this exponent, instead of equally often.
    #[arg(long)]
    zipf: Option<f64>,
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

/// What one run measured. Latencies are those of calls that were served.
#[derive(Serialize, Deserialize)]
pub struct Measured {
    pub operations: u64,
    pub errors: u64,
    /// RESOURCE_EXHAUSTED.
    pub refused: u64,
    pub p50_us: u64,
    pub p99_us: u64,
    pub worst_us: u64,
    pub seconds: f64,
    /// Calls served in each [`SLICE`] from the beginning on.
    pub slices: Vec<u64>,
}

pub const SLICE: Duration = Duration::from_millis(10);

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

/// Works until `time` has passed.
async fn work(options: &Arc<Options>, channels: &[Channel], time: Duration) -> Result<Measured, Failure> {
    let next = Arc::new(AtomicU64::new(0));
    let started = Instant::now();
    let end = started + time;
    let mut tasks = Vec::new();
    if let Some(rate) = options.rate {
        for channel in channels {
            let rate = rate as f64 / channels.len() as f64;
            tasks.push(tokio::spawn(paced(
                options.clone(),
                channel.clone(),
                rate,
                end,
                next.clone(),
            )));
        }
    } else if options.operation == Operation::Stream {
        let per_stream = options.concurrency.div_ceil(channels.len());
        for channel in channels {
            tasks.push(tokio::spawn(stream(options.clone(), channel.clone(), per_stream, end)));
        }
    } else {
        for index in 0..options.concurrency {
            let channel = channels[index % channels.len()].clone();
            tasks.push(tokio::spawn(calls(options.clone(), channel, end, next.clone())));
        }
    }
    let mut all = Tally::new()?;
    for task in tasks {
        all.add(task.await??);
    }
    let per_call = if options.operation == Operation::Batch {
        BATCH as u64
    } else {
        1
    };
    Ok(all.measured(per_call, started))
}

const BATCH: usize = 100;

/// What became of calls.
struct Tally {
    started: Instant,
    served: Histogram<u64>,
    slices: Vec<u64>,
    refused: u64,
    failed: u64,
}

impl Tally {
    fn new() -> Result<Self, Failure> {
        Ok(Self {
            started: Instant::now(),
            served: Histogram::new(3)?,
            slices: Vec::new(),
            refused: 0,
            failed: 0,
        })
    }

    fn count<T>(&mut self, outcome: Result<T, Status>, begun: Instant) {
        match outcome {
            Ok(_) => self.count_served(begun),
            Err(status) if status.code() == Code::ResourceExhausted => self.refused += 1,
            Err(_) => self.failed += 1,
        }
    }

    fn count_served(&mut self, begun: Instant) {
        // The histogram grows with what it records.
        let _ = self.served.record(micros(begun));
        let slice = (self.started.elapsed().as_micros() / SLICE.as_micros()) as usize;
        self.slices.resize(self.slices.len().max(slice + 1), 0);
        self.slices[slice] += 1;
    }

    fn add(&mut self, other: Self) {
        self.served += other.served;
        self.slices.resize(self.slices.len().max(other.slices.len()), 0);
        for (slice, served) in self.slices.iter_mut().zip(other.slices) {
            *slice += served;
        }
        self.refused += other.refused;
        self.failed += other.failed;
    }

    fn measured(self, per_call: u64, started: Instant) -> Measured {
        Measured {
            operations: self.served.len() * per_call,
            errors: self.failed,
            refused: self.refused,
            p50_us: self.served.value_at_quantile(0.5),
            p99_us: self.served.value_at_quantile(0.99),
            worst_us: self.served.max(),
            seconds: started.elapsed().as_secs_f64(),
            slices: self.slices,
        }
    }
}

/// Begins `rate` calls a second, and waits for all of them.
async fn paced(
    options: Arc<Options>,
    channel: Channel,
    rate: f64,
    end: Instant,
    next: Arc<AtomicU64>,
) -> Result<Tally, Failure> {
    let started = Instant::now();
    let (mut tally, mut begun) = (Tally::new()?, 0_u64);
    let mut calls = FuturesUnordered::new();
    let mut tick = tokio::time::interval(Duration::from_millis(1));
    while Instant::now() < end {
        tokio::select! {
            _ = tick.tick() => {
                let due = (started.elapsed().as_secs_f64() * rate) as u64;
                for _ in begun..due {
                    let (mut client, request) = (CryptoServiceClient::new(channel.clone()), encrypt(&options, &next));
                    calls.push(async move {
                        let begun = Instant::now();
                        (client.encrypt(request).await, begun)
                    });
                }
                begun = begun.max(due);
            }
            Some((outcome, begun)) = calls.next() => tally.count(outcome, begun),
        }
    }
    while let Some((outcome, begun)) = calls.next().await {
        tally.count(outcome, begun);
    }
    Ok(tally)
}

async fn calls(options: Arc<Options>, channel: Channel, end: Instant, next: Arc<AtomicU64>) -> Result<Tally, Failure> {
    let mut tally = Tally::new()?;
    let mut client = CryptoServiceClient::new(channel);
    let mut ciphertext = None;
    if options.operation == Operation::Decrypt {
        ciphertext = Some(client.encrypt(encrypt(&options, &next)).await?.into_inner().ciphertext);
    }
    while Instant::now() < end {
        let begun = Instant::now();
        let outcome = match options.operation {
            Operation::Encrypt => client.encrypt(encrypt(&options, &next)).await.map(drop),
            Operation::Decrypt => {
                let ciphertext = ciphertext.clone().unwrap_or_default();
                client
                    .decrypt(DecryptRequest {
                        name: name(&options, 0),
                        ciphertext,
                        ..Default::default()
                    })
                    .await
                    .map(drop)
            }
            Operation::DataKey => {
                let request = GenerateDataKeyRequest {
                    name: name(&options, 0),
                    ..Default::default()
                };
                client.generate_data_key(request).await.map(drop)
            }
            Operation::Batch => {
                let item = batch_encrypt_request::Item {
                    plaintext: plaintext(&options),
                    ..Default::default()
                };
                let request = BatchEncryptRequest {
                    name: name(&options, 0),
                    items: vec![item; BATCH],
                };
                client.batch_encrypt(request).await.map(drop)
            }
            Operation::Handshake => connect(&options)
                .await
                .map(drop)
                .map_err(|error| Status::unavailable(error.to_string())),
            Operation::Stream | Operation::CreateKeys => return Err("not a single call".into()),
        };
        tally.count(outcome, begun);
    }
    Ok(tally)
}

/// One Crypt stream with `window` messages in flight.
async fn stream(options: Arc<Options>, channel: Channel, window: usize, end: Instant) -> Result<Tally, Failure> {
    let mut tally = Tally::new()?;
    let next = AtomicU64::new(0);
    let (sender, receiver) = tokio::sync::mpsc::channel(window);
    let request = |tag| CryptRequest {
        tag,
        request: Some(crypt_request::Request::Encrypt(encrypt(&options, &next).into_inner())),
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
        let outcome = match answer.response {
            Some(crypt_response::Response::Error(_)) | None => Err(Status::unknown("an item failed")),
            Some(_) => Ok(()),
        };
        tally.count(outcome, started[slot]);
        if Instant::now() < end {
            started[slot] = Instant::now();
            sender.send(request(answer.tag)).await?;
        } else {
            in_flight -= 1;
        }
    }
    Ok(tally)
}

/// Makes the keys `{}` = 0 … `keys` - 1 with `concurrency` calls in flight; those that exist already count as made.
async fn create_keys(options: &Arc<Options>, channels: &[Channel]) -> Result<Measured, Failure> {
    let (started, mut tally) = (Instant::now(), Tally::new()?);
    let make = |number: u64| {
        let mut client = KeyServiceClient::new(channels[number as usize % channels.len()].clone());
        let (parent, id) = parent_and_id(&name(options, number));
        async move {
            let begun = Instant::now();
            let made = client
                .create_key(CreateKeyRequest {
                    parent,
                    key_id: id,
                    ..Default::default()
                })
                .await;
            match made {
                Err(status) if status.code() == Code::AlreadyExists => (Ok(()), begun),
                made => (made.map(drop), begun),
            }
        }
    };
    let mut in_flight = FuturesUnordered::new();
    let mut number = 0;
    loop {
        while in_flight.len() < options.concurrency && number < options.keys {
            in_flight.push(make(number));
            number += 1;
        }
        let Some((outcome, begun)) = in_flight.next().await else {
            break;
        };
        tally.count(outcome, begun);
    }
    Ok(tally.measured(1, started))
}

fn encrypt(options: &Options, next: &AtomicU64) -> tonic::Request<EncryptRequest> {
    let number = next.fetch_add(1, Ordering::Relaxed);
    let mut request = tonic::Request::new(EncryptRequest {
        name: name(options, number),
        plaintext: plaintext(options),
        ..Default::default()
    });
    if let Some(milliseconds) = options.deadline_ms {
        request.set_timeout(Duration::from_millis(milliseconds));
    }
    request
}

fn plaintext(options: &Options) -> Bytes {
    static BYTES: OnceLock<Bytes> = OnceLock::new();
    BYTES.get_or_init(|| Bytes::from(vec![7; options.payload])).clone()
}

/// The name of key `number`; numbers are spread so that neighbours in time are not neighbours in the store.
fn name(options: &Options, number: u64) -> String {
    if options.keys == 1 {
        return options.name.replace("{}", "0");
    }
    let key = match (options.operation, options.zipf) {
        (Operation::CreateKeys, _) => number,
        (_, Some(exponent)) => zipf(options.keys, exponent, number),
        _ => number.wrapping_mul(0x9E37_79B9) % options.keys,
    };
    options.name.replace("{}", &key.to_string())
}

/// The key that the `number`-th call uses, so that the k-th most used of `keys` is used 1/k^`exponent` times as often as the first.
fn zipf(keys: u64, exponent: f64, number: u64) -> u64 {
    static SUMS: OnceLock<Vec<f64>> = OnceLock::new();
    let sums = SUMS.get_or_init(|| {
        let mut sum = 0.0;
        let weights = (1..=keys).map(|rank| (rank as f64).powf(-exponent));
        weights
            .map(|weight| {
                sum += weight;
                sum
            })
            .collect()
    });
    // SplitMix64, Steele et al. 2014: numbers in a row become numbers without order.
    let mut mixed = number.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^= mixed >> 31;
    let drawn = (mixed >> 11) as f64 / (1_u64 << 53) as f64 * sums.last().copied().unwrap_or(1.0);
    sums.partition_point(|sum| *sum < drawn) as u64
}

fn parent_and_id(name: &str) -> (String, String) {
    let (parent, id) = name.split_once("/keys/").unwrap_or((name, ""));
    (parent.to_owned(), id.to_owned())
}

fn micros(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX)
}

//! Queue, host and token without gRPC: what a call costs with the module in threads, and in a worker process. And one call that hangs.

use std::{
    io::BufRead as _,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;
use keyreeve::{
    model::Blob,
    token::{
        Answer, Call, EnvelopeInput, Host, Job, Lane, OpenError, ProcessHost, Program, ThreadHost, TokenConfig,
        host::Place, init,
    },
};
use keyreeve_envelope::{
    EnvironmentId, KeyId, KeyVersion,
    header::{Header, Suite},
};
use keyreeve_faultmod::{Controller, Fault, Function, Rule, Schedule, When, variable};
use serde::{Deserialize, Serialize};
use tokio::{runtime::Handle, sync::oneshot};

use crate::{Failure, token::Token};

#[derive(clap::Args)]
pub struct Options {
    /// The `keyreeve` binary: what a worker executes. Without it, threads.
    #[arg(long)]
    worker: Option<PathBuf>,
    #[command(flatten)]
    token: Token,
    /// For everything that is made.
    #[arg(long)]
    directory: PathBuf,
    #[arg(long, default_value_t = 1000)]
    milliseconds: u64,
    /// Has a call hang in the worker, once, and says how long beyond the deadline its answer took.
    #[arg(long)]
    hang: bool,
}

/// What one run did.
#[derive(Serialize, Deserialize)]
pub struct Hops {
    pub calls: u64,
    pub p50_us: u64,
    pub p99_us: u64,
}

const CALL_DEADLINE: Duration = Duration::from_millis(500);
const PLACE: Place = Place {
    environment: EnvironmentId::from_bytes([1; 16]),
    key: KeyId::from_bytes([2; 16]),
    version: KeyVersion::FIRST,
};

/// Says `ready`; for each number on standard input keeps so many calls in flight and prints [`Hops`]; ends with its input.
pub async fn run(options: Options) -> Result<(), Failure> {
    let mut config: TokenConfig = serde_json::from_value(serde_json::json!({
        "module": options.token.module,
        "label": options.token.label,
        "pin_file": options.token.pin_file,
        "manifest": options.directory.join("manifest.json"),
        "manifest_sha256": "",
        "session_threads": 4,
        "call_deadline_ms": CALL_DEADLINE.as_millis() as u64,
    }))?;
    std::fs::create_dir_all(&options.directory)?;
    config.manifest_sha256 = init(&config, &options.directory)?.manifest_sha256;
    if options.hang {
        return hang(options, config).await;
    }
    let host: Arc<dyn Host> = match options.worker.clone() {
        Some(program) => Arc::new(workers(program, vec![], config, options.directory.clone()).await?),
        None => Arc::new(ThreadHost::start(config, &options.directory, Arc::new(|_, _| false))?),
    };
    let blob = make(&*host).await?;
    println!("ready");
    while let Some(concurrency) = tokio::task::block_in_place(next_line)? {
        let hops = work(
            &host,
            &blob,
            concurrency.parse()?,
            Duration::from_millis(options.milliseconds),
        )
        .await?;
        println!("{}", serde_json::to_string(&hops)?);
    }
    tokio::task::block_in_place(|| host.stop());
    Ok(())
}

async fn work(host: &Arc<dyn Host>, blob: &Arc<Blob>, concurrency: usize, time: Duration) -> Result<Hops, Failure> {
    let end = Instant::now() + time;
    let tasks: Vec<_> = (0..concurrency)
        .map(|_| {
            let (host, blob) = (host.clone(), blob.clone());
            tokio::spawn(async move {
                let mut took = Histogram::<u64>::new(3)?;
                while Instant::now() < end {
                    let begun = Instant::now();
                    ask(&*host, message_keys(&blob)?).await?;
                    took.record(begun.elapsed().as_micros() as u64)?;
                }
                Ok::<_, Failure>(took)
            })
        })
        .collect();
    let mut all = Histogram::<u64>::new(3)?;
    for task in tasks {
        all += task.await??;
    }
    Ok(Hops {
        calls: all.len(),
        p50_us: all.value_at_quantile(0.5),
        p99_us: all.value_at_quantile(0.99),
    })
}

/// Prints milliseconds from the call's deadline to its answer, which the worker in waiting gives.
async fn hang(options: Options, mut config: TokenConfig) -> Result<(), Failure> {
    let real = std::mem::replace(&mut config.module, keyreeve_faultmod::module_path()?);
    config.module_reads = real.parent().map(PathBuf::from).into_iter().collect();
    config.module_writes = vec![options.directory.clone()];
    config
        .module_writes
        .extend(options.token.pin_file.parent().map(PathBuf::from));
    config.network = true;
    let controller = Controller::listen(&options.directory.join("control"), Schedule::default())?;
    let environment = vec![
        format!("{}={}", variable::MODULE, real.display()),
        format!("{}={}", variable::CONTROL, controller.path().display()),
    ];
    let program = options.worker.clone().ok_or("a call hangs in a worker: --worker")?;
    let host = workers(program, environment, config, options.directory).await?;
    let blob = make(&host).await?;
    let active = loop {
        if let (Some(active), Some(_)) = host.workers() {
            break active;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    let rule = Rule::on(Function::C_Sign, Fault::Hang { when: When::Before }).times(1);
    controller.set_for(active, Schedule::new(1).rule(rule))?;
    let begun = Instant::now();
    ask(&host, message_keys(&blob)?).await?;
    println!("{}", begun.elapsed().saturating_sub(CALL_DEADLINE).as_secs_f64() * 1e3);
    tokio::task::block_in_place(|| host.stop());
    Ok(())
}

async fn workers(
    keyreeve: PathBuf,
    environment: Vec<String>,
    config: TokenConfig,
    directory: PathBuf,
) -> Result<ProcessHost, Failure> {
    let arguments = environment.into_iter().map(Into::into);
    let worker = [
        keyreeve.into(),
        "token-worker".into(),
        "--log-level".into(),
        "error".into(),
    ];
    let program = Program {
        path: "/usr/bin/env".into(),
        arguments: arguments.chain(worker).collect(),
    };
    let runtime = Handle::current();
    let start = move || {
        let tombstones = directory.join("tombstones");
        ProcessHost::start(program, config, &directory, &tombstones, &runtime)
    };
    Ok::<_, OpenError>(tokio::task::spawn_blocking(start).await??).map_err(Into::into)
}

async fn make(host: &dyn Host) -> Result<Arc<Blob>, Failure> {
    let call = Call::MakeEnvelopeKey {
        suite: keyreeve_envelope::Suite::PrfCommit,
        residency: keyreeve::model::Residency::Wrapped,
        place: PLACE,
        created_ms: 1,
    };
    match ask(host, call).await? {
        Answer::MadeEnvelopeKey(made) => Ok(Arc::new(made.blob)),
        _ => Err("no key was made".into()),
    }
}

fn message_keys(blob: &Arc<Blob>) -> Result<Call, Failure> {
    let input = EnvelopeInput {
        header: Header::new(Suite::PrfCommit, PLACE.key, PLACE.version, false, 64)?.encode(),
        salt: [3; 32],
        ec_hash: [4; 32],
    };
    Ok(Call::EnvelopeKeys {
        blob: blob.clone(),
        place: PLACE,
        inputs: vec![input],
    })
}

async fn ask(host: &dyn Host, call: Call) -> Result<Answer, Failure> {
    let (reply, answer) = oneshot::channel();
    host.submit(Job {
        call,
        lane: Lane::of(None, "bench"),
        deadline: Instant::now() + Duration::from_secs(10),
        reply,
    });
    Ok(answer.await??)
}

fn next_line() -> std::io::Result<Option<String>> {
    let mut line = String::new();
    let read = std::io::stdin().lock().read_line(&mut line)?;
    Ok((read > 0).then(|| line.trim().to_owned()))
}

//! The plan of a run of `clients`: local sealing beside AES-256-GCM of aws-lc-rs alone, over the same chunks, in interleaved rounds.
//!
//! | part | ours | raw |
//! |---|---|---|
//! | memory | 1 GiB sealed from nowhere to nowhere, on all cores | – |
//! | streams | a slice in memory, read, sealed or opened, into a sink; on one thread and on all cores | *in place*: each chunk where it lies; *read*: copied into a buffer first, as any reader must |
//! | writer | a slice in memory, written | *in place* |
//! | values | `seal` and `open`, which allocate their answer | *in place*; *fresh*: into memory that was taken for it |
//! | small | messages of 64 B and 1 KiB under a kept data key | the cipher under a key that is derived for each message |
//!
//! One thread is measured by the time it ran, all cores by the clock. No service takes part: data keys come from memory.

mod raw;
mod service;

use std::{
    collections::BTreeMap,
    fs,
    hint::black_box,
    io::{self, Read, Write},
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

use keyreeve_client::{CacheLimits, EncryptionContext, Expectation, Opener, Sealer, sealing::front::Front};

use crate::{Failure, medians::median, report::Report};

#[derive(clap::Args)]
pub struct Options {
    /// Unused: no service takes part.
    #[arg(long, hide = true)]
    keyreeve: Option<PathBuf>,
    #[arg(long, default_value = "target/bench/clients.json")]
    output: PathBuf,
    #[arg(long, default_value_t = 7)]
    rounds: usize,
    /// Size of the message.
    #[arg(long, default_value_t = 256)]
    megabytes: usize,
    /// Small messages of one measurement.
    #[arg(long, default_value_t = 20_000)]
    messages: usize,
}

const KEY: &str = "envs/dev/teams/shop/keys/orders";

pub async fn run(options: &Options) -> Result<(), Failure> {
    let bench = Bench::new(options)?;
    let mut report = Report::default();
    // First, while nothing large is in memory.
    bench.memory(&mut report).await?;
    bench.streams(&mut report).await?;
    bench.small(&mut report).await?;
    report.print();
    report.write(&options.output)
}

struct Bench<'a> {
    options: &'a Options,
    service: service::InMemory,
    sealer: Sealer,
    opener: Opener,
    context: EncryptionContext,
    cores: usize,
}

/// Seconds of the rounds, by cell.
#[derive(Default)]
struct Cell(Vec<f64>);

impl Cell {
    fn median(&self) -> f64 {
        median(self.0.iter().copied())
    }
}

impl<'a> Bench<'a> {
    fn new(options: &'a Options) -> Result<Self, Failure> {
        let service = service::InMemory::new()?;
        Ok(Self {
            options,
            sealer: Sealer::new(service.clone(), KEY).with_cache(CacheLimits::default())?,
            opener: Opener::new(service.clone(), KEY).with_cache(CacheLimits::default())?,
            service,
            context: EncryptionContext::from_pairs([("table", "orders")])?,
            cores: thread::available_parallelism()?.get(),
        })
    }

    fn expected(&self) -> Expectation {
        Expectation::context(self.context.clone())
    }

    async fn memory(&self, report: &mut Report) -> Result<(), Failure> {
        let before = peak_kib()?;
        let message = self.sealer.begin(&self.context).await?;
        message.stream(io::repeat(7).take(1 << 30), io::sink())?;
        let peak = peak_kib()?;
        report.add("seal_1gib_peak_memory", peak as f64 / 1024.0, "MB");
        report.add(
            "seal_1gib_memory_of_sealing",
            peak.saturating_sub(before) as f64 / 1024.0,
            "MB",
        );
        Ok(())
    }

    async fn streams(&self, report: &mut Report) -> Result<(), Failure> {
        let length = self.options.megabytes << 20;
        let plaintext = vec![7; length];
        let message = self.sealer.seal(&plaintext, &self.context).await?;
        let (front, chunks) = Front::split(&message)?;
        let mut raw = raw::Raw::new(length)?;
        let mut cells: BTreeMap<String, Cell> = BTreeMap::new();
        for _ in 0..self.options.rounds {
            let mut measured = |name: &str, threads: usize, timer: Timer| -> Result<(), Failure> {
                let name = format!("{name}_{}", if threads == 1 { "1_thread" } else { "all_cores" });
                cells.entry(name).or_default().0.push(timer.seconds()?);
                Ok(())
            };
            for threads in [1, self.cores] {
                let timer = Timer::start(threads)?;
                raw.seal(threads)?;
                measured("raw_seal", threads, timer)?;
                let timer = Timer::start(threads)?;
                raw.read_and_seal(threads)?;
                measured("raw_read_seal", threads, timer)?;
                let sealing = self.sealer.begin(&self.context).await?;
                let timer = Timer::start(threads)?;
                sealing.stream_on(threads, &plaintext[..], io::sink())?;
                measured("seal_stream", threads, timer)?;
                let timer = Timer::start(threads)?;
                raw.open(threads)?;
                measured("raw_open", threads, timer)?;
                let timer = Timer::start(threads)?;
                raw.read_and_open(threads)?;
                measured("raw_read_open", threads, timer)?;
                let opening = self.opener.unlock(&front, &self.expected()).await?;
                let timer = Timer::start(threads)?;
                opening.stream_on(threads, chunks, io::sink())?;
                measured("open_stream", threads, timer)?;
            }
            let mut writer = self.sealer.writer(io::sink(), &self.context).await?;
            let timer = Timer::start(1)?;
            writer.write_all(&plaintext)?;
            writer.finish()?;
            measured("seal_writer", 1, timer)?;
            let sealing = self.sealer.begin(&self.context).await?;
            let timer = Timer::start(self.cores)?;
            black_box(sealing.seal(&plaintext)?);
            measured("seal_value", self.cores, timer)?;
            let opening = self.opener.unlock(&front, &self.expected()).await?;
            let timer = Timer::start(self.cores)?;
            black_box(opening.open(chunks)?);
            measured("open_value", self.cores, timer)?;
            let timer = Timer::start(self.cores)?;
            raw.seal_fresh(self.cores)?;
            measured("raw_fresh_seal", self.cores, timer)?;
            // What taking as much memory from the system costs, without which no value can be given back.
            let timer = Timer::start(self.cores)?;
            black_box(vec![1_u8; length]);
            measured("fresh_memory", self.cores, timer)?;
        }
        let seconds = |name: &str| cells.get(name).map_or(f64::NAN, Cell::median);
        for (ours, raw) in [
            ("seal_writer_1_thread", "raw_seal_1_thread"),
            ("seal_stream_1_thread", "raw_read_seal_1_thread"),
            ("open_stream_1_thread", "raw_read_open_1_thread"),
            ("seal_stream_all_cores", "raw_read_seal_all_cores"),
            ("open_stream_all_cores", "raw_read_open_all_cores"),
            ("seal_stream_1_thread", "raw_seal_1_thread"),
            ("open_stream_1_thread", "raw_open_1_thread"),
            ("seal_stream_all_cores", "raw_seal_all_cores"),
            ("open_stream_all_cores", "raw_open_all_cores"),
            ("seal_value_all_cores", "raw_fresh_seal_all_cores"),
            ("seal_value_all_cores", "raw_seal_all_cores"),
            ("open_value_all_cores", "raw_open_all_cores"),
        ] {
            let ceilings = ["raw_read", "raw_fresh"];
            let ceiling = ceilings.into_iter().find(|name| raw.starts_with(name)).unwrap_or("raw");
            report.add(format!("{ours}_over_{ceiling}"), seconds(raw) / seconds(ours), "×");
        }
        for name in cells.keys() {
            report.add(format!("{name}_rate"), length as f64 / seconds(name) / 1e9, "GB/s");
        }
        report.add("cores", self.cores as f64, "");
        Ok(())
    }

    async fn small(&self, report: &mut Report) -> Result<(), Failure> {
        let expected = self.expected();
        let raw = raw::Small::new();
        let asked = self.service.calls();
        for length in [64, 1024] {
            let plaintext = vec![7; length];
            let message = self.sealer.seal(&plaintext, &self.context).await?;
            let sealed = raw.seal(&plaintext)?;
            let [mut seal, mut open, mut raw_seal, mut raw_open] = [(); 4].map(|()| Cell::default());
            for _ in 0..self.options.rounds {
                let timer = Timer::start(1)?;
                for _ in 0..self.options.messages {
                    black_box(self.sealer.seal(&plaintext, &self.context).await?);
                }
                seal.0.push(timer.seconds()?);
                let timer = Timer::start(1)?;
                for _ in 0..self.options.messages {
                    black_box(self.opener.open(&message, &expected).await?);
                }
                open.0.push(timer.seconds()?);
                let timer = Timer::start(1)?;
                for _ in 0..self.options.messages {
                    black_box(raw.seal(&plaintext)?);
                }
                raw_seal.0.push(timer.seconds()?);
                let timer = Timer::start(1)?;
                for _ in 0..self.options.messages {
                    black_box(raw.open(&sealed)?);
                }
                raw_open.0.push(timer.seconds()?);
            }
            let each = |cell: &Cell| cell.median() * 1e6 / self.options.messages as f64;
            report.add(format!("seal_{length}_b_kept_key"), each(&seal), "us");
            report.add(format!("open_{length}_b_kept_key"), each(&open), "us");
            let ratio = |raw: &Cell, ours: &Cell| raw.median() / ours.median();
            report.add(format!("seal_{length}_b_over_raw"), ratio(&raw_seal, &seal), "×");
            report.add(format!("open_{length}_b_over_raw"), ratio(&raw_open, &open), "×");
        }
        // A call of the service for each message otherwise.
        let messages = 4 * self.options.rounds * self.options.messages;
        report.add("small_messages", messages as f64, "");
        report.add("small_messages_calls", (self.service.calls() - asked) as f64, "");
        Ok(())
    }
}

/// Of one thread the time that it ran, since the machine may have other work; of several the time that passed.
enum Timer {
    Ran(Duration),
    Passed(Instant),
}

impl Timer {
    fn start(threads: usize) -> Result<Self, Failure> {
        Ok(match threads {
            1 => Self::Ran(ran()?),
            _ => Self::Passed(Instant::now()),
        })
    }

    fn seconds(&self) -> Result<f64, Failure> {
        Ok(match self {
            Self::Ran(before) => (ran()? - *before).as_secs_f64(),
            Self::Passed(before) => before.elapsed().as_secs_f64(),
        })
    }
}

/// How long this thread was on a processor.
fn ran() -> Result<Duration, Failure> {
    let stat = fs::read_to_string("/proc/thread-self/schedstat")?;
    let nanoseconds = stat.split(' ').next().ok_or("schedstat is empty")?;
    Ok(Duration::from_nanos(nanoseconds.parse()?))
}

/// The most memory that this process ever had.
fn peak_kib() -> Result<u64, Failure> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let number = line.and_then(|line| line.split_whitespace().next()).ok_or("no VmHWM")?;
    Ok(number.parse()?)
}

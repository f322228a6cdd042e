//! Benchmarks of the service. One run measures the service and its ceilings side by side, in interleaved rounds, and prints ratios.
//!
//! | process | what it is |
//! |---|---|
//! | `service`, `resilience`, `clients` | the plans: start what they need of the below, measure, print a table, write `target/bench/….json` |
//! | `hop` | queue, host and token without gRPC, in one of its two forms |
//! | `keyreeve dev` | the service itself, on SoftHSM |
//! | `echo` | the gRPC ceiling: tonic over the same TLS settings, with answers of the same sizes and nothing behind them |
//! | `raw` | the token ceiling: one HMAC-SHA-512 call after another on a session key |
//! | `load` | the load generator |

#![allow(clippy::print_stdout)]

mod clients;
mod echo;
mod hop;
mod load;
mod medians;
mod process;
mod raw;
mod report;
mod resilience;
mod server;
mod service;
mod token;
mod token_group;

use clap::Parser;

#[derive(Parser)]
enum Command {
    /// Measures everything and reports.
    Service(service::Options),
    /// Measures what isolation costs, what failures cost, and what a flood does.
    Resilience(resilience::Options),
    /// Measures local sealing beside the cipher alone.
    Clients(clients::Options),
    /// Works a token through the queue and the host, without gRPC.
    Hop(hop::Options),
    /// Answers CryptoService calls with bytes of the right size.
    Echo(echo::Options),
    /// Works HMAC-SHA-512 on a token.
    Raw(raw::Options),
    /// Sends load to a server.
    Load(load::Options),
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

fn main() -> Result<(), Failure> {
    match Command::parse() {
        Command::Service(options) => service::run(&options),
        Command::Resilience(options) => resilience::run(&options),
        Command::Clients(options) => runtime(2)?.block_on(clients::run(&options)),
        Command::Hop(options) => runtime(2)?.block_on(hop::run(options)),
        Command::Echo(options) => runtime(2)?.block_on(echo::run(options)),
        Command::Raw(options) => raw::run(&options),
        Command::Load(options) => runtime(2)?.block_on(load::run(options)),
    }
}

fn runtime(threads: usize) -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads)
        .enable_all()
        .build()
}

//! The Rust side of the parity test (`clients/python/tests/test_parity.py`): seals and opens what Python asks for, frame by frame on its
//! standard streams, until its input ends. No service takes part: the version keys are those that Python tells first.
//!
//! A frame is a u32 length and so many bytes: fields, each with its own u32 length.
//!
//! | request | answer |
//! |---|---|
//! | `key`, name, key id, version key | |
//! | `seal`, way, kept, stored, names, plaintext, pairs of the context… | `sealed`, calls, message |
//! | `open`, way, kept, expectation, names, message, pairs of the context… | `opened`, calls, plaintext; or `refused`, calls, reason and text |
//!
//! Way: `value` or `stream`. Kept: `kept` if data keys come from a cache. Stored: `stored` if the message holds its context. Names: with
//! line ends between. Expectation: `whole`, `required` or `stored`. Calls: what was asked of the service, `generate unwrap`.

mod frames;
mod keys;
mod peer;

use std::io::{self, BufReader, Write};

type Failure = Box<dyn std::error::Error>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    let (mut input, mut output) = (BufReader::new(io::stdin()), io::stdout());
    let mut peer = peer::Peer::default();
    while let Some(request) = frames::read(&mut input)? {
        let answer = peer.answer(&request).await?;
        output.write_all(&frames::frame(&answer)?)?;
        output.flush()?;
    }
    Ok(())
}

//! The start of a worker: what it is told, and what it answers before its first call. Frames with id 0.
//!
//! The service reads the PIN and hands it over here, once for each worker; the worker wipes it after the login.

use std::path::PathBuf;

use keyreeve_pkcs11::{Class, Pin};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{
    frame::{Frame, Malformed, put},
    pulse::Pulse,
};
use crate::token::TokenConfig;

mod kind {
    pub const START: u8 = 0x40;
    pub const READY: u8 = 0xe0;
    pub const FAILED: u8 = 0xe1;
    pub const FAULT: u8 = 0xe2;
    pub const HANDLES: u8 = 0xe3;
    pub const PULSE: u8 = 0xe4;
}

/// What a worker must know. No secret is in here.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Start {
    pub token: TokenConfig,
    /// Where latches live.
    pub data_directory: PathBuf,
    /// Ids of destroyed versions: never unwrapped again.
    pub tombstones: PathBuf,
    /// Names this run of the module in records.
    pub epoch: u64,
}

/// What a worker says of its token.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Ready {
    pub serial: String,
    pub model: String,
    pub software_token: bool,
    pub session_threads: usize,
}

/// Why a worker does not serve, in words for the operator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trouble {
    pub text: String,
    /// `E9`, `E13`, … for a fault of the token; none for a fault of the configuration or of the start.
    pub class: Option<String>,
    /// Another worker would fare the same: wrong PIN, wrong answer, wrong configuration.
    pub is_final: bool,
}

/// What a worker says beside answers.
pub enum News {
    Ready(Ready),
    Failed(Trouble),
    /// The token failed under way; nothing that is not answered will be.
    Fault(Trouble),
    /// Unwrapped keys in its cache.
    Handles(u64),
    Pulse(Pulse),
}

impl Trouble {
    pub fn of_class(class: Class, text: &str) -> Self {
        Self {
            text: text.to_owned(),
            class: Some(class.name().to_owned()),
            is_final: matches!(class, Class::Pin | Class::WrongAnswer),
        }
    }
}

pub fn put_start(out: &mut Vec<u8>, start: &Start, pin: &Zeroizing<Vec<u8>>) {
    put(out, 0, kind::START, |out| {
        let told = serde_json::to_vec(start).expect("a start is plain data");
        out.extend_from_slice(&u32::try_from(told.len()).expect("it is short").to_be_bytes());
        out.extend_from_slice(&told);
        out.extend_from_slice(pin);
    });
}

pub fn start(frame: Frame<'_>) -> Result<(Start, Pin), Malformed> {
    if frame.kind != kind::START {
        return Err(Malformed);
    }
    let (length, rest) = frame.body.split_first_chunk().ok_or(Malformed)?;
    let (told, pin) = rest
        .split_at_checked(u32::from_be_bytes(*length) as usize)
        .ok_or(Malformed)?;
    let start = serde_json::from_slice(told).map_err(|_| Malformed)?;
    Ok((start, Pin::new(Zeroizing::new(pin.to_vec()))))
}

pub fn put_news(out: &mut Vec<u8>, news: &News) {
    let json = |out: &mut Vec<u8>, kind, json: serde_json::Result<Vec<u8>>| {
        put(out, 0, kind, |out| out.extend(json.expect("news are plain data")));
    };
    match news {
        News::Ready(ready) => json(out, kind::READY, serde_json::to_vec(ready)),
        News::Failed(trouble) => json(out, kind::FAILED, serde_json::to_vec(trouble)),
        News::Fault(trouble) => json(out, kind::FAULT, serde_json::to_vec(trouble)),
        News::Handles(count) => put(out, 0, kind::HANDLES, |out| out.extend_from_slice(&count.to_be_bytes())),
        News::Pulse(pulse) => put(out, 0, kind::PULSE, |out| pulse.put(out)),
    }
}

/// `None` for a frame that is an answer.
pub fn news(frame: Frame<'_>) -> Result<Option<News>, Malformed> {
    let malformed = |_| Malformed;
    Ok(Some(match frame.kind {
        kind::READY => News::Ready(serde_json::from_slice(frame.body).map_err(malformed)?),
        kind::FAILED => News::Failed(serde_json::from_slice(frame.body).map_err(malformed)?),
        kind::FAULT => News::Fault(serde_json::from_slice(frame.body).map_err(malformed)?),
        kind::HANDLES => News::Handles(u64::from_be_bytes(frame.body.try_into().map_err(|_| Malformed)?)),
        kind::PULSE => News::Pulse(Pulse::parse(frame.body)?),
        _ => return Ok(None),
    }))
}

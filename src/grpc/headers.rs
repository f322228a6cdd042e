//! The request headers that we read ourselves: id, trace context, deadline.

use std::{
    fmt::Write as _,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::{Error, Result};

pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");

/// Longest request id that is taken over.
const REQUEST_ID_BYTES: usize = 64;

/// Makes request ids: 64 bits drawn at start, then a counter. Unique without asking the system for randomness on each call.
pub struct RequestIds {
    prefix: u64,
    next: AtomicU64,
}

impl RequestIds {
    pub fn new() -> Self {
        let drawn = uuid::Uuid::new_v4().as_u64_pair();
        Self {
            prefix: drawn.0 ^ drawn.1.rotate_left(32),
            next: AtomicU64::new(1),
        }
    }

    /// The caller's id if it is fit for logs and records, else a new one; and the header that answers it.
    pub fn of(&self, headers: &HeaderMap) -> (Arc<str>, HeaderValue) {
        if let Some(value) = headers.get(REQUEST_ID)
            && let Some(id) = acceptable(value)
        {
            return (id.into(), value.clone());
        }
        let mut id = String::with_capacity(32);
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        write!(id, "{:016x}{number:016x}", self.prefix).expect("a String takes what is written to it");
        let text = id.as_str().into();
        (
            text,
            HeaderValue::try_from(id).expect("hexadecimal digits are a header value"),
        )
    }
}

/// 1 to 64 of letters, digits, `.`, `_`, `-`: nothing that could break a log line, a record or a header.
fn acceptable(value: &HeaderValue) -> Option<&str> {
    let text = value.to_str().ok()?;
    let fits = (1..=REQUEST_ID_BYTES).contains(&text.len());
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    (fits && text.bytes().all(plain)).then_some(text)
}

/// W3C trace context, version 00: `00-<32 hex>-<16 hex>-<2 hex>`, neither id all zero. Anything else is ignored, as the standard says.
pub fn trace(headers: &HeaderMap) -> Option<Arc<str>> {
    let text = headers.get(TRACEPARENT)?.to_str().ok()?;
    let bytes = text.as_bytes();
    let hex = |at: std::ops::Range<usize>| bytes[at].iter().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    let zero = |at: std::ops::Range<usize>| bytes[at].iter().all(|b| *b == b'0');
    let valid = bytes.len() == 55
        && bytes.starts_with(b"00-")
        && bytes[35] == b'-'
        && bytes[52] == b'-'
        && hex(3..35)
        && hex(36..52)
        && hex(53..55)
        && !zero(3..35)
        && !zero(36..52);
    valid.then(|| text.into())
}

/// `grpc-timeout`: 1 to 8 digits and a unit (H M S m u n). `None`: the caller names none.
pub fn timeout(headers: &HeaderMap) -> Result<Option<Duration>> {
    let Some(value) = headers.get(GRPC_TIMEOUT) else {
        return Ok(None);
    };
    let malformed = || Error::invalid("grpc-timeout", "it is 1 to 8 digits and a unit of H, M, S, m, u, n");
    let (unit, digits) = value.as_bytes().split_last().ok_or_else(malformed)?;
    if !(1..=8).contains(&digits.len()) || !digits.iter().all(u8::is_ascii_digit) {
        return Err(malformed());
    }
    let number = digits
        .iter()
        .fold(0_u64, |number, digit| number * 10 + u64::from(digit - b'0'));
    Ok(Some(match unit {
        b'H' => Duration::from_secs(number * 3_600),
        b'M' => Duration::from_secs(number * 60),
        b'S' => Duration::from_secs(number),
        b'm' => Duration::from_millis(number),
        b'u' => Duration::from_micros(number),
        b'n' => Duration::from_nanos(number),
        _ => return Err(malformed()),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(name: HeaderName, value: &str) -> HeaderMap {
        [(name, HeaderValue::from_str(value).unwrap())].into_iter().collect()
    }

    #[test]
    fn a_fit_request_id_is_taken_over_and_an_unfit_one_replaced() {
        let ids = RequestIds::new();
        let (id, header) = ids.of(&with(REQUEST_ID, "job-7.retry_2"));
        assert_eq!((&*id, header.to_str().unwrap()), ("job-7.retry_2", "job-7.retry_2"));
        let long = "x".repeat(65);
        for unfit in ["", "a b", "a\"b", "<script>", long.as_str()] {
            let (id, header) = ids.of(&with(REQUEST_ID, unfit));
            assert_eq!(id.len(), 32, "{unfit}");
            assert_eq!(&*id, header.to_str().unwrap());
        }
        assert_ne!(ids.of(&HeaderMap::new()).0, ids.of(&HeaderMap::new()).0);
    }

    #[test]
    fn a_trace_context_is_taken_over_only_if_it_is_valid() {
        let good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        assert_eq!(trace(&with(TRACEPARENT, good)).as_deref(), Some(good));
        for bad in [
            "",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-0",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00-0AF7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00_0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        ] {
            assert_eq!(trace(&with(TRACEPARENT, bad)), None, "{bad}");
        }
    }

    #[test]
    fn deadlines_are_read_in_every_unit() {
        for (text, wanted) in [
            ("2H", Duration::from_secs(7_200)),
            ("3M", Duration::from_secs(180)),
            ("4S", Duration::from_secs(4)),
            ("5m", Duration::from_millis(5)),
            ("6u", Duration::from_micros(6)),
            ("99999999n", Duration::from_nanos(99_999_999)),
        ] {
            assert_eq!(timeout(&with(GRPC_TIMEOUT, text)).unwrap(), Some(wanted));
        }
        assert_eq!(timeout(&HeaderMap::new()).unwrap(), None);
    }

    #[test]
    fn a_malformed_deadline_is_refused_not_ignored() {
        for text in ["", "5", "S", "123456789S", "-1S", "1.5S", "5s", "5 S", "1SS"] {
            let error = timeout(&with(GRPC_TIMEOUT, text)).unwrap_err();
            assert_eq!(error.reason(), "INVALID_ARGUMENT", "{text}");
        }
    }
}

//! What a caller may say of single calls: `client.with_deadline(..).encrypt(..)`.

use std::time::Duration;

use tonic::metadata::{Ascii, MetadataMap, MetadataValue};
use uuid::Uuid;

use crate::{Client, ClientError, config::checked_deadline, status::REQUEST_ID};

const TRACEPARENT: &str = "traceparent";

/// Of the calls that a [`Client`] makes.
#[derive(Debug, Clone)]
pub(crate) struct CallOptions {
    pub deadline: Duration,
    request_id: Option<MetadataValue<Ascii>>,
    traceparent: Option<MetadataValue<Ascii>>,
    /// No `request_id` is made for changes.
    pub once: bool,
}

/// What names a call in the logs of both sides; the same in all its tries.
#[derive(Debug, Clone)]
pub(crate) struct Correlation {
    request_id: MetadataValue<Ascii>,
    traceparent: Option<MetadataValue<Ascii>>,
}

impl CallOptions {
    pub fn new(deadline: Duration) -> Self {
        Self {
            deadline,
            request_id: None,
            traceparent: None,
            once: false,
        }
    }

    pub fn correlation(&self) -> Correlation {
        let made = || Uuid::new_v4().simple().to_string().parse();
        Correlation {
            request_id: self
                .request_id
                .clone()
                .unwrap_or_else(|| made().expect("hexadecimal digits are ASCII")),
            traceparent: self.traceparent.clone(),
        }
    }
}

impl Correlation {
    pub fn request_id(&self) -> &str {
        self.request_id.to_str().unwrap_or_default()
    }

    pub fn write(&self, metadata: &mut MetadataMap) {
        metadata.insert(REQUEST_ID, self.request_id.clone());
        if let Some(traceparent) = &self.traceparent {
            metadata.insert(TRACEPARENT, traceparent.clone());
        }
    }
}

/// Each gives a client that shares connections, circuits and budget with this one.
impl Client {
    /// For each call with all its retries, instead of the configured time; at most 60 s. Errors: `CONFIGURATION`.
    pub fn with_deadline(&self, deadline: Duration) -> Result<Self, ClientError> {
        let deadline = checked_deadline(deadline)?;
        Ok(self.with(|options| options.deadline = deadline))
    }

    /// Names the calls in the audit log, instead of an id of the client's making: 1 to 64 of letters, digits, `.`, `_`, `-`.
    /// Errors: `CONFIGURATION`.
    pub fn with_request_id(&self, id: &str) -> Result<Self, ClientError> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        let value = ((1..=64).contains(&id.len()) && id.bytes().all(plain)).then(|| id.parse().ok());
        let value = value.flatten().ok_or_else(|| {
            ClientError::configuration("a request id is 1 to 64 of letters, digits, `.`, `_`, `-`".into())
        })?;
        Ok(self.with(|options| options.request_id = Some(value)))
    }

    /// Passes a W3C trace context on, which the audit log keeps. Errors: `CONFIGURATION`.
    pub fn with_traceparent(&self, traceparent: &str) -> Result<Self, ClientError> {
        let value = traceparent
            .parse()
            .map_err(|_| ClientError::configuration("a traceparent is `00-<32 hex>-<16 hex>-<2 hex>`".into()))?;
        Ok(self.with(|options| options.traceparent = Some(value)))
    }

    /// Changes without a `request_id` stay without, and are then never tried again.
    #[must_use]
    pub fn without_request_ids(&self) -> Self {
        self.with(|options| options.once = true)
    }
}

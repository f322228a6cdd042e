//! Repeated writes: the same `request_id` with the same request from the same caller gets the same answer for 24 h.
//!
//! Only the name of the object is kept, never an answer; the answer is built again from the object.

use aws_lc_rs::digest;

use super::Keys;
use crate::{
    Error, Result,
    clock::Timestamp,
    policy::{Changes, Permit},
    store::Remembered,
};

/// How long a request id is kept, in days.
const KEPT_DAYS: u32 = 1;

/// The caller's name for one write, so that a retry does it once. May be absent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RequestId(Option<uuid::Uuid>);

impl RequestId {
    /// A UUID of version 4 (RFC 9562), or empty for none.
    pub fn new(text: &str) -> Result<Self> {
        if text.is_empty() {
            return Ok(Self(None));
        }
        let id = uuid::Uuid::try_parse(text).ok().filter(|id| id.get_version_num() == 4);
        match id {
            Some(id) => Ok(Self(Some(id))),
            None => Err(Error::invalid(
                "request_id",
                "it is not a UUID of version 4: make one for each request",
            )),
        }
    }
}

/// Whether a write is new.
pub(super) enum Turn {
    /// Do it, and keep this with the change.
    First(Option<Remembered>),
    /// It was done: answer from the object as it is now.
    Again,
}

/// SHA-256 over the parts of a request, each with its length.
pub(super) struct Fingerprint(digest::Context);

impl Fingerprint {
    pub(super) fn new() -> Self {
        Self(digest::Context::new(&digest::SHA256))
    }

    #[must_use]
    pub(super) fn with(mut self, part: &str) -> Self {
        self.0.update(&(part.len() as u64).to_be_bytes());
        self.0.update(part.as_bytes());
        self
    }

    #[must_use]
    pub(super) fn with_number(mut self, number: u32) -> Self {
        self.0.update(&number.to_be_bytes());
        self
    }

    fn finish(self) -> [u8; 32] {
        self.0.finish().as_ref().try_into().expect("SHA-256 is 32 bytes")
    }
}

impl Keys {
    /// `object`: the name of what the answer shows. Errors: `RequestIdReused` if the id came with another request.
    pub(super) async fn turn<A: Changes>(
        &self,
        permit: &Permit<A>,
        id: &RequestId,
        object: &str,
        request: Fingerprint,
        now: Timestamp,
    ) -> Result<Turn> {
        let Some(id) = id.0 else {
            return Ok(Turn::First(None));
        };
        let caller = &permit.caller().identity().actor.id;
        let request_id = id.to_string();
        let request = request.with(object).finish();
        match self.directory.remembered(caller, A::NAME, &request_id, now).await? {
            Some(before) if before.request == request => Ok(Turn::Again),
            Some(_) => Err(Error::RequestIdReused),
            None => Ok(Turn::First(Some(Remembered {
                caller: caller.clone(),
                method: A::NAME,
                request_id,
                request,
                object: object.to_owned(),
                expires_ms: now.plus_days(KEPT_DAYS).unix_ms(),
            }))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_uuid_of_version_4_is_a_request_id() {
        assert!(RequestId::new("").is_ok());
        assert!(RequestId::new("5b2f6f2e-6f0c-4d0e-9a53-0d5e5b8a7c11").is_ok());
        for text in [
            "x",
            "5b2f6f2e-6f0c-1d0e-9a53-0d5e5b8a7c11",
            "00000000-0000-0000-0000-000000000000",
        ] {
            assert!(RequestId::new(text).is_err(), "{text}");
        }
    }

    #[test]
    fn parts_that_run_together_have_other_fingerprints() {
        let of = |a: &str, b: &str| Fingerprint::new().with(a).with(b).finish();
        assert_ne!(of("ab", "c"), of("a", "bc"));
        assert_eq!(of("a", "bc"), of("a", "bc"));
    }
}

//! One caller of one request.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::{Peer, Revocations};
use crate::{
    Error, Result,
    audit::Actor,
    clock::{Clock, Timestamp},
};

/// Who a connection's leaf certificate, or a job, says it is. Shared by all requests of the connection.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Identity {
    /// As the audit record shows it; `actor.id` is the SPIFFE ID, or the job's name.
    pub actor: Arc<Actor>,
    pub kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A workload or person with a client certificate.
    Workload,
    /// The service itself: bootstrap, scheduled destruction.
    Job,
}

/// Facts of one request that are not about the key.
#[derive(Debug, Clone)]
pub struct RequestFacts {
    pub request_id: Arc<str>,
    /// W3C trace context, if the caller sent one.
    pub trace: Option<Arc<str>>,
    pub peer: Option<Arc<str>>,
    pub deadline: Instant,
    pub started: Instant,
}

/// The caller of one request.
#[derive(Debug, Clone)]
pub struct Caller {
    identity: Arc<Identity>,
    facts: RequestFacts,
    /// End of the certificate he connected with; none for jobs.
    certificate_expires: Option<Timestamp>,
}

impl Caller {
    /// The workload at the other end of the connection. Its certificate was checked at the handshake; time and revocation are
    /// checked again here, for each request. Errors: `Unauthenticated`.
    pub fn from_peer(peer: &Peer, facts: RequestFacts, revocations: &Revocations, clock: &dyn Clock) -> Result<Self> {
        Self::check_peer(peer, revocations, clock)?;
        Ok(Self {
            identity: peer.identity.clone(),
            facts,
            certificate_expires: Some(peer.not_after()),
        })
    }

    /// The part of [`Self::from_peer`] that changes while a connection lives; a stream asks it again for each message.
    pub fn check_peer(peer: &Peer, revocations: &Revocations, clock: &dyn Clock) -> Result<()> {
        let now = clock.now().unix_ms().div_euclid(1000);
        if now < peer.not_before {
            return Err(Error::Unauthenticated("the client certificate is not valid yet"));
        }
        if now > peer.not_after {
            return Err(Error::Unauthenticated(
                "the client certificate has expired: connect with a new one",
            ));
        }
        if revocations.covers(peer) {
            return Err(Error::Unauthenticated("the client certificate is revoked"));
        }
        Ok(())
    }

    /// A workload without a connection, for unit tests of what stands above.
    #[cfg(test)]
    pub(crate) fn for_test(id: &str, facts: RequestFacts) -> Self {
        let actor = Actor {
            id: id.to_owned(),
            method: "mtls",
            certificate_sha256: "00".repeat(32),
        };
        let kind = Kind::Workload;
        Self {
            identity: Arc::new(Identity {
                actor: Arc::new(actor),
                kind,
            }),
            facts,
            certificate_expires: None,
        }
    }

    /// The service itself, under the name of a job, e.g. `init` or `destroy-due-versions`.
    pub fn job(name: &str, facts: RequestFacts) -> Self {
        let actor = Actor {
            id: name.to_owned(),
            method: "job",
            certificate_sha256: String::new(),
        };
        Self {
            identity: Arc::new(Identity {
                actor: Arc::new(actor),
                kind: Kind::Job,
            }),
            facts,
            certificate_expires: None,
        }
    }

    /// The same caller for one message of a stream: it starts now and has `within`, or what the stream has left.
    #[must_use]
    pub fn for_message(&self, within: Duration) -> Self {
        let mut message = self.clone();
        message.facts.started = Instant::now();
        message.facts.deadline = self.facts.deadline.min(message.facts.started + within);
        message
    }

    pub fn certificate_expires(&self) -> Option<Timestamp> {
        self.certificate_expires
    }

    pub fn identity(&self) -> &Arc<Identity> {
        &self.identity
    }

    pub fn facts(&self) -> &RequestFacts {
        &self.facts
    }
}

impl RequestFacts {
    /// Of a request that arrived now and has `seconds` left, for unit tests.
    #[cfg(test)]
    pub(crate) fn for_test(seconds: u64) -> Self {
        let started = Instant::now();
        Self {
            request_id: "request-1".into(),
            trace: None,
            peer: None,
            deadline: started + std::time::Duration::from_secs(seconds),
            started,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        clock::ManualClock,
        identity::test_ca::{Leaf, TestCa},
    };

    const API: &str = "spiffe://acme.dev/api";

    fn reason(result: Result<Caller>) -> String {
        result.unwrap_err().to_string()
    }

    #[test]
    fn each_request_checks_the_time_of_the_certificate_again() {
        let leaf = TestCa::new("acme").issue(Leaf::of(API).years(2030, 2031));
        let peer = Peer::from_leaf(&leaf.certificate).unwrap();
        let call = |ms| {
            let clock = ManualClock::at(Timestamp::from_unix_ms(ms));
            Caller::from_peer(&peer, RequestFacts::for_test(1), &Revocations::none(), &clock)
        };
        let (first, last) = (peer.not_before().unix_ms(), peer.not_after().unix_ms());
        assert!(reason(call(first - 1)).contains("not valid yet"));
        assert_eq!(call(first).unwrap().identity().actor.id, API);
        assert!(call(last + 999).is_ok(), "the last second belongs to the validity");
        assert!(reason(call(last + 1000)).contains("expired"));
    }

    #[test]
    fn a_revoked_workload_is_refused_on_its_live_connection() {
        let leaf = TestCa::new("acme").issue(Leaf::of(API));
        let peer = Peer::from_leaf(&leaf.certificate).unwrap();
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("revoked");
        std::fs::write(&file, "").unwrap();
        let revocations = Revocations::load(file.clone()).unwrap();
        let call = || {
            Caller::from_peer(
                &peer,
                RequestFacts::for_test(1),
                &revocations,
                &crate::clock::SystemClock,
            )
        };
        assert!(call().is_ok());
        std::fs::write(&file, API).unwrap();
        revocations.reload().unwrap();
        assert!(reason(call()).contains("revoked"));
    }
}

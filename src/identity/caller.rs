//! One caller of one request.

use std::{sync::Arc, time::Instant};

use crate::audit::Actor;

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
}

impl Caller {
    /// For `identity` only: the leaf was checked, and is checked again for this request.
    pub(in crate::identity) fn workload(identity: Arc<Identity>, facts: RequestFacts) -> Self {
        Self { identity, facts }
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
        }
    }

    pub fn identity(&self) -> &Arc<Identity> {
        &self.identity
    }

    pub fn facts(&self) -> &RequestFacts {
        &self.facts
    }
}

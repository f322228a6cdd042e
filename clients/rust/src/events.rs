//! What a client tells of itself: one callback for metrics and alarms, and log lines by `tracing`. Never a payload.

use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Duration,
};

use tracing::{debug, warn};

/// What happened. Names are stable, and the same in every language: `docs/clients.md`.
#[allow(missing_docs)] // where the name says it
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum EventName {
    /// A call ended; with its reason (`OK` if none), tries and duration.
    Call,
    /// A try failed and another will follow; with the wait.
    Retry,
    /// A second request was sent to this endpoint while the first was slow.
    Hedge,
    /// A retry was left out: there were too many of them lately.
    BudgetExhausted,
    CircuitOpened,
    CircuitClosed,
    CertificateReloaded,
    /// Files changed and do not fit together: the old certificate stays in use.
    CertificateUnusable,
    /// The stream of a watch ended; once until it goes on. With a reason that is not tried again, the watch is over.
    WatchLost,
    DataKeyCached,
    DataKeyReused,
    DataKeyEvicted,
}

impl EventName {
    /// For labels of metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Call => "call",
            Self::Retry => "retry",
            Self::Hedge => "hedge",
            Self::BudgetExhausted => "budget_exhausted",
            Self::CircuitOpened => "circuit_opened",
            Self::CircuitClosed => "circuit_closed",
            Self::CertificateReloaded => "certificate_reloaded",
            Self::CertificateUnusable => "certificate_unusable",
            Self::WatchLost => "watch_lost",
            Self::DataKeyCached => "data_key_cached",
            Self::DataKeyReused => "data_key_reused",
            Self::DataKeyEvicted => "data_key_evicted",
        }
    }
}

impl fmt::Display for EventName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One event. What is not known stays empty.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Event<'a> {
    /// What happened.
    pub name: EventName,
    /// Name of the RPC: `Encrypt`.
    pub method: &'a str,
    /// Address, as configured.
    pub endpoint: &'a str,
    /// As in [`ClientError::reason`](crate::ClientError::reason); `OK` of a call that was answered.
    pub reason: &'a str,
    /// Which try, from 1; of a call that ended: how many.
    pub tries: u32,
    /// Until the next try.
    pub wait: Option<Duration>,
    /// Since the call began.
    pub duration: Option<Duration>,
    /// Names the call in the audit log.
    pub request_id: &'a str,
}

impl Event<'_> {
    pub(crate) fn new(name: EventName) -> Self {
        Self {
            name,
            method: "",
            endpoint: "",
            reason: "",
            tries: 0,
            wait: None,
            duration: None,
            request_id: "",
        }
    }
}

type Listener = dyn Fn(&Event<'_>) + Send + Sync;

/// Who is told. The callback runs where the event happens, so it must be quick; if it panics, no call fails.
#[derive(Clone, Default)]
pub struct Events(Option<Arc<Listener>>);

impl Events {
    /// Tells `listener`, which runs where the event happens.
    pub fn new(listener: impl Fn(&Event<'_>) + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(listener)))
    }

    pub(crate) fn tell(&self, event: &Event<'_>) {
        log(event);
        let Some(listener) = &self.0 else { return };
        if catch_unwind(AssertUnwindSafe(|| listener(event))).is_err() {
            warn!(event = event.name.as_str(), "the callback for events panicked");
        }
    }
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() {
            "Events(callback)"
        } else {
            "Events(none)"
        })
    }
}

fn log(event: &Event<'_>) {
    let (name, method, endpoint, reason) = (event.name.as_str(), event.method, event.endpoint, event.reason);
    match event.name {
        EventName::BudgetExhausted
        | EventName::CircuitOpened
        | EventName::CertificateUnusable
        | EventName::WatchLost => {
            warn!(
                method,
                endpoint,
                reason,
                tries = event.tries,
                request_id = event.request_id,
                "{name}"
            );
        }
        _ => debug!(
            method,
            endpoint,
            reason,
            tries = event.tries,
            request_id = event.request_id,
            "{name}"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_callback_that_panics_does_not_fail_the_call() {
        let events = Events::new(|_| panic!("a defect of the application"));
        events.tell(&Event::new(EventName::Retry));
    }
}

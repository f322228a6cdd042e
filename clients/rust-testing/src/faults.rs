//! Faults on order: what a test wants to see its application survive.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use keyreeve::model::KeyName;

use crate::{host::MemoryHost, methods, refusals};

/// What becomes of the next calls. A call meets one fault at most: the oldest that fits it.
///
/// Each knob is for the next `times` calls that fit ([`Faults::ALWAYS`]: until `clear`). A message of the stream `Crypt` counts as the
/// method it is of. A clone with a filter is the same faults: `faults.calls(["Encrypt"]).key("dev/shop/orders").unavailable(2)`.
#[derive(Clone)]
pub struct Faults {
    ordered: Arc<Mutex<Vec<Ordered>>>,
    host: Arc<MemoryHost>,
    calls: Vec<&'static str>,
    key: String,
}

/// What becomes of one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    Refuse {
        reason: &'static str,
        retry_after: Duration,
    },
    /// Before anything else.
    Slow(Duration),
    /// The work is done all the same.
    LoseAnswer,
}

struct Ordered {
    fault: Fault,
    calls: Vec<&'static str>,
    key: String,
    left: u32,
}

const RETRY_AFTER: Duration = Duration::from_millis(50);

impl Faults {
    /// For `times`: until [`Faults::clear`].
    pub const ALWAYS: u32 = u32::MAX;

    pub(crate) fn new(host: Arc<MemoryHost>) -> Self {
        Self {
            ordered: Arc::default(),
            host,
            calls: Vec::new(),
            key: String::new(),
        }
    }

    /// Only for these methods: `["Encrypt"]`.
    ///
    /// # Panics
    ///
    /// If the service has no such method.
    #[must_use]
    pub fn calls<'a>(&self, methods: impl IntoIterator<Item = &'a str>) -> Self {
        let known = |name| methods::of_name(name).unwrap_or_else(|| panic!("`{name}` is no method of the service"));
        Self {
            calls: methods.into_iter().map(|name| known(name).name).collect(),
            ..self.clone()
        }
    }

    /// Only for this key: `dev/shop/orders`, or its full name.
    ///
    /// # Panics
    ///
    /// If it is no name of a key.
    #[must_use]
    pub fn key(&self, name: &str) -> Self {
        let parsed: Result<KeyName, _> = name.parse();
        let full = parsed.unwrap_or_else(|error| panic!("{error}"));
        Self {
            key: full.as_str().to_owned(),
            ..self.clone()
        }
    }

    /// The token is away: TOKEN_UNAVAILABLE, to be tried again after half a second. Of every call; see [`Faults::token_away`].
    pub fn unavailable(&self, times: u32) {
        self.fail("TOKEN_UNAVAILABLE", times);
    }

    /// OVERLOADED, to be tried again after `retry_after`.
    pub fn overloaded(&self, times: u32, retry_after: Duration) {
        let reason = "OVERLOADED";
        self.add(Fault::Refuse { reason, retry_after }, times);
    }

    /// The answer comes late, or as DEADLINE_EXCEEDED.
    pub fn slow(&self, by: Duration, times: u32) {
        self.add(Fault::Slow(by), times);
    }

    /// PERMISSION_DENIED.
    pub fn deny(&self, times: u32) {
        self.fail("PERMISSION_DENIED", times);
    }

    /// The work is done, a change is made, and the caller hears LOG_UNAVAILABLE: has he sent a `request_id`?
    pub fn lose_answer(&self, times: u32) {
        self.add(Fault::LoseAnswer, times);
    }

    /// Any reason of the service, by its name.
    ///
    /// # Panics
    ///
    /// If the service has no such reason.
    pub fn fail(&self, reason: &str, times: u32) {
        let known = refusals::REASONS.into_iter().find(|known| *known == reason);
        let fault = Fault::Refuse {
            reason: known.unwrap_or_else(|| panic!("`{reason}` is no reason of the service")),
            retry_after: RETRY_AFTER,
        };
        self.add(fault, times);
    }

    /// Takes the token away, or brings it back: what needs it fails with TOKEN_UNAVAILABLE, the rest goes on.
    pub fn token_away(&self, away: bool) {
        self.host.set_away(away);
    }

    /// No faults any more, and the token is there.
    pub fn clear(&self) {
        self.lock().clear();
        self.token_away(false);
    }

    /// The fault that this call meets. `names`: of the resources in its request.
    pub(crate) fn take(&self, method: &str, names: &[String]) -> Option<Fault> {
        let mut ordered = self.lock();
        let at = ordered.iter().position(|one| one.fits(method, names))?;
        let fault = ordered[at].fault;
        if ordered[at].left != Self::ALWAYS {
            ordered[at].left -= 1;
            if ordered[at].left == 0 {
                ordered.remove(at);
            }
        }
        Some(fault)
    }

    fn add(&self, fault: Fault, times: u32) {
        if times > 0 {
            let (calls, key) = (self.calls.clone(), self.key.clone());
            let left = times;
            self.lock().push(Ordered {
                fault,
                calls,
                key,
                left,
            });
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Ordered>> {
        self.ordered.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ordered {
    fn fits(&self, method: &str, names: &[String]) -> bool {
        (self.calls.is_empty() || self.calls.contains(&method)) && (self.key.is_empty() || names.contains(&self.key))
    }
}

//! The token in memory as the service sees it: one that answers at once, and can be away.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicBool, Ordering},
};

use aws_lc_rs::rand;
use keyreeve::{
    clock::Clock,
    token::{BreakerState, Host, Job, KeyUses, TokenError, host::HostStatus},
};
use zeroize::Zeroizing;

use crate::software_token::{RootKeys, SoftwareToken};

const SERIAL: &str = "double";

/// Lives as long as the double, also while that is stopped.
pub struct MemoryHost {
    token: SoftwareToken,
    away: AtomicBool,
    latched: Mutex<Option<Arc<str>>>,
}

impl MemoryHost {
    /// With root keys drawn for it. Errors: the host's random generator failed.
    pub fn new(clock: Arc<dyn Clock>) -> Result<Self, TokenError> {
        Ok(Self {
            token: SoftwareToken::new(draw()?, clock),
            away: AtomicBool::new(false),
            latched: Mutex::default(),
        })
    }

    pub fn set_away(&self, away: bool) {
        self.away.store(away, Ordering::SeqCst);
    }

    fn fault(&self) -> Option<Arc<str>> {
        if self.away.load(Ordering::SeqCst) {
            return Some("a test has taken the token away".into());
        }
        self.latched.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Host for MemoryHost {
    fn submit(&self, job: Job) {
        let outcome = match self.fault() {
            Some(why) => Err(TokenError::Unavailable(why)),
            None => self.token.work(job.call),
        };
        // Whoever asked may be gone.
        let _ = job.reply.send(outcome);
    }

    fn status(&self) -> HostStatus {
        HostStatus {
            serial: SERIAL.into(),
            model: "test double".to_owned(),
            software_token: true,
            fault: self.fault(),
            breaker: BreakerState::Closed,
            worker_epoch: 1,
            session_threads: 1,
            cached_handles: 0,
        }
    }

    fn serves(&self) -> bool {
        self.fault().is_none()
    }

    fn take_uses(&self) -> KeyUses {
        KeyUses::default()
    }

    fn worker_epoch(&self) -> u64 {
        1
    }

    fn distrust(&self, why: &str) -> TokenError {
        let mut latched = self.latched.lock().unwrap_or_else(PoisonError::into_inner);
        latched.get_or_insert_with(|| why.into());
        TokenError::WrongAnswer(why.into())
    }

    fn stop(&self) {}
}

fn draw() -> Result<RootKeys, TokenError> {
    let mut root = RootKeys {
        kek: Zeroizing::new([0; 32]),
        bind: Zeroizing::new([0; 32]),
        service: Zeroizing::new([0; 64]),
    };
    for key in [&mut root.kek[..], &mut root.bind[..], &mut root.service[..]] {
        rand::fill(key).map_err(|error| TokenError::Unavailable(error.to_string().into()))?;
    }
    Ok(root)
}

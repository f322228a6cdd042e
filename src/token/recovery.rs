//! What is done about a failed call, in the thread form: what can be cured here is cured and retried once, the rest latches.
//!
//! A session that saw an error between Init and the final call is never used again: it could answer OPERATION_ACTIVE for ever.

use std::sync::{Arc, PoisonError, atomic::Ordering};

use keyreeve_pkcs11::{Access, CallError, Class, Function, Session};

use super::{
    TokenError, config::PinSource, meters::Meters, pin, root_keys::RootKeys, session_thread::SessionThread,
    thread_host::lock,
};

/// Failures in a row that latch the token although each could have been cured; this many for each thread, since one event
/// (a lost login) fails the present call of every thread.
const MAX_FAILURES_PER_THREAD: u32 = 5;

/// How a piece of token work failed.
pub(super) enum Fault {
    Call(CallError),
    /// Nothing is wrong with the token; this is the answer.
    Answer(TokenError),
    /// E13.
    WrongAnswer(String),
}

impl From<CallError> for Fault {
    fn from(error: CallError) -> Self {
        Self::Call(error)
    }
}

impl Fault {
    pub fn stopping() -> Self {
        Self::Answer(TokenError::Unavailable("the token is being stopped".into()))
    }
}

impl SessionThread {
    /// Runs `work`; after a fault that can be cured, cures it and runs `work` once more.
    pub fn recovering<T>(&mut self, mut work: impl FnMut(&mut Self) -> Result<T, Fault>) -> Result<T, TokenError> {
        match work(self) {
            Ok(done) => {
                if self.shared.failures.load(Ordering::Relaxed) != 0 {
                    self.shared.failures.store(0, Ordering::Relaxed);
                }
                Ok(done)
            }
            Err(Fault::Answer(error)) => Err(error),
            Err(Fault::WrongAnswer(why)) => Err(self.wrong_answer(&why)),
            Err(Fault::Call(error)) => {
                self.cure(error)?;
                work(self).map_err(|fault| self.second_fault(fault))
            }
        }
    }

    /// `Ok`: try once more. `Err`: the answer.
    fn cure(&mut self, error: CallError) -> Result<(), TokenError> {
        let class = error.class(self.shared.info.vendor());
        Meters::failed(class);
        if error.function == Function::C_Decrypt && matches!(class, Class::Caller | Class::Ambiguous) {
            // Most likely a bad envelope. Who sends them decides how many: none may cost a line of the log.
            tracing::debug!(serial = %self.shared.serial, class = class.name(), %error, "token call failed");
        } else {
            tracing::warn!(serial = %self.shared.serial, class = class.name(), %error, "token call failed");
        }
        match class {
            Class::Caller | Class::Policy => {
                self.reopen()?;
                Err(TokenError::Refused(error.to_string().into()))
            }
            Class::Ambiguous => {
                self.reopen()?;
                match self.ask_canary() {
                    // The token is well and yet did not unwrap what its own tag vouches for.
                    Ok(()) if error.function == Function::C_UnwrapKey => {
                        Err(self.wrong_answer(&format!("a wrapped key with a good tag does not unwrap: {error}")))
                    }
                    Ok(()) => Err(TokenError::Refused(error.to_string().into())),
                    Err(Fault::WrongAnswer(why)) => Err(self.wrong_answer(&why)),
                    Err(_) => Err(self.shared.fail(Class::Token, &error.to_string())),
                }
            }
            Class::Session | Class::Handle => {
                self.count_failure(&error)?;
                self.reopen()?;
                self.renew_keeper(false)
            }
            Class::Login => {
                self.count_failure(&error)?;
                self.reopen()?;
                self.renew_keeper(true)
            }
            Class::Capacity => {
                for key in self.shared.handles.halve() {
                    self.let_go(key);
                }
                self.reopen()?;
                Err(TokenError::Overloaded {
                    retry_after: std::time::Duration::from_millis(250),
                })
            }
            Class::Token | Class::Library | Class::Hang | Class::Crash | Class::Pin | Class::WrongAnswer => {
                Err(self.shared.fail(class, &error.to_string()))
            }
        }
    }

    fn second_fault(&self, fault: Fault) -> TokenError {
        match fault {
            Fault::Answer(error) => error,
            Fault::WrongAnswer(why) => self.wrong_answer(&why),
            Fault::Call(error) => match error.class(self.shared.info.vendor()) {
                Class::Token | Class::Library | Class::Pin => self
                    .shared
                    .fail(error.class(self.shared.info.vendor()), &error.to_string()),
                _ => TokenError::Unavailable(format!("failed twice: {error}").into()),
            },
        }
    }

    fn wrong_answer(&self, why: &str) -> TokenError {
        Meters::failed(Class::WrongAnswer);
        self.shared.fail(Class::WrongAnswer, why)
    }

    fn count_failure(&self, error: &CallError) -> Result<(), TokenError> {
        let failures = self.shared.failures.fetch_add(1, Ordering::Relaxed) + 1;
        let threads = u32::try_from(self.shared.calls.len()).unwrap_or(u32::MAX);
        if failures > threads.saturating_mul(MAX_FAILURES_PER_THREAD) {
            let why = format!("{failures} failures in a row, the last: {error}");
            return Err(self.shared.fail(Class::Token, &why));
        }
        Ok(())
    }

    fn reopen(&mut self) -> Result<(), TokenError> {
        match Session::open(&self.shared.module, self.shared.info.slot, Access::ReadWrite) {
            Ok(session) => {
                self.session = session; // the old one is closed as it is dropped
                Ok(())
            }
            Err(error) if error.class(self.shared.info.vendor()) == Class::Capacity => Err(TokenError::Overloaded {
                retry_after: std::time::Duration::from_millis(250),
            }),
            Err(error) => Err(self.shared.fail(Class::Token, &error.to_string())),
        }
    }

    /// A keeper that lives, logged in, with fresh root handles; every cached handle is dropped, since its owner may be gone.
    fn renew_keeper(&mut self, login_lost: bool) -> Result<(), TokenError> {
        let shared = Arc::clone(&self.shared);
        let mut keeper = lock(&shared.keeper);
        let alive = keeper
            .as_ref()
            .is_some_and(|session| session.info().is_ok_and(|info| info.logged_in));
        if alive && login_lost {
            return Ok(()); // another thread was here first
        }
        for key in shared.handles.clear() {
            self.let_go(key);
        }
        if !alive {
            let session = self.log_in_again()?;
            *keeper = Some(session);
        }
        let session = keeper
            .as_ref()
            .ok_or_else(|| TokenError::Unavailable("the token is being stopped".into()))?;
        match RootKeys::open(session, &shared.manifest, &shared.serial) {
            Ok(roots) => *shared.roots.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(roots),
            Err(error) if error.is_wrong_answer() => return Err(self.wrong_answer(&error.to_string())),
            Err(error) => return Err(shared.fail(Class::Token, &error.to_string())),
        }
        Ok(())
    }

    /// One attempt with the PIN read anew: it was wiped after the first login. A descriptor can be read once only.
    fn log_in_again(&self) -> Result<Session, TokenError> {
        let shared = &self.shared;
        if matches!(shared.pin_source, PinSource::Descriptor(_)) {
            return Err(shared.fail(
                Class::Token,
                "the login is lost, and its PIN came from a descriptor that is read once",
            ));
        }
        let read = pin::read(&shared.pin_source).map_err(|error| shared.fail(Class::Token, &error.to_string()))?;
        let session = Session::open(&shared.module, shared.info.slot, Access::ReadWrite)
            .map_err(|error| shared.fail(Class::Token, &error.to_string()))?;
        session
            .login(&read.pin)
            .map_err(|error| shared.fail(error.class(self.shared.info.vendor()), &error.to_string()))?;
        Ok(session)
    }
}

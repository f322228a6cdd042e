//! What is done about a failed call, in the thread form: what can be cured here is cured and retried once, the rest latches.
//!
//! A session that saw an error is closed and never used again: an operation may be active in it for ever, or a key that was
//! just born be left in it. The classes are those of `docs/tokens.md`.

use std::{
    sync::{Arc, PoisonError, atomic::Ordering},
    time::Duration,
};

use keyreeve_pkcs11::{Access, CallError, Class, Function, Session};

use super::{
    TokenError,
    config::PinSource,
    open::{self, OpenError},
    root_keys::{RootKeyError, RootKeys},
    session_thread::SessionThread,
    softhsm::{self, StartLock},
    thread_host::lock,
};

/// When a caller for whom the token had no room may come again.
const BACK_OFF: Duration = Duration::from_millis(250);
/// Call deadlines that the check of all root keys may take: some sixty calls, each a small part of a deadline.
const ROOT_KEYS_MAY_TAKE: u32 = 4;
/// That a login may take, with the wait for those of other processes at the same token.
const LOGIN_MAY_TAKE: u32 = 4;

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

/// An attempt at a piece of work that failed.
#[derive(Clone, Copy)]
struct Attempt {
    is_first: bool,
    /// In which it began.
    era: u64,
}

impl SessionThread {
    /// Runs `work`; after a fault that can be cured, cures it and runs `work` once more, unless the caller's deadline has passed.
    ///
    /// What was worked while an era ended is dropped, good or bad: its handles may have been other keys' by then.
    pub fn recovering<T>(&mut self, mut work: impl FnMut(&mut Self) -> Result<T, Fault>) -> Result<T, TokenError> {
        self.be_ready()?;
        let era = self.shared.era();
        match work(self) {
            _ if self.shared.era() != era => self.reopen()?,
            Ok(done) => return Ok(done),
            Err(fault) => self.cure(fault, Attempt { is_first: true, era })?,
        }
        if self.is_late() {
            return Err(TokenError::Expired);
        }
        let era = self.shared.era();
        match work(self) {
            _ if self.shared.era() != era => self.reopen()?,
            Ok(done) => return Ok(done),
            Err(fault) => self.cure(fault, Attempt { is_first: false, era })?,
        }
        Err(TokenError::Unavailable("the token failed twice under this call".into()))
    }

    /// After a recovery for which there was no room. Nothing is tried without a login: some tokens then answer as if they were broken.
    fn be_ready(&mut self) -> Result<(), TokenError> {
        if self.session.is_none() {
            self.reopen()?;
        }
        if !self.shared.has_keeper.load(Ordering::SeqCst) {
            let shared = Arc::clone(&self.shared);
            self.provide_keeper(&mut lock(&shared.keeper))?;
        }
        Ok(())
    }

    /// `Ok`: thread and keeper are as good as new. `Err`: the answer.
    fn cure(&mut self, fault: Fault, attempt: Attempt) -> Result<(), TokenError> {
        let error = match fault {
            Fault::Call(error) => error,
            Fault::Answer(answer) => return Err(answer),
            Fault::WrongAnswer(why) => return Err(self.wrong_answer(&why)),
        };
        match self.noted(&error) {
            Class::Caller | Class::Policy => {
                self.reopen()?;
                Err(TokenError::Refused(error.to_string().into()))
            }
            Class::Ambiguous => {
                self.reopen()?;
                self.judge(&error, attempt)
            }
            Class::Session | Class::Handle | Class::Login => {
                self.reopen()?;
                self.renew_keeper(&error, attempt.era)
            }
            Class::Capacity => {
                self.reopen()?;
                Err(self.overloaded())
            }
            class @ (Class::Token | Class::Library | Class::Hang | Class::Crash | Class::Pin | Class::WrongAnswer) => {
                Err(self.shared.fail(class, &error.to_string()))
            }
        }
    }

    /// E2: the token's fault, or that of what it was given? CANARY tells.
    fn judge(&mut self, error: &CallError, attempt: Attempt) -> Result<(), TokenError> {
        match self.ask_canary() {
            Ok(()) => {}
            Err(Fault::Answer(answer)) => return Err(answer),
            Err(Fault::WrongAnswer(why)) => return Err(self.wrong_answer(&why)),
            Err(Fault::Call(canary)) => {
                return match self.noted(&canary) {
                    Class::Session | Class::Login | Class::Handle => self.renew_keeper(&canary, attempt.era),
                    Class::Capacity => Err(self.overloaded()),
                    Class::WrongAnswer => Err(self.wrong_answer(&canary.to_string())),
                    _ => Err(self
                        .shared
                        .fail(Class::Token, &format!("{error}, then {canary} of CANARY"))),
                };
            }
        }
        match error.function {
            // The caller's own bytes: who sends bad ones fails no token.
            Function::C_Decrypt | Function::C_Verify => Err(TokenError::Refused(error.to_string().into())),
            _ if attempt.is_first => Ok(()),
            // Twice, in two sessions, with a token that is well in between: no caller can cause it, since the tag is good.
            Function::C_UnwrapKey => Err(self.wrong_answer(&does_not_unwrap(error))),
            _ => Err(TokenError::Refused(error.to_string().into())),
        }
    }

    /// Another keeper, unless a thread was here since `era`. Every key that the old one unwrapped dies with it.
    fn renew_keeper(&mut self, cause: &CallError, era: u64) -> Result<(), TokenError> {
        let shared = Arc::clone(&self.shared);
        let mut keeper = lock(&shared.keeper);
        if shared.era() == era {
            self.count(cause)?;
            drop(shared.handles.clear());
            shared.end_era();
            self.close(keeper.take());
        }
        self.provide_keeper(&mut keeper)
    }

    /// A keeper that is logged in, with fresh root handles, where there is none.
    fn provide_keeper(&mut self, keeper: &mut Option<Session>) -> Result<(), TokenError> {
        if keeper.is_some() {
            return Ok(());
        }
        let session = self.open_session()?;
        match self.checked_roots(&session) {
            Ok(roots) => {
                *self.shared.roots.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(roots);
                *keeper = Some(session);
                self.shared.has_keeper.store(true, Ordering::SeqCst);
                Ok(())
            }
            Err(error) => {
                self.close(Some(session));
                Err(error)
            }
        }
    }

    fn checked_roots(&mut self, session: &Session) -> Result<RootKeys, TokenError> {
        self.log_in(session)?;
        let shared = Arc::clone(&self.shared);
        let check = || RootKeys::open(session, &shared.manifest, &shared.serial);
        self.watched_for(ROOT_KEYS_MAY_TAKE, check)
            .map_err(|error| match error {
                RootKeyError::Call(error) => self.not_cured(&error),
                error if error.is_wrong_answer() => self.wrong_answer(&error.to_string()),
                error => shared.fail(Class::Token, &error.to_string()),
            })
    }

    /// The login is the process's, and may be there still. If not, one attempt with the PIN read anew: it was wiped after the first.
    fn log_in(&mut self, session: &Session) -> Result<(), TokenError> {
        match self.watched(|| session.info()) {
            Ok(info) if info.logged_in => return Ok(()),
            Ok(_) => {}
            Err(error) => return Err(self.not_cured(&error)),
        }
        let shared = Arc::clone(&self.shared);
        if matches!(shared.pin_source, PinSource::Descriptor(_)) {
            let why = "the login is lost, and its PIN came from a descriptor that is read once";
            return Err(shared.fail(Class::Token, why));
        }
        let login = || {
            let _turn = StartLock::take(softhsm::token_directory(&shared.config.module).as_deref());
            // Its flags may have changed; a token that tells nothing now (SoftHSM, under another's login) keeps those of the start.
            let info = shared.module.token_info(shared.info.slot);
            let info = info.unwrap_or_else(|_| shared.info.clone());
            open::log_in(session, &info, &shared.latch, &shared.pin_source, None)
        };
        self.watched_for(LOGIN_MAY_TAKE, login)
            .map(drop)
            .map_err(|error| match error {
                OpenError::Call(error) => self.not_cured(&error),
                // On disk, if it was refused, since before `open::log_in` returned.
                error if error.is_about_the_pin() => {
                    self.shared.meters.failed(Class::Pin);
                    shared.latch(Class::Pin, &error.to_string())
                }
                error => shared.fail(Class::Token, &error.to_string()),
            })
    }

    /// Closes the session and opens another. In this order: a token may have room for no more than it had.
    pub fn reopen(&mut self) -> Result<(), TokenError> {
        let failed = self.session.take();
        self.close(failed);
        self.session = Some(self.open_session()?);
        Ok(())
    }

    fn open_session(&mut self) -> Result<Session, TokenError> {
        let (module, slot) = (&self.shared.module, self.shared.info.slot);
        self.watched(|| Session::open(module, slot, Access::ReadWrite))
            .map_err(|error| self.not_cured(&error))
    }

    fn close(&self, session: Option<Session>) {
        self.watched(|| drop(session));
    }

    /// The answer when a call of the recovery itself failed.
    fn not_cured(&mut self, error: &CallError) -> TokenError {
        match self.noted(error) {
            Class::Capacity => self.overloaded(),
            Class::Caller | Class::Ambiguous | Class::Session | Class::Login | Class::Handle | Class::Policy => {
                let why =
                    || TokenError::Unavailable(format!("the token failed, and its recovery, too: {error}").into());
                self.count(error).err().unwrap_or_else(why)
            }
            class @ (Class::Token | Class::Library | Class::Hang | Class::Crash | Class::Pin | Class::WrongAnswer) => {
                self.shared.fail(class, &error.to_string())
            }
        }
    }

    /// E8: the cache is made smaller, the caller waits.
    fn overloaded(&mut self) -> TokenError {
        if self.session.is_some() {
            for key in self.shared.handles.halve() {
                self.let_go(key);
            }
        }
        TokenError::Overloaded { retry_after: BACK_OFF }
    }

    /// So many failures in so short a time are a broken token, although each could be cured.
    fn count(&self, error: &CallError) -> Result<(), TokenError> {
        if self.shared.opens_with_another_failure() {
            let why = format!("it fails again and again, at last with {error}");
            return Err(self.shared.fail(Class::Token, &why));
        }
        Ok(())
    }

    fn wrong_answer(&self, why: &str) -> TokenError {
        self.shared.meters.failed(Class::WrongAnswer);
        self.shared.fail(Class::WrongAnswer, why)
    }

    /// The class of a failed call, once it is counted and logged.
    fn noted(&self, error: &CallError) -> Class {
        let class = self.shared.class_of(error);
        self.shared.meters.failed(class);
        let serial = &self.shared.serial;
        match (error.function, class) {
            // Most likely a bad envelope. Who sends them decides how many: none may cost a line of the log.
            (Function::C_Decrypt, Class::Caller | Class::Ambiguous) => {
                tracing::debug!(%serial, class = class.name(), %error, "token call failed");
            }
            _ => tracing::warn!(%serial, class = class.name(), %error, "token call failed"),
        }
        class
    }
}

/// E13: no store and no caller can cause it.
pub(super) fn does_not_unwrap(error: &CallError) -> String {
    format!("a wrapped key with a good tag does not unwrap: {error}")
}

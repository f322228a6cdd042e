//! From configuration to a logged-in token: load, select, one login attempt.
//!
//! A wrong PIN is tried once and then never again with the same configuration: the latch is on disk before this returns.

use std::{path::Path, sync::Arc, time::Duration};

use keyreeve_pkcs11::{Access, CallError, Class, Module, ModuleError, Pin, Session, TokenInfo, Vendor};

use super::{
    ceremony::{CeremonyError, LastSeenError},
    config::{PinSource, TokenConfig, TokenConfigError},
    latch::{Latch, Latched},
    manifest_source::ManifestError,
    pin::{self, PinError, ReadPin},
    root_keys::RootKeyError,
    softhsm::{self, StartLock},
    thread_host::latch_on_disk,
    worker::Trouble,
};

/// Looks for the token again when it is absent: a login of another process may be rewriting its file just now (SoftHSM).
const LOOKS: u32 = 4;
const BETWEEN_LOOKS: Duration = Duration::from_millis(60);

/// Why a token is not opened. The text says what to do.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("{0}")]
    Config(#[from] TokenConfigError),
    #[error("{0}")]
    Module(#[from] ModuleError),
    #[error("{0}")]
    Pin(#[from] PinError),
    #[error("{0}")]
    Manifest(#[from] ManifestError),
    #[error("{0}")]
    RootKeys(#[from] RootKeyError),
    #[error("{0}")]
    LastSeen(#[from] LastSeenError),
    #[error("{0}")]
    Ceremony(#[from] CeremonyError),
    #[error("the token failed: {0}")]
    Call(#[from] CallError),
    #[error(
        "the token refused the PIN ({code}); it was tried once and is not tried again: correct the PIN, then start again (state: `{latch}`)"
    )]
    WrongPin { code: CallError, latch: String },
    #[error(
        "this PIN was refused by the token on {since} and is not tried again: correct it; if it is right now, `keyreeve tokens unlatch` (state: `{latch}`)"
    )]
    PinLatched { since: String, latch: String },
    #[error(
        "the token is latched since {since}: {reason}; find out why, then `keyreeve tokens unlatch` (state: `{latch}`)"
    )]
    Latched {
        since: String,
        reason: String,
        latch: String,
    },
    #[error("the token's PIN has one try left: log in once with another tool to reset the count, then start again")]
    PinFinalTry,
    #[error("the token's user PIN is locked: the security officer must set it anew")]
    PinLocked,
    #[error("the token has no user PIN yet: initialise it")]
    PinNotInitialised,
    #[error("cannot write the token's latch `{path}`: {error}; without it no PIN is tried")]
    LatchFile { path: String, error: std::io::Error },
    #[error("the token does not answer as it must: {0}")]
    SelfTest(String),
    #[error("the token computes wrongly: {0}")]
    KnownAnswer(String),
    #[error("cannot make the token durable: {0}")]
    Sync(std::io::Error),
    #[error("cannot start a thread for the token: {0}")]
    Thread(std::io::Error),
    #[error("the token's worker process: {0}")]
    Worker(String),
    #[error("{}", .0.text)]
    WorkerSays(Trouble),
}

impl OpenError {
    /// E9 or E13: the class for which the token is to be latched on disk. Not of a refused PIN, for which it is latched already.
    pub fn latches(&self) -> Option<Class> {
        let of_call = |error: &CallError| {
            let class = error.class(Vendor::Other);
            matches!(class, Class::Pin | Class::WrongAnswer).then_some(class)
        };
        match self {
            Self::Call(error) | Self::RootKeys(RootKeyError::Call(error)) => of_call(error),
            Self::KnownAnswer(_) => Some(Class::WrongAnswer),
            Self::RootKeys(error) => error.is_wrong_answer().then_some(Class::WrongAnswer),
            _ => None,
        }
    }

    /// E9: the PIN was refused, now or before, or the token's flags forbid to try it.
    pub fn is_about_the_pin(&self) -> bool {
        matches!(
            self,
            Self::WrongPin { .. }
                | Self::PinLatched { .. }
                | Self::PinFinalTry
                | Self::PinLocked
                | Self::PinNotInitialised
        )
    }

    /// Whether another attempt with the same configuration would end the same way.
    pub fn is_final(&self) -> bool {
        match self {
            Self::Config(_)
            | Self::Manifest(_)
            | Self::WrongPin { .. }
            | Self::PinLatched { .. }
            | Self::Latched { .. }
            | Self::PinFinalTry
            | Self::PinLocked
            | Self::PinNotInitialised
            | Self::LatchFile { .. }
            | Self::SelfTest(_)
            | Self::LastSeen(_)
            | Self::Ceremony(_)
            | Self::KnownAnswer(_) => true,
            Self::RootKeys(_) | Self::Call(_) => self.latches().is_some(),
            Self::WorkerSays(trouble) => trouble.is_final,
            Self::Module(_) | Self::Pin(_) | Self::Sync(_) | Self::Thread(_) | Self::Worker(_) => false,
        }
    }
}

/// A token with one logged-in session, which keeps the login.
pub struct OpenToken {
    pub module: Arc<Module>,
    pub info: TokenInfo,
    pub session: Session,
    pub latch: Latch,
    /// Worth a line in the log.
    pub warnings: Vec<String>,
}

/// Loads the module, finds the token and logs in, once. `data_directory`: where latches live. `given`: the PIN, where it was read by
/// another process.
pub fn open(config: &TokenConfig, data_directory: &Path, given: Option<Pin>) -> Result<OpenToken, OpenError> {
    let selector = config.selector()?;
    let source = config.pin_source()?;
    // From C_Initialize to the end of C_Login one process at a time.
    let _turn = StartLock::take(softhsm::token_directory(&config.module).as_deref());
    let (module, info) = find(config, &selector)?;
    let opened = log_in_first(&source, given, data_directory, Arc::clone(&module), info);
    if opened.is_err() {
        finalise(&module);
    }
    opened
}

/// Ends a module that is not served; the error that matters is another one.
pub(super) fn finalise(module: &Module) {
    if let Err(error) = module.finalize() {
        tracing::warn!(%error, "module not finalised");
    }
}

/// Latches the token on disk, if `error` is of a class for which nothing is tried again.
pub(super) fn latch_for(error: &OpenError, latch: &Latch, source: &PinSource) {
    match error.latches() {
        Some(class @ Class::Pin) => latch_on_disk(latch, class, &error.to_string(), Some(pin::attempt(source))),
        Some(class) => latch_on_disk(latch, class, &error.to_string(), None),
        None => {}
    }
}

fn log_in_first(
    source: &PinSource,
    given: Option<Pin>,
    data_directory: &Path,
    module: Arc<Module>,
    info: TokenInfo,
) -> Result<OpenToken, OpenError> {
    let latch = Latch::of(data_directory, &info.serial);
    let opened = Session::open(&module, info.slot, Access::ReadWrite)
        .map_err(OpenError::from)
        .and_then(|session| Ok((log_in(&session, &info, &latch, source, given)?, session)));
    let (warnings, session) = opened.inspect_err(|error| latch_for(error, &latch, source))?;
    Ok(OpenToken {
        module,
        info,
        session,
        latch,
        warnings,
    })
}

/// One login, unless the latch, or the token's flags in `info`, forbid it. `given`: the PIN, where another process read it.
/// A refused PIN is on disk before this returns. Returns what is worth a line in the log.
pub(super) fn log_in(
    session: &Session,
    info: &TokenInfo,
    latch: &Latch,
    source: &PinSource,
    given: Option<Pin>,
) -> Result<Vec<String>, OpenError> {
    // Before the PIN is read: a file that is written anew just then is another attempt.
    let attempt = pin::attempt(source);
    let latched = latch.read();
    if let Some(latched) = &latched {
        refuse_latched(latched, &attempt, latch)?;
    }
    if info.pin_locked {
        return Err(OpenError::PinLocked);
    }
    if info.pin_final_try {
        return Err(OpenError::PinFinalTry);
    }
    if !info.user_pin_initialized {
        return Err(OpenError::PinNotInitialised);
    }
    let read = match given {
        Some(pin) => ReadPin { pin, warning: None },
        None => pin::read(source)?,
    };
    let mut warnings: Vec<String> = read.warning.into_iter().collect();
    if info.pin_count_low {
        warnings.push("a wrong PIN was given to this token since the last right one".to_owned());
    }
    let latch_error = |error| OpenError::LatchFile {
        path: latch.path().display().to_string(),
        error,
    };
    // A refusal that could not be noted would be tried again by the next start.
    latch.check_writable().map_err(latch_error)?;
    let outcome = session.login(&read.pin);
    drop(read.pin);
    match outcome {
        Err(code) if code.class(info.vendor()) == Class::Pin => {
            let reason = format!("the token refused the PIN: {code}");
            latch.set(Class::Pin, &reason, Some(attempt)).map_err(latch_error)?;
            Err(OpenError::WrongPin {
                code,
                latch: latch.path().display().to_string(),
            })
        }
        result => {
            result?;
            if latched.is_some() {
                // Of another PIN. A latch that somebody set meanwhile stays.
                latch
                    .unlatch("keyreeve", "the token took another PIN")
                    .map_err(latch_error)?;
            }
            Ok(warnings)
        }
    }
}

fn refuse_latched(latched: &Latched, attempt: &str, latch: &Latch) -> Result<(), OpenError> {
    let path = latch.path().display().to_string();
    if latched.class != Class::Pin.name() {
        return Err(OpenError::Latched {
            since: latched.since.clone(),
            reason: latched.reason.clone(),
            latch: path,
        });
    }
    // A latch that does not say which PIN was tried stands against every one.
    if latched.attempt.as_deref().is_none_or(|tried| tried == attempt) {
        return Err(OpenError::PinLatched {
            since: latched.since.clone(),
            latch: path,
        });
    }
    Ok(())
}

fn find(config: &TokenConfig, selector: &keyreeve_pkcs11::Selector) -> Result<(Arc<Module>, TokenInfo), OpenError> {
    for look in 1.. {
        let module = Module::load_with(&config.module, config.module_arguments.as_deref())?;
        match module.select(selector) {
            Ok(info) => return Ok((Arc::new(module), info)),
            Err(error @ ModuleError::NoSuchToken { .. }) if look < LOOKS => {
                tracing::debug!(%error, "token not seen yet");
                module.finalize()?;
                std::thread::sleep(BETWEEN_LOOKS);
            }
            Err(error) => {
                // Best effort: the error that matters is the one in hand.
                let _ = module.finalize();
                return Err(error.into());
            }
        }
    }
    unreachable!("the last look returns")
}

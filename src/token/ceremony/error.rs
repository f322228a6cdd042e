//! Why a step of a ceremony stops. Each text says what to do next.

use std::io;

use keyreeve_pkcs11::{CallError, Class, ReturnCode, Vendor};

use super::signed::SignedError;
use crate::token::{probe::Probe, root_keys::RootKeyError};

#[derive(Debug, thiserror::Error)]
pub enum CeremonyError {
    #[error("the token failed: {0}")]
    Call(#[from] CallError),
    #[error("{0}")]
    RootKeys(#[from] RootKeyError),
    #[error("{0}")]
    Statement(#[from] SignedError),
    #[error("this token cannot be of a group: it does not hold that {} ({}); nothing was left in it", .0.name, .0.consequence)]
    Hole(Box<Probe>),
    #[error("this token cannot be of a group: {0}; nothing was left in it")]
    Unfit(String),
    #[error("the manifest does not list this token as {role}: its serial is `{serial}`; draft and sign one that does")]
    NotListed { serial: String, role: &'static str },
    #[error("the manifest lists no token with serial `{0}`: draft and sign one that does")]
    UnknownRecipient(String),
    /// One error for everything that can be wrong with a transfer file: told apart, the answers would help to forge one.
    #[error(
        "the transfer file is refused and nothing was left in the token: it must be for this token and its TRANSPORT key, signed by a \
         token of this manifest, of an epoch that is not here yet, unchanged; the first epoch comes first"
    )]
    TransferRefused,
    #[error("the manifest has no epoch: there is nothing to pass on; make one with `keyreeve ceremony epoch`")]
    NoEpoch,
    #[error("of epoch {0} no transfer file for this recovery token was given: all are needed, oldest first")]
    TransferMissing(u32),
    #[error(
        "an enrolment of this token as {role} of group {group} was interrupted: repeat that one, or initialise the token anew"
    )]
    OtherEnrolment { group: String, role: &'static str },
    #[error(
        "cannot read or write the mark of an unfinished step, `{path}`: {error}; without it nothing is made in the token"
    )]
    Mark { path: String, error: io::Error },
    #[error(
        "another step of a ceremony is under way at this token, or its lock cannot be had (`{path}`: {error}): wait for it to end"
    )]
    UnderWay { path: String, error: io::Error },
    #[error("the host's random generator failed")]
    Random,
    #[error("an epoch number above {0} does not exist")]
    EpochsExhausted(u32),
}

impl CeremonyError {
    /// Whether bad keys may be the cause, if a token says so again and again. `false`: it is the session's, the device's or the host's.
    pub(super) fn may_be_about_keys(&self) -> bool {
        let call = match self {
            Self::Call(call) | Self::RootKeys(RootKeyError::Call(call)) => call,
            Self::Mark { .. } | Self::UnderWay { .. } | Self::Random => return false,
            _ => return true,
        };
        let class = call.class(Vendor::Other);
        match call.code {
            // Of a key without a value, too.
            ReturnCode::GENERAL_ERROR | ReturnCode::FUNCTION_FAILED => true,
            ReturnCode::DEVICE_ERROR => false,
            _ => matches!(
                class,
                Class::Caller | Class::Ambiguous | Class::Handle | Class::Policy | Class::WrongAnswer
            ),
        }
    }
}

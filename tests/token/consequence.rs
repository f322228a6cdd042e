//! What a return code of a function leads to, by its class in `pkcs11/src/class.rs` and by who called the function, and for what.

use keyreeve_faultmod::{Fault, Function, ReturnCode, Rule, When};
use keyreeve_pkcs11::{CallError, Class, Function as Called, Vendor};

use crate::{fixture::returned, support::Kind};

/// What becomes of a call that met a fault once.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Seen {
    /// Nothing: it is answered as ever.
    Nothing,
    /// FAILED_PRECONDITION; of a call that opens an envelope, that it does not open.
    Refused,
    /// RESOURCE_EXHAUSTED.
    Overloaded,
    /// UNAVAILABLE, and the next one is served.
    Unavailable,
    /// The process with the module is lost: the thread form is latched until its restart, another worker answers.
    Lost,
    /// Latched on disk.
    Latched,
}
use Seen::{Latched, Lost, Nothing, Overloaded, Refused, Unavailable};

macro_rules! calls {
    ($($name:ident)*) => { &[$((Function::$name, Called::$name)),*] };
}

type Calls = &'static [(Function, Called)];

/// Called for a call of the service's, or for its recovery.
pub const IN_SERVICE: Calls = calls! {
    C_SignInit C_Sign C_UnwrapKey C_GenerateKey C_WrapKey C_DestroyObject C_GenerateRandom C_GetAttributeValue C_DecryptInit C_Decrypt
    C_OpenSession C_CloseSession C_GetSessionInfo C_GetTokenInfo C_Login C_FindObjectsInit C_FindObjects C_FindObjectsFinal C_CreateObject
};
/// The same, of tokens to which an iv is given.
pub const WITH_IVS_GIVEN: Calls = calls! { C_EncryptInit C_Encrypt };
/// The same, of tokens that make ivs.
pub const WITH_IVS_MADE: Calls = calls! { C_MessageEncryptInit C_EncryptMessage C_MessageEncryptFinal };

/// Called at a start only, with those above.
pub const AT_START: Calls = calls! { C_Initialize C_GetSlotList C_GetMechanismList C_CopyObject C_SetAttributeValue };

pub fn class_of(kind: Kind, function: Called, code: ReturnCode) -> Class {
    let error = CallError {
        function,
        code: keyreeve_pkcs11::ReturnCode(code.0),
    };
    let vendor = match kind {
        Kind::SoftHsm => Vendor::Other,
        Kind::Kryoptic => Vendor::Kryoptic,
    };
    error.class(vendor)
}

/// In a token that serves. The class as it is counted; none where nobody hears of the code.
pub fn in_service(kind: Kind, (function, called): (Function, Called), code: ReturnCode) -> (Option<Class>, Seen) {
    use Function::*;
    let class = class_of(kind, called, code);
    let is_in_recovery = needed_for(function).is_some();
    let seen = match (function, class) {
        // Of a session that is lost; of a token that tells nothing now.
        (C_CloseSession | C_GetTokenInfo, _) => return (None, Nothing),
        (C_GetAttributeValue, _) if is_silent(code) => return (None, Nothing),
        // A wrapped key with a good tag.
        (C_UnwrapKey, Class::Caller) => return (Some(Class::WrongAnswer), Latched),
        (_, Class::Token | Class::Library) => Lost,
        (_, Class::Pin | Class::WrongAnswer) => Latched,
        (_, Class::Capacity) => Overloaded,
        _ if is_in_recovery => Unavailable,
        // The envelope's fault, where CANARY answers.
        (C_Decrypt, Class::Ambiguous) | (_, Class::Caller | Class::Policy) => Refused,
        (_, Class::Ambiguous | Class::Session | Class::Login | Class::Handle) => Nothing,
        (_, Class::Hang | Class::Crash) => panic!("no code has this class"),
    };
    (Some(class), seen)
}

/// What becomes of a start.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AtStart {
    Serves,
    /// Another one is tried.
    Fails,
    /// Latched on disk, E9 or E13.
    Latches,
}

/// Of a start whose first call of `function` is answered with `code`.
pub fn at_start(function: Function, class: Class, code: ReturnCode) -> &'static [AtStart] {
    use AtStart::{Fails, Latches, Serves};
    match (function, class) {
        // Looked for again: another login may be rewriting the token's file.
        (Function::C_GetTokenInfo, _) => &[Serves],
        // Which token it is, nobody knows yet.
        (Function::C_Initialize | Function::C_GetSlotList, _) => &[Fails],
        _ if chooses_ivs(function) => &[Serves],
        (Function::C_Login, _) if code == ReturnCode::USER_ALREADY_LOGGED_IN => &[Serves, Fails],
        (_, Class::Pin | Class::WrongAnswer) => &[Latches],
        // A root key that does not tell its attributes.
        (Function::C_GetAttributeValue, _) if is_silent(code) => &[Latches],
        // Much is tried at a start that a token must, or may, refuse.
        (_, Class::Caller | Class::Ambiguous | Class::Policy) => &[Serves, Fails],
        _ => &[Fails],
    }
}

/// Called first to see whether the token makes ivs itself (`iv::source`): whatever it answers but success, it is asked for random bytes
/// instead, for as long as this host or worker lives.
pub fn chooses_ivs(function: Function) -> bool {
    let made = WITH_IVS_MADE.iter().map(|(function, _)| *function);
    made.chain([Function::C_GenerateKey]).any(|one| one == function)
}

/// The faults without which `function` is not called.
pub fn needed_for(function: Function) -> Option<Rule> {
    let needed = match function {
        Function::C_OpenSession
        | Function::C_CloseSession
        | Function::C_GetSessionInfo
        | Function::C_FindObjectsInit
        | Function::C_FindObjects
        | Function::C_FindObjectsFinal
        | Function::C_CreateObject => returned(ReturnCode::SESSION_CLOSED, When::Before),
        Function::C_Login | Function::C_GetTokenInfo => Fault::Logout { when: When::Before },
        _ => return None,
    };
    Some(Rule::on(Function::C_SignInit, needed).times(1))
}

/// The token does not tell an attribute.
fn is_silent(code: ReturnCode) -> bool {
    [ReturnCode::ATTRIBUTE_TYPE_INVALID, ReturnCode::ATTRIBUTE_SENSITIVE].contains(&code)
}

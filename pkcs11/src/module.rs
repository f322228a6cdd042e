//! A loaded PKCS#11 module: load by absolute path, initialise, list its tokens, finalise.
//!
//! `cryptoki` loads, initialises and finalises. Its function list is private and its calls come in pairs (a size query,
//! then the call), so sessions use the raw list, obtained by loading the same library once more: same handle, same state.

use crate::codes::ReturnCode;
use crate::mechanism::Mechanism;
use crate::rv::{CallError, Function};
use crate::token::{Selector, TokenInfo};
use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki_sys::{CK_FUNCTION_LIST, CK_FUNCTION_LIST_3_0, CK_SLOT_ID, CK_TOKEN_INFO, CK_ULONG, CK_VERSION};
use std::ffi::CString;
use std::mem::ManuallyDrop;
use std::path::{Path, PathBuf};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicUsize, Ordering};

/// No token lists more: the standard names some 500.
const MAX_MECHANISMS: usize = 4096;

#[derive(Debug, thiserror::Error)]
pub enum ModuleError {
    #[error("module path `{}` is not absolute: give the full path of the PKCS#11 library", .0.display())]
    NotAbsolute(PathBuf),
    #[error("there is no PKCS#11 library at `{}`: install it or correct `module`", .0.display())]
    Missing(PathBuf),
    #[error("cannot load `{}` as a PKCS#11 library: {detail}", path.display())]
    Load { path: PathBuf, detail: String },
    #[error("the arguments for the module hold a NUL byte: remove it")]
    Arguments,
    #[error(
        "`{}` does not start without arguments, or not with these (CKR_ARGUMENTS_BAD): set `module_arguments` as its documentation says", .0.display()
    )]
    WantsArguments(PathBuf),
    #[error("{0}")]
    Call(#[from] CallError),
    #[error("no token {wanted}; the module shows {}", present(.seen))]
    NoSuchToken { wanted: Selector, seen: Vec<TokenInfo> },
    #[error("several tokens {wanted}: select one by its serial; the module shows {}", present(.seen))]
    Ambiguous { wanted: Selector, seen: Vec<TokenInfo> },
    #[error("{0} sessions are still open: close them before the module is finalised")]
    SessionsOpen(usize),
}

/// A loaded and initialised module. One per library and process: C_Initialize counts for the whole process.
pub struct Module {
    path: PathBuf,
    cryptoki: Pkcs11,
    pub(crate) functions: CK_FUNCTION_LIST,
    /// The table of PKCS#11 3.0, which has the message calls; `None` for a 2.40 module.
    pub(crate) functions_3_0: Option<CK_FUNCTION_LIST_3_0>,
    pub(crate) open_sessions: AtomicUsize,
    // Never unloaded: modules register exit handlers and start threads whose code would vanish under them.
    _library: ManuallyDrop<cryptoki_sys::Pkcs11>,
}

impl Module {
    /// Loads the library at `path` and calls C_Initialize with OS locking. Environment variables that the library reads
    /// (SOFTHSM2_CONF, KRYOPTIC_CONF) are read now.
    pub fn load(path: &Path) -> Result<Module, ModuleError> {
        Module::load_with(path, None)
    }

    /// The same with a vendor's arguments, a text that C_Initialize gets as `pReserved` (NSS softokn wants one).
    pub fn load_with(path: &Path, arguments: Option<&str>) -> Result<Module, ModuleError> {
        if !path.is_absolute() {
            return Err(ModuleError::NotAbsolute(path.to_owned()));
        }
        if !path.is_file() {
            return Err(ModuleError::Missing(path.to_owned()));
        }
        let load = |detail: String| ModuleError::Load {
            path: path.to_owned(),
            detail,
        };
        let cryptoki = Pkcs11::new(path).map_err(|error| load(error.to_string()))?;
        // SAFETY: loading runs the library's constructors. The library is the operator's choice and was just loaded by
        // the line above, so this only takes a second reference to it.
        let library = unsafe { cryptoki_sys::Pkcs11::new(path) }.map_err(|error| load(error.to_string()))?;
        let functions = function_list(&library).map_err(load)?;
        let functions_3_0 = function_list_3_0(&library);
        initialize(&cryptoki, path, arguments)?;
        Ok(Module {
            path: path.to_owned(),
            cryptoki,
            functions,
            functions_3_0,
            open_sessions: AtomicUsize::new(0),
            _library: ManuallyDrop::new(library),
        })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The library's own words: manufacturer, description, version; empty where it gives none that can be read.
    pub fn library(&self) -> String {
        match self.cryptoki.get_library_info() {
            Ok(info) => {
                let version = info.library_version();
                format!(
                    "{} {} {}.{}",
                    info.manufacturer_id().trim(),
                    info.library_description().trim(),
                    version.major(),
                    version.minor()
                )
            }
            Err(_) => String::new(),
        }
    }

    /// Every token that answers. One that does not (a half-written token file, a bad clock) is left out: it must not hide
    /// the others.
    pub fn tokens(&self) -> Result<Vec<TokenInfo>, ModuleError> {
        let slots = self
            .cryptoki
            .get_slots_with_token()
            .map_err(|error| from_cryptoki(error, Function::C_GetSlotList))?;
        Ok(slots
            .into_iter()
            .filter_map(|slot| self.token_info(slot.id()).ok())
            .collect())
    }

    /// The one initialised token that `wanted` names.
    pub fn select(&self, wanted: &Selector) -> Result<TokenInfo, ModuleError> {
        let seen = self.tokens()?;
        let mut matching = seen.iter().filter(|token| wanted.selects(token));
        match (matching.next().cloned(), matching.next()) {
            (Some(token), None) => Ok(token),
            (Some(_), Some(_)) => Err(ModuleError::Ambiguous {
                wanted: wanted.clone(),
                seen,
            }),
            (None, _) => Err(ModuleError::NoSuchToken {
                wanted: wanted.clone(),
                seen,
            }),
        }
    }

    /// C_GetTokenInfo, raw: `cryptoki` refuses the whole structure when only the clock string is malformed (opencryptoki).
    pub fn token_info(&self, slot: u64) -> Result<TokenInfo, CallError> {
        let mut info = CK_TOKEN_INFO::default();
        let call = function!(self, C_GetTokenInfo);
        // SAFETY: `info` is a live structure of the type that the function fills.
        check(Function::C_GetTokenInfo, unsafe { call(slot as CK_SLOT_ID, &mut info) })?;
        Ok(TokenInfo::from_raw(slot, &info))
    }

    /// The mechanisms that the token lists, numbers unknown to `cryptoki` included.
    pub fn mechanisms(&self, slot: u64) -> Result<Vec<Mechanism>, CallError> {
        let call = function!(self, C_GetMechanismList);
        let mut count = 0;
        // SAFETY: a null list with a live count asks for the number of entries.
        check(Function::C_GetMechanismList, unsafe {
            call(slot as CK_SLOT_ID, std::ptr::null_mut(), &mut count)
        })?;
        let mut list = vec![0; within(Function::C_GetMechanismList, count, MAX_MECHANISMS)?];
        // SAFETY: `list` has room for `count` entries, and the function writes at most that many.
        check(Function::C_GetMechanismList, unsafe {
            call(slot as CK_SLOT_ID, list.as_mut_ptr(), &mut count)
        })?;
        list.truncate(within(Function::C_GetMechanismList, count, list.len())?);
        Ok(list.into_iter().map(Mechanism).collect())
    }

    /// C_Finalize. Refused while a session is open: SoftHSM crashes when a thread is inside the module.
    pub fn finalize(&self) -> Result<(), ModuleError> {
        match self.open_sessions.load(Ordering::SeqCst) {
            0 => Ok(self
                .cryptoki
                .clone()
                .finalize()
                .map_err(|error| from_cryptoki(error, Function::C_Finalize))?),
            open => Err(ModuleError::SessionsOpen(open)),
        }
    }
}

/// `CKR_OK` or the error.
pub(crate) fn check(function: Function, rv: cryptoki_sys::CK_RV) -> Result<(), CallError> {
    if rv == cryptoki_sys::CKR_OK {
        Ok(())
    } else {
        Err(CallError {
            function,
            code: ReturnCode(rv),
        })
    }
}

/// A length that the module reports, held against the room that it was given. More is a lie, or memory is overwritten already: the
/// word of a broken device.
pub(crate) fn within(function: Function, reported: CK_ULONG, room: usize) -> Result<usize, CallError> {
    match usize::try_from(reported) {
        Ok(reported) if reported <= room => Ok(reported),
        _ => Err(CallError {
            function,
            code: ReturnCode::DEVICE_ERROR,
        }),
    }
}

/// The raw function pointer of a module, or CKR_FUNCTION_NOT_SUPPORTED where the library left it out.
macro_rules! function {
    ($module:expr, $name:ident) => {
        match $module.functions.$name {
            Some(function) => function,
            None => {
                return Err($crate::rv::CallError {
                    function: $crate::rv::Function::$name,
                    code: $crate::codes::ReturnCode::FUNCTION_NOT_SUPPORTED,
                }
                .into())
            }
        }
    };
}
pub(crate) use function;

/// C_Initialize. The standard wants `pReserved` null; who names arguments has a module that says otherwise.
fn initialize(cryptoki: &Pkcs11, path: &Path, arguments: Option<&str>) -> Result<(), ModuleError> {
    let flags = CInitializeFlags::OS_LOCKING_OK;
    let text = arguments.map(CString::new).transpose();
    let mut text = text
        .map_err(|_| ModuleError::Arguments)?
        .map(CString::into_bytes_with_nul);
    let started = cryptoki.initialize(match &mut text {
        None => CInitializeArgs::new(flags),
        // SAFETY: points to a terminated text of our own that lives until after the call. Modules that take one read it as a C string
        // and copy what they keep; the standard has all others answer ARGUMENTS_BAD.
        Some(text) => unsafe { CInitializeArgs::new_with_reserved(flags, NonNull::from(text.as_mut_slice()).cast()) },
    });
    match started.map_err(|error| from_cryptoki(error, Function::C_Initialize)) {
        Err(error) if error.code == ReturnCode::ARGUMENTS_BAD => Err(ModuleError::WantsArguments(path.to_owned())),
        other => Ok(other?),
    }
}

fn function_list(library: &cryptoki_sys::Pkcs11) -> Result<CK_FUNCTION_LIST, String> {
    let lookup = library.C_GetFunctionList.as_ref().map_err(|error| error.to_string())?;
    let mut list: *mut CK_FUNCTION_LIST = std::ptr::null_mut();
    // SAFETY: the symbol has this signature in every PKCS#11 library, and `list` is a live out-parameter.
    let rv = unsafe { lookup(&mut list) };
    if rv != cryptoki_sys::CKR_OK || list.is_null() {
        return Err(format!("C_GetFunctionList: {}", ReturnCode(rv)));
    }
    // SAFETY: on success the list points to the library's static table of at least the 2.40 functions; it is copied.
    Ok(unsafe { *list })
}

/// The table of interface "PKCS 11" 3.0. A module that does not show it has no message calls, and that is no error.
fn function_list_3_0(library: &cryptoki_sys::Pkcs11) -> Option<CK_FUNCTION_LIST_3_0> {
    let lookup = library.C_GetInterface.as_ref().ok()?;
    let mut name = *b"PKCS 11\0";
    let mut version = CK_VERSION { major: 3, minor: 0 };
    let mut interface = std::ptr::null_mut();
    // SAFETY: the symbol has this signature in every library of PKCS#11 3.0; name (terminated), version and out-parameter are live.
    let rv = unsafe { lookup(name.as_mut_ptr(), &mut version, &mut interface, 0) };
    if rv != cryptoki_sys::CKR_OK || interface.is_null() {
        return None;
    }
    // SAFETY: on success the interface is the library's static structure.
    let list = unsafe { (*interface).pFunctionList };
    if list.is_null() {
        return None;
    }
    // SAFETY: every table begins with its version.
    let found = unsafe { *list.cast::<CK_VERSION>() };
    // SAFETY: a table of version 3 is at least that of 3.0 long; it is copied.
    (found.major == 3).then(|| unsafe { *list.cast::<CK_FUNCTION_LIST_3_0>() })
}

fn from_cryptoki(error: cryptoki::error::Error, function: Function) -> CallError {
    let code = match &error {
        cryptoki::error::Error::Pkcs11(code, _) => by_cryptoki_name(&format!("{code:?}")),
        _ => ReturnCode::GENERAL_ERROR,
    };
    CallError { function, code }
}

/// `cryptoki` keeps the number of a return code to itself; its variants are the standard's names in camel case.
fn by_cryptoki_name(name: &str) -> ReturnCode {
    let spelled = |code: &&ReturnCode| {
        let standard = code.name().unwrap_or_default().replace('_', "");
        standard
            .strip_prefix("CKR")
            .is_some_and(|standard| standard.eq_ignore_ascii_case(name))
    };
    let known = ReturnCode::NAMED.iter().find(spelled);
    known.copied().unwrap_or(ReturnCode::GENERAL_ERROR)
}

fn present(tokens: &[TokenInfo]) -> String {
    let names: Vec<String> = tokens
        .iter()
        .filter(|token| token.initialized)
        .map(|token| format!("`{}` (serial {}, slot {})", token.label, token.serial, token.slot))
        .collect();
    if names.is_empty() {
        "no initialised token".to_owned()
    } else {
        names.join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cryptoki::error::RvError;

    #[test]
    fn a_code_is_known_by_the_name_that_cryptoki_gives_it() {
        for (variant, code) in [
            (
                RvError::CryptokiAlreadyInitialized,
                ReturnCode::CRYPTOKI_ALREADY_INITIALIZED,
            ),
            (RvError::FipsSelfTestFailed, ReturnCode::FIPS_SELF_TEST_FAILED),
            (RvError::TokenNotPresent, ReturnCode::TOKEN_NOT_PRESENT),
            (RvError::VendorDefined(0x8000_0042), ReturnCode::GENERAL_ERROR),
        ] {
            assert_eq!(by_cryptoki_name(&format!("{variant:?}")), code);
        }
    }
}

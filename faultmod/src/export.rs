//! The three symbols that the library exports, and the function lists and interfaces that they hand out.

#![allow(non_snake_case)]

use crate::forward;
use crate::real::{Real, has_3_0, has_3_2};
use cryptoki_sys::*;
use std::ffi::{CStr, c_void};
use std::sync::OnceLock;

/// The name of the standard's own interface.
pub const STANDARD: &CStr = c"PKCS 11";

/// What this module hands out. Filled once, never changed or freed: callers keep pointers into it.
struct Lists {
    functions: CK_FUNCTION_LIST,
    interfaces: Vec<CK_INTERFACE>,
}

// SAFETY: the pointers within lead to constants and to leaked lists, which nothing changes.
unsafe impl Send for Lists {}
// SAFETY: as above.
unsafe impl Sync for Lists {}

static LISTS: OnceLock<Lists> = OnceLock::new();

/// The lists, with the real module loaded for them; the reason on stderr if it cannot be.
fn lists() -> Option<&'static Lists> {
    match Real::load() {
        Ok(real) => Some(LISTS.get_or_init(|| Lists::of(real))),
        Err(error) => {
            eprintln!("faultmod: {error}");
            None
        }
    }
}

impl Lists {
    fn of(real: &Real) -> Lists {
        let functions = forward::list_2_40(&real.functions, real.version);
        let mut interfaces: Vec<CK_INTERFACE> = real
            .interfaces
            .iter()
            .map(|offered| interface(real, offered.version, offered.flags))
            .collect();
        if interfaces.is_empty() {
            interfaces.push(interface(real, real.version, 0));
        }
        Lists { functions, interfaces }
    }

    /// The first interface of this name, version and these flags; null pointers ask for any.
    fn find(&self, name: Option<&CStr>, version: Option<CK_VERSION>, flags: CK_FLAGS) -> Option<&CK_INTERFACE> {
        if name.is_some_and(|name| name != STANDARD) {
            return None;
        }
        self.interfaces.iter().find(|interface| {
            // SAFETY: every list here is one of those above, which begin with their version.
            let own = unsafe { *interface.pFunctionList.cast::<CK_VERSION>() };
            let asked = version.is_none_or(|asked| (asked.major, asked.minor) == (own.major, own.minor));
            asked && interface.flags & flags == flags
        })
    }
}

/// An interface whose list is the widest that callers expect of this version.
fn interface(real: &Real, version: CK_VERSION, flags: CK_FLAGS) -> CK_INTERFACE {
    fn leak<T>(list: T) -> *mut c_void {
        Box::into_raw(Box::new(list)).cast()
    }
    let functions = &real.functions;
    CK_INTERFACE {
        pInterfaceName: STANDARD.as_ptr().cast_mut().cast(),
        pFunctionList: match version {
            version if has_3_2(version) => leak(forward::list_3_2(functions, version)),
            version if has_3_0(version) => leak(forward::list_3_0(functions, version)),
            version => leak(forward::list_2_40(functions, version)),
        },
        flags,
    }
}

/// Loads the real module and gives out the forwarders of its 2.40 functions.
///
/// # Safety
/// As the standard says: `list` is null or points to where a pointer can be stored.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn C_GetFunctionList(list: *mut *mut CK_FUNCTION_LIST) -> CK_RV {
    if list.is_null() {
        return CKR_ARGUMENTS_BAD;
    }
    let Some(lists) = lists() else {
        return CKR_GENERAL_ERROR;
    };
    // SAFETY: not null, so the caller's out-parameter. The list is never written through the pointer.
    unsafe { *list = std::ptr::from_ref(&lists.functions).cast_mut() };
    CKR_OK
}

/// The interfaces that the real module has under the standard's name; a module of 2.40 has one.
///
/// # Safety
/// As the standard says: `count` is valid, `found` is null or has room for `count` interfaces.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn C_GetInterfaceList(found: *mut CK_INTERFACE, count: *mut CK_ULONG) -> CK_RV {
    if count.is_null() {
        return CKR_ARGUMENTS_BAD;
    }
    let Some(lists) = lists() else {
        return CKR_GENERAL_ERROR;
    };
    let all = &lists.interfaces;
    // SAFETY: not null, so the caller's count, which holds the room in `found` and takes the number of interfaces.
    let room = unsafe { std::ptr::replace(count, all.len() as CK_ULONG) };
    if found.is_null() {
        return CKR_OK;
    }
    if room < all.len() as CK_ULONG {
        return CKR_BUFFER_TOO_SMALL;
    }
    // SAFETY: `found` has room for `room` interfaces, which is enough, and overlaps nothing of ours.
    unsafe { std::ptr::copy_nonoverlapping(all.as_ptr(), found, all.len()) };
    CKR_OK
}

/// An interface by name, version and flags; without name and version, the default one of the real module.
///
/// # Safety
/// As the standard says: `interface` is valid; `name` is null or ends with NUL; `version` is null or valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn C_GetInterface(
    name: *mut CK_UTF8CHAR,
    version: *mut CK_VERSION,
    interface: *mut *mut CK_INTERFACE,
    flags: CK_FLAGS,
) -> CK_RV {
    if interface.is_null() {
        return CKR_ARGUMENTS_BAD;
    }
    let Some(lists) = lists() else {
        return CKR_GENERAL_ERROR;
    };
    // SAFETY: null, or the caller's name, which ends with NUL; null, or the caller's version.
    let (name, version) = unsafe {
        let name = (!name.is_null()).then(|| CStr::from_ptr(name.cast()));
        (name, version.as_ref().copied())
    };
    let Some(found) = lists.find(name, version, flags) else {
        return CKR_FUNCTION_FAILED;
    };
    // SAFETY: not null, so the caller's out-parameter. The interface is never written through the pointer.
    unsafe { *interface = std::ptr::from_ref(found).cast_mut() };
    CKR_OK
}

//! The real module, loaded once per process and never unloaded.

use crate::export;
use crate::table::for_each_function;
use crate::variable;
use cryptoki_sys::*;
use libloading::Library;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock, PoisonError};

/// What the real module offers.
pub struct Real {
    /// All its functions, under the widest list; what it does not have is `None`.
    pub functions: CK_FUNCTION_LIST_3_2,
    pub version: CK_VERSION,
    /// Its interfaces of the standard, its default one first; a module of 2.40 has none.
    pub interfaces: Vec<Interface>,
    _library: Library,
}

pub struct Interface {
    pub version: CK_VERSION,
    pub flags: CK_FLAGS,
}

#[derive(Debug, thiserror::Error)]
pub enum RealError {
    #[error("set {} to the absolute path of the real PKCS#11 module", variable::MODULE)]
    NotSet,
    #[error("{}=`{}` is not an absolute path", variable::MODULE, .0.display())]
    NotAbsolute(PathBuf),
    #[error("{}=`{}` is this module itself: name the real one", variable::MODULE, .0.display())]
    Itself(PathBuf),
    #[error("cannot load {}=`{}`: {detail}", variable::MODULE, path.display())]
    Load { path: PathBuf, detail: String },
}

static REAL: OnceLock<Real> = OnceLock::new();
static LOADING: Mutex<()> = Mutex::new(());

impl Real {
    /// The module, once it is loaded.
    #[inline]
    pub fn get() -> Option<&'static Real> {
        REAL.get()
    }

    /// The module, loaded now if need be. A failure is final only for this call.
    pub fn load() -> Result<&'static Real, RealError> {
        let _one_at_a_time = LOADING.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(real) = REAL.get() {
            return Ok(real);
        }
        let path = PathBuf::from(std::env::var_os(variable::MODULE).ok_or(RealError::NotSet)?);
        if !path.is_absolute() {
            return Err(RealError::NotAbsolute(path));
        }
        let real = open(&path)?;
        Ok(REAL.get_or_init(|| real))
    }
}

type GetFunctionList = unsafe extern "C" fn(*mut *mut CK_FUNCTION_LIST) -> CK_RV;
type GetInterfaceList = unsafe extern "C" fn(*mut CK_INTERFACE, *mut CK_ULONG) -> CK_RV;
type GetInterface = unsafe extern "C" fn(*mut CK_UTF8CHAR, *mut CK_VERSION, *mut *mut CK_INTERFACE, CK_FLAGS) -> CK_RV;

fn open(path: &Path) -> Result<Real, RealError> {
    let failed = |detail: String| RealError::Load {
        path: path.to_owned(),
        detail,
    };
    // SAFETY: loading runs the library's constructors; the library is the caller's choice, made for this purpose.
    let library = unsafe { Library::new(path) }.map_err(|error| failed(error.to_string()))?;
    // SAFETY: the symbol has this signature in every PKCS#11 library.
    let get = unsafe { library.get::<GetFunctionList>(b"C_GetFunctionList\0") };
    let get = *get.map_err(|error| failed(error.to_string()))?;
    if std::ptr::fn_addr_eq(get, export::C_GetFunctionList as GetFunctionList) {
        return Err(RealError::Itself(path.to_owned()));
    }
    let mut list = std::ptr::null_mut();
    // SAFETY: `list` is a live out-parameter.
    let rv = unsafe { get(&mut list) };
    if rv != CKR_OK || list.is_null() {
        return Err(failed(format!("its C_GetFunctionList returned {rv:#x}")));
    }
    // SAFETY: on success the list points to the library's table of the 2.40 functions; it is copied.
    let list = unsafe { *list };
    let mut functions = CK_FUNCTION_LIST_3_2::default();
    widen_2_40(&mut functions, &list);
    let interfaces = interfaces(&library, &mut functions);
    Ok(Real {
        functions,
        version: list.version,
        interfaces,
        _library: library,
    })
}

/// Collects the interfaces named "PKCS 11", and the functions of those of 3.0 and later.
fn interfaces(library: &Library, functions: &mut CK_FUNCTION_LIST_3_2) -> Vec<Interface> {
    // SAFETY: both symbols have these signatures in every library that has them.
    let (list_all, default) = unsafe {
        let Ok(list_all) = library.get::<GetInterfaceList>(b"C_GetInterfaceList\0") else {
            return Vec::new();
        };
        let Ok(default) = library.get::<GetInterface>(b"C_GetInterface\0") else {
            return Vec::new();
        };
        (*list_all, *default)
    };
    let mut count = 0;
    // SAFETY: a null list with a live count asks for the number of interfaces.
    if unsafe { list_all(std::ptr::null_mut(), &mut count) } != CKR_OK {
        return Vec::new();
    }
    let empty = CK_INTERFACE {
        pInterfaceName: std::ptr::null_mut(),
        pFunctionList: std::ptr::null_mut(),
        flags: 0,
    };
    let mut found = vec![empty; count as usize];
    // SAFETY: `found` has room for `count` interfaces, and the function writes at most that many.
    if unsafe { list_all(found.as_mut_ptr(), &mut count) } != CKR_OK {
        return Vec::new();
    }
    found.truncate(count as usize);
    let mut first: *mut CK_INTERFACE = std::ptr::null_mut();
    // SAFETY: no name and no version ask for the default interface; `first` is a live out-parameter.
    if unsafe { default(std::ptr::null_mut(), std::ptr::null_mut(), &mut first, 0) } == CKR_OK && !first.is_null() {
        // SAFETY: on success `first` points to an interface of the library's own.
        found.insert(0, unsafe { *first });
    }
    let mut interfaces: Vec<Interface> = Vec::new();
    for interface in found.iter().filter(|interface| is_standard(interface)) {
        // SAFETY: a function list of the standard begins with its version, and `is_standard` excludes a null list.
        let version = unsafe { *interface.pFunctionList.cast::<CK_VERSION>() };
        let known = |seen: &Interface| (seen.version.major, seen.version.minor) == (version.major, version.minor);
        if interfaces.iter().any(known) {
            continue;
        }
        // SAFETY: the standard fixes the list for each version, and later ones only append.
        unsafe {
            if has_3_0(version) {
                widen_3_0(functions, &*interface.pFunctionList.cast());
            }
            if has_3_2(version) {
                widen_3_2(functions, &*interface.pFunctionList.cast());
            }
        }
        interfaces.push(Interface {
            version,
            flags: interface.flags,
        });
    }
    interfaces
}

/// Whether lists of this version have the functions that 3.0 added.
pub fn has_3_0(version: CK_VERSION) -> bool {
    version.major >= 3
}

/// Whether they have those that 3.2 added.
pub fn has_3_2(version: CK_VERSION) -> bool {
    (version.major, version.minor) >= (3, 2)
}

fn is_standard(interface: &CK_INTERFACE) -> bool {
    if interface.pInterfaceName.is_null() || interface.pFunctionList.is_null() {
        return false;
    }
    // SAFETY: not null, so the library's name for the interface, which the standard ends with a NUL.
    let name = unsafe { std::ffi::CStr::from_ptr(interface.pInterfaceName.cast()) };
    name == export::STANDARD
}

macro_rules! widen {
    (v2_40 { $($first:ident $first_is:tt of $first_on:tt $first_out:tt;)* }
     v3_0 { $($second:ident $second_is:tt of $second_on:tt $second_out:tt;)* }
     v3_2 { $($third:ident $third_is:tt of $third_on:tt $third_out:tt;)* }) => {
        fn widen_2_40(all: &mut CK_FUNCTION_LIST_3_2, list: &CK_FUNCTION_LIST) {
            $(all.$first = list.$first;)*
        }
        fn widen_3_0(all: &mut CK_FUNCTION_LIST_3_2, list: &CK_FUNCTION_LIST_3_0) {
            $(all.$second = list.$second;)*
        }
        fn widen_3_2(all: &mut CK_FUNCTION_LIST_3_2, list: &CK_FUNCTION_LIST_3_2) {
            $(all.$third = list.$third;)*
        }
    };
}
for_each_function!(widen);

//! What the module reads from its environment, what it refuses, and what it hands out.

#![allow(clippy::unwrap_used)] // a test stops at the first surprise

mod steer;
#[path = "../../pkcs11/tests/support/mod.rs"]
mod support;

use cryptoki_sys::{CK_FUNCTION_LIST, CK_INTERFACE, CK_VERSION, CKR_OK};
use keyreeve_faultmod::{Function, Schedule, module_path, variable};
use std::collections::BTreeSet;
use std::ffi::c_void;
use std::mem::ManuallyDrop;
use std::path::Path;
use std::process::{Command, Output};
use std::ptr::null_mut;
use steer::Signer;
use support::TestModule;

contract! {
    through faultmod:
    a_schedule_file_is_in_force_from_c_initialize_on => schedule_file;
    what_the_real_module_lacks_stays_null_and_the_rest_is_there => null_functions;
    the_interfaces_are_those_of_the_real_module => interfaces;
    an_application_may_unload_the_module_while_it_listens_to_a_controller => unload;
}

fn schedule_file(test: &TestModule) {
    let file = test.directory.join("schedule.json");
    std::fs::write(
        &file,
        r#"{"rules": [{"function": "C_SignInit", "calls": {"nth": 2},
            "fault": {"kind": "return", "code": "CKR_USER_NOT_LOGGED_IN"}}]}"#,
    )
    .unwrap();
    steer::set(variable::SCHEDULE, &file);
    let signer = Signer::new(test);
    let outcomes = [signer.try_sign(), signer.try_sign(), signer.try_sign()];
    assert_eq!(outcomes, ["ok", "CKR_USER_NOT_LOGGED_IN", "ok"]);
}

/// The version of a function list, and which of its functions are there.
type Shape = ((u8, u8), Vec<bool>);

fn shape(list: *const c_void) -> Shape {
    // SAFETY: every function list begins with its version.
    let version = unsafe { *list.cast::<CK_VERSION>() };
    let version = (version.major, version.minor);
    // The three lists differ in length only. Source: PKCS#11 3.2, `pkcs11f.h`.
    let functions = match version {
        (2, _) => 68,
        (3, 0 | 1) => 92,
        _ => 104,
    };
    // SAFETY: behind the version come as many function pointers, which are null or not; a usize has their size.
    let pointers: &[usize] = unsafe {
        let first = list.byte_add(std::mem::offset_of!(CK_FUNCTION_LIST, C_Initialize));
        std::slice::from_raw_parts(first.cast(), functions)
    };
    (version, pointers.iter().map(|pointer| *pointer != 0).collect())
}

fn load(path: &Path) -> ManuallyDrop<cryptoki_sys::Pkcs11> {
    // SAFETY: a PKCS#11 module, made to be loaded, and never unloaded.
    ManuallyDrop::new(unsafe { cryptoki_sys::Pkcs11::new(path) }.unwrap())
}

fn real() -> ManuallyDrop<cryptoki_sys::Pkcs11> {
    load(Path::new(&std::env::var_os(variable::MODULE).unwrap()))
}

fn function_list(library: &cryptoki_sys::Pkcs11) -> Shape {
    let mut list: *mut CK_FUNCTION_LIST = null_mut();
    // SAFETY: `list` is a live out-parameter.
    assert_eq!(unsafe { library.C_GetFunctionList(&mut list) }, CKR_OK);
    shape(list.cast())
}

fn null_functions(test: &TestModule) {
    assert_eq!(function_list(&load(&test.path)), function_list(&real()));
}

fn interfaces(test: &TestModule) {
    let default = |library: &cryptoki_sys::Pkcs11| -> Shape {
        let mut interface: *mut CK_INTERFACE = null_mut();
        // SAFETY: no name and no version ask for the default; `interface` is a live out-parameter, then an interface.
        unsafe {
            assert_eq!(
                library.C_GetInterface(null_mut(), null_mut(), &mut interface, 0),
                CKR_OK
            );
            shape((*interface).pFunctionList)
        }
    };
    let all = |library: &cryptoki_sys::Pkcs11| -> BTreeSet<Shape> {
        let mut count = 0;
        let empty = CK_INTERFACE {
            pInterfaceName: null_mut(),
            pFunctionList: null_mut(),
            flags: 0,
        };
        // SAFETY: a null list asks for the number, and then `found` has room for so many.
        let found = unsafe {
            assert_eq!(library.C_GetInterfaceList(null_mut(), &mut count), CKR_OK);
            let mut found = vec![empty; count as usize];
            assert_eq!(library.C_GetInterfaceList(found.as_mut_ptr(), &mut count), CKR_OK);
            found
        };
        found.iter().map(|interface| shape(interface.pFunctionList)).collect()
    };
    let (faultmod, real) = (load(&test.path), real());
    if real.C_GetInterface.is_ok() {
        assert_eq!(default(&faultmod), default(&real));
        assert_eq!(all(&faultmod), all(&real));
    } else {
        assert_eq!(default(&faultmod), function_list(&real));
        assert_eq!(all(&faultmod), BTreeSet::from([function_list(&real)]));
    }
}

fn unload(test: &TestModule) {
    let controller = steer::controller(test, Schedule::default());
    for _ in 0..2 {
        // SAFETY: a PKCS#11 module, made to be loaded.
        let library = unsafe { cryptoki_sys::Pkcs11::new(&test.path) }.unwrap();
        let mut list: *mut CK_FUNCTION_LIST = null_mut();
        // SAFETY: `list` is a live out-parameter, and then a valid table; both functions take null.
        unsafe {
            assert_eq!(library.C_GetFunctionList(&mut list), CKR_OK);
            assert_eq!((*list).C_Initialize.unwrap()(null_mut()), CKR_OK);
            assert_eq!((*list).C_Finalize.unwrap()(null_mut()), CKR_OK);
        }
        drop(library);
        let counts = controller.counts(std::process::id()).expect("its thread still answers");
        assert!(counts[&Function::C_Initialize].calls > 0);
    }
}

/// OpenSC's tool with the module, in an environment of which only `variables` belong to the module.
fn pkcs11_tool(variables: &[(&str, &str)]) -> Output {
    let mut tool = Command::new("pkcs11-tool");
    tool.arg("--module").arg(module_path().unwrap()).arg("--show-info");
    for name in [variable::MODULE, variable::SCHEDULE, variable::CONTROL, variable::TRACE] {
        tool.env_remove(name);
    }
    tool.envs(variables.iter().copied()).output().unwrap()
}

#[test]
fn a_stranger_s_tool_works_through_the_module() {
    let output = pkcs11_tool(&[(variable::MODULE, support::SOFTHSM)]);
    assert!(output.status.success(), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("SoftHSM"));
}

#[test]
fn what_is_missing_or_wrong_is_said_on_stderr_with_its_variable() {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let itself = module_path().unwrap().to_str().unwrap().to_owned();
    let wrong_rule = r#"{"rules": [{"function": "C_Sing", "fault": {"kind": "hang"}}]}"#;
    let wrong = file("wrong.json", wrong_rule);
    let real = (variable::MODULE, support::SOFTHSM);
    let cases: [(&[(&str, &str)], &str); 8] = [
        (&[], "set FAULTMOD_MODULE to the absolute path"),
        (&[(variable::MODULE, "libsofthsm2.so")], "is not an absolute path"),
        (
            &[(variable::MODULE, "/no/such.so")],
            "cannot load FAULTMOD_MODULE=`/no/such.so`",
        ),
        (&[(variable::MODULE, &itself)], "is this module itself"),
        (
            &[real, (variable::SCHEDULE, "/no/such.json")],
            "FAULTMOD_SCHEDULE=`/no/such.json` cannot be read",
        ),
        (&[real, (variable::SCHEDULE, &wrong)], "`C_Sing` is neither"),
        (
            &[real, (variable::TRACE, "/no/such/trace")],
            "FAULTMOD_TRACE=`/no/such/trace` cannot be opened",
        ),
        (
            &[real, (variable::CONTROL, "/no/such/socket")],
            "no first order from a controller",
        ),
    ];
    for (variables, expected) in cases {
        let output = pkcs11_tool(variables);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            !output.status.success() && text.contains(expected),
            "{variables:?}: {text}"
        );
        assert!(text.contains("faultmod: "), "{text}");
    }
}

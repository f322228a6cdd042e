//! One forwarder for each function of the table, and the function lists made of them.
//!
//! A panic in a forwarder ends the process: Rust lets nothing unwind out of `extern "C"` (Reference, "Panic").

#![allow(non_snake_case, clippy::too_many_arguments)]

use crate::call::{Call, Output::*, Subject::*};
use crate::engine;
use crate::export;
use crate::function::Function;
use crate::real::Real;
use crate::table::for_each_function;
use cryptoki_sys::*;
use std::ffi::c_void;

macro_rules! forwarders {
    ($($version:ident { $($name:ident($($argument:ident : $type:ty),*) of [$subject:expr] [$output:expr];)* })*) => {
        $($(
            unsafe extern "C" fn $name($($argument: $type),*) -> CK_RV {
                let Some(real) = Real::get().and_then(|real| real.functions.$name) else {
                    return CKR_FUNCTION_NOT_SUPPORTED;
                };
                // SAFETY: the real module's function under its own signature, with the caller's arguments untouched.
                let real = || unsafe { real($($argument),*) };
                if !engine::is_watching() {
                    return real();
                }
                let call = Call {
                    function: Function::$name,
                    subject: $subject,
                    output: $output,
                };
                engine::watch(&call, &real)
            }
        )*)*
    };
}
for_each_function!(forwarders);

macro_rules! lists {
    (v2_40 { $($first:ident $first_is:tt of $first_on:tt $first_out:tt;)* }
     v3_0 { $($second:ident $second_is:tt of $second_on:tt $second_out:tt;)* }
     v3_2 { $($third:ident $third_is:tt of $third_on:tt $third_out:tt;)* }) => {
        /// The forwarders of the functions that `real` has, as a list of 2.40. What it lacks stays null.
        pub fn list_2_40(real: &CK_FUNCTION_LIST_3_2, version: CK_VERSION) -> CK_FUNCTION_LIST {
            CK_FUNCTION_LIST {
                version,
                C_GetFunctionList: Some(export::C_GetFunctionList),
                $($first: real.$first.and(Some($first)),)*
            }
        }

        /// The same as a list of 3.0.
        pub fn list_3_0(real: &CK_FUNCTION_LIST_3_2, version: CK_VERSION) -> CK_FUNCTION_LIST_3_0 {
            CK_FUNCTION_LIST_3_0 {
                version,
                C_GetFunctionList: Some(export::C_GetFunctionList),
                C_GetInterfaceList: Some(export::C_GetInterfaceList),
                C_GetInterface: Some(export::C_GetInterface),
                $($first: real.$first.and(Some($first)),)*
                $($second: real.$second.and(Some($second)),)*
            }
        }

        /// The same as a list of 3.2.
        pub fn list_3_2(real: &CK_FUNCTION_LIST_3_2, version: CK_VERSION) -> CK_FUNCTION_LIST_3_2 {
            CK_FUNCTION_LIST_3_2 {
                version,
                C_GetFunctionList: Some(export::C_GetFunctionList),
                C_GetInterfaceList: Some(export::C_GetInterfaceList),
                C_GetInterface: Some(export::C_GetInterface),
                $($first: real.$first.and(Some($first)),)*
                $($second: real.$second.and(Some($second)),)*
                $($third: real.$third.and(Some($third)),)*
            }
        }
    };
}
for_each_function!(lists);

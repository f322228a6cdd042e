//! The functions by their standard names.

use crate::fault::Fault;
use serde::{Deserialize, Serialize};
use std::fmt;

macro_rules! functions {
    ($($version:ident { $($name:ident $arguments:tt of [$subject:ident $($of:tt)?] [$output:ident $($to:tt)?];)* })*) => {
        /// A PKCS#11 function that the module passes on; variants carry the standard's spelling.
        #[allow(non_camel_case_types)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum Function { $($($name),*),* }

        impl Function {
            pub const ALL: &[Function] = &[$($(Function::$name),*),*];

            pub fn name(self) -> &'static str {
                match self { $($(Function::$name => stringify!($name)),*),* }
            }

            /// Whether the call names a session, which a fault may then close or log out.
            pub(crate) fn has_session(self) -> bool {
                match self { $($(Function::$name => stringify!($subject) == "Session"),*),* }
            }

            /// Whether the call reports how many bytes it returns.
            pub(crate) fn reports_length(self) -> bool {
                match self { $($(Function::$name => stringify!($output) == "Bytes"),*),* }
            }

            /// Whether the call returns bytes, which a fault may then falsify.
            pub(crate) fn has_output(self) -> bool {
                match self { $($(Function::$name => stringify!($output) != "Nothing"),*),* }
            }
        }
    };
}

crate::table::for_each_function!(functions);

impl Function {
    pub fn named(name: &str) -> Option<Function> {
        Function::ALL.iter().copied().find(|function| function.name() == name)
    }

    /// Whether `fault` can strike a call of this function at all.
    pub(crate) fn can_suffer(self, fault: &Fault) -> bool {
        match fault {
            Fault::DropSession { .. } | Fault::Logout { .. } => self.has_session(),
            Fault::CorruptOutput { .. } => self.has_output(),
            Fault::OverstateLength => self.reports_length(),
            Fault::Delay { .. }
            | Fault::Return { .. }
            | Fault::Hang { .. }
            | Fault::Abort { .. }
            | Fault::TokenGone => true,
        }
    }
}

impl fmt::Display for Function {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_every_function_of_the_three_lists_but_those_that_hand_out_lists() {
        // The 2.40 list has 68 functions, 3.0 adds 24 and 3.2 another 12; three of them hand out lists.
        assert_eq!(Function::ALL.len(), 68 + 24 + 12 - 3);
    }

    #[test]
    fn the_table_says_which_calls_have_a_session_and_an_output() {
        assert!(Function::C_Sign.has_session() && Function::C_Sign.has_output());
        assert!(Function::C_GenerateRandom.has_output());
        assert!(Function::C_SignInit.has_session() && !Function::C_SignInit.has_output());
        assert!(!Function::C_GetSlotList.has_session() && !Function::C_OpenSession.has_session());
    }
}

// fails: E0277
//! One permit, one operation: it cannot be copied.
use keyreeve::policy::{Permit, action};

fn misuse(permit: &Permit<action::Encrypt>) -> Permit<action::Encrypt> {
    Permit::clone(permit)
}

// fails: E0277
//! A permit to see a key does not work it: the token asks for an action that uses keys.
use keyreeve::policy::{Permit, UsesKey, action};

fn works_the_key<A: UsesKey>(_: &Permit<A>) {}

fn misuse(permit: &Permit<action::ReadKey>) {
    works_the_key(permit);
}

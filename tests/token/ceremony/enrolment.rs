//! A token asks to join.

use keyreeve::token::ceremony::Role;

use crate::group::{GROUP, Group};

ceremonies! { false;
    a_token_is_enrolled_once => enrolled_once;
}

fn enrolled_once(group: &Group) {
    let a = group.softhsm("a");
    group.enrol(&a, Role::Member);
    let error = group.at(&a).enrol(Some(GROUP), Role::Member, None).unwrap_err();
    assert!(error.to_string().contains("transport.v1"), "{error}");
}

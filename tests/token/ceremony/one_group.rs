//! Two tokens, of one vendor or of two, become one group: what one makes the other opens.

use std::sync::Arc;

use keyreeve::token::{Host, ThreadHost, TokenConfig};

use super::host;
use crate::{
    fixture::{assert_same, keys, make, place, workers},
    group::{self, Group},
    support,
};

ceremonies! { false;
    two_softhsm_tokens_become_one_group => |group| {
        let (a, b) = (group.softhsm("a"), group.softhsm("b"));
        serves_as_one(group, &a, &b);
    };
    a_worker_process_serves_a_token_of_a_group => in_a_worker;
}

mod kryoptic {
    use super::*;

    ceremonies! { true;
        softhsm_and_kryoptic_become_one_group => |group| {
            let (a, b) = (group.softhsm("a"), group.token(&group::kryoptic().unwrap(), "b"));
            serves_as_one(group, &a, &b);
        };
        kryoptic_and_softhsm_become_one_group_made_by_kryoptic => |group| {
            let (a, b) = (group.token(&group::kryoptic().unwrap(), "a"), group.softhsm("b"));
            serves_as_one(group, &a, &b);
        };
    }
}

/// A key made at one opens at the other, to the same message keys.
fn serves_as_one(group: &Group, a: &TokenConfig, b: &TokenConfig) {
    group.found(&[a, b], &[]);
    group.epoch(&[a, b]);
    let at_a = host(group, a);
    let made = make(&at_a, place(1));
    let blob = Arc::new(made.blob);
    let here = keys(&at_a, &blob, place(1)).unwrap();
    at_a.stop();
    let at_b = host(group, b);
    // The KCV is compared as it unwraps: another key would latch the token.
    let there = keys(&at_b, &blob, place(1)).unwrap();
    assert_same(&here, &there, place(1));
    let row = |host: &ThreadHost| {
        let call = keyreeve::token::Call::Subkey(keyreeve::token::host::SubkeyLabel::Row);
        match crate::fixture::ask(host, call).unwrap() {
            keyreeve::token::Answer::Subkey(subkey) => *subkey.as_bytes(),
            _ => panic!("another answer"),
        }
    };
    let of_b = row(&at_b);
    at_b.stop();
    let at_a = host(group, a);
    assert_eq!(row(&at_a), of_b, "one SVC, one row key");
    at_a.stop();
}

fn in_a_worker(group: &Group) {
    let (a, b) = (group.softhsm("a"), group.softhsm("b"));
    group.found(&[&a, &b], &[]);
    group.epoch(&[&a, &b]);
    let test = support::TestModule {
        path: a.module.clone(),
        directory: group.directory.clone(),
        kind: support::Kind::SoftHsm,
    };
    let at_a = workers(&test, a.clone()).unwrap();
    let blob = Arc::new(make(&at_a.host, place(1)).blob);
    at_a.host.stop();
    let at_b = workers(&test, b.clone()).unwrap();
    keys(&at_b.host, &blob, place(1)).unwrap();
    at_b.host.stop();
}

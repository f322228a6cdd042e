//! A new epoch is the rotation of the KEK.

use std::sync::Arc;

use keyreeve::token::{Host, ThreadHost};

use super::{host, objects};
use crate::{
    fixture::{keys, make, place},
    group::Group,
};

ceremonies! { false;
    a_new_epoch_wraps_new_keys_and_the_old_one_opens_old_ones => rotation;
    a_token_without_the_newest_epoch_serves_the_others_and_makes_no_keys => behind;
    making_an_epoch_leaves_no_key_in_the_token => nothing_left;
}

fn rotation(group: &Group) {
    let (a, b) = (group.softhsm("a"), group.softhsm("b"));
    group.found(&[&a, &b], &[]);
    group.epoch(&[&a, &b]);
    let at_a = host(group, &a);
    let old = Arc::new(make(&at_a, place(1)).blob);
    at_a.stop();
    group.epoch(&[&a, &b]);
    let at_b = host(group, &b);
    keys(&at_b, &old, place(1)).unwrap();
    let new = make(&at_b, place(2)).blob;
    at_b.stop();
    let epoch = |bytes: &[u8]| u32::from_be_bytes(bytes[64..68].try_into().unwrap());
    assert_eq!((epoch(old.bytes()), epoch(new.bytes())), (1, 2));
    let at_a = host(group, &a);
    keys(&at_a, &Arc::new(new), place(2)).unwrap();
    at_a.stop();
}

fn behind(group: &Group) {
    let (a, b, c) = (group.softhsm("a"), group.softhsm("b"), group.softhsm("c"));
    group.found(&[&a, &b, &c], &[]);
    group.epoch(&[&a, &b, &c]);
    let at_c = host(group, &c);
    let old = Arc::new(make(&at_c, place(1)).blob);
    at_c.stop();
    group.epoch(&[&a, &b]);
    let at_a = host(group, &a);
    let new = Arc::new(make(&at_a, place(2)).blob);
    at_a.stop();
    let at_c = host(group, &c);
    keys(&at_c, &old, place(1)).unwrap();
    let error = keys(&at_c, &new, place(2)).err().unwrap().to_string();
    assert!(error.contains("epoch 2") && error.contains("tokens import"), "{error}");
    let call = keyreeve::token::Call::MakeEnvelopeKey {
        place: place(3),
        suite: keyreeve_envelope::Suite::PrfCommit,
        residency: keyreeve::model::Residency::Wrapped,
        created_ms: 1,
    };
    let error = crate::fixture::ask(&at_c, call).err().unwrap().to_string();
    assert!(error.contains("newest epoch"), "{error}");
    at_c.stop();
}

fn nothing_left(group: &Group) {
    let a = group.softhsm("a");
    let manifest = group.found(&[&a], &[]);
    let before = objects(group, &a);
    let transfers = group.at(&a).make_epoch(&manifest).unwrap();
    assert_eq!(transfers.len(), 1);
    assert_eq!(objects(group, &a), before);
    let error = ThreadHost::start(a.clone(), &group.directory, Arc::new(|_, _| false))
        .err()
        .unwrap();
    assert!(error.to_string().contains("no epoch"), "{error}");
}

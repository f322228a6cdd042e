//! Who vouches for a manifest, and which is the newest.

use std::sync::Arc;

use keyreeve::token::{
    Host, ManifestError, OpenError, ThreadHost,
    ceremony::{LastSeenError, admit_manifest},
};

use super::host;
use crate::group::Group;

ceremonies! { false;
    a_manifest_under_quorum_opens_no_token => under_quorum;
    an_older_manifest_is_not_admitted_again => going_back;
}

fn under_quorum(group: &Group) {
    let (a, b) = (group.softhsm("a"), group.softhsm("b"));
    group.found(&[&a, &b], &[]);
    group.epoch(&[&a, &b]);
    let manifest = group.manifest();
    group.put(&manifest, &[1]);
    let error = ThreadHost::start(a.clone(), &group.directory, Arc::new(|_, _| false))
        .err()
        .unwrap();
    assert!(
        matches!(
            error,
            OpenError::Manifest(ManifestError::UnderQuorum {
                signers: 1,
                quorum: 2,
                ..
            })
        ),
        "{error}"
    );
    group.put(&manifest, &[1, 2]);
    host(group, &a).stop();
}

fn going_back(group: &Group) {
    let (a, b) = (group.softhsm("a"), group.softhsm("b"));
    let first = group.found(&[&a, &b], &[]);
    group.epoch(&[&a, &b]);
    let tombstones = group.directory.join("tombstones");
    admit_manifest(&a, &tombstones).unwrap();
    // Signed it is, and by all of them.
    group.put(&first, &[0, 1, 2]);
    let error = admit_manifest(&a, &tombstones).unwrap_err();
    assert!(
        matches!(
            error,
            OpenError::LastSeen(LastSeenError::Older { found: 1, seen: 2, .. })
        ),
        "{error}"
    );
}

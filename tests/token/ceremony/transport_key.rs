//! What a token must hold as the recipient of root keys, and the probes that find where it does not.

use keyreeve::token::{
    OaepHash, TokenConfig,
    ceremony::{Role, probe_pair, probe_transport},
};
use keyreeve_pkcs11::{
    Attribute, Template,
    presets::{self, Life, Recipient},
};

use crate::group::{self, Group};

ceremonies! { false;
    softhsm_holds_what_a_transport_key_must => |group| holds(group, &group.softhsm("a"), OaepHash::Sha1);
    softhsm_the_probes_find_a_weak_transport_key => |group| weak(group, &group.softhsm("a"));
}

mod kryoptic {
    use super::*;

    ceremonies! { true;
        holds_what_a_transport_key_must => |group| holds(group, &group.token(&group::kryoptic().unwrap(), "a"), OaepHash::Sha256);
        the_probes_find_a_weak_transport_key => |group| weak(group, &group.token(&group::kryoptic().unwrap(), "a"));
    }
}

fn holds(group: &Group, token: &TokenConfig, best: OaepHash) {
    let (module, session) = group.intruder(token);
    for role in [Role::Member, Role::Recovery] {
        let (hash, probes) = probe_transport(&session, role).unwrap();
        assert_eq!(hash, best);
        let holes: Vec<_> = probes.iter().filter(|probe| !probe.holds).collect();
        assert!(holes.is_empty(), "{role:?}: {holes:?}");
        assert!(probes.len() > 9);
    }
    drop(session);
    module.finalize().unwrap();
}

/// Each weakness must be found: a probe that cannot fail proves nothing.
fn weak(group: &Group, token: &TokenConfig) {
    let (module, session) = group.intruder(token);
    let holes = |private: Template, public: Template, role| {
        let (_, probes) = probe_pair(&session, role, &(public, private)).unwrap();
        probes
            .into_iter()
            .filter(|probe| !probe.holds)
            .map(|probe| probe.name)
            .collect::<Vec<_>>()
    };
    let pair = || presets::transport(Life::Session, b"weak", Recipient::Member);
    let found =
        |holes: Vec<String>, what: &str| assert!(holes.iter().any(|hole| hole.contains(what)), "{what}: {holes:?}");
    let (public, private) = presets::transport(Life::Session, b"weak", Recipient::Recovery);
    let of_recovery = holes(private, public, Role::Member);
    found(of_recovery.clone(), "unwrap with EXTRACTABLE=1");
    found(of_recovery, "unwrap with MODIFIABLE=1");
    let (public, private) = pair();
    let forces_nothing = private.unwrap_template(Template::new().flag(Attribute::DERIVE, false));
    found(holes(forces_nothing, public, Role::Recovery), "unwrap with SENSITIVE=0");
    let (public, private) = pair();
    found(
        holes(private.flag(Attribute::DECRYPT, true), public, Role::Member),
        "does not decrypt",
    );
    let (public, private) = pair();
    let modifiable = private
        .flag(Attribute::MODIFIABLE, true)
        .flag(Attribute::COPYABLE, true);
    let modifiable = holes(modifiable, public, Role::Member);
    found(modifiable.clone(), "changed to DECRYPT=1");
    found(modifiable, "copied with DECRYPT=1");
    drop(session);
    module.finalize().unwrap();
}

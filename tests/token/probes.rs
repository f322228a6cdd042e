//! The probes are detectors: on keys as Keyreeve makes them they find nothing, on weaker ones they must find the holes.

use keyreeve::token::probe::{self, Probe};
use keyreeve_pkcs11::{
    Attribute, KeyType,
    presets::{self, Life},
};

use crate::{
    contract,
    support::{self, TestModule},
};

contract! {
    the_keks_own_template_has_no_hole_that_refuses => sound;
    a_modifiable_copyable_kek_is_found_out => modifiable;
    a_kek_without_unwrap_template_is_found_out => no_unwrap_template;
    a_kek_that_decrypts_is_found_out => decrypts;
}

fn sound(test: &TestModule) {
    let probes = probe::run(&test.session()).unwrap();
    assert_eq!(holes(&probes), Vec::<String>::new());
    let of_suite_0001 = probes.iter().find(|probe| probe.name.contains("suite 0001"));
    assert!(of_suite_0001.unwrap().holds);
}

fn modifiable(test: &TestModule) {
    let template = presets::kek(Life::Session, b"weak", None)
        .flag(Attribute::MODIFIABLE, true)
        .flag(Attribute::COPYABLE, true);
    let holes = holes(&probe::run_on(&test.session(), &template).unwrap());
    assert!(
        holes.iter().any(|hole| hole.contains("changed to DECRYPT=1")),
        "{holes:?}"
    );
    assert!(
        holes.iter().any(|hole| hole.contains("copied with DECRYPT=1")),
        "{holes:?}"
    );
}

fn no_unwrap_template(test: &TestModule) {
    let template = presets::sealed(KeyType::Aes, Life::Session, &[Attribute::WRAP, Attribute::UNWRAP]).value_len(32);
    let holes = holes(&probe::run_on(&test.session(), &template).unwrap());
    assert!(
        holes.iter().any(|hole| hole.contains("unwrap with EXTRACTABLE=1")),
        "{holes:?}"
    );
    assert!(
        holes.iter().any(|hole| hole.contains("unwrap with SENSITIVE=0")),
        "{holes:?}"
    );
}

fn decrypts(test: &TestModule) {
    let usages = [Attribute::WRAP, Attribute::UNWRAP, Attribute::DECRYPT];
    let template = presets::sealed(KeyType::Aes, Life::Session, &usages).value_len(32);
    let holes = holes(&probe::run_on(&test.session(), &template).unwrap());
    assert!(holes.iter().any(|hole| hole.contains("does not decrypt")), "{holes:?}");
}

fn holes(probes: &[Probe]) -> Vec<String> {
    probes
        .iter()
        .filter(|probe| probe.must_refuse())
        .map(|probe| probe.name.clone())
        .collect()
}

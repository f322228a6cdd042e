//! The probes are detectors: on keys as Keyreeve makes them they find nothing, on weaker ones they must find the holes.

use keyreeve::token::probe::{self, Probe};
use keyreeve_pkcs11::{
    Attribute, KeyType, Mechanism, Template,
    presets::{self, Life},
};

use crate::{
    contract,
    support::{self, Kind, TestModule},
};

contract! {
    the_keks_own_template_has_no_hole_that_refuses => sound;
    a_modifiable_copyable_kek_is_found_out => modifiable;
    a_kek_without_unwrap_template_is_found_out => no_unwrap_template;
    a_kek_that_decrypts_is_found_out => decrypts;
    whether_a_user_makes_trusted_keys_is_found_out_and_refuses_no_token => trusted;
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

/// SoftHSM leaves TRUSTED to the security officer, Kryoptic does not where a key is generated. What is refused is refused for it: the
/// same attempts without TRUSTED work.
fn trusted(test: &TestModule) {
    let session = test.session();
    let probes = probe::run(&session).unwrap();
    let trusted: Vec<_> = probes.iter().filter(|probe| probe.attribute == "TRUSTED").collect();
    let names = ["generate", "import", "mark"].map(|verb| format!("a user session cannot {verb} TRUSTED keys"));
    assert!(trusted.iter().map(|probe| &probe.name).eq(&names), "{trusted:?}");
    let generate_holds = test.kind == Kind::SoftHsm;
    let holds = trusted.iter().map(|probe| probe.holds);
    assert!(holds.eq([generate_holds, true, true]), "{trusted:?}");
    assert!(!trusted.iter().any(|probe| probe.must_refuse()));

    let key = || presets::sealed(KeyType::Aes, Life::Session, &[Attribute::WRAP]);
    session.create(&key().bytes(Attribute::VALUE, &[1; 32])).unwrap();
    let modifiable = key().value_len(32).flag(Attribute::MODIFIABLE, true);
    let modifiable = session.generate_key(Mechanism::AES_KEY_GEN, &modifiable).unwrap();
    let change = Template::new().flag(Attribute::ENCRYPT, true);
    session.set_attributes(modifiable, &change).unwrap();
}

fn holes(probes: &[Probe]) -> Vec<String> {
    probes
        .iter()
        .filter(|probe| probe.must_refuse())
        .map(|probe| probe.name.clone())
        .collect()
}

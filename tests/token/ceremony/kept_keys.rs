//! What an intruder with a session, and even with the transfer file, can take out of a member: nothing.

use keyreeve::token::TokenConfig;
use keyreeve_pkcs11::{
    Attribute, Mechanism, Session, Template,
    presets::{self, Life, Recipient},
};

use crate::group::{self, Group};

ceremonies! { false;
    nobody_can_take_a_ceremony_groups_kek_out => |group| {
        let (a, b) = (group.softhsm("a"), group.softhsm("b"));
        sealed(group, &a, &b);
    };
}

mod kryoptic {
    use super::*;

    ceremonies! { true;
        nobody_can_take_a_ceremony_groups_kek_out => |group| {
            let (a, b) = (group.softhsm("a"), group.token(&group::kryoptic().unwrap(), "b"));
            sealed(group, &b, &a);
        };
    }
}

fn sealed(group: &Group, a: &TokenConfig, b: &TokenConfig) {
    group.found(&[a, b], &[]);
    let transfers = group.at(a).make_epoch(&group.manifest()).unwrap();
    let receipt = group.import(a, &transfers).unwrap();
    for key in &receipt.said.keys {
        assert_eq!(
            (key.sensitive, key.extractable),
            (Some(true), Some(false)),
            "{}",
            key.label
        );
        assert_eq!(
            (key.modifiable, key.copyable),
            (Some(false), Some(false)),
            "{}",
            key.label
        );
        // What was unwrapped was not made here: never claim it.
        assert_eq!(key.local, Some(false), "{}", key.label);
        assert_ne!(key.never_extractable, Some(true), "{}", key.label);
    }
    let (module, session) = group.intruder(a);
    let own = aes(&session);
    let rsa = {
        let pair = presets::transport(Life::Session, b"mine", Recipient::Recovery);
        session
            .generate_pair(Mechanism::RSA_PKCS_KEY_PAIR_GEN, &pair.0, &pair.1)
            .unwrap()
            .0
    };
    for label in [presets::KEK_LABEL, presets::BIND_LABEL, presets::SVC_LABEL] {
        let found = session.find(&Template::new().label(label), 2).unwrap();
        let [key] = found.as_slice() else {
            panic!("{label}: {found:?}")
        };
        assert!(session.wrap(Mechanism::AES_KEY_WRAP, own, *key).is_err(), "{label}");
        assert!(
            session.wrap_oaep(keyreeve_pkcs11::OaepHash::Sha1, rsa, *key).is_err(),
            "{label}"
        );
        assert!(!matches!(session.bytes(*key, Attribute::VALUE), Ok(Some(_))), "{label}");
        for (attribute, value) in [
            (Attribute::EXTRACTABLE, true),
            (Attribute::SENSITIVE, false),
            (Attribute::MODIFIABLE, true),
            (Attribute::DECRYPT, true),
        ] {
            let change = Template::new().flag(attribute, value);
            assert!(session.set_attributes(*key, &change).is_err(), "{label} {attribute:?}");
            assert!(session.copy(*key, &change).is_err(), "{label} {attribute:?}");
        }
    }
    // With the transfer file and the session: TRANSPORT gives nothing that can leave.
    let transfer = &transfers
        .iter()
        .find(|transfer| transfer.said.to == receipt.said.serial)
        .unwrap()
        .said;
    let private = Template::new()
        .label(presets::TRANSPORT_LABEL)
        .class(keyreeve_pkcs11::ObjectClass::PrivateKey);
    let private = session.find(&private, 2).unwrap()[0];
    let wrapped = data_encoding::HEXLOWER.decode(transfer.wrapped.kek.as_bytes()).unwrap();
    let weaker = presets::sealed(keyreeve_pkcs11::KeyType::Aes, Life::Session, &[Attribute::DECRYPT])
        .flag(Attribute::EXTRACTABLE, true);
    for hash in [keyreeve_pkcs11::OaepHash::Sha1, keyreeve_pkcs11::OaepHash::Sha256] {
        let stolen = session.unwrap_oaep(hash, private, &wrapped, &weaker);
        assert!(stolen.is_err() || session.flag(stolen.unwrap(), Attribute::EXTRACTABLE).unwrap() == Some(false));
        assert!(session.decrypt_oaep(hash, private, &wrapped).is_err());
    }
    drop(session);
    module.finalize().unwrap();
}

fn aes(session: &Session) -> keyreeve_pkcs11::ObjectHandle {
    let template = presets::sealed(
        keyreeve_pkcs11::KeyType::Aes,
        Life::Session,
        &[Attribute::WRAP, Attribute::UNWRAP],
    )
    .value_len(32);
    session.generate_key(Mechanism::AES_KEY_GEN, &template).unwrap()
}

//! The published vectors, computed by the token: blobs, their tags and check values, message keys, group checks, subkeys.

use keyreeve_envelope::{
    blob::{KeyType, WrappedKey, kcv_input},
    prf_commit::{MessageKeys, kdf_input},
    token_gcm,
};
use keyreeve_pkcs11::{Attribute, Mechanism, ObjectClass, ObjectHandle, Session, Template, presets};
use serde_json::Value;

use crate::{
    contract,
    support::{self, TestModule},
};

contract! {
    the_blob_vectors_unwrap_with_their_tags_and_check_values => blobs;
    the_token_gcm_vector_seals_and_opens => token_gcm;
    the_kdf_vector_gives_its_message_key_and_commitment => kdf;
    the_group_checks_and_subkeys_come_out => group;
}

fn blobs(test: &TestModule) {
    let session = test.session();
    let vectors = &vectors()["wrapped_key_blob"];
    let bind = import(
        &session,
        keyreeve_pkcs11::KeyType::GenericSecret,
        &hex(&vectors["bind"]),
        &[Attribute::SIGN],
    );
    let usages = [Attribute::WRAP, Attribute::UNWRAP];
    let kek = import(&session, keyreeve_pkcs11::KeyType::Aes, &hex(&vectors["kek"]), &usages);

    let blob = hex(&vectors["blob"]);
    let unverified = WrappedKey::parse(&blob).unwrap();
    let tag = session.hmac_sha256(bind, &unverified.tag_input()).unwrap();
    let wrapped = unverified.verify(&tag).unwrap();
    let key = session
        .unwrap(
            Mechanism::AES_KEY_WRAP,
            kek,
            wrapped.wrapped,
            &presets::version_key_in_use(),
        )
        .unwrap();
    let mut kcv = [0; 64];
    let input = kcv_input(wrapped.key_id, wrapped.key_version, KeyType::EnvelopePrf);
    session.hmac_sha512_into(key, &input, &mut kcv).unwrap();
    assert!(wrapped.kcv_is(kcv.first_chunk().unwrap()));

    let blob = hex(&self::vectors()["wrapped_key_blob_aes"]["blob"]);
    let unverified = WrappedKey::parse(&blob).unwrap();
    let tag = session.hmac_sha256(bind, &unverified.tag_input()).unwrap();
    let wrapped = unverified.verify(&tag).unwrap();
    let key = session
        .unwrap(
            Mechanism::AES_KEY_WRAP,
            kek,
            wrapped.wrapped,
            &presets::gcm_key_in_use(),
        )
        .unwrap();
    let input = kcv_input(wrapped.key_id, wrapped.key_version, KeyType::Aes256);
    assert!(wrapped.kcv_is(&session.aes_cmac(key, &input).unwrap()));
}

/// Given iv and all: what the service never asks of a token, which makes the iv itself.
fn token_gcm(test: &TestModule) {
    let session = test.session();
    let vector = &vectors()["envelope_token_gcm"];
    let key = import(
        &session,
        keyreeve_pkcs11::KeyType::Aes,
        &hex(&vector["key"]),
        &[Attribute::ENCRYPT, Attribute::DECRYPT],
    );
    let ec_hash: [u8; 32] = hex(&vectors()["encryption_context"]["sha256"]).try_into().unwrap();
    let published = hex(&vector["envelope"]);
    let parsed = token_gcm::Envelope::parse(&published).unwrap();
    let made = token_gcm::seal_with(parsed.header(), &ec_hash, |aad, iv, out| {
        *iv = hex(&vector["iv"]).try_into().unwrap();
        session.gcm_seal_into(key, iv, aad, &hex(&vector["plaintext"]), out)
    });
    assert_eq!(made.unwrap(), published);
    let opened = session
        .gcm_open(
            key,
            parsed.iv(),
            &parsed.associated_data(&ec_hash),
            parsed.ciphertext_and_tag(),
        )
        .unwrap();
    assert_eq!(**opened, *b"attack at dawn");
}

fn kdf(test: &TestModule) {
    let session = test.session();
    let vector = &vectors()["envelope_prf_commit"];
    let key = import(
        &session,
        keyreeve_pkcs11::KeyType::GenericSecret,
        &hex(&vector["key"]),
        &[Attribute::SIGN],
    );
    let header: [u8; 32] = hex(&vector["header"]).try_into().unwrap();
    let salt: [u8; 32] = hex(&vector["salt"]).try_into().unwrap();
    let ec_hash: [u8; 32] = hex(&vectors()["encryption_context"]["sha256"]).try_into().unwrap();
    let input = kdf_input(&header, &salt, &ec_hash);
    assert_eq!(input.to_vec(), hex(&vector["kdf_input"]));
    let mut output = [0; 64];
    session.hmac_sha512_into(key, &input, &mut output).unwrap();
    assert_eq!(output[..32], hex(&vector["message_key"]));
    assert_eq!(output[32..], hex(&vector["commitment"]));
    let keys = MessageKeys::from_prf_output(&output);
    let envelope = hex(&vector["envelope"]);
    let parsed = keyreeve_envelope::prf_commit::Envelope::parse(&envelope).unwrap();
    let opened = keyreeve_envelope::prf_commit::open(&keys, &parsed, &ec_hash).unwrap();
    assert_eq!(opened.as_bytes(), b"attack at dawn");
}

fn group(test: &TestModule) {
    let session = test.session();
    let (checks, subkeys) = (&vectors()["group_checks"], &vectors()["service_subkeys"]);
    let generic = keyreeve_pkcs11::KeyType::GenericSecret;
    let bind = import(
        &session,
        generic,
        &hex(&vectors()["wrapped_key_blob"]["bind"]),
        &[Attribute::SIGN],
    );
    assert_eq!(
        session.hmac_sha256(bind, b"bindcheck.v1").unwrap()[..16],
        hex(&checks["bind"])
    );
    let svc = import(&session, generic, &hex(&subkeys["svc"]), &[Attribute::SIGN]);
    let mut output = [0; 64];
    session.hmac_sha512_into(svc, b"svccheck.v1", &mut output).unwrap();
    assert_eq!(output[..16], hex(&checks["svc"]));
    session
        .hmac_sha512_into(svc, &keyreeve_envelope::subkey::Subkey::Row.input(), &mut output)
        .unwrap();
    assert_eq!(output[..32], hex(&subkeys["row.v1"]));
    let known = import_extractable(&session, &hex(&checks["kek_check_object"]));
    let usages = [Attribute::WRAP, Attribute::UNWRAP];
    let kek = import(
        &session,
        keyreeve_pkcs11::KeyType::Aes,
        &hex(&vectors()["wrapped_key_blob"]["kek"]),
        &usages,
    );
    let wrapped = session.wrap(Mechanism::AES_KEY_WRAP, kek, known).unwrap();
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &wrapped);
    assert_eq!(digest.as_ref()[..16], hex(&checks["kek"]));
}

fn vectors() -> Value {
    serde_json::from_str(include_str!("../vectors/formats-v1.json")).unwrap()
}

fn hex(value: &Value) -> Vec<u8> {
    data_encoding::HEXLOWER
        .decode(value.as_str().unwrap().as_bytes())
        .unwrap()
}

fn import(session: &Session, key_type: keyreeve_pkcs11::KeyType, value: &[u8], usages: &[Attribute]) -> ObjectHandle {
    let template = Template::new()
        .class(ObjectClass::SecretKey)
        .key_type(key_type)
        .flag(Attribute::TOKEN, false)
        .flag(Attribute::PRIVATE, true)
        .flag(Attribute::SENSITIVE, true)
        .flag(Attribute::EXTRACTABLE, false)
        .flags(&presets::SECRET_USAGES, false)
        .flags(usages, true)
        .bytes(Attribute::VALUE, value);
    session.create(&template).unwrap()
}

fn import_extractable(session: &Session, value: &[u8]) -> ObjectHandle {
    let template = Template::new()
        .class(ObjectClass::SecretKey)
        .key_type(keyreeve_pkcs11::KeyType::GenericSecret)
        .flag(Attribute::TOKEN, false)
        .flag(Attribute::PRIVATE, true)
        .flag(Attribute::EXTRACTABLE, true)
        .flags(&presets::SECRET_USAGES, false)
        .bytes(Attribute::VALUE, value);
    session.create(&template).unwrap()
}

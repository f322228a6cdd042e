//! Known-answer tests of what Keyreeve asks of a token, on keys imported as session objects. Run at every start and by `doctor`.
//!
//! A token may refuse a mechanism or a known key; what fails in another way did not pass, and no test is left out for it.

use std::fmt;

use data_encoding::HEXLOWER;
use keyreeve_pkcs11::{
    Attribute, CallError, Class, KeyType, Mechanism, ObjectClass, Session, Template, Vendor, presets,
};
use serde::Serialize;

use super::iv;

/// One test and how it came out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct KnownAnswer {
    pub name: &'static str,
    pub outcome: Outcome,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    Passed,
    /// The token answered, and the answer is wrong.
    Wrong,
    /// The token does not offer it, or does not let a known key in; not a fault in itself.
    NotTestable(String),
}

impl KnownAnswer {
    /// A wrong answer: the token must not serve.
    pub fn must_stop(&self) -> bool {
        self.outcome == Outcome::Wrong
    }
}

impl fmt::Display for KnownAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.outcome {
            Outcome::Passed => write!(f, "{}: passed", self.name),
            Outcome::Wrong => write!(f, "{}: wrong answer", self.name),
            Outcome::NotTestable(why) => write!(f, "{}: not testable: {why}", self.name),
        }
    }
}

/// Runs all tests; `offered`: the token's mechanism list. Errors: of a test that neither ran nor was refused.
pub fn run(session: &Session, vendor: Vendor, offered: &[Mechanism]) -> Result<Vec<KnownAnswer>, CallError> {
    let tests: [(&'static str, Mechanism, Test); 5] = [
        ("HMAC-SHA-512", Mechanism::SHA512_HMAC, hmac_sha512),
        ("HMAC-SHA-256", Mechanism::SHA256_HMAC, hmac_sha256),
        ("AES key wrap (RFC 3394)", Mechanism::AES_KEY_WRAP, key_wrap),
        ("AES-CMAC", Mechanism::AES_CMAC, cmac),
        ("AES-256-GCM", Mechanism::AES_GCM, gcm),
    ];
    let mut results = Vec::with_capacity(tests.len() + 2);
    for (name, mechanism, test) in tests {
        let outcome = if offered.contains(&mechanism) {
            outcome(test(session), vendor)?
        } else {
            Outcome::NotTestable(format!("{mechanism} is not offered"))
        };
        results.push(KnownAnswer { name, outcome });
    }
    if iv::source(session, offered).is_some() {
        results.push(KnownAnswer {
            name: "1,000 ivs of AES-256-GCM differ",
            outcome: outcome(iv::differ(session, offered), vendor)?,
        });
    }
    results.push(KnownAnswer {
        name: "random numbers are not constant",
        outcome: outcome(random(session), vendor)?,
    });
    Ok(results)
}

/// The number under which this token does RFC 5649, found by a known answer: 0x210A means other padding on some tokens.
pub fn padded_wrap(session: &Session, offered: &[Mechanism]) -> Option<Mechanism> {
    [Mechanism::AES_KEY_WRAP_KWP, Mechanism::AES_KEY_WRAP_PAD]
        .into_iter()
        .find(|mechanism| offered.contains(mechanism) && key_wrap_padded(session, *mechanism) == Ok(true))
}

type Test = fn(&Session) -> Result<bool, CallError>;

fn outcome(result: Result<bool, CallError>, vendor: Vendor) -> Result<Outcome, CallError> {
    match result {
        Ok(true) => Ok(Outcome::Passed),
        Ok(false) => Ok(Outcome::Wrong),
        Err(error) if matches!(error.class(vendor), Class::Policy | Class::Caller) => {
            Ok(Outcome::NotTestable(error.to_string()))
        }
        Err(error) => Err(error),
    }
}

/// RFC 4231, test case 6.
const HMAC_KEY: [u8; 131] = [0xaa; 131];
const HMAC_MESSAGE: &[u8] = b"Test Using Larger Than Block-Size Key - Hash Key First";
const HMAC_SHA512: &str = "80b24263c7c1a3ebb71493c1dd7be8b49b46d1f41b4aeec1121b013783f8f352\
                           6b56d037e05f2598bd0fd2215d6a1e5295e64f73f63f0aec8b915a985d786598";
const HMAC_SHA256: &str = "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54";

fn hmac_sha512(session: &Session) -> Result<bool, CallError> {
    let key = session.create(&known(KeyType::GenericSecret, &HMAC_KEY).flag(Attribute::SIGN, true))?;
    let mut answer = [0; 64];
    let result = session.hmac_sha512_into(key, HMAC_MESSAGE, &mut answer);
    session.destroy(key)?;
    result.map(|()| HEXLOWER.encode(&answer) == HMAC_SHA512)
}

fn hmac_sha256(session: &Session) -> Result<bool, CallError> {
    let key = session.create(&known(KeyType::GenericSecret, &HMAC_KEY).flag(Attribute::SIGN, true))?;
    let result = session.hmac_sha256(key, HMAC_MESSAGE);
    session.destroy(key)?;
    result.map(|answer| HEXLOWER.encode(&answer) == HMAC_SHA256)
}

/// SP 800-38B, AES-256, example 2.
fn cmac(session: &Session) -> Result<bool, CallError> {
    let key = hex("603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4");
    let key = session.create(&known(KeyType::Aes, &key).flag(Attribute::SIGN, true))?;
    let result = session.aes_cmac(key, &hex("6bc1bee22e409f96e93d7e117393172a"));
    session.destroy(key)?;
    result.map(|answer| HEXLOWER.encode(&answer) == "28a7023f452e8f82bd4bf28d8c37c35c")
}

/// The specification of GCM (McGrew, Viega), test case 16; and back, but not with another bit in the tag.
fn gcm(session: &Session) -> Result<bool, CallError> {
    let template = known(
        KeyType::Aes,
        &hex("feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308"),
    );
    let key = session.create(&template.flags(&[Attribute::ENCRYPT, Attribute::DECRYPT], true))?;
    let result = (|| {
        let iv = hex("cafebabefacedbaddecaf888");
        let iv: &[u8; 12] = iv.as_slice().try_into().expect("an iv has 12 bytes");
        let aad = hex("feedfacedeadbeeffeedfacedeadbeefabaddad2");
        let plaintext = hex(
            "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a721c3c0c95956809532fcf0e2449a6b525\
             b16aedf5aa0de657ba637b39",
        );
        let mut sealed = vec![0; plaintext.len() + 16];
        session.gcm_seal_into(key, iv, &aad, &plaintext, &mut sealed)?;
        let expected = "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa8cb08e48590dbb3da7b08b1056828838\
                        c5f61e6393ba7a0abcc9f66276fc6ece0f4e1768cddf8853bb2d551b";
        let opened = session.gcm_open(key, iv, &aad, &sealed)?;
        if HEXLOWER.encode(&sealed) != expected || *opened != plaintext {
            return Ok(false);
        }
        *sealed.last_mut().expect("it has a tag") ^= 1;
        Ok(session.gcm_open(key, iv, &aad, &sealed).is_err())
    })();
    session.destroy(key)?;
    result
}

/// RFC 3394, section 4.6: wrapped bytes, and back: the unwrapped key must wrap to the same.
fn key_wrap(session: &Session) -> Result<bool, CallError> {
    wraps_to(
        session,
        Mechanism::AES_KEY_WRAP,
        "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f",
        "00112233445566778899aabbccddeeff000102030405060708090a0b0c0d0e0f",
        "28c9f404c4b810f4cbccb35cfb87f8263f5786e2d80ed326cbc7f0e71a99f43bfb988b9b7a02dd21",
    )
}

/// RFC 5649, section 6, first example: 20 bytes, so that padding shows.
fn key_wrap_padded(session: &Session, mechanism: Mechanism) -> Result<bool, CallError> {
    wraps_to(
        session,
        mechanism,
        "5840df6e29b02af1ab493b705bf16ea1ae8338f4dcc176a8",
        "c37b7e6492584340bed12207808941155068f738",
        "138bdeaa9b8fa7fc61f97742e72248ee5ae6ae5360d1ae6a5f54f373fa543b6a",
    )
}

fn wraps_to(session: &Session, mechanism: Mechanism, kek: &str, key: &str, expected: &str) -> Result<bool, CallError> {
    let kek_template = known(KeyType::Aes, &hex(kek)).flags(&[Attribute::WRAP, Attribute::UNWRAP], true);
    let kek = session.create(&kek_template)?;
    let result = (|| {
        let key = session.create(&known(KeyType::GenericSecret, &hex(key)).flag(Attribute::EXTRACTABLE, true))?;
        let wrapped = session.wrap(mechanism, kek, key);
        session.destroy(key)?;
        let wrapped = wrapped?;
        if HEXLOWER.encode(&wrapped) != expected {
            return Ok(false);
        }
        let template = presets::sealed(KeyType::GenericSecret, presets::Life::Session, &[Attribute::SIGN])
            .flag(Attribute::EXTRACTABLE, true);
        let back = session.unwrap(mechanism, kek, &wrapped, &template)?;
        let again = session.wrap(mechanism, kek, back);
        session.destroy(back)?;
        Ok(again? == wrapped)
    })();
    session.destroy(kek)?;
    result
}

fn random(session: &Session) -> Result<bool, CallError> {
    let mut draws = [[0; 32]; 2];
    for draw in &mut draws {
        session.random_into(draw)?;
    }
    Ok(draws[0] != draws[1] && draws.iter().all(|draw| draw.iter().any(|byte| *byte != draw[0])))
}

/// A session object of a published value; usages off.
fn known(key_type: KeyType, value: &[u8]) -> Template {
    Template::new()
        .class(ObjectClass::SecretKey)
        .key_type(key_type)
        .flag(Attribute::TOKEN, false)
        .flag(Attribute::PRIVATE, true)
        .flag(Attribute::SENSITIVE, false)
        .flag(Attribute::EXTRACTABLE, false)
        .flags(&presets::SECRET_USAGES, false)
        .bytes(Attribute::VALUE, value)
}

fn hex(text: &str) -> Vec<u8> {
    HEXLOWER.decode(text.as_bytes()).expect("published vectors are hex")
}

//! The complete templates of Keyreeve's keys. Every usage is named, on or off: what a template leaves out, SoftHSM
//! turns on (and SENSITIVE off). Source: docs/formats.md, section 1.

use crate::mechanism::Mechanism;
use crate::rsa::RsaPublicKey;
use crate::template::{Attribute, KeyType, ObjectClass, Template};

pub const KEK_LABEL: &str = "kek.v1";
pub const BIND_LABEL: &str = "bind.v1";
pub const SVC_LABEL: &str = "svc.v1";
pub const TRANSPORT_LABEL: &str = "transport.v1";
pub const AUDIT_LABEL: &str = "audit.v1";
pub const CANARY_LABEL: &str = "canary.v1";
/// Of version keys that stay in the token for good.
pub const VERSION_LABEL: &str = "version.v1";

/// Size of the TRANSPORT modulus; at least this is asked of any other's.
pub const TRANSPORT_BITS: u64 = 3072;

/// Usages of a secret key; each preset turns on those it names and all others off.
pub const SECRET_USAGES: [Attribute; 7] = [
    Attribute::ENCRYPT,
    Attribute::DECRYPT,
    Attribute::SIGN,
    Attribute::VERIFY,
    Attribute::WRAP,
    Attribute::UNWRAP,
    Attribute::DERIVE,
];

/// Whether an object outlives its session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    Token,
    Session,
}

/// AES-256 that wraps and unwraps version keys and does nothing else. `padded_wrap`: the number under which this
/// token offers RFC 5649, if any.
pub fn kek(life: Life, id: &[u8], padded_wrap: Option<Mechanism>) -> Template {
    kek_in_use(life, id, padded_wrap).value_len(32)
}

/// The same as it is unwrapped: the length comes with the wrapped bytes.
pub fn kek_in_use(life: Life, id: &[u8], padded_wrap: Option<Mechanism>) -> Template {
    let mut allowed = vec![Mechanism::AES_KEY_WRAP];
    allowed.extend(padded_wrap);
    sealed(KeyType::Aes, life, &[Attribute::WRAP, Attribute::UNWRAP])
        .label(KEK_LABEL)
        .id(id)
        .allowed_mechanisms(&allowed)
        .unwrap_template(kek_unwrap_template())
}

/// HMAC-SHA-256 key of 32 B that tags wrapped blobs.
pub fn bind(life: Life, id: &[u8]) -> Template {
    bind_in_use(life, id).value_len(32)
}

/// The same as it is unwrapped.
pub fn bind_in_use(life: Life, id: &[u8]) -> Template {
    let usages = [Attribute::SIGN, Attribute::VERIFY];
    mac_key(life, BIND_LABEL, id, &usages, Mechanism::SHA256_HMAC)
}

/// HMAC-SHA-512 key of 64 B: the root of the service subkeys.
pub fn svc(life: Life, id: &[u8]) -> Template {
    svc_in_use(life, id).value_len(64)
}

/// The same as it is unwrapped.
pub fn svc_in_use(life: Life, id: &[u8]) -> Template {
    mac_key(life, SVC_LABEL, id, &[Attribute::SIGN], Mechanism::SHA512_HMAC)
}

/// HMAC-SHA-256 key of 32 B whose answer to a fixed question is pinned.
pub fn canary(life: Life, id: &[u8]) -> Template {
    mac_key(life, CANARY_LABEL, id, &[Attribute::SIGN], Mechanism::SHA256_HMAC).value_len(32)
}

/// A version key of type 1 while it may still be wrapped: EXTRACTABLE=1, for the milliseconds of its making only.
pub fn version_key_at_birth() -> Template {
    version_key_in_use().flag(Attribute::EXTRACTABLE, true).value_len(64)
}

/// A version key of type 1 as it is unwrapped and used. The length comes with the wrapped bytes.
pub fn version_key_in_use() -> Template {
    prf_key(Life::Session)
}

/// A version key of type 1 that is made in the token and stays there: never extractable.
pub fn resident_version_key(id: &[u8]) -> Template {
    prf_key(Life::Token).label(VERSION_LABEL).id(id).value_len(64)
}

/// A version key of type 2 (AES-256, suite 0001) while it may still be wrapped.
pub fn gcm_key_at_birth() -> Template {
    gcm_key_in_use().flag(Attribute::EXTRACTABLE, true).value_len(32)
}

/// A version key of type 2 as it is unwrapped and used. SIGN is for its key check value alone, an AES-CMAC.
pub fn gcm_key_in_use() -> Template {
    gcm_key(Life::Session)
}

/// A version key of type 2 that is made in the token and stays there: never extractable.
pub fn resident_gcm_key(id: &[u8]) -> Template {
    gcm_key(Life::Token).label(VERSION_LABEL).id(id).value_len(32)
}

/// The signing curve of an AUDIT pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Curve {
    Ed25519,
    P256,
}

impl Curve {
    pub fn pair_generation(self) -> Mechanism {
        match self {
            Curve::Ed25519 => Mechanism::EC_EDWARDS_KEY_PAIR_GEN,
            Curve::P256 => Mechanism::EC_KEY_PAIR_GEN,
        }
    }

    /// Ed25519 signs the message; ECDSA signs a SHA-256 digest that the caller computes (SoftHSM has no CKM_ECDSA_SHA256).
    pub fn signing(self) -> Mechanism {
        match self {
            Curve::Ed25519 => Mechanism::EDDSA,
            Curve::P256 => Mechanism::ECDSA,
        }
    }

    /// DER of the curve's object identifier (RFC 8410; SEC 2).
    pub(crate) fn parameters(self) -> &'static [u8] {
        match self {
            Curve::Ed25519 => &[0x06, 0x03, 0x2b, 0x65, 0x70],
            Curve::P256 => &[0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07],
        }
    }

    fn key_type(self) -> KeyType {
        match self {
            Curve::Ed25519 => KeyType::EcEdwards,
            Curve::P256 => KeyType::Ec,
        }
    }
}

/// The AUDIT pair: public and private template.
pub fn audit(life: Life, id: &[u8], curve: Curve) -> (Template, Template) {
    let public = Template::new()
        .class(ObjectClass::PublicKey)
        .key_type(curve.key_type())
        .flag(Attribute::TOKEN, life == Life::Token)
        .flag(Attribute::PRIVATE, false)
        .label(AUDIT_LABEL)
        .id(id)
        .bytes(Attribute::EC_PARAMS, curve.parameters())
        .flag(Attribute::VERIFY, true)
        .flags(
            &[
                Attribute::ENCRYPT,
                Attribute::WRAP,
                Attribute::VERIFY_RECOVER,
                Attribute::DERIVE,
            ],
            false,
        )
        .flag(Attribute::COPYABLE, false)
        .flag(Attribute::MODIFIABLE, false);
    let private = Template::new()
        .class(ObjectClass::PrivateKey)
        .key_type(curve.key_type())
        .flag(Attribute::TOKEN, life == Life::Token)
        .flag(Attribute::PRIVATE, true)
        .flag(Attribute::SENSITIVE, true)
        .flag(Attribute::EXTRACTABLE, false)
        .label(AUDIT_LABEL)
        .id(id)
        .flag(Attribute::SIGN, true)
        .flags(
            &[
                Attribute::DECRYPT,
                Attribute::UNWRAP,
                Attribute::SIGN_RECOVER,
                Attribute::DERIVE,
            ],
            false,
        )
        .allowed_mechanisms(&[curve.signing()])
        .flag(Attribute::COPYABLE, false)
        .flag(Attribute::MODIFIABLE, false);
    (public, private)
}

/// Whose TRANSPORT pair it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recipient {
    /// Keeps what it unwraps: SENSITIVE, EXTRACTABLE=0, COPYABLE=0, MODIFIABLE=0, whatever a session asks for.
    Member,
    /// Passes on what it unwraps, offline: only SENSITIVE is forced.
    Recovery,
}

/// The TRANSPORT pair, which receives the keys of an epoch: public and private template.
pub fn transport(life: Life, id: &[u8], recipient: Recipient) -> (Template, Template) {
    let public = Template::new()
        .class(ObjectClass::PublicKey)
        .key_type(KeyType::Rsa)
        .flag(Attribute::TOKEN, life == Life::Token)
        .flag(Attribute::PRIVATE, false)
        .label(TRANSPORT_LABEL)
        .id(id)
        .number(Attribute::MODULUS_BITS, TRANSPORT_BITS)
        .bytes(Attribute::PUBLIC_EXPONENT, &[1, 0, 1])
        .flag(Attribute::WRAP, true)
        .flags(&PUBLIC_USAGES_BUT_WRAP, false)
        .flag(Attribute::COPYABLE, false)
        .flag(Attribute::MODIFIABLE, false);
    let forced = Template::new().flag(Attribute::SENSITIVE, true);
    let forced = match recipient {
        Recipient::Member => forced
            .flag(Attribute::EXTRACTABLE, false)
            .flag(Attribute::COPYABLE, false)
            .flag(Attribute::MODIFIABLE, false),
        Recipient::Recovery => forced,
    };
    let private = Template::new()
        .class(ObjectClass::PrivateKey)
        .key_type(KeyType::Rsa)
        .flag(Attribute::TOKEN, life == Life::Token)
        .flag(Attribute::PRIVATE, true)
        .flag(Attribute::SENSITIVE, true)
        .flag(Attribute::EXTRACTABLE, false)
        .label(TRANSPORT_LABEL)
        .id(id)
        .flag(Attribute::UNWRAP, true)
        .flags(
            &[
                Attribute::DECRYPT,
                Attribute::SIGN,
                Attribute::SIGN_RECOVER,
                Attribute::DERIVE,
            ],
            false,
        )
        .allowed_mechanisms(&[Mechanism::RSA_PKCS_OAEP])
        .unwrap_template(forced)
        .flag(Attribute::COPYABLE, false)
        .flag(Attribute::MODIFIABLE, false);
    (public, private)
}

/// Another token's TRANSPORT key, as a session object.
pub(crate) fn wrapping_public_key(key: &RsaPublicKey) -> Template {
    Template::new()
        .class(ObjectClass::PublicKey)
        .key_type(KeyType::Rsa)
        .flag(Attribute::TOKEN, false)
        .flag(Attribute::PRIVATE, false)
        .bytes(Attribute::MODULUS, &key.modulus)
        .bytes(Attribute::PUBLIC_EXPONENT, &key.exponent)
        .flag(Attribute::WRAP, true)
        .flags(&PUBLIC_USAGES_BUT_WRAP, false)
        .flag(Attribute::COPYABLE, false)
        .flag(Attribute::MODIFIABLE, false)
}

const PUBLIC_USAGES_BUT_WRAP: [Attribute; 4] = [
    Attribute::ENCRYPT,
    Attribute::VERIFY,
    Attribute::VERIFY_RECOVER,
    Attribute::DERIVE,
];

/// A private secret key with all that is common to Keyreeve's keys: SENSITIVE, EXTRACTABLE=0, COPYABLE=0, MODIFIABLE=0,
/// and every usage off but those in `usages`.
pub fn sealed(key_type: KeyType, life: Life, usages: &[Attribute]) -> Template {
    SECRET_USAGES
        .iter()
        .fold(
            Template::new()
                .class(ObjectClass::SecretKey)
                .key_type(key_type)
                .flag(Attribute::TOKEN, life == Life::Token)
                .flag(Attribute::PRIVATE, true)
                .flag(Attribute::SENSITIVE, true)
                .flag(Attribute::EXTRACTABLE, false),
            |template, usage| template.flag(*usage, usages.contains(usage)),
        )
        .flag(Attribute::COPYABLE, false)
        .flag(Attribute::MODIFIABLE, false)
}

fn prf_key(life: Life) -> Template {
    sealed(KeyType::GenericSecret, life, &[Attribute::SIGN]).allowed_mechanisms(&[Mechanism::SHA512_HMAC])
}

fn gcm_key(life: Life) -> Template {
    let usages = [Attribute::ENCRYPT, Attribute::DECRYPT, Attribute::SIGN];
    sealed(KeyType::Aes, life, &usages).allowed_mechanisms(&[Mechanism::AES_GCM, Mechanism::AES_CMAC])
}

/// What every key that a KEK unwraps is forced to be. It names only attributes that secret *and* private keys have:
/// with WRAP in it no private key could be unwrapped.
fn kek_unwrap_template() -> Template {
    Template::new()
        .flag(Attribute::SENSITIVE, true)
        .flag(Attribute::EXTRACTABLE, false)
        .flag(Attribute::DERIVE, false)
        .flag(Attribute::COPYABLE, false)
        .flag(Attribute::MODIFIABLE, false)
}

fn mac_key(life: Life, label: &str, id: &[u8], usages: &[Attribute], mechanism: Mechanism) -> Template {
    sealed(KeyType::GenericSecret, life, usages)
        .label(label)
        .id(id)
        .allowed_mechanisms(&[mechanism])
}

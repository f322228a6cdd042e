//! The attributes of the root keys, read back at each start: the probes try throwaway keys (`probe.rs`), this looks at the real ones.
//!
//! Not read back: the UNWRAP_TEMPLATE, since `keyreeve_pkcs11` reads no nested attributes yet; that a token obeys it is probed.

use keyreeve_pkcs11::{
    Attribute, Mechanism, ObjectHandle, Session,
    presets::{self, Curve},
};

use super::root_keys::RootKeyError;

/// An attribute, the value it must have, and what follows from any other.
type Demand = (Attribute, bool, &'static str);

const OF_EVERY_KEY: [Demand; 4] = [
    (Attribute::SENSITIVE, true, "it can be read"),
    (Attribute::EXTRACTABLE, false, "it can be wrapped out of the token"),
    (Attribute::MODIFIABLE, false, "its other attributes can be changed"),
    (Attribute::COPYABLE, false, "it can be copied with other attributes"),
];
const OF_THE_KEK: [Demand; 2] = [
    (Attribute::ENCRYPT, false, "it can be used as a data key"),
    (
        Attribute::DECRYPT,
        false,
        "whoever has the session reads every version key in clear",
    ),
];
const OF_TRANSPORT: [Demand; 1] = [(
    Attribute::DECRYPT,
    false,
    "whoever has a transfer file and the session reads the group's root keys in clear",
)];

/// RFC 3394, and RFC 5649 under whichever number the token offered it when the KEK was made.
const OF_WRAPPING: [&[Mechanism]; 3] = [
    &[Mechanism::AES_KEY_WRAP],
    &[Mechanism::AES_KEY_WRAP, Mechanism::AES_KEY_WRAP_PAD],
    &[Mechanism::AES_KEY_WRAP, Mechanism::AES_KEY_WRAP_KWP],
];

/// Errors: `Weak` if the KEK can do more than `presets::kek` says.
pub(super) fn check_kek(session: &Session, kek: ObjectHandle) -> Result<(), RootKeyError> {
    check_flags(session, kek, presets::KEK_LABEL, &OF_THE_KEK)?;
    check(session, kek, presets::KEK_LABEL, &OF_WRAPPING)
}

/// The same of the private half of AUDIT, on whichever curve.
pub(super) fn check_audit(session: &Session, private: ObjectHandle) -> Result<(), RootKeyError> {
    let allowed: [&[Mechanism]; 2] = [&[Curve::Ed25519.signing()], &[Curve::P256.signing()]];
    check(session, private, presets::AUDIT_LABEL, &allowed)
}

/// The same of the private half of TRANSPORT. What it forces on keys is its UNWRAP_TEMPLATE, which is not read back.
pub(super) fn check_transport(session: &Session, private: ObjectHandle) -> Result<(), RootKeyError> {
    check_flags(session, private, presets::TRANSPORT_LABEL, &OF_TRANSPORT)?;
    check(
        session,
        private,
        presets::TRANSPORT_LABEL,
        &[&[Mechanism::RSA_PKCS_OAEP]],
    )
}

/// The same of BIND, SVC and CANARY.
pub(super) fn check_mac_key(
    session: &Session,
    key: ObjectHandle,
    label: &'static str,
    mechanism: Mechanism,
) -> Result<(), RootKeyError> {
    check(session, key, label, &[&[mechanism]])
}

fn check(
    session: &Session,
    key: ObjectHandle,
    label: &'static str,
    allowed: &[&[Mechanism]],
) -> Result<(), RootKeyError> {
    check_flags(session, key, label, &OF_EVERY_KEY)?;
    let mut found = session.allowed_mechanisms(key)?.unwrap_or_default();
    found.sort_unstable();
    if allowed.contains(&found.as_slice()) {
        return Ok(());
    }
    let names: Vec<_> = found.iter().map(Mechanism::to_string).collect();
    Err(RootKeyError::Weak {
        key: label,
        found: format!("ALLOWED_MECHANISMS=[{}]", names.join(", ")),
        consequence: "it works with mechanisms that it was not made for",
    })
}

fn check_flags(
    session: &Session,
    key: ObjectHandle,
    label: &'static str,
    demands: &[Demand],
) -> Result<(), RootKeyError> {
    for (attribute, wanted, consequence) in demands {
        let value = match session.flag(key, *attribute)? {
            Some(value) if value == *wanted => continue,
            Some(true) => "1",
            Some(false) => "0",
            None => "unknown",
        };
        return Err(RootKeyError::Weak {
            key: label,
            found: format!("{}={value}", attribute.name().unwrap_or("an attribute")),
            consequence,
        });
    }
    Ok(())
}

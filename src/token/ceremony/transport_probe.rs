//! Whether a token keeps what it receives: tried on a throwaway TRANSPORT pair and a known key.
//!
//! What is wrapped to a TRANSPORT key is as safe as the template that the token forces on it. A token that lets a session choose
//! another is refused before it is asked to join.

use aws_lc_rs::{
    hmac,
    rsa::{OAEP_SHA1_MGF1SHA1, OAEP_SHA256_MGF1SHA256, OaepPublicEncryptingKey, PublicEncryptingKey},
};
use keyreeve_pkcs11::{
    Attribute, KeyType, Mechanism, ObjectHandle, RsaPublicKey, Session, Template,
    presets::{self, Life, Recipient},
};

use super::{error::CeremonyError, statements::Role};
use crate::token::{manifest::OaepHash, probe::Probe, root_keys::RootKeyError};

const READABLE: &str = "whoever has a transfer file and the session takes the group's root keys out";

impl Role {
    pub(super) fn recipient(self) -> Recipient {
        match self {
            Role::Member => Recipient::Member,
            Role::Recovery => Recipient::Recovery,
        }
    }
}

/// What is wrapped to the throwaway pair, and what the key is asked when it is unwrapped.
const KNOWN_KEY: [u8; 32] = *b"the throwaway key of the probes.";
const QUESTION: &[u8] = b"transportcheck.v1";

/// A throwaway pair, and a known key wrapped to it.
struct Subjects<'a> {
    session: &'a Session,
    role: Role,
    hash: OaepHash,
    private: ObjectHandle,
    wrapped: Vec<u8>,
}

/// Finds the best OAEP hash, and tries what a TRANSPORT key of `role` must refuse.
///
/// Errors: `Unfit` if the token cannot make such a pair, or cannot open what it wrapped.
pub fn probe_transport(session: &Session, role: Role) -> Result<(OaepHash, Vec<Probe>), CeremonyError> {
    probe_pair(
        session,
        role,
        &presets::transport(Life::Session, b"probe", role.recipient()),
    )
}

/// The same of a pair with other templates: shows that the probes find the holes of a weaker one.
pub fn probe_pair(
    session: &Session,
    role: Role,
    pair: &(Template, Template),
) -> Result<(OaepHash, Vec<Probe>), CeremonyError> {
    let (public, private) = session
        .generate_pair(Mechanism::RSA_PKCS_KEY_PAIR_GEN, &pair.0, &pair.1)
        .map_err(|error| CeremonyError::Unfit(format!("it makes no such RSA pair ({error})")))?;
    let probed = (|| {
        let key = session.rsa_public_key(public)?.ok_or(RootKeyError::NoPublicKey)?;
        let subjects = [OaepHash::Sha256, OaepHash::Sha1].into_iter().find_map(|hash| {
            let subjects = Subjects {
                session,
                role,
                hash,
                private,
                wrapped: wrapped_by_the_host(&key, hash)?,
            };
            subjects.opens().then_some(subjects)
        });
        let unfit = || {
            let form = match role {
                Role::Member => "as a key that cannot leave",
                Role::Recovery => "as a key that can be wrapped again",
            };
            CeremonyError::Unfit(format!(
                "what is encrypted to it by OAEP, with SHA-256 or SHA-1, it does not unwrap {form}"
            ))
        };
        subjects
            .ok_or_else(unfit)
            .map(|subjects| (subjects.hash, subjects.run()))
    })();
    session.destroy(private)?;
    session.destroy(public)?;
    probed
}

/// OAEP as the host computes it: a token that takes another hash than it is told does not open this.
fn wrapped_by_the_host(key: &RsaPublicKey, hash: OaepHash) -> Option<Vec<u8>> {
    let algorithm = match hash {
        OaepHash::Sha1 => &OAEP_SHA1_MGF1SHA1,
        OaepHash::Sha256 => &OAEP_SHA256_MGF1SHA256,
    };
    let key = OaepPublicEncryptingKey::new(PublicEncryptingKey::from_der(&key.spki()).ok()?).ok()?;
    let mut wrapped = vec![0; key.ciphertext_size()];
    let length = key.encrypt(algorithm, &KNOWN_KEY, &mut wrapped, None).ok()?.len();
    wrapped.truncate(length);
    Some(wrapped)
}

impl Subjects<'_> {
    /// The known key comes out, and nothing else.
    fn opens(&self) -> bool {
        let unwrapped = self
            .session
            .unwrap_oaep(self.hash.into(), self.private, &self.wrapped, &self.proper());
        unwrapped.is_ok_and(|key| {
            let answer = self.session.hmac_sha256(key, QUESTION);
            let _ = self.session.destroy(key);
            let known = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &KNOWN_KEY), QUESTION);
            answer.is_ok_and(|answer| answer == known.as_ref())
        })
    }

    fn run(&self) -> Vec<Probe> {
        let mut weaker = vec![("SENSITIVE=0", Attribute::SENSITIVE, false)];
        if self.role == Role::Member {
            weaker.push(("EXTRACTABLE=1", Attribute::EXTRACTABLE, true));
            weaker.push(("COPYABLE=1", Attribute::COPYABLE, true));
            weaker.push(("MODIFIABLE=1", Attribute::MODIFIABLE, true));
        }
        let mut probes: Vec<_> = weaker
            .into_iter()
            .map(|(name, attribute, value)| {
                // Some tokens accept the template and force their own value: the key decides.
                let forced = self.unwraps_to(&self.proper().flag(attribute, value), attribute);
                must(
                    "UNWRAP_TEMPLATE",
                    format!("TRANSPORT does not unwrap with {name}"),
                    forced.is_none_or(|found| found == Some(!value)),
                )
            })
            .collect();
        let decrypted = self.session.decrypt_oaep(self.hash.into(), self.private, &self.wrapped);
        probes.push(must("DECRYPT", "TRANSPORT does not decrypt".into(), decrypted.is_err()));
        // Last: where a change passes, the key is another one afterwards.
        let other = || Template::new().unwrap_template(Template::new().flag(Attribute::SENSITIVE, false));
        let changes: [(&str, Template); 4] = [
            ("DECRYPT=1", Template::new().flag(Attribute::DECRYPT, true)),
            ("EXTRACTABLE=1", Template::new().flag(Attribute::EXTRACTABLE, true)),
            ("MODIFIABLE=1", Template::new().flag(Attribute::MODIFIABLE, true)),
            ("another UNWRAP_TEMPLATE", other()),
        ];
        for (name, change) in changes {
            let copy = self.session.copy(self.private, &change.flag(Attribute::TOKEN, false));
            probes.push(must(
                "COPYABLE",
                format!("TRANSPORT cannot be copied with {name}"),
                copy.map(|copy| self.session.destroy(copy)).is_err(),
            ));
        }
        for (name, attribute, value) in [
            ("DECRYPT=1", Attribute::DECRYPT, true),
            ("EXTRACTABLE=1", Attribute::EXTRACTABLE, true),
            ("MODIFIABLE=1", Attribute::MODIFIABLE, true),
        ] {
            let change = Template::new().flag(attribute, value);
            let changed = self.session.set_attributes(self.private, &change);
            probes.push(must(
                "MODIFIABLE",
                format!("TRANSPORT cannot be changed to {name}"),
                changed.is_err(),
            ));
        }
        let changed = self.session.set_attributes(self.private, &other());
        probes.push(must(
            "MODIFIABLE",
            "TRANSPORT cannot be changed to another UNWRAP_TEMPLATE".into(),
            changed.is_err(),
        ));
        probes
    }

    /// What this token is asked to unwrap into when it is used.
    fn proper(&self) -> Template {
        presets::sealed(KeyType::GenericSecret, Life::Session, &[Attribute::SIGN])
            .flag(Attribute::EXTRACTABLE, self.role == Role::Recovery)
    }

    /// The attribute of what was unwrapped, which is gone again at once; `None` if nothing was.
    fn unwraps_to(&self, template: &Template, attribute: Attribute) -> Option<Option<bool>> {
        let key = self
            .session
            .unwrap_oaep(self.hash.into(), self.private, &self.wrapped, template)
            .ok()?;
        let found = self.session.flag(key, attribute).ok().flatten();
        let _ = self.session.destroy(key);
        Some(found)
    }
}

fn must(attribute: &'static str, name: String, holds: bool) -> Probe {
    Probe {
        name,
        attribute,
        holds,
        consequence: READABLE,
        required: true,
    }
}

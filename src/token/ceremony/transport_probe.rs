//! Whether a token keeps what it receives: tried on a throwaway TRANSPORT pair and a throwaway key.
//!
//! What is wrapped to a TRANSPORT key is as safe as the template that the token forces on it. A token that lets a session choose
//! another is refused before it is asked to join.

use keyreeve_pkcs11::{
    Attribute, CallError, KeyType, Mechanism, ObjectHandle, Session, Template,
    presets::{self, Life, Recipient},
};

use super::{error::CeremonyError, statements::Role};
use crate::token::{manifest::OaepHash, probe::Probe};

const READABLE: &str = "whoever has a transfer file and the session takes the group's root keys out";

impl Role {
    pub(super) fn recipient(self) -> Recipient {
        match self {
            Role::Member => Recipient::Member,
            Role::Recovery => Recipient::Recovery,
        }
    }
}

/// A throwaway pair, a key to wrap, and that key wrapped.
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
    let unfit = |error: CallError| CeremonyError::Unfit(format!("it makes no RSA pair that unwraps by OAEP ({error})"));
    let (public, private) = session
        .generate_pair(Mechanism::RSA_PKCS_KEY_PAIR_GEN, &pair.0, &pair.1)
        .map_err(unfit)?;
    let key = session.generate_key(Mechanism::AES_KEY_GEN, &extractable().value_len(32));
    let probed = key.map_err(unfit).and_then(|key| {
        let probed = [OaepHash::Sha256, OaepHash::Sha1].into_iter().find_map(|hash| {
            let wrapped = session.wrap_oaep(hash.into(), public, key).ok()?;
            let subjects = Subjects {
                session,
                role,
                hash,
                private,
                wrapped,
            };
            subjects.opens().then_some(subjects)
        });
        let probes = probed
            .ok_or_else(|| {
                let asked = match role {
                    Role::Member => "as keys that cannot leave",
                    Role::Recovery => "as keys that can be wrapped again",
                };
                CeremonyError::Unfit(format!("it does not unwrap by OAEP, with SHA-256 or SHA-1, {asked}"))
            })
            .map(|subjects| (subjects.hash, subjects.run()));
        session.destroy(key)?;
        probes
    });
    session.destroy(private)?;
    session.destroy(public)?;
    probed
}

impl Subjects<'_> {
    fn opens(&self) -> bool {
        let template = self.proper();
        self.unwraps(&template).is_some()
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
                    format!("TRANSPORT does not unwrap with {name}"),
                    forced.is_none_or(|found| found == Some(!value)),
                )
            })
            .collect();
        let decrypted = self.session.decrypt_oaep(self.hash.into(), self.private, &self.wrapped);
        probes.push(must("TRANSPORT does not decrypt".into(), decrypted.is_err()));
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
            probes.push(must(format!("TRANSPORT cannot be changed to {name}"), changed.is_err()));
        }
        let changed = self.session.set_attributes(self.private, &other());
        probes.push(must(
            "TRANSPORT cannot be changed to another UNWRAP_TEMPLATE".into(),
            changed.is_err(),
        ));
        probes
    }

    /// What this token is asked to unwrap into when it is used.
    fn proper(&self) -> Template {
        match self.role {
            Role::Member => extractable().flag(Attribute::EXTRACTABLE, false),
            Role::Recovery => extractable(),
        }
    }

    /// A key of the template, gone again at once.
    fn unwraps(&self, template: &Template) -> Option<()> {
        self.unwraps_to(template, Attribute::SENSITIVE).map(drop)
    }

    /// The attribute of what was unwrapped; `None` if nothing was.
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

fn must(name: String, holds: bool) -> Probe {
    Probe {
        name,
        holds,
        consequence: READABLE,
        required: true,
    }
}

/// AES-256 as a new epoch's KEK is before it is wrapped.
fn extractable() -> Template {
    presets::sealed(KeyType::Aes, Life::Session, &[Attribute::WRAP]).flag(Attribute::EXTRACTABLE, true)
}

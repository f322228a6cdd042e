//! Tries, on throwaway keys, what a token must refuse. A token that gives in has a hole, and each hole its consequence.
//!
//! A call that fails because the token does was not refused: then nothing is known.

use std::cell::Cell;

use keyreeve_pkcs11::{
    Attribute, CallError, Class, KeyType, Mechanism, ObjectClass, ObjectHandle, Session, Template, Vendor,
    presets::{self, Life},
};
use serde::Serialize;

/// One attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Probe {
    pub name: String,
    /// What forbids it: the attribute, without CKA_.
    pub attribute: &'static str,
    /// The token refused, as it must.
    pub holds: bool,
    /// What follows where it does not hold.
    pub consequence: &'static str,
    /// `serve` refuses a token in which this does not hold.
    pub required: bool,
}

impl Probe {
    pub fn must_refuse(&self) -> bool {
        self.required && !self.holds
    }
}

/// A forbidden change: its name, the change, what would follow.
type Change = (&'static str, fn() -> Template, &'static str);

/// Throwaway keys made as Keyreeve makes its own, but as session objects.
struct Subjects<'a> {
    session: &'a Session,
    kek: ObjectHandle,
    wrapped: Vec<u8>,
    /// The first failure that was no refusal.
    broken: Cell<Option<CallError>>,
}

/// Runs every probe. Errors: the throwaway keys cannot be made, so nothing is known of the token.
pub fn run(session: &Session) -> Result<Vec<Probe>, CallError> {
    run_on(session, &presets::kek(Life::Session, b"probe", None))
}

/// The same with a KEK of another template: shows that the probes find the holes of a weaker one.
pub fn run_on(session: &Session, kek: &Template) -> Result<Vec<Probe>, CallError> {
    let kek = session.generate_key(Mechanism::AES_KEY_GEN, kek)?;
    let probes = (|| {
        let born = session.generate_key(Mechanism::GENERIC_SECRET_KEY_GEN, &presets::version_key_at_birth())?;
        let wrapped = session.wrap(Mechanism::AES_KEY_WRAP, kek, born);
        session.destroy(born)?;
        let subjects = Subjects {
            session,
            kek,
            wrapped: wrapped?,
            broken: Cell::new(None),
        };
        let mut probes = subjects.kek_decrypts();
        probes.extend(subjects.unwraps_weaker());
        probes.extend(subjects.unwrapped_key()?);
        probes.extend(subjects.gcm_key());
        probes.extend(subjects.makes_trusted());
        // Last: where a change passes, the KEK is another one afterwards.
        probes.extend(subjects.kek_changes());
        subjects.broken.get().map_or(Ok(probes), Err)
    })();
    session.destroy(kek)?;
    probes
}

/// Attributes that the token does not take in a template, each with what follows: why [`run`] cannot make its keys.
pub fn not_taken(session: &Session) -> Vec<(&'static str, &'static str)> {
    let refused = |template: Template| {
        let template = template
            .class(ObjectClass::SecretKey)
            .key_type(KeyType::Aes)
            .flag(Attribute::TOKEN, false)
            .value_len(32);
        match session.generate_key(Mechanism::AES_KEY_GEN, &template) {
            Ok(key) => {
                let _ = session.destroy(key);
                false
            }
            Err(error) => is_refusal(error),
        }
    };
    if refused(Template::new()) {
        return Vec::new();
    }
    let attributes: [(_, Template, _); 4] = [
        (
            "UNWRAP_TEMPLATE",
            Template::new().unwrap_template(on(Attribute::SENSITIVE)),
            READABLE,
        ),
        (
            "ALLOWED_MECHANISMS",
            Template::new().allowed_mechanisms(&[Mechanism::AES_KEY_WRAP]),
            "the KEK works with mechanisms that open wrapped keys",
        ),
        (
            "MODIFIABLE",
            off(Attribute::MODIFIABLE),
            "a key's uses can be changed after it is made",
        ),
        (
            "COPYABLE",
            off(Attribute::COPYABLE),
            "a key can be copied with other uses",
        ),
    ];
    attributes
        .into_iter()
        .filter_map(|(name, template, consequence)| refused(template).then_some((name, consequence)))
        .collect()
}

const DECRYPTS: &str = "whoever has the session reads every version key in clear";
const READABLE: &str = "version keys can be taken out of the token in clear or under a foreign key";

impl Subjects<'_> {
    /// Other mechanisms on the KEK as it is.
    fn kek_decrypts(&self) -> Vec<Probe> {
        [Mechanism::AES_KEY_WRAP, Mechanism::AES_ECB]
            .into_iter()
            .map(|mechanism| Probe {
                name: format!("the KEK does not decrypt with {mechanism}"),
                attribute: "DECRYPT",
                holds: self.refused(&self.session.decrypt(mechanism, self.kek, self.decryptable(mechanism))),
                consequence: DECRYPTS,
                required: true,
            })
            .collect()
    }

    /// Forbidden changes of the KEK, and copies with them. A change that the token lets pass without effect is no hole:
    /// what counts is what the key can do then.
    fn kek_changes(&self) -> Vec<Probe> {
        let changes: [Change; 8] = [
            ("DECRYPT=1", || on(Attribute::DECRYPT), DECRYPTS),
            (
                "ENCRYPT=1",
                || on(Attribute::ENCRYPT),
                "the KEK can be used as a data key",
            ),
            ("DERIVE=1", || on(Attribute::DERIVE), "keys can be derived from the KEK"),
            (
                "EXTRACTABLE=1",
                || on(Attribute::EXTRACTABLE),
                "the KEK can be wrapped out of the token",
            ),
            ("SENSITIVE=0", || off(Attribute::SENSITIVE), "the KEK can be read"),
            (
                "MODIFIABLE=1",
                || on(Attribute::MODIFIABLE),
                "every other change follows",
            ),
            (
                "other ALLOWED_MECHANISMS",
                || Template::new().allowed_mechanisms(&[Mechanism::AES_KEY_WRAP, Mechanism::AES_ECB]),
                "the KEK works with mechanisms that open wrapped keys",
            ),
            (
                "another UNWRAP_TEMPLATE",
                || Template::new().unwrap_template(on(Attribute::EXTRACTABLE)),
                READABLE,
            ),
        ];
        changes
            .into_iter()
            .flat_map(|(name, change, consequence)| {
                let changed = !self.refused(&self.session.set_attributes(self.kek, &change()));
                let copy = self.session.copy(self.kek, &change().flag(Attribute::TOKEN, false));
                let copied = !self.refused(&copy);
                if let Ok(copy) = copy {
                    let _ = self.session.destroy(copy);
                }
                [
                    ("cannot be changed to", "MODIFIABLE", changed),
                    ("cannot be copied with", "COPYABLE", copied),
                ]
                .map(|(verb, attribute, gave_in)| Probe {
                    name: format!("the KEK {verb} {name}"),
                    attribute,
                    holds: !gave_in,
                    consequence,
                    required: true,
                })
            })
            .collect()
    }

    /// Unwrapping with less than the KEK's UNWRAP_TEMPLATE demands.
    fn unwraps_weaker(&self) -> Vec<Probe> {
        [
            ("EXTRACTABLE=1", Attribute::EXTRACTABLE, true, READABLE, true),
            ("SENSITIVE=0", Attribute::SENSITIVE, false, READABLE, true),
            (
                "DERIVE=1",
                Attribute::DERIVE,
                true,
                "parts of version keys can be derived and read",
                true,
            ),
            (
                "MODIFIABLE=1",
                Attribute::MODIFIABLE,
                true,
                "an unwrapped key's uses can be changed",
                false,
            ),
            (
                "COPYABLE=1",
                Attribute::COPYABLE,
                true,
                "an unwrapped key can be copied with other uses",
                false,
            ),
        ]
        .into_iter()
        .map(|(name, attribute, value, consequence, required)| {
            let template = presets::version_key_in_use().flag(attribute, value);
            let result = self
                .session
                .unwrap(Mechanism::AES_KEY_WRAP, self.kek, &self.wrapped, &template);
            // Some tokens accept the template and force their own value: the key decides.
            self.refused(&result);
            let gave_in = result.is_ok_and(|key| {
                let weak = self.session.flag(key, attribute) != Ok(Some(!value));
                let _ = self.session.destroy(key);
                weak
            });
            Probe {
                name: format!("the KEK does not unwrap with {name}"),
                attribute: "UNWRAP_TEMPLATE",
                holds: !gave_in,
                consequence,
                required,
            }
        })
        .collect()
    }

    /// A version key as it is used.
    fn unwrapped_key(&self) -> Result<Vec<Probe>, CallError> {
        let session = self.session;
        let key = session.unwrap(
            Mechanism::AES_KEY_WRAP,
            self.kek,
            &self.wrapped,
            &presets::version_key_in_use(),
        )?;
        let changed = !self.refused(&session.set_attributes(key, &on(Attribute::EXTRACTABLE)));
        let copied = session.copy(key, &on(Attribute::EXTRACTABLE));
        if let Ok(copy) = copied {
            let _ = session.destroy(copy);
        }
        let value = session.bytes(key, Attribute::VALUE);
        self.refused(&value);
        let foreign = self.refused(&session.hmac_sha256(key, b"probe"));
        let probes = [
            (
                "an unwrapped key cannot be read",
                "SENSITIVE",
                !matches!(value, Ok(Some(_))),
            ),
            (
                "a key with EXTRACTABLE=0 cannot be wrapped",
                "EXTRACTABLE",
                self.refused(&session.wrap(Mechanism::AES_KEY_WRAP, self.kek, key)),
            ),
            ("an unwrapped key cannot be made extractable", "MODIFIABLE", !changed),
            (
                "an unwrapped key cannot be copied as extractable",
                "COPYABLE",
                self.refused(&copied),
            ),
        ];
        session.destroy(key)?;
        let own_mechanism = Probe {
            name: "an unwrapped key works with its own mechanism only".into(),
            attribute: "ALLOWED_MECHANISMS",
            holds: foreign,
            consequence: "a version key's uses are limited by this service alone",
            required: false,
        };
        let readable = probes.map(|(name, attribute, holds)| Probe {
            name: name.to_owned(),
            attribute,
            holds,
            consequence: READABLE,
            required: true,
        });
        Ok(readable.into_iter().chain([own_mechanism]).collect())
    }

    /// A key of suite 0001, where the token has such: it encrypts, so what else it encrypts with matters.
    fn gcm_key(&self) -> Option<Probe> {
        let template = presets::gcm_key_in_use().value_len(32);
        let key = self.session.generate_key(Mechanism::AES_KEY_GEN, &template).ok()?;
        let encrypts = self.session.encrypt(Mechanism::AES_ECB, key, &[0; 16]).is_ok();
        let _ = self.session.destroy(key);
        Some(Probe {
            name: format!("a key of suite 0001 does not encrypt with {}", Mechanism::AES_ECB),
            attribute: "ALLOWED_MECHANISMS",
            holds: !encrypts,
            consequence: "whoever has the session learns what AES-GCM keeps secret of a key",
            required: false,
        })
    }

    /// Whether a user session may make TRUSTED keys: if so, WRAP_WITH_TRUSTED would prove nothing. It is not set, so this only informs,
    /// and an attempt whose outcome is not clear is left out.
    fn makes_trusted(&self) -> Vec<Probe> {
        let session = self.session;
        let key = || presets::sealed(KeyType::Aes, Life::Session, &[Attribute::WRAP]);
        let generate = |template: Template| session.generate_key(Mechanism::AES_KEY_GEN, &template.value_len(32));
        let marked = generate(key().flag(Attribute::MODIFIABLE, true)).and_then(|key| {
            let set = session.set_attributes(key, &on(Attribute::TRUSTED));
            if set.is_err() {
                let _ = session.destroy(key);
            }
            set.map(|()| key)
        });
        let imported = key()
            .bytes(Attribute::VALUE, &[0x6b; 32])
            .flag(Attribute::TRUSTED, true);
        [
            ("generate", generate(key().flag(Attribute::TRUSTED, true))),
            ("import", session.create(&imported)),
            ("mark", marked),
        ]
        .into_iter()
        .filter_map(|(verb, made)| {
            let holds = match made {
                Ok(key) => {
                    // A token that takes the attribute and does not set it makes nobody trusted.
                    let untrusted = session.flag(key, Attribute::TRUSTED) == Ok(Some(false));
                    let _ = session.destroy(key);
                    untrusted
                }
                Err(error) if is_refusal(error) => true,
                Err(_) => return None,
            };
            Some(Probe {
                name: format!("a user session cannot {verb} TRUSTED keys"),
                attribute: "TRUSTED",
                holds,
                consequence: "WRAP_WITH_TRUSTED proves nothing on this token; Keyreeve does not rely on it",
                required: false,
            })
        })
        .collect()
    }

    fn refused<T>(&self, result: &Result<T, CallError>) -> bool {
        if let Err(error) = result
            && !is_refusal(*error)
        {
            self.broken.set(self.broken.get().or(Some(*error)));
        }
        result.is_err()
    }

    fn decryptable(&self, mechanism: Mechanism) -> &[u8] {
        if mechanism == Mechanism::AES_ECB {
            &[0; 16]
        } else {
            &self.wrapped
        }
    }
}

/// The token would not, and not: it could not.
fn is_refusal(error: CallError) -> bool {
    matches!(
        error.class(Vendor::Other),
        Class::Policy | Class::Caller | Class::Ambiguous
    )
}

fn on(attribute: Attribute) -> Template {
    Template::new().flag(attribute, true)
}

fn off(attribute: Attribute) -> Template {
    Template::new().flag(attribute, false)
}
